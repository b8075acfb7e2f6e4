"""The front of a study with two goals: the best metric that networks of each size reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gru_optuna.formatting import format_metric
from gru_optuna.report.axes import size_scale
from gru_optuna.report.figures.base import (
    Panel,
    canvas,
    metric_axis,
    opacity,
    scatter,
    section,
    ticks,
)
from gru_optuna.report.theme import BEST, COMPLETE, FAILED, PRUNED, QUIET
from gru_optuna.study.front import front_of, list_members

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go
    from optuna import Study

    from gru_optuna.report.figures.base import Context, FigureSection
    from gru_optuna.study.front import FrontMember
    from gru_optuna.study_file import Specification


@dataclass(frozen=True)
class FrontNumbers:
    """Every trial that was trained, the fronts, and the limit of the size."""

    trials: list[FrontMember]
    searched: list[FrontMember]  # the front of these, the smallest network first
    confirmed: list[FrontMember]  # the front by means on fresh seeds; empty if none is confirmed
    limit: int | None  # the study's constraint


def list_fronts(study: Study, spec: Specification, front: Sequence[FrontMember]) -> FrontNumbers:
    """Both goals of every trial, and the front in the search next to the confirmed one."""
    trials = list_members(study, spec)
    confirmed = [member for member in front if member.mean is not None]
    return FrontNumbers(trials, front_of(trials, spec), confirmed, spec.most_parameters)


def draw_front(numbers: FrontNumbers, spec: Specification) -> go.Figure:
    """A dot for each trial, a step line through the front, diamonds for confirmed members."""
    figure = canvas(420, f"validation {spec.metric}")
    trace = scatter(len(numbers.trials))
    limit = [] if numbers.limit is None else [numbers.limit]
    scale = size_scale([*(point.network_parameters for point in numbers.trials), *limit])

    def placed(points: Sequence[FrontMember]) -> dict[str, Any]:
        return {
            "x": [scale.position(point.network_parameters) for point in points],
            "customdata": [[point.number, point.network_parameters] for point in points],
        }

    hover = "trial %{customdata[0]}: %{y:.4g} with %{customdata[1]:,} parameters"
    figure.add_trace(
        trace(
            **placed(numbers.trials),
            y=[point.value for point in numbers.trials],
            mode="markers",
            name="trials",
            marker={"color": PRUNED, "size": 6, "opacity": opacity(len(numbers.trials))},
            hovertemplate=f"{hover}<extra></extra>",
        )
    )
    figure.add_scatter(
        **placed(numbers.searched),
        y=[member.value for member in numbers.searched],
        mode="lines+markers",
        name="front, in the search",
        line={"color": COMPLETE, "width": 2, "shape": "hv"},
        marker={"color": COMPLETE, "size": 8},
        hovertemplate=f"{hover}<extra>front</extra>",
    )
    if confirmed := numbers.confirmed:
        figure.add_scatter(
            **placed(confirmed),
            y=[member.mean for member in confirmed],
            mode="markers",
            name="mean of fresh seeds",
            marker={"color": BEST, "symbol": "diamond", "size": 10},
            error_y=_bars(confirmed),
            hovertemplate=f"{hover}<extra>fresh seeds</extra>",
        )
    for most in limit:
        figure.add_vline(
            x=scale.position(most),
            line={"color": FAILED, "dash": "dot", "width": 1.5},
            annotation={"text": f"limit {most:,}", "font": {"color": QUIET}, "xanchor": "right"},
        )
    metric_axis(figure, spec, [point.value for point in numbers.trials])
    return figure.update_xaxes(title="parameters of the network", **ticks(scale))


def _bars(confirmed: Sequence[FrontMember]) -> dict[str, Any]:
    """Plotly's settings for the 95% intervals of the means; of one seed there is none."""
    spans = [
        (member.mean or 0.0, *(member.interval or [member.mean or 0.0] * 2)) for member in confirmed
    ]
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - mean for mean, _, high in spans],
        "arrayminus": [mean - low for mean, low, _ in spans],
        "color": BEST,
        "thickness": 1.5,
    }


def front_section(context: Context, front: Sequence[FrontMember]) -> list[FigureSection]:
    """The front; nothing in a study with one goal."""
    if not context.spec.two_goals:
        return []
    numbers = list_fronts(context.study, context.spec, front)
    panels = []
    if ends := numbers.searched:
        best = ", ".join(
            f"{format_metric(member.value)} with {member.network_parameters:,} parameters"
            for member in (ends[0], ends[-1])
        )
        panels = [Panel(draw_front(numbers, context.spec), f"The front, from end to end: {best}")]
    return [
        section(
            "front",
            numbers,
            panels,
            {
                "caption": True,
                "confirmed": bool(numbers.confirmed),
                "limited": numbers.limit is not None,
            },
            count=len(numbers.searched),
            **context.words,
        )
    ]

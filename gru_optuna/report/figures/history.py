"""The search in order: every trial's value, and the best so far by trial and by time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gru_optuna.report.figures.base import canvas, metric_axis, opacity, scatter, whole
from gru_optuna.report.scales import duration, duration_ticks
from gru_optuna.report.theme import BEST, COMPLETE, FAILED, GRID, PRUNED, QUIET

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go

    from gru_optuna.report.numbers.history import BestByTime, HistoryPoint
    from gru_optuna.spec import Specification


def draw_history(points: Sequence[HistoryPoint], spec: Specification) -> go.Figure:
    """Every trial's value, the best so far, and failed trials in a strip of their own."""
    figure = canvas(400, f"validation {spec.metric}")
    trace = scatter(len(points))
    groups: tuple[tuple[str, dict[str, Any]], ...] = (
        ("pruned", {"color": PRUNED, "symbol": "x-thin", "line": {"color": PRUNED, "width": 1.5}}),
        ("complete", {"color": COMPLETE, "symbol": "circle"}),
    )
    for state, marker in groups:
        group = [point for point in points if point.state == state and point.value is not None]
        if group:
            figure.add_trace(
                trace(
                    x=[point.number for point in group],
                    y=[point.value for point in group],
                    name=state,
                    mode="markers",
                    marker={"size": 7, "opacity": opacity(len(group)), **marker},
                    hovertemplate=f"trial %{{x}}: %{{y:.4g}} ({state})<extra></extra>",
                )
            )
    running = [point for point in points if point.best is not None]
    if running:
        figure.add_trace(
            trace(
                x=[point.number for point in running],
                y=[point.best for point in running],
                name="best so far",
                mode="lines",
                line={"color": BEST, "width": 2.5, "shape": "hv"},
                hovertemplate="best up to trial %{x}: %{y:.4g}<extra></extra>",
            )
        )
    failed = [point.number for point in points if point.state == "failed"]
    if failed:
        figure.add_trace(
            trace(
                x=failed,
                y=[0.0] * len(failed),
                yaxis="y2",
                name="failed",
                mode="markers",
                marker={"size": 8, "color": FAILED, "symbol": "triangle-up"},
                hovertemplate="trial %{x} failed<extra></extra>",
            )
        )
        figure.update_layout(
            yaxis={"domain": [0.12, 1]},
            yaxis2={
                "domain": [0, 0.07],
                "range": [-1, 1],
                "fixedrange": True,
                "tickvals": [0],
                "ticktext": ["failed"],
                "gridcolor": GRID,
                "automargin": True,
            },
            xaxis={"anchor": "y2"},
        )
    metric_axis(figure, spec, [point.value for point in points])
    if failed:
        figure.update_layout(yaxis2={"type": "linear"})
    last = points[-1].number
    room = 0.5 + 0.01 * last
    figure.update_xaxes(title="trial", range=[-room, last + room], **whole(last))
    return figure


def draw_best_by_time(steps: Sequence[BestByTime], spec: Specification) -> go.Figure:
    """The best value so far against the time that was worked."""
    figure = canvas(260, f"best validation {spec.metric} so far", showlegend=False)
    figure.add_scatter(
        x=[step.seconds for step in steps],
        y=[step.best for step in steps],
        text=[
            f"trial {step.number} after {duration(step.seconds)}: {step.best:.4g}" for step in steps
        ],
        mode="lines+markers",
        line={"color": BEST, "width": 2.5, "shape": "hv"},
        # The last one only says how long the search went on.
        marker={"size": [7] * (len(steps) - 1) + [0 if len(steps) > 1 else 7]},
        hovertemplate="%{text}<extra></extra>",
    )
    metric_axis(figure, spec, [step.best for step in steps])
    end = steps[-1].seconds
    places, names = duration_ticks(end)
    figure.update_xaxes(
        title={"text": "time worked", "font": {"color": QUIET}},
        range=[-0.01 * end, 1.01 * end] if end else None,
        tickvals=places,
        ticktext=names,
    )
    return figure

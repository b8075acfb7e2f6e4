"""Learning curves: the metric by epoch, with a cross where a trial ended early."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gru_optuna.report.figures.base import (
    Panel,
    canvas,
    metric_axis,
    opacity,
    scatter,
    section,
    whole,
)
from gru_optuna.report.theme import BEST, COMPLETE, PRUNED
from gru_optuna.report.trials import STATES, State, finite, state_of, trials_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go
    from optuna import Study

    from gru_optuna.report.figures.base import Context, FigureSection
    from gru_optuna.study_file import Specification


@dataclass(frozen=True)
class Curve:
    """The metric of one trial, epoch by epoch."""

    number: int
    state: State
    epochs: list[int]
    values: list[float | None]
    best: bool  # whether it is the winner's


def collect_curves(study: Study, best: int | None) -> list[Curve]:
    """The curve of every trial that has reported an epoch; `best` is the winner's number."""
    return [
        Curve(
            number=trial.number,
            state=state_of(trial),
            epochs=sorted(trial.intermediate_values),
            values=[finite(value) for _, value in sorted(trial.intermediate_values.items())],
            best=trial.number == best,
        )
        for trial in trials_in(study, *STATES)
        if trial.intermediate_values
    ]


CURVES = 1_000
"""More curves of one kind than this are thinned: they couldn't be distinguished."""


def draw_curves(curves: Sequence[Curve], spec: Specification) -> go.Figure:
    """One trace for all complete trials, one for pruned ones, one for the winner."""
    figure = canvas(440, f"validation {spec.metric}")
    trace = scatter(sum(len(curve.epochs) for curve in curves) // 5)
    groups = (
        (
            "pruned",
            PRUNED,
            [c for c in curves if c.state != "complete"],
        ),
        ("complete", COMPLETE, [c for c in curves if c.state == "complete" and not c.best]),
        ("best", BEST, [c for c in curves if c.best]),
    )
    for name, colour, every in groups:
        if not every:
            continue
        group = every[:: math.ceil(len(every) / CURVES)]
        states = sorted({curve.state for curve in group}, reverse=name == "pruned")
        best = name == "best"
        figure.add_trace(
            trace(
                **_joined(group),
                name=f"winner (trial {group[0].number})" if best else ", ".join(states),
                mode="lines+markers" if best else "lines",
                line={"color": colour, "width": 3 if best else 1.2},
                marker={"size": 5},
                opacity=1.0 if best else max(0.25, opacity(2 * len(group))),
                legendgroup=name,
                hovertemplate="trial %{customdata}, epoch %{x}: %{y:.4g}<extra></extra>",
            )
        )
        if name == "pruned":
            last = [curve for curve in group if curve.values[-1] is not None]
            figure.add_trace(
                trace(
                    x=[curve.epochs[-1] for curve in last],
                    y=[curve.values[-1] for curve in last],
                    customdata=[curve.number for curve in last],
                    mode="markers",
                    marker={
                        "symbol": "x-thin",
                        "size": 6,
                        "line": {"color": colour, "width": 1.5},
                        "opacity": opacity(len(last)),
                    },
                    legendgroup=name,
                    showlegend=False,
                    hovertemplate="trial %{customdata} ended after epoch %{x}: "
                    "%{y:.4g}<extra></extra>",
                )
            )
    metric_axis(figure, spec, [value for curve in curves for value in curve.values])
    longest = max(curve.epochs[-1] for curve in curves)
    figure.update_xaxes(title="epoch", **whole(longest))
    return figure


def _joined(curves: Sequence[Curve]) -> dict[str, Any]:
    """Joins many curves to one line with gaps. Typed arrays keep the page small."""
    x: list[int] = []
    y: list[float] = []
    number: list[int] = []
    for curve in curves:
        x += [*curve.epochs, curve.epochs[-1]]
        y += [math.nan if value is None else value for value in curve.values] + [math.nan]
        number += [curve.number] * (len(curve.epochs) + 1)
    return {
        "x": np.array(x, dtype=np.int32),
        "y": np.array(y, dtype=np.float32),
        "customdata": np.array(number, dtype=np.int32),
    }


def curves_section(context: Context) -> FigureSection:
    """The metric of every trial, by epoch."""
    lines = collect_curves(context.study, context.best)
    panels = []
    if lines:
        alt = f"Curves of {len(lines)} trials over up to {max(c.epochs[-1] for c in lines)} epochs."
        panels = [Panel(draw_curves(lines, context.spec), alt)]
    sentences = {"caption": True, "fewer": len(lines) > CURVES}
    return section("learning_curves", lines, panels, sentences, most=CURVES, **context.words)

"""Three figures for optuna-dashboard, small enough to be written while a study runs.

Their numbers are the report's. They are Plotly's JSON, written by hand: importing Plotly would cost
a worker half a second and fifty megabytes. optuna-dashboard stores figures in pieces of two
kilobytes, so they contain only the points that change something.
"""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from gru_optuna.report.figures.history import list_history
from gru_optuna.report.figures.pruning import measure_pruning
from gru_optuna.report.trials import complete, trials_in, value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study

    from gru_optuna.report.figures.history import HistoryPoint
    from gru_optuna.study.summary import Summary
    from gru_optuna.study_file import Specification

_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#E69F00", "#009E73", "#8A8A8A"
"""Colours of Okabe and Ito, which every kind of colour vision can distinguish."""

_SHADES = (_BLUE, _ORANGE, _GREEN, "#CC79A7", "#56B4E9")
_MOST_BASELINES = 4
_MOST_POINTS = 120
"""Of a line: more would be narrower than a pixel, and take twice as many pieces."""


def key_figures(study: Study, spec: Specification, summary: Summary) -> dict[str, str]:
    """The figures by name; none while no trial has ended."""
    points = list_history(study)
    if not points:
        return {}
    figures = {
        "best-so-far": _best_so_far(points, spec, summary),
        "learning-curves": _learning_curves(study, spec),
        "what-pruning-saved": _pruning(study, spec),
    }
    return {
        name: json.dumps(figure, separators=(",", ":"), ensure_ascii=False)
        for name, figure in figures.items()
    }


def _best_so_far(
    points: Sequence[HistoryPoint], spec: Specification, summary: Summary
) -> dict[str, Any]:
    steps: dict[float, int] = {}
    for point in points:
        if point.best is not None:
            steps.setdefault(point.best, point.number)
    values, numbers = list(steps), list(steps.values())
    last = points[-1].number
    if numbers and numbers[-1] != last:
        numbers, values = [*numbers, last], [*values, values[-1]]
    lines = [_line("best so far", numbers, values, _BLUE, shape="hv", width=3)]
    # Without the winner's test value: it belongs to other rows than the search.
    for (name, value), color in zip(
        list(summary.baselines.items())[:_MOST_BASELINES], _SHADES[1:], strict=False
    ):
        lines.append(_line(f"to beat: {name}", [0, last], [value, value], color, dash="dash"))
    return _figure(f"Best {spec.metric} so far, on validation rows", "trial", spec.metric, lines)


def _learning_curves(study: Study, spec: Specification) -> dict[str, Any]:
    lines = []
    best_first = sorted(complete(study), key=lambda trial: spec.as_loss(value_of(trial)))
    for trial, color in zip(best_first, _SHADES, strict=False):
        epochs, values = list(trial.intermediate_values), list(trial.intermediate_values.values())
        lines.append(_line(f"trial {trial.number}", epochs, values, color))
    pruned = [t for t in trials_in(study, TrialState.PRUNED) if t.intermediate_values]
    medians: dict[int, float] = {}
    for epoch in range(1, spec.training.epochs + 1):
        values = [v for t in pruned if (v := t.intermediate_values.get(epoch)) is not None]
        if values:
            medians[epoch] = median(values)
    if medians:
        name = f"median of {len(pruned)} pruned"
        lines.append(_line(name, list(medians), list(medians.values()), _GREY, dash="dot"))
    return _figure("Learning curves of the best trials", "epoch", spec.metric, lines)


def _pruning(study: Study, spec: Specification) -> dict[str, Any]:
    numbers = measure_pruning(study, spec)
    title = f"{numbers.run:,} epochs trained"
    if numbers.comparable:
        title += f"; without pruning about {numbers.unpruned:,.0f}"
    epochs = list(range(1, numbers.most + 1))
    line = _line("trials", epochs, numbers.reached, _BLUE, shape="hvh")
    line["fill"] = "tozeroy"
    return _figure(title, "epoch", "trials that trained it", [line])


def _line(
    name: str,
    x: Sequence[int],
    y: Sequence[float],
    color: str,
    *,
    shape: str = "linear",
    dash: str = "solid",
    width: int = 2,
) -> dict[str, Any]:
    step = -(-len(x) // _MOST_POINTS)
    ends = range(len(x) - 1, -1, -step) if x else range(0)
    kept = sorted(ends)
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(kept) < 2 else "lines",
        "name": name,
        "x": [x[index] for index in kept],
        "y": [float(f"{y[index]:.5g}") for index in kept],
        "line": {"color": color, "shape": shape, "dash": dash, "width": width},
    }


def _figure(title: str, x: str, y: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "data": lines,
        "layout": {
            "title": {"text": title},
            "xaxis": {"title": {"text": x}, "rangemode": "nonnegative"},
            "yaxis": {"title": {"text": y}},
            "showlegend": len(lines) > 1,
            # Below the lines: next to them, the long names of baselines would leave no room.
            "legend": {"orientation": "h", "y": -0.25},
            "margin": {"t": 50, "r": 20},
        },
    }

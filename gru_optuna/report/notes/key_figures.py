"""Three figures for optuna-dashboard, small enough to be written while a study runs.

Their numbers are the report's. They are Plotly's JSON, written by hand: importing Plotly would cost
a worker half a second and fifty megabytes. optuna-dashboard stores figures in pieces of two
kilobytes, so they contain only the points that change something.
"""

from __future__ import annotations

import json
from heapq import nsmallest
from statistics import median
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from gru_optuna.report.figures.pruning import measure_pruning
from gru_optuna.report.trials import ENDED, complete, trials_in, value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.study.summary import Summary
    from gru_optuna.study_file import Specification

_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#E69F00", "#009E73", "#8A8A8A"
"""Colours of Okabe and Ito, which every kind of colour vision can distinguish."""

_SHADES = (_BLUE, _ORANGE, _GREEN, "#CC79A7", "#56B4E9")
_MOST_BASELINES = 4
_MOST_POINTS = 120
"""Points of a line: more would be narrower than a pixel, and take twice as many pieces."""


_MOST_PRUNED = 500
"""Trials that a median is taken of; of more, every second, third and so on."""


def key_figures(study: Study, spec: Specification, summary: Summary) -> dict[str, str]:
    """The figures by name; none while no trial has ended."""
    ended = trials_in(study, *ENDED)
    if not ended:
        return {}
    figures = {
        "best-so-far": _best_so_far(complete(study), ended[-1].number, spec, summary),
        "learning-curves": _learning_curves(study, spec),
        "what-pruning-saved": _pruning(study, spec),
    }
    return {
        name: json.dumps(figure, separators=(",", ":"), ensure_ascii=False)
        for name, figure in figures.items()
    }


def _best_so_far(
    trials: Sequence[FrozenTrial], last: int, spec: Specification, summary: Summary
) -> dict[str, Any]:
    numbers: list[int] = []
    values: list[float] = []
    for trial in trials:
        value = value_of(trial)
        if not values or spec.as_loss(value) < spec.as_loss(values[-1]):
            numbers.append(trial.number)
            values.append(value)
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
    best_first = nsmallest(
        len(_SHADES), complete(study), key=lambda trial: spec.as_loss(value_of(trial))
    )
    for trial, color in zip(best_first, _SHADES, strict=False):
        epochs, values = list(trial.intermediate_values), list(trial.intermediate_values.values())
        lines.append(_line(f"trial {trial.number}", epochs, values, color))
    pruned = [t for t in trials_in(study, TrialState.PRUNED) if t.intermediate_values]
    count, every = f"{len(pruned)} pruned", -(-len(pruned) // _MOST_PRUNED)
    if every > 1:
        pruned, count = pruned[::every], f"1 in {every} of {count}"
    medians: dict[int, float] = {}
    for epoch in range(1, spec.training.epochs + 1):
        values = [v for t in pruned if (v := t.intermediate_values.get(epoch)) is not None]
        if values:
            medians[epoch] = median(values)
    if medians:
        name = f"median of {count}"
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

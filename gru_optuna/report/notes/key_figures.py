"""Three figures that optuna-dashboard hasn't, small enough to be written as a study runs.

They are Plotly's JSON, written by hand: importing Plotly would cost a worker half a second and
fifty megabytes. optuna-dashboard keeps figures in pieces of two kilobytes, so only points that
change something are in them.
"""

from __future__ import annotations

import json
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from gru_optuna.study.trial_attributes import TrialAttributes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.study.summary import Summary
    from gru_optuna.study_file import Specification

_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#E69F00", "#009E73", "#8A8A8A"
"""Of Okabe and Ito: told apart by everybody."""

_SHADES = (_BLUE, _ORANGE, _GREEN, "#CC79A7", "#56B4E9")
_MOST_BASELINES = 4
_MOST_POINTS = 120
"""Of a line: more are narrower than a pixel, and twice as many pieces."""


def key_figures(study: Study, spec: Specification, summary: Summary) -> dict[str, str]:
    """The figures by name; none as long as no trial is over."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    if not trials:
        return {}
    figures = {
        "best-so-far": _best_so_far(trials, spec, summary),
        "learning-curves": _learning_curves(trials, spec),
        "what-pruning-saved": _pruning(trials, spec),
    }
    return {
        name: json.dumps(figure, separators=(",", ":"), ensure_ascii=False)
        for name, figure in figures.items()
    }


def running_best(
    trials: Sequence[FrozenTrial], *, maximizes: bool
) -> tuple[list[int], list[float]]:
    """Numbers and values of the trials that were the best when they ended, in that order."""
    numbers: list[int] = []
    values: list[float] = []
    for trial in trials:
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            value = trial.value
            if not values or (value > values[-1] if maximizes else value < values[-1]):
                numbers.append(trial.number)
                values.append(value)
    return numbers, values


def reached(trials: Sequence[FrozenTrial], most: int) -> list[int]:
    """How many trials trained at least 1, 2, … `most` epochs."""
    lengths = [len(trial.intermediate_values) for trial in trials]
    return [sum(length >= epoch for length in lengths) for epoch in range(1, most + 1)]


def epochs_without_pruning(trials: Sequence[FrozenTrial]) -> float | None:
    """What the trials would have trained if each had gone on as the complete ones did.

    A failed trial would have failed all the same. None if no trial is complete.
    """
    complete = [len(t.intermediate_values) for t in trials if t.state == TrialState.COMPLETE]
    if not complete:
        return None
    mean = fmean(complete)
    return sum(
        max(mean, len(trial.intermediate_values))
        if trial.state == TrialState.PRUNED
        else len(trial.intermediate_values)
        for trial in trials
    )


def _best_so_far(
    trials: list[FrozenTrial], spec: Specification, summary: Summary
) -> dict[str, Any]:
    numbers, values = running_best(trials, maximizes=spec.direction == "maximize")
    last = trials[-1].number
    if numbers and numbers[-1] != last:
        numbers, values = [*numbers, last], [*values, values[-1]]
    lines = [_line("best so far", numbers, values, _BLUE, shape="hv", width=3)]
    # The winner's test rows are others than those of the search: not drawn as if it were one.
    for (name, value), color in zip(
        list(summary.baselines.items())[:_MOST_BASELINES], _SHADES[1:], strict=False
    ):
        lines.append(_line(f"to beat: {name}", [0, last], [value, value], color, dash="dash"))
    return _figure(f"Best {spec.metric} so far, on validation rows", "trial", spec.metric, lines)


def _learning_curves(trials: list[FrozenTrial], spec: Specification) -> dict[str, Any]:
    complete = [t for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    sign = -1 if spec.direction == "maximize" else 1

    def rank(trial: FrozenTrial) -> tuple[float, float, int]:
        # As the winner is found; what plain Optuna added has no loss.
        loss = TrialAttributes.read(trial).best_validation_loss
        return sign * (trial.value or 0.0), loss, trial.number

    best = sorted(complete, key=rank)
    lines = []
    for trial, color in zip(best, _SHADES, strict=False):
        epochs, values = list(trial.intermediate_values), list(trial.intermediate_values.values())
        lines.append(_line(f"trial {trial.number}", epochs, values, color))
    pruned = [t for t in trials if t.state == TrialState.PRUNED and t.intermediate_values]
    middle: dict[int, float] = {}
    for epoch in range(1, spec.training.epochs + 1):
        values = [v for t in pruned if (v := t.intermediate_values.get(epoch)) is not None]
        if values:
            middle[epoch] = median(values)
    if middle:
        name = f"half of the {len(pruned)} pruned"
        lines.append(_line(name, list(middle), list(middle.values()), _GREY, dash="dot"))
    return _figure("Learning curves of the best trials", "epoch", spec.metric, lines)


def _pruning(trials: list[FrozenTrial], spec: Specification) -> dict[str, Any]:
    counts = reached(trials, spec.training.epochs)
    trained = sum(len(trial.intermediate_values) for trial in trials)
    unpruned = epochs_without_pruning(trials)
    title = f"{trained:,} epochs trained"
    if unpruned is not None and unpruned > trained:
        title += f"; without pruning about {unpruned:,.0f}"
    line = _line("trials", list(range(1, len(counts) + 1)), counts, _BLUE, shape="hvh")
    line["fill"] = "tozeroy"
    return _figure(title, "epoch", "trials that came as far", [line])


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
            # Below: names of baselines are long, and beside the lines nothing would be left.
            "legend": {"orientation": "h", "y": -0.25},
            "margin": {"t": 50, "r": 20},
        },
    }

"""The trial table: every trial's numbers as text, with what the page sorts them by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from gru_optuna.report.axes import label
from gru_optuna.report.trials import (
    STATES,
    State,
    epochs_of,
    is_number,
    last_value,
    outcome,
    trials_in,
)
from gru_optuna.search import space
from gru_optuna.study.summary import find_winner
from gru_optuna.study.trial_attributes import TrialAttributes

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.hyperparameters import Value
    from gru_optuna.study_file import Specification


@dataclass(frozen=True)
class Row:
    """One line of the trial table."""

    number: int
    state: State
    value: float | None
    epochs: int
    seconds: float | None
    params: dict[str, Value]
    outcome: str
    best: bool


def rows(study: Study, spec: Specification) -> list[Row]:
    """Every trial, best first: complete ones, pruned, running, failed."""
    order = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)
    winner = find_winner(study, spec)
    sign = 1 if spec.direction == "minimize" else -1

    def rank(trial: FrozenTrial) -> tuple[bool, int, float, float, int]:
        value = last_value(trial)
        return (
            winner is None or trial.number != winner.number,
            order.index(trial.state),
            math.inf if value is None else sign * value,
            # The same tie-break as the winner's.
            TrialAttributes.read(trial).best_validation_loss,
            trial.number,
        )

    return [
        Row(
            number=trial.number,
            state=STATES[trial.state],
            value=last_value(trial),
            epochs=epochs_of(trial),
            seconds=TrialAttributes.read(trial).seconds,
            params=dict(trial.params),
            outcome=outcome(trial),
            best=winner is not None and trial.number == winner.number,
        )
        for trial in sorted(trials_in(study, *order), key=rank)
    ]


TABLE_ROWS = 1_000
"""More trials than this make a table nobody reads and every browser feels."""

NOTHING = "–"


@dataclass(frozen=True)
class _Cell:
    text: str
    value: str  # what the table sorts by; empty: none
    numeric: bool = False


@dataclass(frozen=True)
class _Line:
    state: str
    best: bool
    cells: list[_Cell]


def trial_table(study: Study, spec: Specification, show: Callable[[float], str]) -> dict[str, Any]:
    """What the page's template needs: ``rows``, ``columns`` (name, numeric), ``table_caption``.

    Parameters
    ----------
    study, spec
        The study.
    show
        A value of the metric as text.
    """
    every_row = rows(study, spec)
    shown = every_row[:TABLE_ROWS]
    names = [name for name in space.searched(spec) if any(name in row.params for row in shown)]
    numeric = {
        name: all(is_number(row.params[name]) for row in shown if name in row.params)
        for name in names
    }
    one = "The only trial so far"
    every = one if len(every_row) == 1 else f"All {len(every_row):,} trials, the best first"
    best = f"The best {len(shown):,} of {len(every_row):,} trials"
    caption = every if len(every_row) == len(shown) else best
    lines = []
    for row in shown:
        cells = [
            _Cell(str(row.number), str(row.number), numeric=True),
            _Cell(row.state, row.state),
            _number_cell(row.value, show),
            _Cell(str(row.epochs), str(row.epochs), numeric=True),
            _number_cell(row.seconds, lambda seconds: f"{seconds:.1f}"),
        ]
        for name in names:
            value = row.params.get(name)
            text = "" if value is None else label(value)
            key = "" if value is None else repr(value) if is_number(value) else text
            cells.append(_Cell(text or NOTHING, key, numeric[name]))
        lines.append(_Line(row.state, row.best, [*cells, _Cell(row.outcome, row.outcome)]))
    heads = [("trial", True), ("state", False), (spec.metric, True)]
    heads += [("epochs", True), ("seconds", True)]
    heads += [(name, numeric[name]) for name in names]
    return {
        "rows": lines,
        "columns": [*heads, ("outcome", False)],
        "table_caption": f"{caption}. Click a heading to sort by it.",
    }


def _number_cell(value: float | None, show: Callable[[float], str]) -> _Cell:
    if value is None:
        return _Cell(NOTHING, "", numeric=True)
    return _Cell(show(value), repr(value), numeric=True)

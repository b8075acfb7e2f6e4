"""The trial table: every trial's values as text, with the keys by which the page sorts them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from gru_optuna.formatting import NONE, format_metric, format_value
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


def list_rows(study: Study, spec: Specification, best: int | None) -> list[Row]:
    """Every trial: the winner (number `best`), then complete, pruned, running and failed ones."""
    order = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)
    sign = 1 if spec.direction == "minimize" else -1

    def rank(trial: FrozenTrial) -> tuple[bool, int, float, float, int]:
        value = last_value(trial)
        return (
            trial.number != best,
            order.index(trial.state),
            math.inf if value is None else sign * value,
            # Ties are broken as for the winner.
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
            best=trial.number == best,
        )
        for trial in sorted(trials_in(study, *order), key=rank)
    ]


TABLE_ROWS = 1_000
"""A longer table slows every browser down, and nobody reads it."""


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


def trial_table(study: Study, spec: Specification, best: int | None) -> dict[str, Any]:
    """What the page's template needs: ``rows``, ``columns`` (name, numeric), ``table_caption``."""
    every_row = list_rows(study, spec, best)
    shown = every_row[:TABLE_ROWS]
    names = [name for name in space.searched(spec) if any(name in row.params for row in shown)]
    numeric = {
        name: all(is_number(row.params[name]) for row in shown if name in row.params)
        for name in names
    }
    caption = f"All {len(every_row):,} trials, the best first"
    if len(every_row) == 1:
        caption = "The only trial so far"
    elif len(every_row) > len(shown):
        caption = f"The best {len(shown):,} of {len(every_row):,} trials"
    lines = []
    for row in shown:
        cells = [
            _Cell(str(row.number), str(row.number), numeric=True),
            _Cell(row.state, row.state),
            _number_cell(row.value, format_metric),
            _Cell(str(row.epochs), str(row.epochs), numeric=True),
            _number_cell(row.seconds, lambda seconds: f"{seconds:.1f}"),
        ]
        for name in names:
            value = row.params.get(name)
            key = "" if value is None else repr(value) if is_number(value) else format_value(value)
            cells.append(_Cell(format_value(value), key, numeric[name]))
        lines.append(_Line(row.state, row.best, [*cells, _Cell(row.outcome, row.outcome)]))
    columns = [("trial", True), ("state", False), (spec.metric, True), ("epochs", True)]
    columns += [("seconds", True), *((name, numeric[name]) for name in names), ("outcome", False)]
    return {
        "rows": lines,
        "columns": columns,
        "table_caption": f"{caption}. Click a heading to sort by it.",
    }


def _number_cell(value: float | None, text_of: Callable[[float], str]) -> _Cell:
    if value is None:
        return _Cell(NONE, "", numeric=True)
    return _Cell(text_of(value), repr(value), numeric=True)

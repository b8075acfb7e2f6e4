"""The trial table: every trial's values as text, with the keys by which the page sorts them."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from gru_optuna.formatting import format_value
from gru_optuna.report.trials import (
    State,
    is_number,
    last_value,
    outcome,
    state_of,
    trials_in,
)
from gru_optuna.search import space
from gru_optuna.study.trial_attributes import TrialAttributes, epochs_trained

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import polars as pl
    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.hyperparameters import Value
    from gru_optuna.study_file import Specification


_TYPES = {
    "number": "Int64", "state": "String", "value": "Float64", "epochs": "Int64",
    "seconds": "Float64", "best": "Boolean", "outcome": "String",
}  # fmt: skip
"""The columns of every study's trials, with their types in polars."""


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

    def rank(trial: FrozenTrial) -> tuple[bool, int, float, float, int]:
        value = last_value(trial)
        return (
            trial.number != best,
            order.index(trial.state),
            math.inf if value is None else spec.as_loss(value),
            # Ties are broken as for the winner.
            TrialAttributes.read(trial).best_validation_loss,
            trial.number,
        )

    return [
        Row(
            number=trial.number,
            state=state_of(trial),
            value=last_value(trial),
            epochs=epochs_trained(trial),
            seconds=TrialAttributes.read(trial).seconds,
            params=dict(trial.params),
            outcome=outcome(trial),
            best=trial.number == best,
        )
        for trial in sorted(trials_in(study, *order), key=rank)
    ]


def trial_columns(rows: Iterable[Row], spec: Specification) -> dict[str, list[Any]]:
    """Trials by number, to save or print: a column for each searched hyperparameter.

    One that has names besides numbers, as ``clip_norm = ["off", 1.0]``, is a column of texts.
    """
    rows = sorted(rows, key=lambda row: row.number)
    columns = {name: [getattr(row, name) for row in rows] for name in _TYPES}
    for name in space.searched(spec):
        values = [row.params.get(name) for row in rows]
        if not all(value is None or is_number(value) for value in values):
            values = [None if value is None else str(value) for value in values]
        # A hyperparameter must not hide a column of the same name.
        key = f"params_{name}" if name in columns else name
        columns[key] = values
    return columns


def trials_frame(columns: Mapping[str, list[Any]]) -> pl.DataFrame:
    """The columns of `trial_columns` as a frame."""
    import polars as pl  # heavy, and neither CSV nor the page needs it

    return pl.DataFrame(
        [
            pl.Series(name, values, getattr(pl, _TYPES.get(name, ""), None), strict=False)
            for name, values in columns.items()
        ]
    )


def trials_csv(columns: Mapping[str, list[Any]], separator: str = ",") -> str:
    """The columns of `trial_columns` as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(str(v).lower() if isinstance(v, bool) else v for v in row)
    return text.getvalue()


TABLE_ROWS = 1_000
"""A longer table slows down every browser, and is not read to its end."""


def trial_table(study: Study, spec: Specification, best: int | None) -> dict[str, Any]:
    """What the page's template needs: ``rows``, ``table_caption``, and ``numeric``.

    The last says of each searched hyperparameter that a row has whether all its values are numbers.
    """
    every_row = list_rows(study, spec, best)
    shown = every_row[:TABLE_ROWS]
    caption = f"All {len(every_row):,} trials, the best first"
    if len(every_row) == 1:
        caption = "The only trial so far"
    elif len(every_row) > len(shown):
        caption = f"The best {len(shown):,} of {len(every_row):,} trials"
    numeric = {}
    for name in space.searched(spec):
        if values := [row.params[name] for row in shown if name in row.params]:
            numeric[name] = all(map(is_number, values))
    return {"rows": shown, "numeric": numeric, "table_caption": caption}


def sort_key(value: Value | None) -> str:
    """What the table sorts a cell by: a number with all its digits; empty where there is none."""
    return "" if value is None else repr(value) if is_number(value) else format_value(value)

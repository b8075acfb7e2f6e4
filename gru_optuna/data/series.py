"""A table to regular series: one value a step, in the order of time, missing ones NaN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gru_optuna.data.frequencies import Frequency
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gru_optuna.data.frequencies import Times
    from gru_optuna.data.tables import Table
    from gru_optuna.spec import Data


@dataclass(frozen=True)
class Series:
    """One series on its grid. Letters: S steps, P past-only and K known covariates."""

    name: str  # "" where the table holds a single one
    first: np.datetime64
    target: NDArray[np.float64]  # (S,)
    past: NDArray[np.float64]  # (S, P)
    known: NDArray[np.float64]  # (S, K)

    def __len__(self) -> int:
        return len(self.target)


def read_series(table: Table, data: Data) -> tuple[list[Series], Frequency]:
    """The series of a table, by name, and how far apart their steps are.

    Parameters
    ----------
    table
        One row a step and series. A step without a row becomes a missing one.
    data
        Which columns mean what, and what becomes of missing values.

    Raises
    ------
    DataError
        Naming the row whose time is doubled, out of order or off the grid, or whose value is
        missing where that is refused.
    """
    assert data.time is not None
    assert data.target is not None
    times = table.times(data.time)
    numbers = {name: table.numbers(name) for name in (data.target, *data.covariates, *data.known)}
    if data.missing == "refuse":
        _refuse_missing(table, numbers)
    rows_of = _rows_by_series(table, data.series)
    for name, rows in rows_of.items():
        _check_order(table, times, rows, name)
    groups = [times[rows] for rows in rows_of.values() if len(rows) > 1]
    if not groups:
        raise DataError(f"{table.source}: a series needs two rows or more. Name a longer file.")
    frequency = Frequency.of(groups)
    found: list[Series] = []
    for name, rows in rows_of.items():
        places = _places(table, times, rows, frequency, data.missing)
        columns = {column: _on_grid(values[rows], places) for column, values in numbers.items()}
        empty = np.zeros((int(places[-1]) + 1, 0))
        found.append(
            Series(
                name=name,
                first=times[rows[0]],
                target=columns[data.target],
                past=np.column_stack([empty, *(columns[column] for column in data.covariates)]),
                known=np.column_stack([empty, *(columns[column] for column in data.known)]),
            )
        )
    return found, frequency


def _refuse_missing(table: Table, numbers: dict[str, NDArray[np.float64]]) -> None:
    for name, values in numbers.items():
        if np.isnan(values).any():
            row = int(np.isnan(values).argmax())
            raise DataError(
                f'{table.at(row)}: column "{name}" is empty, and missing = "refuse". Fill it in, '
                f'or write missing = "interpolate" under [data].'
            )


def _rows_by_series(table: Table, column: str | None) -> dict[str, NDArray[np.int64]]:
    if column is None:
        return {"": np.arange(len(table))}
    rows = pl.DataFrame({"name": table.labels(column), "row": np.arange(len(table))})
    grouped = rows.group_by("name", maintain_order=True).agg("row").sort("name")
    return {name: np.array(places) for name, places in grouped.iter_rows()}


def _check_order(table: Table, times: Times, rows: NDArray[np.int64], name: str) -> None:
    steps = np.diff(times[rows])
    wrong = steps <= np.timedelta64(0)
    if not wrong.any():
        return
    place = int(wrong.argmax())
    at, time, before = (
        table.at(int(rows[place + 1])),
        _shown(times[rows[place + 1]]),
        _shown(times[rows[place]]),
    )
    of = f' of series "{name}"' if name else ""
    or_several = (
        ""
        if name
        else ' Of several series, name the column that tells them apart: series = "COLUMN".'
    )
    if time == before:
        raise DataError(f"{at}: the time {time}{of} is there twice. Keep one row.{or_several}")
    raise DataError(
        f"{at}: the time {time}{of} follows {before}. Sort the rows by time.{or_several}"
    )


def _places(
    table: Table,
    times: Times,
    rows: NDArray[np.int64],
    frequency: Frequency,
    missing: str,
) -> NDArray[np.int64]:
    """The place of each row on the grid of its series, from 0, rising."""
    places, on_grid = frequency.places(times[rows])
    off_grid = ~on_grid | (np.diff(places, prepend=-1) == 0)
    absent = int(places[-1]) + 1 - len(places)
    if off_grid.any():
        place = int(off_grid.argmax())
        advice = "Correct the time, or resample the series to even steps."
    elif absent and (missing == "refuse" or absent > len(places)):
        place = int((np.diff(places) > 1).argmax()) + 1
        advice = (
            f"{absent} rows are absent beside {len(places)}. Add them, "
            f"or resample the series to even steps."
        )
    else:
        return places
    raise DataError(
        f"{table.at(int(rows[place]))}: the time {_shown(times[rows[place]])} follows "
        f"{_shown(times[rows[place - 1]])}, and most rows are {frequency} apart. {advice}"
    )


def _on_grid(values: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.float64]:
    column = np.full(int(places[-1]) + 1, np.nan)
    column[places] = values
    return column


def _shown(time: np.datetime64) -> str:
    return str(time.astype("datetime64[s]")).replace("T", " ")

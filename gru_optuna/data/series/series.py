"""From tables to regular series: one value a step, in the order of time; NaN or None if missing.

Each of several tables holds the steps of every series that follow those of the table before it.
Steps without a row are missing values, within a table and between two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gru_optuna.data.readers.time_zones import clock_that_goes_back, with_offset
from gru_optuna.data.series.categories import is_present
from gru_optuna.data.series.frequency import Frequency, shown_time
from gru_optuna.data.series.joined_tables import JoinedTables, holds_categories
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from gru_optuna.data.readers.tables import Table
    from gru_optuna.data.readers.time_forms import TimeForm
    from gru_optuna.data.readers.times import ParsedTimes
    from gru_optuna.data.series.frequency import Times
    from gru_optuna.study_file import Data

Span: TypeAlias = tuple[int, int]
"""Steps of a series: the first, and the one after the last."""


_DAY = 86_400_000_000  # microseconds
_NOTHING = np.timedelta64(0, "us")


@dataclass(frozen=True)
class Series:
    """One series on its grid. Letters: S steps, P past-only and K known covariates.

    Covariates are columns of numbers or of categories; P and K count those of numbers.
    """

    name: str  # "" where the table holds a single series
    first: np.datetime64
    target: NDArray[np.float64]  # (S,)
    past: NDArray[np.float64]  # (S, P)
    known: NDArray[np.float64]  # (S, K)
    categories: Mapping[str, NDArray[np.object_]]  # by column; (S,) each, None where missing
    files: tuple[Span, ...]  # the steps of each table that it was read from

    def __len__(self) -> int:
        return len(self.target)

    @property
    def named(self) -> str:
        """What messages add about the series; empty for a table's only one."""
        return f' of series "{self.name}"' if self.name else ""


@dataclass(frozen=True)
class SeriesRows:
    """Series, the step that they share, and how the columns of their times are written."""

    series: list[Series]  # in the order of their names
    frequency: Frequency
    forms: tuple[TimeForm, ...]


@dataclass(frozen=True)
class Learned:
    """What the training rows decided, which later rows of the same series can't decide again."""

    categorical: Collection[str]  # the covariates that hold categories
    frequency: Frequency
    forms: tuple[TimeForm, ...]  # none if an earlier version made the bundle


def read_series(tables: Sequence[Table], data: Data, learned: Learned | None = None) -> SeriesRows:
    """Reads the series of tables.

    Parameters
    ----------
    tables
        One row for each step of each series, later steps in later tables. A step without a row
        becomes a missing value.
    data
        The roles of the columns, and how missing values are treated.
    learned
        Where the rows follow those of training; None: these rows decide.

    Raises
    ------
    DataError
        Naming the row whose time is doubled, out of order or off the grid, or whose value is
        missing where that is refused; or the series that a table lacks.
    """
    assert data.time is not None
    assert data.target is not None
    rows = JoinedTables(tuple(tables))
    parsed = rows.times(data.times, learned.forms if learned is not None else ())
    covariates = (*data.covariates, *data.known)
    if learned is not None:
        categorical = learned.categorical
    else:
        categorical = {name for name in covariates if holds_categories(tables, name)}
    numeric = [name for name in (data.target, *covariates) if name not in categorical]
    numbers = {name: rows.numbers(name) for name in numeric}
    categories = {name: rows.categories(name) for name in covariates if name in categorical}
    if data.missing == "refuse":
        _refuse_missing(rows, numbers, categories)
    places_of = _rows_by_series(rows, data.series)
    for name, places in places_of.items():
        _check_tables(rows, places, name)
    times, forms = _by_one_clock(parsed, list(places_of.values()), learned, rows)
    places_of = {name: _earliest_first(rows, times, own) for name, own in places_of.items()}
    for name, places in places_of.items():
        _check_order(rows, times, places, name, counted=parsed.counted)
    frequency = _frequency(rows, times, places_of, learned, counted=parsed.counted)
    past, known = ([n for n in names if n in numbers] for names in (data.covariates, data.known))
    found: list[Series] = []
    for name, places in places_of.items():
        steps = _steps(rows, times, places, frequency, data.missing)
        columns = {
            column: _on_grid(values[places], steps, np.nan) for column, values in numbers.items()
        }
        empty = np.zeros((int(steps[-1]) + 1, 0))
        found.append(
            Series(
                name=name,
                first=times[places[0]],
                target=columns[data.target],
                past=np.column_stack([empty, *(columns[column] for column in past)]),
                known=np.column_stack([empty, *(columns[column] for column in known)]),
                categories={
                    column: _on_grid(values[places], steps, None)
                    for column, values in categories.items()
                },
                files=_files(rows, places, steps),
            )
        )
    return SeriesRows(found, frequency, forms)


def _by_one_clock(
    parsed: ParsedTimes,
    groups: Sequence[NDArray[np.int64]],
    learned: Learned | None,
    rows: JoinedTables,
) -> tuple[Times, tuple[TimeForm, ...]]:
    """The times by the clock that the steps follow, and the forms in which forecasts have theirs.

    Steps follow UTC, unless they are days or months that are only regular by the clock of their
    zone: midnights in Berlin are once a year 23 hours apart.
    """
    forms = parsed.forms
    local = any(form.local for form in forms)
    if learned is not None and learned.forms:
        if (parsed.offsets is None) != (learned.forms[0].zone is None):
            has, had = ("no ", "") if parsed.offsets is None else ("", "no ")
            raise DataError(
                f"{rows.source}: the times have {has}offsets from UTC, but those of training had "
                f"{had}offsets. Write them alike."
            )
        local = learned.forms[0].local
        forms = tuple(
            _like_training(form, trained)
            for form, trained in zip(forms, learned.forms, strict=True)
        )
    elif parsed.offsets is not None and learned is None:
        utc, by_clock = (
            [np.unique(times[places]) for places in groups if len(places) > 1]
            for times in (parsed.values, parsed.values + parsed.offsets)
        )
        if utc and len(np.unique(parsed.offsets)) > 1:
            local = _on_grid_share(by_clock) > _on_grid_share(utc)
        forms = tuple(replace(form, local=local) for form in forms)
    if local and parsed.offsets is not None:
        return parsed.values + parsed.offsets, forms
    return parsed.values, forms


def _like_training(form: TimeForm, trained: TimeForm) -> TimeForm:
    """The form for forecasts: that of training, with the type that the later rows have."""
    if form.reads == "typed":
        return replace(form, local=trained.local)
    if (form.reads, form.writes) == (trained.reads, trained.writes):
        return replace(trained, stored=form.stored)
    return trained


def _on_grid_share(groups: list[Times]) -> float:
    """The share of times that lie on the grid of their usual step, if that is whole days."""
    frequency = Frequency.of(groups)
    if frequency.microseconds < _DAY:
        return 0.0
    fits: list[NDArray[np.bool_]] = []
    for times in groups:
        places, _ = frequency.places(times)
        fits.append(frequency.times(times[0], int(places[-1]) + 1)[places] == times)
    return float(np.concatenate(fits).mean())


def _refuse_missing(
    rows: JoinedTables,
    numbers: Mapping[str, NDArray[np.float64]],
    categories: Mapping[str, NDArray[np.object_]],
) -> None:
    missing = {name: np.isnan(values) for name, values in numbers.items()}
    missing |= {name: ~is_present(values) for name, values in categories.items()}
    for name, gaps in missing.items():
        if gaps.any():
            raise DataError(
                f'{rows.at(int(gaps.argmax()))}: column "{name}" is empty, but missing = '
                f'"refuse". Fill it in, or write missing = "interpolate" under [data].'
            )


def _rows_by_series(rows: JoinedTables, column: str | None) -> dict[str, NDArray[np.int64]]:
    if column is None:
        return {"": np.arange(len(rows))}
    names = rows.labels(column)
    order = np.argsort(names.places, kind="stable")
    ends = np.cumsum(np.bincount(names.places))
    return dict(zip(names.names, np.split(order, ends[:-1]), strict=True))


def _check_tables(rows: JoinedTables, places: NDArray[np.int64], name: str) -> None:
    """Refuses a series that one of the tables lacks."""
    first, *later = rows.tables
    owners = set(rows.owners[places].tolist())
    if 0 not in owners:
        raise DataError(
            f'{rows.at(int(places[0]))}: series "{name}" is not in {first.source}, whose rows '
            f"come before these. Remove the series, or add its earlier rows there."
        )
    for number, table in enumerate(later, 1):
        if number not in owners:
            raise DataError(
                f'{table.source} has no rows of series "{name}", which is in {first.source}. '
                f"Add them, or remove the series there."
            )


def _earliest_first(
    rows: JoinedTables, times: Times, places: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The places of a series, reversed in tables whose latest row comes first, as on websites."""
    owners = rows.owners[places]
    parts = [places[owners == number] for number in range(len(rows.tables))]
    return np.concatenate([part[::-1] if descend(times[part]) else part for part in parts])


def descend(times: Times) -> bool:
    """Whether the times of one series, which may repeat, never rise from one row to the next."""
    return len(times) > 1 and bool((times[0] > times[-1]) & (np.diff(times) <= _NOTHING).all())


def _check_order(
    rows: JoinedTables, times: Times, places: NDArray[np.int64], name: str, *, counted: bool
) -> None:
    wrong = np.diff(times[places]) <= _NOTHING
    if not wrong.any():
        return
    row, before = (int(places[int(wrong.argmax()) + step]) for step in (1, 0))
    time, earlier = (shown_time(times[place], counted=counted) for place in (row, before))
    at = rows.at(row)
    of = f' of series "{name}"' if name else ""
    if rows.owners[row] != rows.owners[before]:
        raise DataError(
            f"{at}: the time {time}{of} is not after {earlier}, the last in "
            f"{rows.table_of(before).source}, whose rows must come before these. Remove the rows "
            f"that overlap, or use a part of one file, such as test = 0.2."
        )
    or_several = (
        "" if name else ' If there are several series, name their column: series = "COLUMN".'
    )
    if zone := clock_that_goes_back(times[places], int(wrong.argmax())):
        raise DataError(
            f"{at}: the time {time}{of} follows {earlier}. It looks like the end of daylight "
            f"saving time, when clocks go back and show an hour twice, as in {zone}. Write the "
            f"times in UTC or with their offsets, such as {with_offset(times[row], zone, 0)} and "
            f"then {with_offset(times[row], zone, 1)}."
        )
    if time == earlier:
        raise DataError(f"{at}: the time {time}{of} occurs twice. Keep one row.{or_several}")
    raise DataError(
        f"{at}: the time {time}{of} follows {earlier}. Sort the rows by time.{or_several}"
    )


def _frequency(
    rows: JoinedTables,
    times: Times,
    places_of: dict[str, NDArray[np.int64]],
    learned: Learned | None,
    *,
    counted: bool,
) -> Frequency:
    """The frequency of training or of the first table, which the other tables must share."""
    by_table: list[list[Times]] = [
        [
            times[own]
            for places in places_of.values()
            if len(own := places[rows.owners[places] == number]) > 1
        ]
        for number in range(len(rows.tables))
    ]
    if not by_table[0]:
        raise DataError(f"{rows.source}: a series needs at least two rows. Add rows.")
    if learned is not None:
        _check_frequency(learned.frequency, by_table[0], rows.source)
        return learned.frequency
    frequency = Frequency.of(by_table[0], counted=counted)
    for table, groups in zip(rows.tables, by_table, strict=True):
        if groups and not frequency.fits(groups):
            raise DataError(
                f"{table.source}: the rows are {Frequency.of(groups, counted=counted)} apart, but "
                f"those of {rows.source} {frequency}. Resample them, or name another file."
            )
    return frequency


def _check_frequency(trained: Frequency, groups: list[Times], source: str) -> None:
    """Refuses rows that are further apart or closer together than those of training."""
    found = Frequency.of(groups, counted=trained.unit == "step")
    alike = (found.count, found.unit) == (trained.count, trained.unit)
    # Few rows may show neither that days are stepped over, nor that their days are those of months.
    if not trained.fits(groups) or not (alike or trained.weekdays or trained.day):
        raise DataError(
            f"{source}: the rows are {found} apart, but those of training are {trained} apart. "
            f"Resample them, or name another file."
        )


def _steps(
    rows: JoinedTables,
    times: Times,
    places: NDArray[np.int64],
    frequency: Frequency,
    missing: str,
) -> NDArray[np.int64]:
    """The step of each row on the grid of its series, from 0, rising."""
    steps, on_grid = frequency.places(times[places])
    off_grid = ~on_grid | (np.diff(steps, prepend=-1) == 0)
    absent = int(steps[-1]) + 1 - len(steps)
    if off_grid.any():
        wrong = int(off_grid.argmax())
        advice = "Correct the time, or resample the series to even steps."
    elif absent and (missing == "refuse" or absent > len(steps)):
        wrong = int((np.diff(steps) > 1).argmax()) + 1
        advice = (
            f"{absent} of {absent + len(steps)} rows are missing. Add them, "
            f"or resample the series to even steps."
        )
    else:
        return steps
    row, before = int(places[wrong]), int(places[wrong - 1])
    counted = frequency.unit == "step"
    time, earlier = (shown_time(times[place], counted=counted) for place in (row, before))
    elsewhere = rows.owners[row] != rows.owners[before]
    there = f", the last in {rows.table_of(before).source}" if elsewhere else ""
    raise DataError(
        f"{rows.at(row)}: the time {time} follows {earlier}{there}, but most rows are {frequency} "
        f"apart. {advice}"
    )


def _files(
    rows: JoinedTables, places: NDArray[np.int64], steps: NDArray[np.int64]
) -> tuple[Span, ...]:
    """The steps that each table covers; none is empty."""
    by_table = [steps[rows.owners[places] == number] for number in range(len(rows.tables))]
    return tuple((int(own[0]), int(own[-1]) + 1) for own in by_table)


def _on_grid(values: NDArray[Any], steps: NDArray[np.int64], missing: float | None) -> NDArray[Any]:
    column = np.full(int(steps[-1]) + 1, missing, dtype=values.dtype)
    column[steps] = values
    return column

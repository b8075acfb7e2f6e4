"""The time column of a table: how far apart its rows are, what is missing, doubled, out of order.

Seasons are those that people live by (day, week, year), counted in steps; how much a series
resembles itself after each is measured on the column to forecast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

_SECOND, _MINUTE, _HOUR, _DAY = 1, 60, 3600, 86_400
_WEEK, _YEAR = 7 * _DAY, 365.25 * _DAY
_UNITS = ((_WEEK, "week"), (_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute"), (_SECOND, "second"))
# Months and years differ in length: days from one row to the next, and the season in steps.
_CALENDAR = ((28, 31, "month", 12), (89, 92, "quarter", 4), (365, 366, "year", None))
_CYCLES = ((_HOUR, "hour"), (_DAY, "day"), (_WEEK, "week"), (_YEAR, "year"))
_LONGEST_SEASON = 1000  # steps: a longer window than anyone trains
_REGULAR = 0.5  # of the steps: else there is no frequency
_NOTHING = np.timedelta64(0, "us")


@dataclass(frozen=True)
class Season:
    """A cycle of the calendar, in steps."""

    steps: int
    name: str
    error: float | None  # mean absolute error of "as one season ago", in standard deviations


@dataclass(frozen=True)
class Clock:
    """A time column, over all series of a table."""

    column: str
    first: str
    last: str
    step: str | None  # "1 hour"; None: no regular one
    series: int
    steps: int  # rows of the longest series, at distinct times
    missing: int  # steps that no row stands for
    first_gap: str | None  # the time before the first of them
    doubled: int  # rows of a time that their series has already
    first_doubled: int | None  # row
    unordered: int  # rows earlier than the one above them, of the same series
    first_unordered: int | None  # row
    seasons: tuple[Season, ...]  # the most telling first

    @property
    def season(self) -> int | None:
        """Steps after which the series resembles itself most."""
        return self.seasons[0].steps if self.seasons else None


def read_clock(
    column: str,
    times: NDArray[np.datetime64],
    owners: NDArray[np.int64],
    values: NDArray[np.float64] | None,
) -> Clock:
    """Looks at a time column.

    Parameters
    ----------
    column
        Its name.
    times
        (N,) as `Table.times` gives them.
    owners
        (N,) which series each row belongs to, from 0.
    values
        (N,) of the column to forecast, NaN where missing; measures the seasons.
    """
    by_series = np.argsort(owners, kind="stable")
    backwards = by_series[1:][
        (np.diff(owners[by_series]) == 0) & (np.diff(times[by_series]) < _NOTHING)
    ]
    order = np.lexsort((np.arange(len(times)), times, owners))
    same = np.diff(owners[order]) == 0
    ahead = np.diff(times[order])
    doubled = order[1:][same & (ahead == _NOTHING)]
    onward = same & (ahead > _NOTHING)
    seconds = ahead[onward].astype("timedelta64[us]").astype(np.int64) / 1e6
    step, length, per_year = _step(seconds)
    lacking = np.zeros(len(seconds), dtype=np.int64)
    if length is not None:
        lacking = np.maximum(np.round(seconds / length).astype(np.int64) - 1, 0)
    before = times[order][:-1][onward]
    counts = np.bincount(owners) - np.bincount(owners[doubled], minlength=int(owners.max()) + 1)
    cycles = list(_cycles(length, per_year, int(counts.max())))
    return Clock(
        column=column,
        first=_shown(times.min()),
        last=_shown(times.max()),
        step=step,
        series=len(counts),
        steps=int(counts.max()),
        missing=int(lacking.sum()),
        first_gap=_shown(before[lacking > 0].min()) if lacking.any() else None,
        doubled=len(doubled),
        first_doubled=int(doubled.min()) if len(doubled) else None,
        unordered=len(backwards),
        first_unordered=int(backwards.min()) if len(backwards) else None,
        seasons=_seasons(cycles, _measured(values[order], same) if values is not None else None),
    )


def _step(seconds: NDArray[np.float64]) -> tuple[str | None, float | None, int | None]:
    """The usual step in words and seconds, and how many make a year where the calendar says it."""
    if not len(seconds):
        return None, None, None
    days = seconds / _DAY
    for least, most, unit, per_year in _CALENDAR:
        if ((days >= least) & (days <= most)).mean() > _REGULAR:
            return f"1 {unit}", float(np.median(seconds)), per_year
    steps, counts = np.unique(seconds, return_counts=True)
    usual = float(steps[counts.argmax()])
    if counts.max() <= _REGULAR * len(seconds):
        return None, None, None
    return _in_words(usual), usual, None


def _in_words(seconds: float) -> str:
    for unit, name in _UNITS:
        if seconds % unit == 0:
            count = int(seconds // unit)
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{seconds:g} seconds"


def _cycles(length: float | None, per_year: int | None, rows: int) -> Iterator[tuple[int, str]]:
    """Seasons in steps that fit into the rows at least twice."""
    if per_year is not None:
        if 2 * per_year <= rows:
            yield per_year, "year"
        return
    for seconds, name in _CYCLES if length is not None else ():
        steps = round(seconds / (length or 1))
        if 2 <= steps <= _LONGEST_SEASON and 2 * steps <= rows:
            yield steps, name


def _measured(
    values: NDArray[np.float64], same: NDArray[np.bool_]
) -> Callable[[int], float | None]:
    """The error of "as one season ago" for rows in order of series and time."""
    series = np.concatenate([[0], np.cumsum(~same)])
    spread = float(np.nanstd(values)) if np.isfinite(values).any() else 0.0

    def error(steps: int) -> float | None:
        away = np.abs(values[steps:] - values[:-steps])[series[steps:] == series[:-steps]]
        away = away[np.isfinite(away)]
        return round(float(away.mean()) / spread, 4) if len(away) and spread else None

    return error


def _seasons(
    cycles: Sequence[tuple[int, str]], error: Callable[[int], float | None] | None
) -> tuple[Season, ...]:
    seasons = [Season(steps, name, error(steps) if error else None) for steps, name in cycles]
    # Without a measure the shortest first: a window holds it soonest.
    return tuple(sorted(seasons, key=lambda s: (s.error if s.error is not None else 0.0, s.steps)))


def _shown(time: np.datetime64) -> str:
    text = str(time.astype("datetime64[s]")).replace("T", " ")
    return text.removesuffix(" 00:00:00")

"""The time column of a table: how far apart its rows are, what is missing, doubled, out of order.

How far apart rows are, and which seasons they may have, is what training says of them too. How
much a series resembles itself after each season is measured on the column to forecast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.series.frequency import Frequency

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gru_optuna.data.series.frequency import Times

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
class TimeColumn:
    """A time column, over all series of a table."""

    column: str
    first: str
    last: str
    step: str | None  # "1 hour"; None: no regular one
    series: int
    steps: int  # rows of the longest series, at distinct times
    missing: int  # steps without a row
    first_gap: str | None  # the time before the first of them
    doubled: int  # rows at a time that their series has already
    first_doubled: int | None  # row
    unordered: int  # rows earlier than the one above them, of the same series
    first_unordered: int | None  # row
    seasons: tuple[Season, ...]  # the one with the smallest error first

    @property
    def season(self) -> int | None:
        """Steps after which the series resembles itself most."""
        return self.seasons[0].steps if self.seasons else None


def read_time_column(
    column: str,
    times: Times,
    owners: NDArray[np.int64],
    values: NDArray[np.float64] | None,
) -> TimeColumn:
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
    in_file = np.argsort(owners, kind="stable")
    order = np.lexsort((times, owners))
    same = np.diff(owners[order]) == 0  # each row but the first: of the same series as the last
    unordered = in_file[1:][same & (np.diff(times[in_file]) < _NOTHING)]
    again = same & (np.diff(times[order]) == _NOTHING)
    doubled = order[1:][again]
    kept = order[np.concatenate([[True], ~again])]
    groups = np.split(times[kept], np.flatnonzero(np.diff(owners[kept])) + 1)
    steps = max(map(len, groups))
    frequency = _usual_frequency(groups) if steps > 1 else None
    gaps: list[int] = []
    seasons: list[Season] = []
    before = np.concatenate([group[:-1] for group in groups])
    if frequency is not None:
        lacking = np.round(frequency.between(groups) / frequency.count).astype(np.int64) - 1
        gaps = np.flatnonzero(lacking > 0).tolist()
        seasons = [
            Season(cycle, name, _error(values, order, same, cycle) if values is not None else None)
            for cycle, name in frequency.seasons().items()
            if cycle <= _LONGEST_SEASON and 2 * cycle <= steps
        ]
    return TimeColumn(
        column=column,
        first=_shown(times.min()),
        last=_shown(times.max()),
        step=None if frequency is None else str(frequency),
        series=len(groups),
        steps=steps,
        missing=int(lacking[gaps].sum()) if gaps else 0,
        first_gap=_shown(before[gaps].min()) if gaps else None,
        doubled=len(doubled),
        first_doubled=int(doubled.min()) if len(doubled) else None,
        unordered=len(unordered),
        first_unordered=int(unordered.min()) if len(unordered) else None,
        # Without a measure the shortest first: a window holds it soonest.
        seasons=tuple(sorted(seasons, key=lambda season: (season.error or 0.0, season.steps))),
    )


def _usual_frequency(groups: list[Times]) -> Frequency | None:
    """How far apart most rows are; None where no distance is that of most."""
    frequency = Frequency.of(groups)
    regular = (frequency.between(groups) == frequency.count).mean() > _REGULAR
    return frequency if regular else None


def _error(
    values: NDArray[np.float64], order: NDArray[np.int64], same: NDArray[np.bool_], steps: int
) -> float | None:
    """The mean error of "as one season ago", in standard deviations of the column."""
    if not np.isfinite(values).any() or not (spread := float(np.nanstd(values))):
        return None
    values, series = values[order], np.concatenate([[0], np.cumsum(~same)])
    away = np.abs(values[steps:] - values[:-steps])[series[steps:] == series[:-steps]]
    away = away[np.isfinite(away)]
    return round(float(away.mean()) / spread, 4) if len(away) else None


def _shown(time: np.datetime64) -> str:
    text = str(time.astype("datetime64[s]")).replace("T", " ")
    return text.removesuffix(" 00:00:00")

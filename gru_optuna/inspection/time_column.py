"""The time column of a table: its step, and rows that are missing, doubled or out of order.

The step and the possible seasons are the same as in training. How
much a series resembles itself after each season is measured on the column to forecast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.readers.time_columns import parse_columns, part_of
from gru_optuna.data.readers.time_zones import zone_that_repeats
from gru_optuna.data.series.frequency import Frequency, shown_time
from gru_optuna.data.series.series import descend
from gru_optuna.data.series.windows import naive_error_ahead
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gru_optuna.data.readers.tables import Table
    from gru_optuna.data.series.frequency import Times

_LONGEST_SEASON = 1000  # steps; nobody trains on such long windows
_REGULAR = 0.5  # of the steps must be alike, or there is no frequency
_MOSTLY_ABSENT = 2  # steps for each row: with more, values are too sparse to measure a season
_CYCLES_SEEN = 3  # needed to tell a cycle that the calendar doesn't have from chance
_CLEARLY = 0.9  # of the error of any season of the calendar: such a cycle has to leave less
_NOISE = 1e-6  # of the deviation: what rounding leaves of a straight line
_NEARLY = 0.9  # of the highest peak or error: chance decides between those beyond
_ALIKE = 0.3  # the autocorrelation of values one such cycle apart

_STEPS_AHEAD = {
    "minute": (60, 120), "hour": (24, 48), "day": (7, 28), "week": (8, 26), "month": (12, 24),
    "quarter": (4, 8), "year": (3, 6),
}  # fmt: skip
"""The usual horizon and window, for steps of one unit."""

_SECONDS = {"week": 604_800, "day": 86_400, "hour": 3600, "minute": 60, "second": 1}
_STEPS_OF_A_CYCLE = (4, 96)  # of a day, hour, …, that a forecast may reach
_NOTHING = np.timedelta64(0, "us")


@dataclass(frozen=True)
class Season:
    """A cycle of the calendar, in steps."""

    steps: int
    name: str
    error: float | None  # mean absolute error of "as one season ago", in standard deviations;
    # over the usual horizon, so that an hour's error counts hours, and not the next step


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
    clocks_back: str | None  # a zone whose clocks show that time twice, in autumn
    unordered: int  # rows earlier than the one above them, of the same series
    first_unordered: int | None  # row
    seasons: tuple[Season, ...]  # of the calendar, the one with the smallest error first
    cycle: Season | None = None  # another one, if the values show one that is clearly better
    mean_error: float | None = None  # of the mean as a forecast, in standard deviations
    years: float = 0.0  # that the longest series spans; 0 where steps are months, or not regular
    counted: bool = False  # whether the times are numbers of steps

    @property
    def season(self) -> int | None:
        """Steps after which the series resembles itself most; None if its mean errs less."""
        if (best := self.cycle or next(iter(self.seasons), None)) is None:
            return None
        for season in self.seasons:
            # If a day and a week do equally well, the day leaves more rows to learn from.
            nearly = season.error is not None and season.error * _NEARLY <= (best.error or 0.0)
            if nearly and season.steps < best.steps:
                best = season
        if best.error is not None and self.mean_error is not None and best.error > self.mean_error:
            return None
        return best.steps


def read_time_column(
    column: str,
    times: Times,
    owners: NDArray[np.int64],
    values: NDArray[np.float64] | None,
    *,
    counted: bool = False,
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
    counted
        Whether each time is a number of steps.
    """
    by_owner = np.argsort(owners, kind="stable")
    parts = np.split(by_owner, np.cumsum(np.bincount(owners))[:-1])
    in_file = np.concatenate([part[::-1] if descend(times[part]) else part for part in parts])
    order = np.lexsort((times, owners))
    same = np.diff(owners[order]) == 0  # each row but the first: of the same series as the last
    unordered = in_file[1:][same & (np.diff(times[in_file]) < _NOTHING)]
    again = same & (np.diff(times[order]) == _NOTHING)
    doubled = order[1:][again]
    kept = order[np.concatenate([[True], ~again])]
    groups = np.split(times[kept], np.flatnonzero(np.diff(owners[kept])) + 1)
    steps = max(map(len, groups))
    within_days = len(np.unique(times - times.astype("datetime64[D]"))) > 1
    frequency = _usual_frequency(groups, counted) if steps > 1 else None
    gaps: list[int] = []
    seasons: list[Season] = []
    cycle, mean_error = None, None
    before = np.concatenate([group[:-1] for group in groups])
    if frequency is not None:
        lacking = np.round(frequency.between(groups) / frequency.count).astype(np.int64) - 1
        gaps = np.flatnonzero(lacking > 0).tolist()
        series = _on_grid(frequency, groups, values[kept]) if values is not None else []
        seasons = _seasons(frequency, steps, series)
        mean_error = _mean([_from_mean(target) for target in series])
        cycle = _cycle(frequency, series, [mean_error, *(season.error for season in seasons)])
    return TimeColumn(
        column=column,
        first=_shown(times.min(), counted),
        last=_shown(times.max(), counted),
        counted=counted,
        step=None if frequency is None else str(frequency),
        series=len(groups),
        steps=steps,
        missing=int(lacking[gaps].sum()) if gaps else 0,
        first_gap=_shown(before[gaps].min(), counted) if gaps else None,
        doubled=len(doubled),
        first_doubled=int(doubled.min()) if len(doubled) else None,
        clocks_back=zone_that_repeats(times[doubled]) if len(doubled) and within_days else None,
        unordered=len(unordered),
        first_unordered=int(unordered.min()) if len(unordered) else None,
        # Without errors to compare, the shortest comes first: it fits into most windows.
        seasons=tuple(sorted(seasons, key=lambda season: (season.error or 0.0, season.steps))),
        cycle=cycle,
        mean_error=mean_error,
        years=0.0 if frequency is None else frequency.years(steps),
    )


def usual_reach(step: str | None) -> tuple[int, int]:
    """The horizon and the window that are usual for steps such as "15 minutes", in steps."""
    count, _, unit = (step or "").partition(" on ")[0].partition(" ")  # some days only, or all
    unit = unit.removesuffix("s")
    if count == "1" or unit not in _SECONDS:
        return _STEPS_AHEAD.get(unit, (12, 24))
    least, most = _STEPS_OF_A_CYCLE
    for name in ("day", "week", "hour", "minute"):
        steps = _SECONDS[name] / (float(count) * _SECONDS[unit])
        if least <= steps <= most and steps == int(steps):
            return int(steps), 2 * int(steps)
    return 12, 24


def _usual_frequency(groups: list[Times], counted: bool) -> Frequency | None:
    """How far apart most rows are; None where no distance is that of most."""
    frequency = Frequency.of(groups, counted=counted)
    regular = (frequency.between(groups) == frequency.count).mean() > _REGULAR
    return frequency if regular else None


def _on_grid(
    frequency: Frequency, groups: list[Times], values: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """The values (S,) of each series at every step, NaN where there is none."""
    found = []
    for times, own in zip(
        groups, np.split(values, np.cumsum([*map(len, groups)])[:-1]), strict=True
    ):
        places, _ = frequency.places(times)
        if len(times) > 1 and places[-1] < _MOSTLY_ABSENT * len(times) and np.nanstd(own) > 0:
            target = np.full(int(places[-1]) + 1, np.nan)
            target[places] = own
            found.append(target)
    return found


def _seasons(frequency: Frequency, steps: int, series: list[NDArray[np.float64]]) -> list[Season]:
    """The seasons of the calendar, with what each leaves as an error."""
    horizon, _ = usual_reach(str(frequency))
    return [
        Season(cycle, name, _error(series, cycle, horizon))
        for cycle, name in frequency.seasons().items()
        if cycle <= _LONGEST_SEASON and 2 * cycle <= steps
    ]


def _cycle(
    frequency: Frequency, series: list[NDArray[np.float64]], to_beat: list[float | None]
) -> Season | None:
    """A cycle that the calendar doesn't have, such as the eleven years of sunspots.

    Its error must be clearly below those to beat, and below that of the last value.
    """
    horizon, _ = usual_reach(str(frequency))
    to_beat = [*to_beat, _error(series, 1, horizon)]
    lags = {lag for target in series if (lag := _peak(target)) is not None}
    errors = {lag: _error(series, lag, horizon) for lag in lags}
    found = {lag: error for lag, error in errors.items() if error is not None}
    best = min(found, key=lambda lag: (found[lag], lag), default=None)
    if best is None or found[best] > _CLEARLY * min(e for e in to_beat if e is not None):
        return None
    return Season(best, f"about {frequency.described(best)}", found[best])


def _error(series: list[NDArray[np.float64]], season: int, horizon: int) -> float | None:
    """The mean error of "as one season ago" over a horizon, in standard deviations."""
    return _mean([naive_error_ahead(target, season, horizon) for target in series])


def _from_mean(target: NDArray[np.float64]) -> float:
    return float(np.nanmean(np.abs(target - np.nanmean(target))) / np.nanstd(target))


def _mean(errors: list[float]) -> float | None:
    finite = [float(error) for error in errors if np.isfinite(error)]
    return round(sum(finite) / len(finite), 4) if finite else None


def _peak(target: NDArray[np.float64]) -> int | None:
    """The lag with the highest peak of a series' autocorrelation, once its trend is removed."""
    from scipy.signal import correlate, detrend, find_peaks  # heavy: --help doesn't need it

    known = np.flatnonzero(~np.isnan(target))
    steps = np.arange(len(target))
    filled = detrend(np.interp(steps, known, target[known]))
    if np.std(filled) < _NOISE * np.nanstd(target):
        return None  # a straight line
    alike = correlate(filled, filled, method="fft")[len(filled) - 1 :]
    alike /= alike[0] or 1.0
    # The sums of larger lags have fewer terms.
    alike *= len(target) / np.arange(len(target), 0, -1)
    longest = min(_LONGEST_SEASON, len(target) // _CYCLES_SEEN)
    peaks, _ = find_peaks(alike[: longest + 1], height=_ALIKE)
    if not len(peaks):
        return None
    # Twice a cycle is a peak, too.
    return int(peaks[alike[peaks] > _NEARLY * alike[peaks].max()][0])


def _shown(time: np.datetime64, counted: bool) -> str:
    return shown_time(time, counted=counted).removesuffix(" 00:00:00")


_DAYS = (("year", "month", "day"), ("year", "quarter"), ("year", "month"), ("year", "week"),
         ("year", "day of year"), ("date",))  # fmt: skip
_CLOCKS: tuple[tuple[str, ...], ...] = (("hour", "minute"), ("hour",), ("clock",), ())


def combined_times(
    table: Table, names: Sequence[str], alone: Sequence[str]
) -> tuple[str, ...] | None:
    """The columns whose parts make a time together, such as a year and a month.

    Parameters
    ----------
    table
        The rows.
    names
        The columns that may be used.
    alone
        Those that are times by themselves.

    Returns
    -------
    tuple of str or None
        None if there are none.
    """
    parts: dict[str, str] = {}
    for name in names:
        try:
            part = part_of(table.time_column(name))
        except DataError:
            continue  # lists, for example
        if part != "date" or name in alone:
            parts.setdefault(part, name)
    for day in _DAYS:
        for clock in _CLOCKS:
            together = (*day, *clock)
            if len(together) < 2 or any(part not in parts for part in together):
                continue
            columns = tuple(parts[part] for part in together)
            try:
                table.times(*columns)
            except DataError:
                continue
            return columns
    return None


def counts_steps(table: Table, names: Sequence[str]) -> bool:
    """Whether the times that columns hold are numbers of steps."""
    try:
        return table.parsed_times(*names).counted
    except DataError:
        return False


def is_decimal_year(table: Table, name: str) -> bool:
    """Whether a column of times holds years with fractions."""
    found = parse_columns([table.time_column(name)]).forms[0]
    return found.reads == "decimal year"

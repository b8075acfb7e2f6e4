"""How far apart the rows of a series are, and so its grid, seasons and calendar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Times: TypeAlias = NDArray[np.datetime64]

_SECOND = 1_000_000  # microseconds
_MINUTE, _HOUR, _DAY, _WEEK = (seconds * _SECOND for seconds in (60, 3600, 86_400, 604_800))
_YEAR = int(365.25 * _DAY)
_UNITS = {"second": _SECOND, "minute": _MINUTE, "hour": _HOUR, "day": _DAY, "week": _WEEK}
_CYCLES = {"minute of hour": _HOUR, "hour of day": _DAY, "day of week": _WEEK, "day of year": _YEAR}


@dataclass(frozen=True)
class Frequency:
    """The time from one row to the next: a number of microseconds, or of calendar months."""

    count: int
    unit: Literal["us", "M"]

    @classmethod
    def of(cls, groups: list[Times]) -> Frequency:
        """The usual step between neighbouring times, which rise within each group."""
        passed = np.concatenate([np.diff(times).astype(np.int64) for times in groups])
        months = np.concatenate([np.diff(_months(times)) for times in groups])
        # Months and years differ in length: their numbers are what is regular.
        if passed.min() >= 28 * _DAY and months.min() > 0 and not _are_days(passed, groups):
            return cls(_most_common(months), "M")
        return cls(_most_common(passed), "us")

    def between(self, groups: list[Times]) -> NDArray[np.int64]:
        """From each time to the next, in its own unit; the times rise within each group."""
        return np.concatenate([np.diff(self._passed(times)) for times in groups])

    def fits(self, groups: list[Times]) -> bool:
        """Whether neighbouring times, which rise within each group, are usually this far apart."""
        return _most_common(self.between(groups)) == self.count

    def _passed(self, times: Times) -> NDArray[np.int64]:
        """In its own unit (S,), from any beginning."""
        return _months(times) if self.unit == "M" else (times - times[0]).astype(np.int64)

    def __str__(self) -> str:
        if self.unit == "M":
            if self.count % 12 == 0:
                return _counted(self.count // 12, "year")
            return "1 quarter" if self.count == 3 else _counted(self.count, "month")
        for name, size in reversed(_UNITS.items()):
            if self.count % size == 0:
                return _counted(self.count // size, name)
        return f"{self.count / _SECOND:g} seconds"

    def described(self, steps: int) -> str:
        """The length of some steps, such as 11 years."""
        return str(Frequency(self.count * steps, self.unit))

    @property
    def microseconds(self) -> int:
        """Its length; that of months on average."""
        return self.count * (_YEAR // 12 if self.unit == "M" else 1)

    def places(self, times: Times) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """How many steps each time (S,) lies after the first, and whether these are whole."""
        passed = self._passed(times)
        passed = passed - passed[0]
        return passed // self.count, passed % self.count == 0

    def times(self, first: np.datetime64, steps: int) -> Times:
        """The first times of the grid that begins at `first`, one for each step."""
        passed = np.arange(steps) * self.count
        times: Times
        if self.unit == "us":
            times = first.astype("datetime64[us]") + passed.astype("timedelta64[us]")
        else:
            month = first.astype("datetime64[M]")
            into = first - month.astype("datetime64[us]")
            times = (month + passed.astype("timedelta64[M]")).astype("datetime64[us]") + into
        return times

    def seasons(self) -> dict[int, str]:
        """The cycles that people live by, from a minute to a year, by their length in steps."""
        if self.unit == "M":
            return {12 // self.count: "year"} if 12 % self.count == 0 and self.count < 12 else {}
        cycles = {
            cycle // self.count: name
            for name, cycle in _UNITS.items()
            if cycle > _SECOND and cycle % self.count == 0
        }
        # For hourly rows, a year ago is too far back to say more than a week ago.
        if self.count >= _DAY:
            cycles[round(_YEAR / self.count)] = "year"
        return {steps: name for steps, name in cycles.items() if steps > 1}

    def calendar(self, steps: int) -> tuple[str, ...]:
        """The cycles that can matter where the training rows span this many steps.

        A cycle that training hasn't seen whole would be guessed from a part of it; and daily rows
        have no hour of the day.
        """
        span = steps * self.microseconds
        return tuple(
            name for name, cycle in _CYCLES.items() if 2 * self.microseconds <= cycle <= span
        )


def calendar_channels(times: Times, names: tuple[str, ...]) -> NDArray[np.float64]:
    """Sine and cosine of each cycle, (S, 2 * names): neighbours on the clock are neighbours."""
    days = times.astype("datetime64[D]")
    years = times.astype("datetime64[Y]")
    new_year, next_year = years.astype("datetime64[D]"), (years + 1).astype("datetime64[D]")
    turns: dict[str, NDArray[np.float64]] = {
        "minute of hour": (times - times.astype("datetime64[h]")) / np.timedelta64(1, "h"),
        "hour of day": (times - days) / np.timedelta64(1, "D"),
        "day of week": (days.astype(np.int64) + 3) % 7 / 7,  # 1970-01-01 was a Thursday
        "day of year": (days - new_year) / (next_year - new_year),
    }
    columns = [wave(2 * np.pi * turns[name]) for name in names for wave in (np.sin, np.cos)]
    return np.stack(columns, axis=1) if columns else np.zeros((len(times), 0))


def _months(times: Times) -> NDArray[np.int64]:
    return times.astype("datetime64[M]").astype(np.int64)


def _are_days(passed: NDArray[np.int64], groups: list[Times]) -> bool:
    """Whether long steps are a fixed number of days, and no months that happen to be as long.

    Rows exactly 30 days apart wander through the calendar. Months stand on one day of the month,
    or on its last.
    """
    if (passed % passed.min()).any():
        return False
    days = [times.astype("datetime64[D]") for times in groups]
    on_one_day = all(np.ptp((day - day.astype("datetime64[M]")).astype(int)) == 0 for day in days)
    return not on_one_day and any(
        (day + 1 != (day + 1).astype("datetime64[M]")).any() for day in days
    )


def _most_common(steps: NDArray[np.int64]) -> int:
    values, counts = np.unique(steps, return_counts=True)
    return int(values[counts.argmax()])


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'s' if count > 1 else ''}"

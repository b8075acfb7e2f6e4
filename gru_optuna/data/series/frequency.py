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
_SEEN_WEEKS = 3  # a weekday that has no rows for this long is stepped over
_MONDAY_TO_FRIDAY = "1111100"
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_UNITS = {"second": _SECOND, "minute": _MINUTE, "hour": _HOUR, "day": _DAY, "week": _WEEK}
_CYCLES = {"minute of hour": _HOUR, "hour of day": _DAY, "day of week": _WEEK, "day of year": _YEAR}


@dataclass(frozen=True)
class Frequency:
    """The time from one row to the next: a number of microseconds, or of calendar months.

    Attributes
    ----------
    count, unit
        How many microseconds or months; or steps, where times are numbers of steps, which have no
        calendar.
    day
        The day of the month on which a step of months falls, or the last day of a month that is
        shorter; None: that of the first step.
    weekdays
        "1111100" if only Monday to Friday have steps. Others are stepped over, and the count of
        microseconds doesn't include them; a step of months moves into the month to the nearest
        of these days. None: all days.
    """

    count: int
    unit: Literal["us", "M", "step"]
    day: int | None = None
    weekdays: str | None = None

    @classmethod
    def of(cls, groups: list[Times], *, counted: bool = False) -> Frequency:
        """The usual step between neighbouring times, which rise within each group.

        They are `counted` if each is a number of steps.
        """
        passed = np.concatenate([np.diff(times).astype(np.int64) for times in groups])
        if counted:
            return cls(_most_common(passed), "step")
        months = np.concatenate([np.diff(_months(times)) for times in groups])
        # Months and years differ in length: their numbers are what is regular.
        if passed.min() >= 28 * _DAY and months.min() > 0 and not _are_days(passed, groups):
            return cls(_most_common(months), "M", *_place_in_month(groups))
        plain = cls(_most_common(passed), "us")
        weekdays = _weekdays_with_rows(groups)
        if weekdays is None or (passed == plain.count).all() or plain.count % _WEEK == 0:
            return plain
        trading = cls(_DAY if (passed % _DAY == 0).all() else plain.count, "us", None, weekdays)
        fits = _DAY % trading.count == 0 and trading.fits(groups)
        return trading if fits else plain

    def between(self, groups: list[Times]) -> NDArray[np.int64]:
        """From each time to the next, in its own unit; the times rise within each group."""
        return np.concatenate([np.diff(self._passed(times)) for times in groups])

    def fits(self, groups: list[Times]) -> bool:
        """Whether neighbouring times, which rise within each group, are usually this far apart."""
        return _most_common(self.between(groups)) == self.count

    def _passed(self, times: Times) -> NDArray[np.int64]:
        """In its own unit (S,), from any beginning."""
        if self.unit == "M":
            return _months(times)
        passed: NDArray[np.int64] = (times - times[0]).astype(np.int64)
        if self.weekdays is not None:
            days = times.astype("datetime64[D]")
            before = np.busday_count(days[0], days, weekmask=self.weekdays)
            passed = _DAY * before + (times - days).astype(np.int64)
        return passed

    def __str__(self) -> str:
        if self.unit == "M":
            if self.count % 12 == 0:
                return _counted(self.count // 12, "year")
            return "1 quarter" if self.count == 3 else _counted(self.count, "month")
        if self.unit == "step":
            return _counted(self.count, "step")
        shown = f"{self.count / _SECOND:g} seconds"
        for name, size in reversed(_UNITS.items()):
            if self.count % size == 0:
                shown = _counted(self.count // size, name)
                break
        return shown if self.weekdays is None else f"{shown} on {_shown_weekdays(self.weekdays)}"

    def described(self, steps: int) -> str:
        """The length of some steps, such as 11 years."""
        return str(Frequency(self.count * steps, self.unit))

    @property
    def microseconds(self) -> int:
        """Its length; that of months, and of days among which some are stepped over, on average."""
        if self.unit == "M":
            return self.count * (_YEAR // 12)
        # A step within a day is as long as it seems: only whole days are stepped over.
        return round(self.count / self._share_of_days) if self.count >= _DAY else self.count

    def years(self, steps: int) -> float:
        """The years of some steps; 0 if these are months, of which each has one value."""
        return round(steps * self.microseconds / _YEAR, 2) if self.unit == "us" else 0.0

    @property
    def _share_of_days(self) -> float:
        """The share of days that have steps."""
        return 1.0 if self.weekdays is None else self.weekdays.count("1") / 7

    def places(self, times: Times) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """How many steps each time (S,) lies after the first, and whether these are whole."""
        passed = self._passed(times)
        passed = passed - passed[0]
        whole = passed % self.count == 0
        if self.weekdays is not None and self.unit == "us":
            whole &= np.is_busday(times.astype("datetime64[D]"), weekmask=self.weekdays)
        return passed // self.count, whole

    def times(self, first: np.datetime64, steps: int) -> Times:
        """The first times of the grid that begins at `first`, one for each step."""
        passed = np.arange(steps) * self.count
        if self.unit == "M":
            return self._times_by_month(first.astype("datetime64[us]"), passed)
        times: Times = first.astype("datetime64[us]") + passed.astype("timedelta64[us]")
        if self.weekdays is None:
            return times
        day = first.astype("datetime64[D]")
        days, into = np.divmod((first - day).astype("timedelta64[us]").astype(int) + passed, _DAY)
        dates = np.busday_offset(day, days, "forward", weekmask=self.weekdays)
        times = dates.astype("datetime64[us]") + into.astype("timedelta64[us]")
        return times  # noqa: RET504 (numpy types the sum as Any)

    def _times_by_month(self, first: np.datetime64, passed: NDArray[np.int64]) -> Times:
        months = first.astype("datetime64[M]") + passed.astype("timedelta64[M]")
        date = first.astype("datetime64[D]")
        if self.day is not None and self.weekdays is not None:
            dates = _on_weekday(months, self.day, self.weekdays)
        elif self.day is not None and _on_day(months[:1], self.day)[0] == date:
            dates = _on_day(months, self.day)
        else:
            dates = _on_day(months, int(_day_of_month(date)))
        times: Times = dates.astype("datetime64[us]") + (first - date)
        return times

    def seasons(self) -> dict[int, str]:
        """The cycles that people live by, from a minute to a year, by their length in steps."""
        if self.unit == "M":
            return {12 // self.count: "year"} if 12 % self.count == 0 and self.count < 12 else {}
        if self.unit == "step":
            return {}
        cycles = {
            round(cycle * (self._share_of_days if cycle == _WEEK else 1)) // self.count: name
            for name, cycle in _UNITS.items()
            if cycle > _SECOND and cycle % self.count == 0
        }
        # For hourly rows, a year ago is too far back to say more than a week ago.
        if self.count >= _DAY:
            cycles[round(_YEAR * self._share_of_days / self.count)] = "year"
        return {steps: name for steps, name in cycles.items() if steps > 1}

    def calendar(self, steps: int) -> tuple[str, ...]:
        """The cycles that can matter where the training rows span this many steps.

        A cycle that training hasn't seen whole would be guessed from a part of it; and daily rows
        have no hour of the day.
        """
        if self.unit == "step":
            return ()
        span = steps * self.microseconds
        return tuple(
            name for name, cycle in _CYCLES.items() if 2 * self.microseconds <= cycle <= span
        )


def shown_time(time: np.datetime64, *, counted: bool) -> str:
    """A time as messages write it, to the second; or the number of steps that it is."""
    if counted:
        return str(time.astype("datetime64[us]").astype(np.int64))
    return str(time.astype("datetime64[s]")).replace("T", " ")


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


def _day_of_month(times: Times | np.datetime64) -> NDArray[np.int64]:
    into = times.astype("datetime64[D]") - times.astype("datetime64[M]").astype("datetime64[D]")
    days: NDArray[np.int64] = into.astype(np.int64) + 1
    return days


def _on_day(months: NDArray[np.datetime64], day: int) -> NDArray[np.datetime64]:
    """A day of each month, or its last where it is shorter."""
    last = (months + 1).astype("datetime64[D]") - 1
    dates: NDArray[np.datetime64] = np.minimum(months.astype("datetime64[D]") + (day - 1), last)
    return dates


def _on_weekday(months: NDArray[np.datetime64], day: int, weekdays: str) -> NDArray[np.datetime64]:
    """The first (day 1) or last (day 31) of these weekdays in each month."""
    roll: Literal["forward", "backward"] = "forward" if day == 1 else "backward"
    return np.busday_offset(_on_day(months, day), 0, roll, weekmask=weekdays)


def _place_in_month(groups: list[Times]) -> tuple[int | None, str | None]:
    """The day on which steps of months fall, and the weekdays to which they move.

    None as the day if each series stays on a day that all months have, or if the days follow no
    rule.
    """
    found: list[int] = []
    for times in groups:
        months, dates = times.astype("datetime64[M]"), times.astype("datetime64[D]")
        # Month ends come first: of 30 June and 30 September, the next is 31 December.
        days = [31, int(_day_of_month(times).max())]
        found += [day for day in days if day > 28 and (_on_day(months, day) == dates).all()][:1]
    if found:
        return max(found), None
    every = np.concatenate(groups).astype("datetime64[D]")
    months = every.astype("datetime64[M]")
    for day in (31, 1):
        moved = _on_weekday(months, day, _MONDAY_TO_FRIDAY)
        if (moved == every).all() and len(np.unique(_day_of_month(every))) > 1:
            return day, _MONDAY_TO_FRIDAY
    return None, None


def _weekdays_with_rows(groups: list[Times]) -> str | None:
    """The weekdays that have rows, if the others never have any though they occur several times."""
    if max(times[-1] - times[0] for times in groups) < np.timedelta64(_SEEN_WEEKS * _WEEK, "us"):
        return None
    days = np.unique(np.concatenate(groups).astype("datetime64[D]")).astype(np.int64)
    found = np.bincount((days + 3) % 7, minlength=7) > 0  # 1970-01-01 was a Thursday
    return "".join("01"[has] for has in found.astype(int)) if 1 < found.sum() < 7 else None


def _shown_weekdays(weekdays: str) -> str:
    names = [name for name, has in zip(_WEEKDAYS, weekdays, strict=True) if has == "1"]
    if "0" not in weekdays.strip("0"):
        return f"{names[0]} to {names[-1]}"
    return ", ".join(names)


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

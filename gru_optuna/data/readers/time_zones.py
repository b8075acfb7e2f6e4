"""Time zones that agree with a column: those whose offsets it has, and whose clocks went back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_MOST_CHANGES = 40  # of the offset, that zones are compared at
_FORTNIGHTS = 26  # for which zones must agree, so that forecasts have one offset
_WELL_KNOWN = (
    "Europe/Berlin", "Europe/London", "America/New_York", "America/Chicago", "America/Denver",
    "America/Los_Angeles", "Australia/Sydney",
)  # fmt: skip


def zone_of(
    times: NDArray[np.datetime64], offsets: NDArray[np.timedelta64], named: str | None = None
) -> str | None:
    """The zone with these offsets.

    Parameters
    ----------
    times, offsets
        Points in time (N,) in UTC, and the offset (N,) that each is written with.
    named
        The zone that the column names; None: it names none.

    Returns
    -------
    str or None
        One of the zones, if those that had all of these offsets have the same ones in the year
        after; None if there is no such zone, if they differ, or if one offset is all there is.
    """
    order = np.argsort(times, kind="stable")
    changes = np.flatnonzero(np.diff(offsets[order]))
    if not len(changes) and named is None:
        return None
    places = np.unique(np.concatenate([[0], changes, changes + 1, [len(times) - 1]]))
    places = order[places[-2 * _MOST_CHANGES :]]
    known = list(zip(times[places].tolist(), offsets[places].tolist(), strict=True))
    last: datetime = times.max().astype("datetime64[s]").tolist()
    ahead = [last + fortnight * timedelta(days=14) for fortnight in range(1, _FORTNIGHTS + 1)]
    fitting = {
        name: tuple(_offset(zone, time) for time in ahead)
        for name, zone in _zones()
        if named in (None, name) and all(_offset(zone, time) == offset for time, offset in known)
    }
    return next(iter(fitting)) if len(set(fitting.values())) == 1 else None


def clock_that_goes_back(times: NDArray[np.datetime64], row: int) -> str | None:
    """The zone whose clocks went back between a time and the next one, which isn't later.

    Parameters
    ----------
    times
        Those of one series (N,), in the order of its rows.
    row
        The place of the first of the two times.

    Returns
    -------
    str or None
        None if that isn't why the next time isn't later.
    """
    before, again = times[row], times[row + 1]
    clocks = np.unique(times - times.astype("datetime64[D]"))
    # Days and months have no hour to repeat.
    if len(clocks) == 1 or before - again > np.timedelta64(1, "h"):
        return None
    return zone_that_repeats(np.array([again]))


def zone_that_repeats(times: NDArray[np.datetime64]) -> str | None:
    """A zone whose clocks show each of some times (N,) twice; None if there is none."""
    few: list[datetime] = np.unique(times.astype("datetime64[s]"))[:_MOST_CHANGES].tolist()
    return next((name for name, zone in _zones() if all(_shows_twice(zone, t) for t in few)), None)


def _shows_twice(zone: ZoneInfo, local: datetime) -> bool:
    first, second = (local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return first is not None and second is not None and first > second


def with_offset(local: np.datetime64, zone: str, fold: int) -> str:
    """A time by the clock of a zone, with its offset; `fold` 1: the second such time."""
    time: datetime = local.astype("datetime64[s]").tolist()
    return time.replace(tzinfo=ZoneInfo(zone), fold=fold).isoformat()


def _zones() -> Iterator[tuple[str, ZoneInfo]]:
    """All zones that this machine knows, the well-known ones first."""
    available = available_timezones()
    for name in (*_WELL_KNOWN, *sorted(available.difference(_WELL_KNOWN))):
        if name in available:
            yield name, ZoneInfo(name)


def _offset(zone: ZoneInfo, time: datetime) -> timedelta:
    local = zone.fromutc(time.replace(tzinfo=zone))
    return local.replace(tzinfo=None) - time

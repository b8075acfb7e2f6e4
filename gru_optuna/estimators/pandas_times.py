"""The times of a series or a frame of pandas: read as plain times, and given back as they came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class PandasTimes:
    """How pandas holds some times. Pandas need not be installed, so its types aren't imported."""

    zone: Any = None  # None: the times have no zone
    period: Any = None  # the frequency of periods; None: they are moments
    local: bool = False  # whether steps are even on the zone's clocks, as days are, not in UTC

    @classmethod
    def of(cls, times: Any) -> PandasTimes:
        """The form of a ``DatetimeIndex`` or a ``PeriodIndex``."""
        if hasattr(times, "to_timestamp"):
            return cls(period=times.freq)
        if times.tz is None or not len(times):
            return cls(times.tz)
        clock = times.tz_localize(None)
        time_of_day = clock - clock.normalize()
        return cls(times.tz, local=bool((time_of_day == time_of_day[0]).all()))

    def plain(self, times: Any) -> NDArray[np.datetime64]:
        """Times of this form without a zone, (N,) in microseconds: local ones, or in UTC."""
        if self.period is not None:
            times = times.to_timestamp()
        elif self.zone is not None:
            times = times if self.local else times.tz_convert("UTC")
            times = times.tz_localize(None)
        plain: NDArray[np.datetime64] = times.to_numpy().astype("datetime64[us]")
        return plain

    def restored(self, times: Any) -> Any:
        """A column of plain times in this form."""
        if self.period is not None:
            return times.dt.to_period(self.period)
        if self.zone is None:
            return times
        if self.local:
            # Clocks are put forward at night: a time that they skip is the next one that exists.
            return times.dt.tz_localize(self.zone, ambiguous=True, nonexistent="shift_forward")
        return times.dt.tz_localize("UTC").dt.tz_convert(self.zone)

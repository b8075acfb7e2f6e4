"""Steps of the calendar: pandas' offsets make the times, and say how they go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gru_optuna.data.series.frequency import Frequency

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIRST = st.datetimes(pd.Timestamp("1970-01-01"), pd.Timestamp("2020-01-01"))


def array(calendar: pd.DatetimeIndex) -> NDArray[np.datetime64]:
    return calendar.to_numpy().astype("datetime64[us]")


def check(times: NDArray[np.datetime64], rows: int) -> Frequency:
    """The first rows decide; the grid must then reach over all of them."""
    frequency = Frequency.of([times[:rows]])
    assert (frequency.times(times[0], len(times)) == times).all()
    later = frequency.times(times[rows - 3], len(times) - rows + 3)  # as from new rows
    assert (later == times[rows - 3 :]).all()
    places, whole = frequency.places(times)
    assert (places == np.arange(len(times))).all()
    assert whole.all()
    assert frequency.fits([times])
    return frequency


@settings(max_examples=60)
@given(
    first=FIRST,
    offset=st.sampled_from(
        ["MS", "ME", "2ME", "QE", "QS", "QE-NOV", "YE", "YE-JUN", "YS", "BME", "BMS", "BQE",
         "h", "15min", "D", "W", "2W", "B", "7h", "36h"]
    ),
    rows=st.integers(18, 60),
)  # fmt: skip
def test_the_next_steps_are_those_of_pandas(first: pd.Timestamp, offset: str, rows: int) -> None:
    start = pd.Timestamp(first).floor("s")
    assume(offset != "B" or rows >= 22)  # three weeks show which days have no rows
    frequency = check(array(pd.date_range(start, periods=rows + 30, freq=offset)), rows)
    count = int(offset[0]) if offset[0].isdigit() and offset.endswith("ME") else 1
    if "ME" in offset or "MS" in offset:
        assert (frequency.count, frequency.unit) == (count, "M")


@settings(max_examples=40)
@given(
    year=st.integers(1970, 2020),
    month=st.integers(1, 12),
    day=st.integers(1, 31),
    months=st.sampled_from([1, 2, 3, 6, 12]),
)
def test_a_day_that_a_month_lacks_is_its_last(year: int, month: int, day: int, months: int) -> None:
    """Always offset from the same 31st, as pandas does: the 30th comes back after February."""
    start = pd.Timestamp(year, 1, day) + pd.DateOffset(months=month - 1)
    assume(start.day == day)
    every = [start + pd.DateOffset(months=months * step) for step in range(40)]
    times = array(pd.DatetimeIndex(every))
    # A series that has only seen the ends of months stays at them.
    ends_only = all(moment.is_month_end for moment in every[:24]) and day < 31
    assume(not ends_only)
    check(times, 24)


@pytest.mark.parametrize(
    ("dates", "following"),
    [
        (["2023-04-30", "2023-06-30", "2023-08-31"], "2023-10-31"),
        (["2023-06-30", "2023-09-30"], "2023-12-31"),
        (["2021-02-28", "2022-02-28", "2023-02-28"], "2024-02-29"),
        (["2020-02-28", "2021-02-28", "2022-02-28", "2023-02-28"], "2024-02-28"),
        (["2023-12-30", "2024-01-30", "2024-02-29"], "2024-03-30"),
        (["2023-12-29", "2024-01-29", "2024-02-29"], "2024-03-29"),
    ],
)
def test_month_ends_and_days_of_months(dates: list[str], following: str) -> None:
    times = np.array(dates, "datetime64[us]")
    assert (
        str(Frequency.of([times]).times(times[-1], 2)[-1])[:10] == following
        or str(Frequency.of([times]).times(times[0], len(times) + 1)[-1])[:10] == following
    )


def test_series_on_different_days_keep_their_own() -> None:
    ends, firsts = (array(pd.date_range("2020-01-01", periods=24, freq=f)) for f in ("ME", "MS"))
    frequency = Frequency.of([ends[:12], firsts[:12]])
    assert (frequency.times(ends[0], 24) == ends).all()
    assert (frequency.times(firsts[0], 24) == firsts).all()


@settings(max_examples=40)
@given(
    first=FIRST,
    weekdays=st.sets(st.integers(0, 6), min_size=2, max_size=6),
    per_day=st.sampled_from([1, 2, 24]),
    holidays=st.sets(st.integers(8, 15), max_size=2),
)
def test_days_that_never_have_rows_are_stepped_over(
    first: pd.Timestamp, weekdays: set[int], per_day: int, holidays: set[int]
) -> None:
    """Only those: a holiday is a missing row."""
    days = pd.date_range(pd.Timestamp(first).normalize(), periods=100, freq="D")
    days = days[days.day_of_week.isin(list(weekdays))]
    clock = pd.timedelta_range("0h", periods=per_day, freq=pd.Timedelta("1D") / per_day)
    times = array(pd.DatetimeIndex([day + time for day in days for time in clock]))
    rows = len(times) - 3 * per_day
    kept = [row for row in range(rows) if row // per_day not in holidays]
    frequency = Frequency.of([times[kept]])
    assert frequency.weekdays == "".join("01"[day in weekdays] for day in range(7))
    assert (frequency.times(times[0], len(times)) == times).all()
    places, whole = frequency.places(times[kept])
    assert (places == kept).all()
    assert whole.all()


def test_what_trading_days_make_meaningful() -> None:
    daily = Frequency.of([array(pd.bdate_range("2023-01-02", periods=300))])
    assert str(daily) == "1 day on Monday to Friday"
    assert daily.seasons() == {5: "week", 261: "year"}
    assert daily.calendar(300) == ("day of week", "day of year")
    saturday = np.array(["2024-01-05", "2024-01-06", "2024-01-08"], "datetime64[us]")
    assert daily.places(saturday)[1].tolist() == [True, False, True]
    weekly = Frequency.of([array(pd.date_range("2023-01-02", periods=50, freq="W-MON"))])
    assert str(weekly) == "1 week"


def test_a_few_missing_weekends_are_missing_rows() -> None:
    days = pd.date_range("2024-01-01", periods=60, freq="D")
    with_gaps = days[(days.day_of_week < 5) | (days >= "2024-02-20")]
    assert Frequency.of([array(with_gaps)]) == Frequency(86_400_000_000, "us")
    two_weeks = pd.bdate_range("2024-01-01", periods=10)
    assert Frequency.of([array(two_weeks)]).weekdays is None

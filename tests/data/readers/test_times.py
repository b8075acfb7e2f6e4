"""Times in the forms that people and programs write, read back and written in the same form."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_optuna.data.readers.in_memory import frame_rows
from gru_optuna.data.readers.times import NoTimeError, parse_times, share_of_times

Writer = Callable[[datetime], object]


def by(pattern: str) -> Writer:
    return lambda moment: moment.strftime(pattern)


def excel(moment: datetime) -> float:
    return round((moment - datetime(1899, 12, 30)) / timedelta(days=1), 6)


# How a column may be written, and the steps of a calendar that each form can tell apart.
FORMS: dict[str, dict[str, Writer]] = {
    "YE": {
        "a year": by("%Y"),
        "a year as a number": lambda moment: moment.year,
        "a year with a point": by("%Y.0"),
    },
    "QE": {
        "1990Q1": lambda moment: f"{moment.year}Q{(moment.month + 2) // 3}",
        "1990 Q1": lambda moment: f"{moment.year} Q{(moment.month + 2) // 3}",
        "1990-Q1": lambda moment: f"{moment.year}-Q{(moment.month + 2) // 3}",
        "1990q1": lambda moment: f"{moment.year}q{(moment.month + 2) // 3}",
        "Q1 1990": lambda moment: f"Q{(moment.month + 2) // 3} {moment.year}",
        "Q1/1990": lambda moment: f"Q{(moment.month + 2) // 3}/{moment.year}",
    },
    "ME": {
        "Jan 2000": by("%b %Y"),
        "January 2000": by("%B %Y"),
        "JAN 2000": lambda moment: moment.strftime("%b %Y").upper(),
        "jan-2000": lambda moment: moment.strftime("%b-%Y").lower(),
        "2000 Jan": by("%Y %b"),
        "2000-Jan": by("%Y-%b"),
        "Jan-00": by("%b-%y"),
        "2000-01": by("%Y-%m"),
        "2000/1": by("%Y/%-m"),
        "01/2000": by("%m/%Y"),
        "2000M01": by("%YM%m"),
        "2000m1": by("%Ym%-m"),
        "2000年1月": by("%Y年%-m月"),
        "a decimal year": lambda moment: round(moment.year + (moment.month - 1) / 12, 4),
        "2000.01": by("%Y.%m"),
    },
    "W": {
        "2000-W01": by("%G-W%V"),
        "2000W01": by("%GW%V"),
        "2000-W01-7": by("%G-W%V-%u"),
        "200001": by("%G%V"),
        "200001 as a number": lambda moment: int(moment.strftime("%G%V")),
    },
    "D": {
        "20000131": by("%Y%m%d"),
        "20000131 as a number": lambda moment: int(moment.strftime("%Y%m%d")),
        "31012000": by("%d%m%Y"),
        "01312000": by("%m%d%Y"),
        "1312000 as a number": lambda moment: int(moment.strftime("%m%d%Y")),
        "310100": by("%d%m%y"),
        "013100": by("%m%d%y"),
        "2000031": by("%Y%j"),
        "2000-031": by("%Y-%j"),
        "2000-01-31": by("%Y-%m-%d"),
        "2000/1/31": by("%Y/%-m/%-d"),
        "31.01.2000": by("%d.%m.%Y"),
        "1/31/2000": by("%-m/%-d/%Y"),
        "01/31/00": by("%m/%d/%y"),
        "31.01.00": by("%d.%m.%y"),
        "31-Jan-2000": by("%d-%b-%Y"),
        "31jan2000": lambda moment: moment.strftime("%d%b%Y").lower(),
        "31-JAN-00": lambda moment: moment.strftime("%d-%b-%y").upper(),
        "31 January 2000": by("%-d %B %Y"),
        "31. Jan 2000": by("%-d. %b %Y"),
        "Jan 31 2000": by("%b %-d %Y"),
        "January 31, 2000": by("%B %d, %Y"),
        "2000 Jan 31": by("%Y %b %d"),
        "Mon, 31 Jan 2000": by("%a, %d %b %Y"),
        "2000年1月31日": by("%Y年%-m月%-d日"),
        "Excel's days": excel,
    },
    "h": {
        "2000年1月31日 23時": by("%Y年%-m月%-d日 %-H時"),
        "2000年1月31日 23時00分": by("%Y年%-m月%-d日 %H時%M分"),
        "2000013123": by("%Y%m%d%H"),
        "200001312300": by("%Y%m%d%H%M"),
        "20000131230000": by("%Y%m%d%H%M%S"),
        "20000131T2300": by("%Y%m%dT%H%M"),
        "2000-01-31T23:00": by("%Y-%m-%dT%H:%M"),
        "2000-01-31_23:00:00": by("%Y-%m-%d_%H:%M:%S"),
        "2000-01-31 23:00:00.000000": by("%Y-%m-%d %H:%M:%S.%f"),
        "31.01.2000 23:00": by("%d.%m.%Y %H:%M"),
        "31.01.2000 23.00": by("%d.%m.%Y %H.%M"),
        "01/31/2000 11:00 PM": by("%m/%d/%Y %I:%M %p"),
        "1/31/2000 11:00:00 PM": by("%-m/%-d/%Y %-I:%M:%S %p"),
        "31JAN2000:23:00:00": lambda moment: moment.strftime("%d%b%Y:%H:%M:%S").upper(),
        "31/Jan/2000:23:00:00": by("%d/%b/%Y:%H:%M:%S"),
        "Mon 31 Jan 2000 23:00": by("%a %d %b %Y %H:%M"),
        "Monday, January 31, 2000 11:00 PM": by("%A, %B %d, %Y %I:%M %p"),
        "Mon Jan 31 23:00:00 2000": by("%a %b %d %H:%M:%S %Y"),
        "Mon, 31 Jan 2000 23:00:00 +0000": lambda moment: format_datetime(
            moment.replace(tzinfo=UTC)
        ),
        "2000-01-31T23:00:00Z": by("%Y-%m-%dT%H:%M:%SZ"),
        "2000-01-31 23:00:00 UTC": by("%Y-%m-%d %H:%M:%S UTC"),
        "seconds since 1970": lambda moment: int(pd.Timestamp(moment).value // 10**9),
        "milliseconds since 1970": lambda moment: str(pd.Timestamp(moment).value // 10**6),
        "nanoseconds since 1970": lambda moment: pd.Timestamp(moment).as_unit("ns").value,
        "Excel's days": excel,
    },
}
STEPS = {"YE": "YS", "QE": "QS", "ME": "MS", "W": "W-MON", "D": "D", "h": "h"}
"""Pandas' words for the first moments of these steps."""


@pytest.mark.parametrize(
    ("step", "form"), [(step, form) for step, forms in FORMS.items() for form in forms]
)
@settings(max_examples=3)
@given(data=st.data())
def test_times_are_read_and_written_in_their_form(
    step: str, form: str, data: st.DataObject
) -> None:
    """Pandas makes the calendar; Python writes it."""
    first = data.draw(st.datetimes(datetime(1975, 1, 1), datetime(2010, 1, 1)))
    calendar = pd.date_range(first.replace(minute=0, second=0, microsecond=0), periods=70,
                             freq=STEPS[step])  # fmt: skip
    if step != "h":
        calendar = calendar.normalize()
    written = [FORMS[step][form](moment) for moment in calendar.to_pydatetime()]
    parsed = parse_times(pl.Series(values=written[:60]))
    times = calendar.to_numpy().astype("datetime64[us]")
    assert (parsed.values == times[:60]).all()
    assert parsed.forms[0].write(pl.Series(values=times)).to_list() == written


@settings(max_examples=50)
@given(
    first=st.datetimes(datetime(1975, 1, 1), datetime(2029, 1, 1)),
    order=st.sampled_from(["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%y", "%m/%d/%y"]),
    days=st.integers(1, 40),
)
def test_the_order_of_a_date_is_found_or_asked_for(first: datetime, order: str, days: int) -> None:
    moments = [
        datetime(first.year, first.month, first.day) + day * timedelta(1) for day in range(days)
    ]
    column = pl.Series(values=[moment.strftime(order) for moment in moments])
    if days > 31:  # a month and a day decide
        assert (parse_times(column).values == np.array(moments, "datetime64[us]")).all()
        return
    with contextlib.suppress(NoTimeError):
        assert (parse_times(column).values == np.array(moments, "datetime64[us]")).all()


@pytest.mark.parametrize("order", ["%d/%m/%Y", "%m/%d/%Y"])
def test_days_that_descend_show_their_order(order: str) -> None:
    days = pd.bdate_range("2024-01-29", "2024-03-12")[::-1]
    written = pl.Series(values=[f"{day:{order}}" for day in days if day.day <= 12])
    assert len(set(np.diff(parse_times(written).values))) > 1  # not by equal steps
    assert (np.diff(parse_times(written).values) < np.timedelta64(0)).all()


def test_training_decides_the_order_for_later_rows() -> None:
    decided = parse_times(pl.Series(values=["31/01/2024", "01/02/2024"])).forms[0]
    later = pl.Series(values=["03/02/2024", "04/02/2024"])
    assert str(parse_times(later, decided).values[1]).startswith("2024-02-04")
    with pytest.raises(NoTimeError, match="day or month first"):
        parse_times(later)
    with pytest.raises(NoTimeError, match='is "01/31/2024", not a time'):
        parse_times(pl.Series(values=["01/31/2024", "02/01/2024"]), decided)
    iso = parse_times(pl.Series(values=["2024-02-03"]), decided)
    assert str(iso.values[0]).startswith("2024-02-03")


@pytest.mark.parametrize(
    "written",
    [
        "2024-01-31 {0}:00 - 2024-01-31 {1}:00",
        "31.01.2024 {0}:00 - 31.01.2024 {1}:00 (CET/CEST)",
        "2024-01-31 {0}:00-{1}:00",
        "2024-01-31T{0}:00Z/2024-01-31T{1}:00Z",
        "2024-01-31T{0}:00Z/PT1H",
        "[2024-01-31 {0}:00:00, 2024-01-31 {1}:00:00)",
        "2024-01-31 {0}:00 to {0}:59:59",
        "So 31.01.2024 {0}:00",
    ],
)
def test_an_interval_is_read_by_its_start_and_comes_back_whole(written: str) -> None:
    fields = [written.format(f"{hour:02}", f"{hour + 1:02}") for hour in range(20)]
    parsed = parse_times(pl.Series(values=fields))
    assert str(parsed.values[3]) == "2024-01-31T03:00:00.000000"
    assert parsed.forms[0].write(pl.Series(values=parsed.values)).to_list() == fields
    later = parse_times(pl.Series(values=fields[5:6]), parsed.forms[0])
    assert (later.values[0], later.offsets is None) == (parsed.values[5], parsed.offsets is None)


@pytest.mark.parametrize("year", ["{0}/{1:02}", "{0}-{1:02}", "{0}-{2}", "{0}/{2}"])
def test_a_year_and_the_next_are_one_year_and_no_months(year: str) -> None:
    # As months, 2001/02 and 2002/03 would be thirteen months apart.
    fields = [year.format(first, (first + 1) % 100, first + 1) for first in range(2001, 2011)]
    parsed = parse_times(pl.Series(values=fields))
    assert parsed.values.astype("datetime64[Y]").astype(str).tolist() == [
        str(first) for first in range(2001, 2011)
    ]
    assert parsed.forms[0].write(pl.Series(values=parsed.values)).to_list() == fields
    later = parse_times(pl.Series(values=[year.format(2011, 12, 2012)]), parsed.forms[0])
    assert str(later.values[0]).startswith("2011-01")


def test_months_of_one_year_and_the_next_stay_months() -> None:
    fields = ["2001/02", "2001/03", "2001/04"]
    assert str(parse_times(pl.Series(values=fields)).values[2]).startswith("2001-04")


@pytest.mark.parametrize("periods", [(0, 3), (60, 90)])
@pytest.mark.parametrize(
    ("weeks", "length", "written"),
    [
        (True, pd.Timedelta("6D"), "{0:%d.%m.%Y} - {1:%d.%m.%Y}"),
        (True, pd.Timedelta("7D"), "{0:%Y-%m-%d}/{1:%Y-%m-%d}"),
        (False, pd.offsets.MonthEnd(), "{0:%m/%d/%Y} to {1:%m/%d/%Y}"),
        (False, pd.offsets.MonthBegin(), "({0:%Y-%m-%d}, {1:%Y-%m-%d}]"),
    ],
)
def test_ends_of_weeks_and_months_follow_the_calendar(
    weeks: bool, length: pd.Timedelta, written: str, periods: tuple[int, int]
) -> None:
    starts = pd.date_range(
        "2023-01-02" if weeks else "2023-01-01", periods=90, freq="W-MON" if weeks else "MS"
    )
    fields = [written.format(start, start + length) for start in starts]
    parsed = parse_times(pl.Series(values=fields[:60]))
    assert (parsed.values == starts.to_numpy()[:60]).all()
    part = slice(*periods)
    shown = parsed.forms[0].write(
        pl.Series(values=starts.to_numpy()[part].astype("datetime64[us]"))
    )
    assert shown.to_list() == fields[part]


def test_midnight_may_be_written_as_24_hours() -> None:
    written = ["2024-02-28 23:00", "2024-02-28 24:00", "2024-02-29 01:00"]
    parsed = parse_times(pl.Series(values=written))
    assert (np.diff(parsed.values) == np.timedelta64(1, "h")).all()
    assert parsed.forms[0].write(pl.Series(values=parsed.values)).to_list() == written


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["2023010100", "2023010101", "2023010199"], 'is "2023010199", not a time like'),
        (["Jan 2024", "Brumaire 2024"], 'is "Brumaire 2024", not a time like "Jan 2024"'),
        (["1990Q4", "1991Q5"], 'is "1991Q5", not a time like "1990Q4"'),
        (["2021-W52", "2021-W53"], 'is "2021-W53", not a time like "2021-W52"'),
        (["12/31/45", "12/30/46"], 'is "12/31/45": which century?'),
        (["1959.2027", "1959.2877"], "fractions of a year are read only where they are twelfths"),
        (["201001", "201002"], 'is "201001": a month of a year, or a day?'),
        (["2024-01-01 00:00", "2024-01-01T01:00+01:00"], 'is "2024-01-01 00:00", not a time like'),
        (["10:00", "11:00"], 'is "10:00", not a time.'),
        (["2024-01-01", "2024-02", "2024-02-02"], 'is "2024-02", not a time like "2024-01-01"'),
        (["2024-01", "2024-02", "2024-02-02"], 'is "2024-02-02", not a time like "2024-01"'),
        (["2023", "2024-02", "2024-03"], 'is "2023", not a time like "2024-02"'),
        (["Jan 10", "Jan 11", "Jan 12"], 'is "Jan 10": a year, or a day of a month?'),
        (["Oct29", "Oct30", "Oct31", "Nov01"], 'is "Oct29": a year, or a day of a month?'),
        (["Jan 01", "Jan 08", "Jan 15"], 'is "Jan 01": a year, or a day of a month?'),
        (["2010-1", "2010-2", "2010-3", "2010-4", "2011-1"], "a quarter of the year, or a month?"),
        (["1/2010", "2/2010", "1/2011"], "Write it as 2010H1, or as 2010-01."),
        (["012005", "022005", "032005"], "day, month or year first?"),
        (["01.03.", "02.03."], "Write it with four digits of the year"),
        (["٢٠٢١-٠١-٠١"], "Write it with the digits 0 to 9"),
        (["1.70407E+12", "1.70408E+12"], "Its last digits are lost"),
    ],
)
def test_the_first_field_that_is_no_time_is_named(written: list[str], message: str) -> None:
    with pytest.raises(NoTimeError, match="is ") as refused:
        parse_times(pl.Series(values=written))
    assert message in str(refused.value)


def test_a_rare_spelling_is_read_too() -> None:
    written = [f"2024-01-{day:02}" for day in range(1, 32)] * 100
    written[1234] = "2024/01/26"
    assert str(parse_times(pl.Series(values=written)).values[1234]).startswith("2024-01-26")


def test_days_of_september_are_no_halves_of_a_year() -> None:
    days = pd.date_range("2000-07-04", periods=60)
    fields = [f"{day:%-d %B %Y}" for day in days]
    parsed = parse_times(pl.Series(values=fields))
    assert parsed.forms[0].write(pl.Series(values=parsed.values)).to_list() == fields


def test_seconds_since_1970_are_no_calendar() -> None:
    times = np.arange("2023-01-01", "2023-02-01", dtype="datetime64[h]").astype("datetime64[us]")
    for unit in ("s", "ms", "us"):
        numbers = pl.Series(values=times.astype(f"datetime64[{unit}]").astype(np.int64))
        assert (parse_times(numbers).values == times).all()
        assert (parse_times(numbers.cast(pl.String)).values == times).all()


@pytest.mark.parametrize("first", [99_900, 101_000, 1_000_000, 49_105_962_326_000])
def test_counts_are_no_calendar(first: int) -> None:
    """Neither days of digits, nor milliseconds since 1970 that reach the year 3526."""
    counts = pl.Series(values=range(first, first + 200))
    assert parse_times(counts).counted


def test_a_month_with_two_digits_of_its_year_stays_one() -> None:
    months = pd.date_range("2009-01", periods=60, freq="MS")
    for pattern in ("%b%y", "%b-%y"):
        parsed = parse_times(pl.Series(values=[f"{month:{pattern}}" for month in months]))
        assert (parsed.values == months.to_numpy()).all()


@pytest.mark.parametrize(
    "pattern", ["[%d/%b/%Y:%H:%M:%S +0100]", "%a %b %d %Y %H:%M:%S GMT+0100 (Central Europe)"]
)
def test_times_of_logs_and_browsers_are_read(pattern: str) -> None:
    hours = pd.date_range("2024-01-31", periods=50, freq="h")
    parsed = parse_times(pl.Series(values=[f"{hour:{pattern}}" for hour in hours]))
    assert (parsed.values == (hours - pd.Timedelta(hours=1)).to_numpy()).all()


def test_one_word_with_numbers_is_no_column_of_dates() -> None:
    # "set" is September in Italian and Portuguese.
    assert share_of_times(pl.Series(values=["set 12", "set 13", "set 14"])) == 0
    assert share_of_times(pl.Series(values=["set 12", "ott 12", "nov 12"])) == 1
    assert str(parse_times(pl.Series(values=["set 12", "set 13"])).values[1]).startswith("2013-09")


@pytest.mark.parametrize(
    "times",
    [
        pd.interval_range(pd.Timestamp("2020-01-01"), periods=30, freq="D"),
        pd.period_range("2010-01", periods=30, freq="M"),
        pd.period_range("2010Q1", periods=30, freq="Q"),
        pd.period_range("2010-01-04", periods=30, freq="W"),
    ],
)
def test_columns_of_periods_and_intervals_are_times(
    times: pd.IntervalIndex | pd.PeriodIndex,
) -> None:
    rows = frame_rows(pd.DataFrame({"t": times}), "y")
    parsed = parse_times(rows.time_column("t"))
    starts = times.left if isinstance(times, pd.IntervalIndex) else times.to_timestamp()
    assert (parsed.values == starts.to_numpy()).all()
    assert parsed.forms[0].write(pl.Series(values=parsed.values)).to_list() == [*map(str, times)]

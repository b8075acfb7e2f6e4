"""Reads points in time from texts and numbers.

The whole column decides the order of day, month and year: 03/04/2024 alone is ambiguous, but a
column that also contains 25/04/2024 is not. If several orders fit, the one in which the times
ascend is taken, or descend, or else the one in which their steps are all equal; if that leaves two,
the column is refused rather than guessed.

Digits are a calendar's where every field fits one: 2024013123 is 23:00 on a day, not a number of
seconds. Whole numbers that are no dates count steps: the 1, 2, 3 of periods or cycles.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import polars as pl

from gru_optuna.data.readers.calendar_names import spellings_for
from gru_optuna.data.readers.time_forms import (
    COUNT,
    EPOCH_UNITS,
    EXCEL_EPOCH,
    TimeForm,
    fit_form,
    fit_interval,
    iso_form,
    with_names,
)
from gru_optuna.data.readers.time_zones import zone_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from gru_optuna.data.readers.time_forms import Stored

_SAMPLE = 1000  # rows that decide the order of day, month and year
_SPELLED = 100  # rows that decide how the column is spelled
_FITTED = 200  # rows that a pattern must write as they are
_LONGEST = 100  # bytes of a field that may be a time
_SHOWN = 40  # characters of a field, in messages

_MONTHS = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_REST_OF_MONTH = r"(?:uary|ruary|ch|il|e|y|ust|t|tember|ober|ember)?"
_WEEKDAYS = r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?"
_QUARTER = r"(?:Q|T|Qtr|Quarter|Quartal|Trim|Trimestre|Kwartaal)"
_DAY_OF = r"\d+-\d+-\d+|\d+ [^\W\d_]+ \d+"  # in the spelling that the clock follows
_ABBREVIATIONS = (  # those of RFC 2822, and of Central Europe
    ("UTC|GMT", "+00:00"), ("CET|MEZ", "+01:00"), ("CEST|MESZ", "+02:00"), ("EST", "-05:00"),
    ("EDT", "-04:00"), ("CST", "-06:00"), ("CDT", "-05:00"), ("MST", "-07:00"), ("MDT", "-06:00"),
    ("PST", "-08:00"), ("PDT", "-07:00"),
)  # fmt: skip

# What may stand around a time.
_WRAPPINGS = (
    # Brackets around all of it, as web servers write them.
    (r"^\[([^\[\],;]*\d[^\[\],;]*)\]$", "${1}"),
    # A zone in brackets, next to its offset.
    (r"\s*\[\w+(?:/\w+)*\]$", ""),
    (r"\s*\([\w/ ]+\)$", ""),
    # An interval is read by its start.
    (r"^[\[(](.*\d.*?)[,;].*[\])]$", "${1}"),
    (r"^(.*\d.*?)(?: [-–—] | to | until | bis |\.\.)\s*\S*\d.*$", "${1}"),
    (r"^(\d{4}-\d{2}-\d{2}[^/]*)/.*$", "${1}"),
    # A weekday; "KW 05/2024" is a week, so the date must be whole.
    (r"^[^\W\d_]{2,}\.?,?\s+(\d{1,4}[./-]\d{1,2}[./-]\d)", "${1}"),
    (r"(\d)[時时시]\s?(\d{1,2})[分분]$", "${1}:${2}"),
    (r"(\d)\s*(?:Uhr|h|[時时시])$", "${1}"),
)

# Rewrites common spellings as one: 2016/10/1T05 and 2016年10月1日 05 become 2016-10-1 05:00.
_SPELLINGS = (
    *_WRAPPINGS,
    (rf"(?i)^{_WEEKDAYS}\.?,?\s+(.*\d)", "${1}"),
    (rf"(?i)^(\d.*\d),? {_WEEKDAYS}$", "${1}"),
    # The year follows the time of day.
    (r"^([^\W\d_]{3,} +\d{1,2}) (\d{1,2}:\d{2}(?::\d{2})?)( [A-Z]{3,4}| [+-]\d{4})? (\d{4})$",
     "${1} ${4} ${2}${3}"),
    (r"(:\d{2}) (?:GMT|UTC)([+-]\d{2}:?\d{2})$", "${1}${2}"),  # as JavaScript writes offsets
    *((rf"(:\d{{2}}|[AP]M) ?(?:{names})$", f"${{1}}{offset}") for names, offset in _ABBREVIATIONS),
    (rf"(?i)^(\d{{1,2}}){_MONTHS}(\d{{4}})\b", "${1} ${2} ${3}"),  # as SAS and Stata write days
    (rf"(?i)(\b|\d){_MONTHS}{_REST_OF_MONTH}\b\.?", "${1}${2}"),
    # Words between a day, its month and the year, as in "1 de Jan de 2021".
    (rf"(?i)^(?:le )?(\d{{1,2}})(?:er|[º°ª])? ?(?:de |d['’] ?)?{_MONTHS}(?: de| del)? (\d{{4}})",
     "${1} ${2} ${3}"),
    (rf"(?i)^{_MONTHS} (?:de|del) (\d{{4}})$", "${1} ${2}"),
    (r"(?i)^(.*\d{4}) ?(?:г\.|года|год|r\.|roku|年|년)$", "${1}"),
    # Quarters, ISO weeks and months by their number.
    (rf"(?i)^(\d{{4}})[-/ .:]{{0,2}}{_QUARTER}\.? ?([1-4])$", "${1}Q${2}"),
    (rf"(?i)^{_QUARTER}\.? ?([1-4])[-/ .:]{{0,2}}(\d{{4}})$", "${2}Q${1}"),
    (rf"(?i)^([1-4])(?:st|nd|rd|th|er|e|[º°ª])?\.? ?{_QUARTER}[-/ .]{{0,2}}(\d{{4}})$",
     "${2}Q${1}"),
    (r"(?i)^([1-4])\.? ?(?:kw\.|kwartał) ?(\d{4})$", "${2}Q${1}"),
    (r"(?i)^(\d{4})[-/ .:]{0,2}[HS] ?([12])$", "${1}H${2}"),
    (r"(?i)^[HS] ?([12])[-/ .:]{0,2}(\d{4})$", "${2}H${1}"),
    (r"(?i)^([12])[HS][-/ .]{0,2}(\d{4})$", "${2}H${1}"),
    (r"^(\d{4})H1$", "${1}-1-1"),
    (r"^(\d{4})H2$", "${1}-7-1"),
    *((rf"^(\d{{4}})Q{quarter}$", f"${{1}}-{3 * quarter - 2}-1") for quarter in (1, 2, 3, 4)),
    (r"(?i)^(\d{4})[-/ ]?(?:W|KW|week) ?-?(\d{1,2})$", "${1}-W${2}-1"),
    (r"(?i)^(?:W|KW|week) ?-?(\d{1,2})[-/ ,]+(\d{4})$", "${2}-W${1}-1"),
    (r"(?i)^(\d{4})-?W(\d{2})-?([1-7])$", "${1}-W${2}-${3}"),
    (r"(?i)^(\d{4})[-/ :]?M(\d{1,2})$", "${1}-${2}-1"),
    # Names of months: the day comes first.
    (r"^(\d{1,2})(?:st|nd|rd|th)?\.?[-/ ]*([^\W\d_]{3,})[-/ ,']+(\d{2}|\d{4})(\D.*)?$",
     "${1} ${2} ${3}${4}"),
    (r"^([^\W\d_]{3,})[-/ ]+(\d{1,2})(?:st|nd|rd|th)?[-/, ]+(\d{4})(\D.*)?$", "${2} ${1} ${3}${4}"),
    (r"^(\d{4})[-/ ,]*([^\W\d_]{3,})[-/ ]*(\d{1,2})(\D.*)?$", "${3} ${2} ${1}${4}"),
    (r"^([^\W\d_]{3,}),?[-/ ']*(\d{2}|\d{4})$", "1 ${1} ${2}"),
    (r"^(\d{4})[-/ ,:]*([^\W\d_]{3,})$", "1 ${2} ${1}"),
    (r"^(\d+ [^\W\d_]+ \d+)(?:[T:_-]|,? +)(\d)", "${1} ${2}"),
    # Digits alone.
    (r"^(\d{4})[年년] ?(\d{1,2})[月월] ?(\d{1,2})[日일]", "${1}-${2}-${3}"),
    (r"^(\d{4}\. ?\d{1,2}\. ?\d{1,2})\.", "${1}"),
    (r"^(\d{4})[年년] ?(\d{1,2})[月월]$", "${1}-${2}-01"),
    (r"^(\d{1,4})[./-] ?(\d{1,2})[./-] ?(\d{1,4})", "${1}-${2}-${3}"),
    (r"^((?:1[5-9]|2[01])\d{2})(\d{2})(\d{2})([T _-]\d.*)?$", "${1}-${2}-${3}${4}"),
    (r"^(\d+-\d+-\d+)(?:[T_-]|,? +)(\d)", "${1} ${2}"),
    (r"^(\d{4})[./-](\d{1,2})$", "${1}-${2}-01"),
    (r"^(\d{1,2})[./-](\d{4})$", "${2}-${1}-01"),
    (r"^(?:FY ?)?((?:1[5-9]|2[01])\d{2})$", "${1}-01-01"),
    # The time of day.
    (rf"(?i)^({_DAY_OF}),? (?:at|um|om|à|às|a las|alle|ore|o|в) (\d)", "${1} ${2}"),
    (rf"^({_DAY_OF}) (\d{{1,2}})[hH.](\d{{2}})$", "${1} ${2}:${3}"),
    (rf"^({_DAY_OF}) (\d{{1,2}})[-.](\d{{2}})[-.](\d{{2}})$", "${1} ${2}:${3}:${4}"),
    (rf"^({_DAY_OF}) (\d{{2}})(\d{{2}})(\d{{2}})(Z|[+-]\d{{2}}:?\d{{2}})?$",
     "${1} ${2}:${3}:${4}${5}"),
    (rf"^({_DAY_OF}) (\d{{2}})(\d{{2}})(Z|[+-]\d{{2}}:?\d{{2}})?$", "${1} ${2}:${3}${4}"),
    (r"(:\d{2}),(\d+)", "${1}.${2}"),
    (r"(?i)(\d) ?([AP])\.?M\.?$", "${1} ${2}M"),
    (rf"(?i)^({_DAY_OF}) (\d{{1,2}})( [AP]M)?$", "${1} ${2}:00${3}"),
    (r"([:\d]) ?([+-]\d{2}(?::?\d{2})?)$", "${1}${2}"),
)  # fmt: skip
# A date must also match the pattern: %Y alone would read 24 as the year 24.
_DATES = {
    "%Y-%m-%d": r"^\d{4}-\d{1,2}-\d{1,2}\b",
    "%d-%m-%Y": r"^\d{1,2}-\d{1,2}-\d{4}\b",
    "%m-%d-%Y": r"^\d{1,2}-\d{1,2}-\d{4}\b",
    "%d-%m-%y": r"^\d{1,2}-\d{1,2}-\d{2}\b",
    "%m-%d-%y": r"^\d{1,2}-\d{1,2}-\d{2}\b",
    "%y-%m-%d": r"^\d{1,2}-\d{1,2}-\d{2}\b",
    "%d %b %Y": r"^\d{1,2} [^\W\d_]+ \d{4}\b",
    "%d %b %y": r"^\d{1,2} [^\W\d_]+ \d{2}\b",
    "%G-W%V-%u": r"^\d{4}-W",
    "%Y-%j": r"^\d{4}-\d{3}\b",
}
_AMBIGUOUS = ("%d-%m-%Y", "%m-%d-%Y", "%d-%m-%y", "%m-%d-%y", "%y-%m-%d")
_CLOCKS = ("", " %H:%M", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p")
_OFFSET = r"(:\d{2}(?:\.\d+)?(?: [AP]M)?)(?:(Z)|([+-])(\d{2}):?(\d{2})?)$"
_ZONE = r"\[([A-Za-z]+(?:/[\w+-]+)+)\]$"
_YEAR_ALONE = r"^\d{4}$"
_MONTH_ALONE = r"^(?:\d{4}[./-]\d{1,2}|\d{1,2}[./-]\d{4})$"
_MONTH_AND_NUMBER = r"^[^\W\d_]+\.?[-/ ]*(\d{1,2})$"
_YEAR_AND_DIGIT = r"^(?:(\d{4})[./-]([1-4])|([1-4])[./-](\d{4}))$"
_MIDNIGHT = r" 24:00(:00(?:\.0+)?)?$"
_CLOCK_TO_CLOCK = r"(\d{1,2}):(\d{2}) ?[-–] ?(\d{1,2}):(\d{2})$"
_YEAR_TO_YEAR = r"^(\d{4}) ?[/–-] ?(\d{2}|\d{4})$"
_LEAST_PAIRS = 3
_MINUTES_OF_DAY = 1440
_SEEN_HOURS = 3  # different ones; "100" to "159" may well be counted
_WHOLE = r"^[+-]?\d{1,15}(?:\.0+)?$"
_YEARS_FROM = 1500  # no day of an earlier year is in a Gregorian calendar
_CENTURY_UNKNOWN = (2030, 2068)  # POSIX reads 69 as 1969, but Excel 30 as 1930

# Digits of one length in which every field must be a day of the calendar, as they are written.
_YEAR, _MONTH, _DAY = r"((?:1[5-9]|2[01])\d{2})", r"(0[1-9]|1[0-2])", r"(0[1-9]|[12]\d|3[01])"
_HOUR, _SIXTIETH = r"([01]\d|2[0-4])", r"([0-5]\d)"
_OF_YEAR = r"(00[1-9]|0[1-9]\d|[12]\d\d|3[0-5]\d|36[0-6])"
_COMPACT = {
    "%Y%m": (_YEAR + _MONTH, "${1}-${2}-01"),
    "%G%V": (_YEAR + r"(0[1-9]|[1-4]\d|5[0-3])", "${1}-W${2}-1"),
    "%y%m%d": (rf"(\d{{2}}){_MONTH}{_DAY}", "${1}-${2}-${3}"),
    "%Y%m%d": (_YEAR + _MONTH + _DAY, "${1}-${2}-${3}"),
    "%Y%m%d%H": (_YEAR + _MONTH + _DAY + _HOUR, "${1}-${2}-${3} ${4}:00"),
    "%Y%m%d%H%M": (_YEAR + _MONTH + _DAY + _HOUR + _SIXTIETH, "${1}-${2}-${3} ${4}:${5}"),
    "%Y%m%d%H%M%S": (
        _YEAR + _MONTH + _DAY + _HOUR + _SIXTIETH + _SIXTIETH,
        "${1}-${2}-${3} ${4}:${5}:${6}",
    ),
    "%Y%j": (_YEAR + _OF_YEAR, "${1}-${2}"),
    "%m%Y": (_MONTH + _YEAR, "${2}-${1}-01"),
    "%d%m%Y": (_DAY + _MONTH + _YEAR, "${3}-${2}-${1}"),
    "%m%d%Y": (_MONTH + _DAY + _YEAR, "${3}-${1}-${2}"),
    "%d%m%y": (rf"{_DAY}{_MONTH}(\d{{2}})", "${1}-${2}-${3}"),
    "%m%d%y": (rf"{_MONTH}{_DAY}(\d{{2}})", "${1}-${2}-${3}"),
}
_OF_COMPACT = {
    "%y%m%d": "%y-%m-%d", "%G%V": "%G-W%V-%u", "%Y%j": "%Y-%j", "%d%m%y": "%d-%m-%y",
    "%m%d%y": "%m-%d-%y",
}  # fmt: skip
"""How digits are read once they are spelled; the others as a year, its month and day."""
_WIDTHS = {"%m%Y": 6, "%d%m%y": 6, "%m%d%y": 6, "%d%m%Y": 8, "%m%d%Y": 8, "%Y%j": 7}
"""The widths of digits that may be counts: all must be dates, none far from the next."""
_NOT_FAR = timedelta(days=92)
_LIMITS = {"decimal year": (1500, 2199.999), "excel": (25_569, 73_050)}  # Excel: 1970 to 2099
_MONTH_ERROR = 0.07  # months: of years with two decimals
_HUNDREDTH_ERROR = 1e-6  # of the month in 2024.01
_EXCEL_ERROR = 1.0  # seconds: of days with five decimals
_EARLIEST_EPOCH = 1e8  # the year 1973; a smaller number is taken for a count
_LATEST_EPOCH = 7.26e9  # the year 2200; what counts beyond began on another day, or at none
_RECENT, _EVENLY = (946_684_800, 2_208_988_800), 0.8  # seconds: 2000 to 2039
_EPOCHS_FROM = {"ns": 1e17, "us": 1e14, "ms": 1e11}  # as seconds, the year 5138 or later


class NoTimeError(ValueError):
    """A row that isn't a point in time, or (row None) a column that can't be read as times."""

    def __init__(self, row: int | None, message: str) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True)
class ParsedTimes:
    """The points in time of a column, and how the column writes them. Letters: N rows."""

    values: NDArray[np.datetime64]  # (N,) microseconds, in UTC where the column gives zones
    forms: tuple[TimeForm, ...]  # of each column that they were read from
    offsets: NDArray[np.timedelta64] | None = None  # (N,) from UTC to the times as written

    @property
    def counted(self) -> bool:
        """Whether they are numbers of steps."""
        return self.forms[0].reads == COUNT


def parse_times(column: pl.Series, decided: TimeForm | None = None) -> ParsedTimes:
    """Reads a column of texts, numbers or dates.

    Parameters
    ----------
    column
        Its fields (N,).
    decided
        The form that training found, where the column holds later rows: three rows can't decide
        the order of day and month again. None: this column decides.

    Raises
    ------
    NoTimeError
        Its message follows ``file, line 5: column "time"``.
    """
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise NoTimeError(row, "is empty. Every row needs a time: fill it in, or remove the row.")
    if column.dtype.is_temporal():
        return _parse_typed(column)
    stored: Stored = "text"
    if column.dtype.is_float():
        stored, whole = "number", column.cast(pl.Int64, strict=False)
        column = whole if bool((whole == column).all()) else column.cast(pl.Float64)
    elif column.dtype.is_integer():
        stored = "integer"
    fields = _Fields(column, column.cast(pl.String).str.strip_chars(), stored)
    if decided is not None and decided.reads == COUNT:
        return _parse_counts(fields)
    if (found := _parse_numbers(fields, decided)) is not None:
        return found
    if decided is None and _are_counts(fields.texts):
        return _parse_counts(fields)
    return _parse_texts(fields, decided)


def share_of_times(texts: pl.Series) -> float:
    """The share of texts that are dates, with or without a time of day; numbers don't count."""
    fields = texts.str.strip_chars()
    # A long text isn't a time, and searching it with every pattern is slow.
    fields = fields.filter(fields.str.len_bytes() <= _LONGEST)
    if fields.is_empty() or _are_numbered(fields):
        return 0.0
    spelled, _ = _without_offsets(_spelled(fields))
    # 2024-017 may be the seventeenth invoice of a year.
    dates = (date for date in _DATES if date != "%Y-%j")
    return max(_parsed(spelled, date).count() for date in dates) / len(texts)


def _are_numbered(texts: pl.Series) -> bool:
    """Whether texts are one word with numbers: "set 12" may be a set, or September in Italian."""
    words = texts.str.extract(r"^([^\W\d_]+)\W*\d{1,2}$").unique()
    return len(words) == 1 and not words.null_count() and bool(spellings_for(words))


def are_days(texts: pl.Series) -> bool:
    """Whether all texts are digits such as 20240131 or 2024013123, whatever their column is called.

    Digits that are only a month or a year could be any numbers.
    """
    days = (pattern for writes, (pattern, _) in _COMPACT.items() if writes.startswith("%Y%m%d"))
    return any(texts.str.strip_chars().str.contains(f"^{pattern}$").all() for pattern in days)


def are_epochs(texts: pl.Series) -> bool:
    """Whether texts are seconds or milliseconds since 1970 in even steps of minutes or more.

    Then they are times whatever their column is called: numbers of rows differ by 1.
    """
    counts = texts.str.strip_chars().cast(pl.Int64, strict=False)
    steps = counts.diff().drop_nulls()
    if counts.null_count() or not len(steps):
        return False
    usual = int(steps.mode(maintain_order=True)[0])
    return any(
        usual != 0
        and usual % (60 * unit) == 0
        and counts.is_between(_RECENT[0] * unit, _RECENT[1] * unit).all()
        and (steps == usual).mean() > _EVENLY  # type: ignore[operator]
        for unit in (1, 1000)
    )


@dataclass(frozen=True)
class _Fields:
    """A column, none of whose fields is missing."""

    column: pl.Series  # (N,) as it is
    texts: pl.Series  # (N,)
    stored: Stored

    def __len__(self) -> int:
        return len(self.texts)

    def refuse(self, row: int, message: str) -> NoReturn:
        raise NoTimeError(row, f'is "{str(self.column[row])[:_SHOWN]}"{message}')

    def refuse_first(self, wrong: pl.Series, right: pl.Series) -> None:
        """Refuses the first of the wrong rows, if there are any, next to a right one."""
        if wrong.any():
            like = str(self.column[int(right.arg_max() or 0)])[:_SHOWN]
            self.refuse(int(wrong.arg_max() or 0), f', not a time like "{like}". Correct it.')


def _parse_typed(column: pl.Series) -> ParsedTimes:
    if isinstance(column.dtype, pl.Date):
        return ParsedTimes(_numpy(column), (TimeForm("typed", stored="date"),))
    if not isinstance(column.dtype, pl.Datetime):
        raise NoTimeError(None, f"holds {column.dtype} values, not dates. Give full dates.")
    zone = column.dtype.time_zone
    form = TimeForm("typed", stored=column.dtype.time_unit, zone=zone)
    if zone is None:
        return ParsedTimes(_numpy(column), (form,))
    times = _numpy(column.dt.convert_time_zone("UTC").dt.replace_time_zone(None))
    return ParsedTimes(times, (form,), _numpy(column.dt.replace_time_zone(None)) - times)


def _refuse_half_dates(fields: _Fields) -> None:
    """Refuses years or months among days: each would be the first of January, or of its month."""
    years = fields.texts.str.contains(_YEAR_ALONE)
    months = fields.texts.str.contains(_MONTH_ALONE)
    for half in (years, months):
        if half.any() and not (half | years).all():
            few, most = (half, ~half) if 2 * half.sum() < len(half) else (~half, half)
            fields.refuse_first(few, most)


def _parse_texts(fields: _Fields, decided: TimeForm | None) -> ParsedTimes:
    _refuse_half_dates(fields)
    if decided is None:
        _refuse_digits_of_quarters(fields)
    texts, offsets = _without_offsets(_spelled(_without_ends(fields.texts, decided)))
    times, order = _by_order(texts, fields, decided)
    local = _numpy(times)
    form = TimeForm(order, stored=fields.stored)
    if offsets is None:
        return ParsedTimes(local, (_fitted(form, fields, times, decided),))
    fields.refuse_first(offsets.is_null(), offsets.is_not_null())
    passed = offsets.to_numpy().astype("timedelta64[us]")
    values = local - passed
    named = fields.texts.str.extract(_ZONE).unique().to_list()
    zone = zone_of(values, passed, named[0] if len(named) == 1 else None)
    zone = zone or _shown_offset(int(offsets[-1]))
    form = replace(form, zone=zone)
    return ParsedTimes(values, (_fitted(form, fields, pl.Series(values=values), decided),), passed)


def _refuse_digits_of_quarters(fields: _Fields) -> None:
    """Refuses 2010-1 to 2010-4: the quarters of years, or only the first months of each."""
    parts = fields.texts.str.extract_groups(_YEAR_AND_DIGIT).struct.unnest()
    digits, years = parts["2"].fill_null(parts["3"]), parts["1"].fill_null(parts["4"])
    if digits.null_count() or years.n_unique() < 2:
        return
    if (held := "".join(sorted(digits.unique()))) in ("12", "1234"):
        part, letter = ("quarter", "Q") if held == "1234" else ("half", "H")
        fields.refuse(
            0,
            f": a {part} of the year, or a month? Write it as {years[0]}{letter}{digits[0]}, or as "
            f"{years[0]}-0{digits[0]}.",
        )


def _refuse_days_as_years(fields: _Fields, times: pl.Series) -> None:
    """Refuses "Jan 10", "Jan 11": days of a month, or the Januaries of two years.

    The number changes within a month, where those of years change at its end.
    """
    numbers = fields.texts.str.extract(_MONTH_AND_NUMBER).cast(pl.Int64, strict=False)
    if numbers.null_count() or not numbers.is_between(1, 31).all() or len(numbers) < _LEAST_PAIRS:
        return
    other_month, other_number = times.dt.month().diff() != 0, numbers.diff() != 0
    if (other_number & ~other_month).sum() > (other_month & ~other_number).sum():
        fields.refuse(0, ": a year, or a day of a month? Write dates with four digits of the year.")


def _fitted(
    form: TimeForm, fields: _Fields, times: pl.Series, decided: TimeForm | None
) -> TimeForm:
    """The form with its pattern: that of whole fields, or else of the times that they hold."""
    form = with_names(form, fields.texts, times)
    texts, times = fields.texts.tail(_FITTED), times.tail(_FITTED)
    core = _spelled(_without_ends(texts, decided), _WRAPPINGS)
    return (
        fit_form(form, texts, times)
        or fit_interval(form, texts, core, times)
        or fit_form(form, core, times)
        or iso_form(form, times)
    )


def _spelled(texts: pl.Series, spellings: Iterable[tuple[str, str]] = _SPELLINGS) -> pl.Series:
    """Texts in the spelling that `_DATES` and `_CLOCKS` expect, where they are times.

    Most columns need one or two of the spellings, and each takes a pass over all rows, so fields
    from all over the column tell which; Python rewrites few texts faster than polars does.
    """
    sample = set(texts.gather_every(max(1, len(texts) // _SPELLED)))
    for pattern, spelling in (*spellings_for(sample), *spellings):
        by_python = spelling.replace("${", r"\g<").replace("}", ">")
        changed = {re.sub(pattern, by_python, text, count=1) for text in sample}
        if changed != sample:
            texts, sample = texts.str.replace(pattern, spelling), changed
    return texts


def _without_ends(texts: pl.Series, decided: TimeForm | None) -> pl.Series:
    """Intervals without their ends, where these look like something else.

    The end of "2024-01-31 22:00-23:00" looks like an offset, which stays the same, or changes twice
    a year; the end of an interval moves with its start. The end of 2001/02, a school year, looks
    like a month.
    """
    if _are_pairs_of_years(texts.head(_SAMPLE), decided):
        return texts.str.replace(_YEAR_TO_YEAR, "${1}")
    if decided is not None and decided.until:
        return texts.str.replace(_CLOCK_TO_CLOCK, "${1}:${2}")  # one row has no ends to compare
    ends = texts.head(_SAMPLE).str.extract_groups(_CLOCK_TO_CLOCK).struct.unnest().drop_nulls()
    if len(ends) < min(len(texts), _SAMPLE) / 2:
        return texts
    minutes = ends.select(
        start=60 * pl.col("1").cast(pl.Int64) + pl.col("2").cast(pl.Int64),
        end=60 * pl.col("3").cast(pl.Int64) + pl.col("4").cast(pl.Int64),
    )
    lengths = (minutes["end"] - minutes["start"]) % _MINUTES_OF_DAY
    if minutes["end"].n_unique() < 3 or lengths.n_unique() > 1:
        return texts
    return texts.str.replace(_CLOCK_TO_CLOCK, "${1}:${2}")


def _are_pairs_of_years(texts: pl.Series, decided: TimeForm | None) -> bool:
    """Whether all texts are a year and the next, as 2001/02, and not months of one or more years.

    Rows that follow those of training are read as these were.
    """
    few = texts.n_unique() < _LEAST_PAIRS
    if few if decided is None else not decided.until:
        return False
    pairs = texts.str.extract_groups(_YEAR_TO_YEAR).struct.unnest().cast(pl.Int64, strict=False)
    years, nexts = pairs["1"], pairs["2"]
    return bool((((years + 1 - nexts) % 100) == 0).fill_null(value=False).all())


def _without_offsets(texts: pl.Series) -> tuple[pl.Series, pl.Series | None]:
    """Texts without their offsets from UTC, and these offsets; None if there are none."""
    if not texts.str.contains(_OFFSET).any():
        return texts, None
    found = texts.str.extract_groups(_OFFSET).struct.unnest()
    zulu, sign, hours, minutes = (found[name] for name in "2345")
    offset = 60 * hours.cast(pl.Int64) + minutes.cast(pl.Int64).fill_null(0)
    offset = offset * sign.replace_strict({"+": 1, "-": -1}, return_dtype=pl.Int64)
    offset = offset.set(zulu.is_not_null(), 0) * 60_000_000
    return texts.str.replace(_OFFSET, "${1}"), offset


def _by_order(texts: pl.Series, fields: _Fields, decided: TimeForm | None) -> tuple[pl.Series, str]:
    """The times, and the order of day, month and year in which they were read."""
    head = texts.head(_SAMPLE)
    found = {date: _parsed(head, date).count() for date in _orders(head, decided)}
    most = max(found.values())
    if not most:
        fields.refuse(0, f", not a time. {_how_to_write(fields.texts[0])}")
    read = {date: _respelled(texts, date) for date, count in found.items() if count == most}
    best = max(times.count() for times in read.values())
    read = {date: times for date, times in read.items() if times.count() == best}
    if len(read) > 1:
        read = _in_order(read)
    if len(read) > 1:
        read = {date: times for date, times in read.items() if _is_regular(times)} or read
    if len(read) > 1:
        which = "day or month" if all(date.endswith("Y") for date in read) else "day, month or year"
        fields.refuse(0, f": {which} first? Write it as 2024-12-31.")
    ((order, times),) = read.items()
    if order == "%d %b %y" and decided is None:
        _refuse_days_as_years(fields, times)
    if times.null_count() and order == "%Y-%m-%d" and times.dt.year().max() < _YEARS_FROM:  # type: ignore[operator]
        row = int(times.is_null().arg_max() or 0)
        fields.refuse(row, ", of the Persian or Islamic calendar? Write Gregorian dates.")
    fields.refuse_first(times.is_null(), times.is_not_null())
    if order.endswith("y"):
        unknown = times.dt.year().is_between(*_CENTURY_UNKNOWN)
        if unknown.any():
            fields.refuse(
                int(unknown.arg_max() or 0), ": which century? Write the year with four digits."
            )
    return times, order


def _how_to_write(field: str) -> str:
    """Advice about a field that isn't a time in any order."""
    form = "as 2024-12-31 or 2024-12-31 23:00:00."
    if re.fullmatch(r"\d(?:\.\d+)?[eE]\+?\d+", field):
        return f"Its last digits are lost, as where a spreadsheet saved it: write it {form}"
    if any(sign.isdigit() and not sign.isascii() for sign in field):
        return f"Write it with the digits 0 to 9, {form}"
    if re.search(r"\d", field) and not re.search(r"\d{4}", field):
        return f"Write it with four digits of the year, {form}"
    return f"Write it {form}"


def _orders(head: pl.Series, decided: TimeForm | None) -> Iterable[str]:
    """The orders in which later rows may be written."""
    if decided is None or decided.reads not in _DATES:
        return _DATES
    if _parsed(head, decided.reads).count():
        return (decided.reads,)
    return (date for date in _DATES if date not in _AMBIGUOUS or date == decided.reads)


def _in_order(read: dict[str, pl.Series]) -> dict[str, pl.Series]:
    """The readings in which times ascend, or else descend; all of them if none does."""
    rising = {form: times for form, times in read.items() if times.is_sorted()}
    falling = {form: times for form, times in read.items() if times.is_sorted(descending=True)}
    return rising or falling or read


def _is_regular(times: pl.Series) -> bool:
    """Whether the steps between times are all equal: up to a week, or in months."""
    distinct = times.drop_nulls().unique().sort()
    steps = distinct.diff().drop_nulls().unique()
    months = (12 * distinct.dt.year() + distinct.dt.month()).diff().drop_nulls().unique()
    # Thirty-one days are equal steps too, but nobody measures at such steps: it may be chance.
    return (len(steps) == 1 and steps[0] <= timedelta(weeks=1)) or (
        len(months) == 1 and distinct.dt.day().n_unique() == 1
    )


def _respelled(texts: pl.Series, date: str) -> pl.Series:
    """The times in one order, where a few fields may be spelled like none of those looked at."""
    times = _parsed(texts, date)
    failed = times.is_null()
    if failed.any():
        rest = _spelled(texts.filter(failed))
        times = times.scatter(failed.arg_true(), _parsed(rest, date))
    return times


def _parsed(texts: pl.Series, date: str) -> pl.Series:
    """The times in one order of day, month and year, with any clock; null where that fails."""
    times = pl.Series(values=[None] * len(texts), dtype=pl.Datetime("us"))
    if not (fits := texts.str.contains(_DATES[date])).any():
        return times
    texts = texts.set(~fits, None)
    next_day = texts.str.contains(_MIDNIGHT).fill_null(value=False)
    if next_day.any():
        texts = texts.str.replace(_MIDNIGHT, " 00:00")
    for clock in _CLOCKS:
        if not times.null_count():
            break
        read = texts.str.to_datetime(date + clock, strict=False, time_unit="us")
        times = times.fill_null(read)
    return (times + timedelta(days=1)).zip_with(next_day, times) if next_day.any() else times


def _parse_numbers(fields: _Fields, decided: TimeForm | None) -> ParsedTimes | None:
    """Reads digits: of a calendar, in years, or counted from some day; None if they aren't."""
    digits = fields.texts.head(_SAMPLE).str.contains(r"^\d+(\.\d+)?$")
    if 2 * digits.sum() < len(digits):
        return None
    reads = decided.reads if decided is not None else ""
    if not reads.startswith(("epoch", "excel", "decimal", "year")):
        found = _parse_compact(fields, decided)
        if found is not None or fields.texts.head(_SAMPLE).str.contains(rf"^{_YEAR}$").all():
            return found
    if fields.column.dtype.is_float():
        numbers = fields.column.cast(pl.Float64)
    else:
        numbers = fields.texts.cast(pl.Float64, strict=False)
    known = numbers.drop_nulls()
    within = {name: known.is_between(*limits).all() for name, limits in _LIMITS.items()}
    form = TimeForm(reads, stored=fields.stored, decimals=_decimals(fields))
    if reads in ("decimal year", "year.month") or (not reads and within["decimal year"]):
        return _parse_years(fields, numbers, replace(form, reads="decimal year"))
    if reads == "excel" or (not reads and within["excel"]):
        fields.refuse_first(numbers.is_null(), numbers.is_not_null())
        seconds = _rounded(86_400 * numbers.to_numpy())
        times = np.datetime64(EXCEL_EPOCH, "us") + (1e6 * seconds).astype("timedelta64[us]")
        return ParsedTimes(times, (replace(form, reads="excel"),))
    if not reads.startswith("epoch"):
        middle = float(known.median() or 0.0)  # type: ignore[arg-type]
        unit = next((unit for unit, low in _EPOCHS_FROM.items() if middle >= low), "s")
        latest = 1e6 * _LATEST_EPOCH / EPOCH_UNITS.get(unit, 1e-3)
        if not _EARLIEST_EPOCH <= middle <= latest:
            return None
        form = replace(form, reads=f"epoch {unit}")
    return ParsedTimes(_epoch(fields, numbers, form.reads), (form,))


def _are_counts(texts: pl.Series) -> bool:
    """Whether texts are whole numbers, and neither years nor times of day without colons."""
    if not texts.str.contains(_WHOLE).all() or texts.str.contains(rf"^{_YEAR}$").all():
        return False
    hours, minutes = (texts.str.extract(r"^(\d{1,2})(\d{2})$", part) for part in (1, 2))
    # 850 and then 900: an hour has sixty minutes, and a hundred steps would be counted.
    of_day = (hours.cast(pl.Int64) < 24) & minutes.str.contains(r"^[0-5]\d$")
    return hours.n_unique() < _SEEN_HOURS or not of_day.fill_null(value=True).all()


def _parse_counts(fields: _Fields) -> ParsedTimes:
    """Numbers of steps; each is a microsecond, which fits no calendar."""
    counts = fields.texts.set(~fields.texts.str.contains(_WHOLE), None).cast(pl.Float64)
    wrong = counts.is_null()
    if wrong.any():
        fields.refuse(
            int(wrong.arg_max() or 0),
            ", not a whole number, but the times of the training rows count steps. Write it as "
            "they have it.",
        )
    times = counts.cast(pl.Int64).to_numpy().astype("datetime64[us]")
    return ParsedTimes(times, (TimeForm(COUNT, stored=fields.stored),))


def _parse_compact(fields: _Fields, decided: TimeForm | None) -> ParsedTimes | None:
    """Digits such as 20240131, if they are those of a calendar."""
    patterns = list(_COMPACT)
    if decided is not None and decided.writes in _COMPACT:
        patterns = [decided.writes]
    # Numbers such as 1312021 have lost the zero in front.
    texts = {writes: fields.texts.str.zfill(_WIDTHS.get(writes, 0)) for writes in patterns}
    fits = {writes: texts[writes].str.contains(f"^{_COMPACT[writes][0]}$") for writes in patterns}
    if "%Y%m" in fits and fits["%Y%m"].all():
        fits.pop("%G%V", None)  # no week after the twelfth
    read: dict[str, pl.Series] = {}
    for writes, fit in fits.items():
        rare = writes in _WIDTHS
        if (fit.all() if rare else 2 * fit.sum() > len(fit)) or decided is not None:
            pattern, spelling = _COMPACT[writes]
            date = _OF_COMPACT.get(writes, "%Y-%m-%d")
            times = _parsed(texts[writes].str.replace(f"^{pattern}$", spelling), date)
            if decided is not None or not rare or _are_near(times):
                read[writes] = times
    read = {writes: times for writes, times in read.items() if times.count()}
    if len(read) > 1:
        best = max(times.count() for times in read.values())
        read = {writes: times for writes, times in read.items() if times.count() == best}
    if len(read) > 1 and not read.keys().isdisjoint(_WIDTHS):
        read = _in_order(read)
    if len(read) > 1:
        read = {writes: times for writes, times in read.items() if _is_regular(times)} or read
    if len(read) > 1:
        which = "a month of a year, or a day" if "%Y%m" in read else "day, month or year first"
        fields.refuse(0, f": {which}? Write it as 2024-12-31.")
    for writes, times in read.items():
        fields.refuse_first(times.is_null(), times.is_not_null())
        form = TimeForm("compact", writes, fields.stored)
        return ParsedTimes(_numpy(times), (form,))
    return None


def _are_near(times: pl.Series) -> bool:
    """Whether most times are a quarter or less from the one before, and not years as counts are."""
    usual = times.diff().abs().median()
    return isinstance(usual, timedelta) and usual <= _NOT_FAR


def _parse_years(fields: _Fields, numbers: pl.Series, form: TimeForm) -> ParsedTimes:
    """Years with fractions for their months, as 1959.083, or 1959.02 where no month is above 12."""
    fields.refuse_first(numbers.is_null(), numbers.is_not_null())
    years = np.floor(numbers.to_numpy())
    fractions = numbers.to_numpy() - years
    months, hundredths = 12 * fractions, 100 * fractions
    if (np.abs(hundredths - np.clip(np.round(hundredths), 1, 12)) < _HUNDREDTH_ERROR).all():
        months, form = hundredths - 1, replace(form, reads="year.month")
    wrong = np.abs(months - np.round(months)) > _MONTH_ERROR
    if wrong.any():
        fields.refuse(
            int(wrong.argmax()),
            ", but fractions of a year are read only where they are twelfths. Write days as "
            "2024-12-31.",
        )
    passed = (12 * (years - 1970) + np.round(months)).astype("timedelta64[M]")
    times = (np.datetime64("1970-01", "M") + passed).astype("datetime64[us]")
    return ParsedTimes(times, (form,))


def _rounded(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds rounded to whole minutes, or whole ones, as far as they were probably meant."""
    for unit in (60, 1):
        whole = unit * np.round(seconds / unit)
        if (np.abs(seconds - whole) < _EXCEL_ERROR).all():
            return whole
    return seconds


def _epoch(fields: _Fields, numbers: pl.Series, reads: str) -> NDArray[np.datetime64]:
    counts = numbers.fill_null(np.nan).to_numpy()
    unit = reads.removeprefix("epoch ")
    scale = EPOCH_UNITS.get(unit, 1e-3)
    refused = ~(np.isfinite(counts) & (np.abs(counts) * scale >= 1e6 * _EARLIEST_EPOCH))
    if refused.any():
        row = int(refused.argmax())
        raise NoTimeError(
            row,
            f"is {fields.column[row]}, not a time. "
            f"Write it as 2024-12-31 23:00:00, or in seconds since 1970.",
        )
    whole = fields.texts.cast(pl.Int64, strict=False)
    if whole.null_count():
        return np.round(counts * scale).astype("datetime64[us]")
    # As float64, nanoseconds of today are only right to a quarter of a microsecond.
    exact = whole.to_numpy()
    return (exact // 1000 if unit == "ns" else exact * int(scale)).astype("datetime64[us]")


def _decimals(fields: _Fields) -> int:
    """The most decimals of a number."""
    places = fields.texts.str.extract(r"\.(\d+)$").str.len_chars().max()
    return places if isinstance(places, int) else 0


def _numpy(times: pl.Series) -> NDArray[np.datetime64]:
    return times.cast(pl.Datetime("us")).to_numpy()


def _shown_offset(microseconds: int) -> str:
    minutes = microseconds // 60_000_000
    hours, minutes = divmod(abs(minutes), 60)
    return f"{'-' if microseconds < 0 else '+'}{hours:02}:{minutes:02}"

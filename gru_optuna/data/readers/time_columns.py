"""Reads the times of rows from one column, or from several that each hold a part of them.

A year and its month, a date and the hour: the parts of a row are written as one text, which is
then read like the field of a single column.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import polars as pl

from gru_optuna.data.readers.calendar_names import month_of
from gru_optuna.data.readers.time_forms import TimeForm, fit_form, fit_patterns, with_names
from gru_optuna.data.readers.times import NoTimeError, ParsedTimes, parse_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.data.readers.time_forms import Stored

_NAMES = {
    "quarter": r"qtr|quarter|quartal|trimestre?|kwartał|季度",
    "month": r"mo|mon|mnth|month|monat|mois|mes|mês|mese|maand|månad|月",
    "day of year": r"doy|yday|jday|day[_ ]of[_ ]year",
    "week": r"wk|kw|week|isoweek|woche|semaine|semana|settimana|vecka",
    "day": r"dd|dy|day|dom|mday|tag|jour|d[ií]a|giorno|dag|日",
    "hour": r"hh|hr|hour|stunde|heure|hora|ora|uur|時|时",
    "minute": r"min|minute|minuto|分",
    "year": r"yr|yyyy|year|jahr|ann[ée]e|a[ñn]o|anno|jaar|år|年",
}
_WORDS = {
    part: re.compile(rf"(?i)(?<![^\W_])(?:{names})(?![^\W_])") for part, names in _NAMES.items()
}
_TIME = re.compile(
    r"(?i)(?<![^\W_])(?:hhmm|hhmmss|time|zeit|uhrzeit|heure|hora|ora|tijd|godzina|час|時刻)"
)
_LETTERS = {"q": "quarter", "t": "quarter", "m": "month", "w": "week", "kw": "week"}
"""Parts by the letters in front of their numbers, as in Q1 and M01."""

_NUMBERED = r"^([A-Za-z]{0,2})[ .-]?(\d{1,4})[年月日時时년월일시]?$"
_YEARS = (1500, 2199)

_TOGETHER = {
    frozenset({"year", "quarter"}): ("{}Q{}", "year", "quarter"),
    frozenset({"year", "month"}): ("{}-{}", "year", "month"),
    frozenset({"year", "month", "day"}): ("{}-{}-{}", "year", "month", "day"),
    frozenset({"year", "week"}): ("{}-W{}", "year", "week"),
    frozenset({"year", "day of year"}): ("{}-{}", "year", "day of year"),
    frozenset({"date"}): ("{}", "date"),
}
"""Parts that make a day, or the first of several, and how they are written in one field."""

_CLOCKS = {
    frozenset(): ("",),
    frozenset({"hour"}): (" {}:00", "hour"),
    frozenset({"hour", "minute"}): (" {}:{}", "hour", "minute"),
    frozenset({"clock"}): (" {}", "clock"),
}
_OF_THE_CLOCK = frozenset({"hour", "minute", "clock"})

_PATTERNS = {
    "year": ("%Y", "%G"),
    "quarter": ("%q",),
    "month": ("%-m", "%m", "%b", "%B"),
    "week": ("%-V", "%V"),
    "day of year": ("%-j", "%j"),
    "day": ("%-d", "%d"),
    "hour": ("%-H", "%H"),
    "minute": ("%-M", "%M"),
}
"""How a part may be written; the first pattern that fits the column is taken."""

_WITHOUT_COLONS = ("%H.%M.%S", "%H.%M", "%H%M", "%H%M%S", "%-H%M", "%-H%M%S")
"""Patterns of a time of day without colons."""
_DIGITS_OF_DAY = r"^(?:[01]\d|2[0-4])[0-5]\d(?:[0-5]\d)?$"  # 0930 and 093000


def parse_columns(columns: Sequence[pl.Series], decided: Sequence[TimeForm] = ()) -> ParsedTimes:
    """Reads the times of rows from one column, or from the columns of their parts.

    Parameters
    ----------
    columns
        One column (N,) of whole times; or a year and its quarter, month, week, or month and day,
        or else a date; either perhaps with the hour, the hour and minute, or the time of day.
    decided
        As in `parse_times`, for each column.

    Raises
    ------
    NoTimeError
        If a row isn't a time, or the columns don't make one together.
    """
    if len(columns) == 1:
        return parse_times(columns[0], next(iter(decided), None))
    parts = [part_of(column) for column in columns]
    day, clock = frozenset(parts) - _OF_THE_CLOCK, frozenset(parts) & _OF_THE_CLOCK
    if day not in _TOGETHER or clock not in _CLOCKS or len(set(parts)) < len(parts):
        raise NoTimeError(
            None,
            f"can't be read: they seem to hold {', '.join(parts)}, which make no time together. "
            f"Name a year and its quarter, month or week, or a date and its hour.",
        )
    fields = {part: _fields(part, column) for part, column in zip(parts, columns, strict=True)}
    (date, *of_date), (time, *of_time) = _TOGETHER[day], _CLOCKS[clock]
    if "month" in parts and _are_months(fields["month"]):
        date, of_date = "{} {} {}", ["day", "month", "year"]
        fields.setdefault("day", pl.Series(values=["1"] * len(fields["month"])))
    together = pl.select(pl.format(date + time, *(fields[part] for part in of_date + of_time)))
    of_a_date = decided[parts.index("date")] if decided and "date" in parts else None
    read = parse_times(together.to_series(), of_a_date)
    whole = read.forms[0]
    times = pl.Series(values=read.values if read.offsets is None else read.values + read.offsets)
    forms = tuple(
        _form(part, column, fields[part], times, whole.reads)
        for part, column in zip(parts, columns, strict=True)
    )
    return ParsedTimes(read.values, forms, read.offsets)


def part_of(column: pl.Series) -> str:
    """The part of a time that a column holds, by its name and its fields."""
    if column.dtype.is_temporal():
        return "clock" if column.dtype == pl.Time else "date"
    texts = column.drop_nulls().cast(pl.String).str.strip_chars()
    if not len(texts):
        return "date"
    if _is_clock(column.name, texts):
        return "clock"
    whole = texts.str.extract(_NUMBERED, 2).cast(pl.Int64, strict=False)
    if not whole.null_count():
        named = next((part for part, word in _WORDS.items() if word.search(column.name)), None)
        letters = texts.str.extract(_NUMBERED, 1).str.to_lowercase().unique().to_list()
        named = named or (_LETTERS.get(letters[0]) if len(letters) == 1 else None)
        if named or whole.is_between(*_YEARS).all():
            return named or "year"
    return "month" if _are_months(texts) else "date"


def _fields(part: str, column: pl.Series) -> pl.Series:
    """A column as texts, numbers without what stands before or after them."""
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise NoTimeError(
            row, "is incomplete. Every row needs a time: fill it in, or remove the row."
        )
    if column.dtype.is_float():
        column = column.cast(pl.Int64)
    texts = column.cast(pl.String).str.strip_chars()
    if part == "clock" and texts.str.contains(r"^\d+$").all():
        return _with_zeros(texts)
    if part in ("date", "clock") or _are_months(texts):
        return texts
    digits = texts.str.extract(r"(\d+)")
    return digits.str.zfill(3) if part == "day of year" else digits


def _with_zeros(texts: pl.Series) -> pl.Series:
    """Times of day such as 930 with the zeros that numbers have lost."""
    return texts.str.zfill(4 if (texts.str.len_chars() <= 4).all() else 6)


def _is_clock(name: str, texts: pl.Series) -> bool:
    """Whether texts are times of day; 18.30 and 1830 are only in a column that is named so."""
    if texts.str.contains(r"^\d{1,2}:\d{2}").all():
        return True
    if not _TIME.search(name):
        return False
    if texts.str.contains(r"^\d{1,6}$").all():
        # Numbers of at most two digits may as well be hours, or count something.
        long = (texts.str.len_chars() > 2).any()
        return long and _with_zeros(texts).str.contains(_DIGITS_OF_DAY).all()
    return texts.str.contains(r"^\d{1,2}\.\d{2}(?:\.\d{2})?$").all()


def _are_months(texts: pl.Series) -> bool:
    return all(map(month_of, texts.unique().to_list()))


def _form(
    part: str, column: pl.Series, fields: pl.Series, times: pl.Series, reads: str
) -> TimeForm:
    stored: Stored = "text"
    if column.dtype.is_numeric():
        stored = "integer" if column.dtype.is_integer() else "number"
    if column.dtype == pl.Date:
        return TimeForm("typed", stored="date")
    texts = fields if stored != "text" else column.cast(pl.String).str.strip_chars()
    if part in ("date", "clock"):
        form = TimeForm(reads, stored=stored)
        plain = fit_patterns(form, _WITHOUT_COLONS, texts, times) if part == "clock" else None
        if plain is not None:
            return plain
        return fit_form(form, texts, times) or TimeForm(
            reads, "%Y-%m-%d" if part == "date" else "%H:%M"
        )
    form = TimeForm(part, stored=stored)
    if part == "month":
        form = with_names(form, texts, times)
    # The year of an ISO week isn't always that of its Monday.
    patterns = _PATTERNS[part][::-1] if part == "year" and "%G" in reads else _PATTERNS[part]
    around = re.split(r"\d+", texts[0]) if re.search(r"\d", texts[0]) else ["", ""]
    whole = [pattern.join(around) for pattern in patterns]
    return fit_patterns(form, whole, texts, times) or TimeForm(part, _PATTERNS[part][0])

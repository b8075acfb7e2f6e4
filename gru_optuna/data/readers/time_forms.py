"""How a column writes its times, so that predictions are dated in the same way.

The form is found from the fields of the column, and checked: a pattern is used only if it writes
the column's own times as the column has them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from itertools import product
from typing import TYPE_CHECKING, Literal, TypeAlias

import polars as pl

from gru_optuna.data.readers.calendar_names import in_english, names_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Case: TypeAlias = Literal["upper", "lower"]
Stored: TypeAlias = Literal["text", "integer", "number", "date", "ms", "us", "ns"]

EXCEL_EPOCH = datetime(1899, 12, 30)
"""Day 0 of the days that Excel counts; right from March 1900 on, before which Excel errs."""

COUNT = "count"
"""What a column of times is read as if it counts steps; each is a microsecond after 1970."""

EPOCH_UNITS = {"s": 10**6, "ms": 10**3, "us": 1}
"""Microseconds of each unit in which a column counts from 1970; "ns" is a thousandth of one."""

_DAY = 86_400_000_000  # microseconds
_CONSTANT = {"UTC", "GMT", "KW", "Uhr", "AM", "PM", "am", "pm"}
_COMPARED = 50  # fields, which share a word that is a constant
_HALF = "%½"  # a directive of our own: the half of the year
_MARK = "\x01"  # around a number that a name replaces
_DIGITS = {4: "%H%M", 6: "%H%M%S"}  # of a time of day without colons
_CLOCKS = {_DAY: "", 60_000_000: " %H:%M", 1_000_000: " %H:%M:%S", 1: " %H:%M:%S%.f"}
_CLOCK = re.compile(r"(?<!\d)(\d{1,2}):(\d{2})(?::(\d{2})(?:([.,])(\d+))?)?(?!\d)")
_TOKEN = re.compile(r"\0|\d+|[^\W\d_]+|[\W_]")
_WORD = re.compile(r"[^\W\d_]+")
_WEEKDAY = re.compile(r"(?i)(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(day)?$")
_MONTH = re.compile(r"(?i)(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)([a-z]*)$")
_OFFSET = re.compile(r"(?<=\d)( ?)[+-]\d{2}(:?)(\d{2})?(?=$|\[)")
_ABBREVIATION = re.compile(r"( ?)[A-Z]{2,5}$")


@dataclass(frozen=True)
class TimeForm:
    """How a column writes its times.

    Attributes
    ----------
    reads
        What the fields are: texts, by the order of day, month and year (``%d-%m-%Y``); "compact",
        digits such as 20240131; "excel"; "decimal year"; "year.month"; "epoch s" (ms, us, ns);
        "count", of steps; or "typed"; or the part of a time that several columns hold, such as
        "month".
    writes
        The pattern that writes a time as the column does; "" where `reads` says it.
    stored
        The type of the fields; ms, us and ns are the units of a column of datetimes.
    zone
        The zone that times are written in, such as "Europe/Berlin" or "+01:00"; None: they came
        without one.
    decimals
        Of numbers with fractions.
    case
        Of English names, where they aren't written as "Jan".
    midnight_is_24
        Whether midnight is 24:00 of the day before.
    local
        Whether the steps of the series follow the clock of the zone, as midnights do: the times to
        write are then those of that clock, not UTC.
    months, weekdays
        Their names in another language, as the column writes them; none: English.
    until, lasts
        Of intervals, which are read by their starts: the pattern of what follows the start, and
        how many months and microseconds the end is later.
    """

    reads: str
    writes: str = ""
    stored: Stored = "text"
    zone: str | None = None
    decimals: int = 0
    case: Case | None = None
    midnight_is_24: bool = False
    local: bool = False
    months: tuple[str, ...] = ()
    weekdays: tuple[str, ...] = ()
    until: str = ""
    lasts: tuple[int, int] = (0, 0)

    def write(self, times: pl.Series) -> pl.Series:
        """Writes times (N,) as the column does; in UTC if it has a zone (but see `local`)."""
        if self.stored == "date":
            return times.cast(pl.Date)
        if self.stored in ("ms", "us", "ns"):
            times = times.dt.cast_time_unit(self.stored)
            return times if self.zone is None else self._in_zone(times, self.zone)
        numbers = self._numbers(times)
        if numbers is None:
            numbers = self.texts(times)
        elif self.stored == "text":
            shown = [f"{number:.{self.decimals}f}" for number in numbers]
            numbers = pl.Series(values=shown, dtype=pl.String)
        types = {"integer": pl.Int64, "number": pl.Float64, "text": pl.String}
        return numbers.cast(types[self.stored])

    def _numbers(self, times: pl.Series) -> pl.Series | None:
        """The times as numbers; None where a pattern writes them."""
        passed = times.to_physical()
        if self.reads == "epoch ns":
            return passed * 1000
        if self.reads == COUNT or self.reads.startswith("epoch"):
            unit = 1 if self.reads == COUNT else EPOCH_UNITS[self.reads.removeprefix("epoch ")]
            return passed / unit if self.decimals else passed // unit
        if self.reads == "excel":
            days = (times - EXCEL_EPOCH).to_physical() / _DAY
            return days.round(self.decimals)
        if self.reads == "decimal year":
            return (times.dt.year() + (times.dt.month() - 1) / 12).round(self.decimals)
        if self.reads == "year.month":
            return (times.dt.year() + times.dt.month() / 100).round(self.decimals)
        return None

    def _in_zone(self, times: pl.Series, zone: str) -> pl.Series:
        if not self.local:
            return times.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
        # An hour that the clock leaves out in spring is the one after it, as it is for a clock
        # that isn't set; one that it has twice in autumn is the first.
        found = times.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        later = (times + timedelta(hours=1)).dt.replace_time_zone(
            zone, ambiguous="earliest", non_existent="null"
        )
        return found.fill_null(later)

    def texts(self, times: pl.Series) -> pl.Series:
        """Times (N,) as the pattern writes them, whatever type the fields have."""
        if self.until:
            months, microseconds = self.lasts
            ends = times.dt.offset_by(f"{months}mo") + timedelta(microseconds=microseconds)
            start, end = replace(self, until=""), replace(self, writes=self.until, until="")
            return start.texts(times) + end.texts(ends)
        pattern, local = self.writes, times
        if self.zone is not None and self.zone[0] in "+-":
            # An offset alone is not a zone to polars: its text is a constant of the pattern.
            offset = datetime.strptime(self.zone, "%z").utcoffset()
            assert offset is not None
            local = times if self.local else times + offset
            hours, minutes = self.zone[:3], self.zone[4:]
            for directive, text in (
                ("%:::z", hours), ("%:z", f"{hours}:{minutes}"), ("%z", hours + minutes)
            ):  # fmt: skip
                pattern = pattern.replace(directive, text)
        elif self.zone is not None:
            local = self._in_zone(times, self.zone)
        named = self._named()
        for directive, number, _ in named:
            pattern = re.sub(directive, f"{_MARK}{number}{_MARK}", pattern)
        texts = local.dt.strftime(pattern)
        if self.midnight_is_24:
            before = (local - timedelta(days=1)).dt.strftime(pattern.replace("%H", "24"))
            texts = before.zip_with(local.dt.time() == time(0), texts)
        for _, number, names in named:
            for place, name in enumerate(names, start=1):
                shown = number.replace("%m", f"{place:02}").replace("%u", str(place))
                texts = texts.str.replace_all(f"{_MARK}{shown}{_MARK}", name, literal=True)
        if self.case is not None:
            texts = texts.str.to_uppercase() if self.case == "upper" else texts.str.to_lowercase()
        return texts

    def _named(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Directives that strftime doesn't know, the numbers in their place, and what these mean.

        The numbers of two directives differ by their first letter.
        """
        halves = ("1",) * 6 + ("2",) * 6
        named = (
            ("%[bB]", "m%m", tuple(self.months)),
            ("%[aA]", "w%u", tuple(self.weekdays)),
            (_HALF, "h%m", halves),
        )
        return [(directive, number, names) for directive, number, names in named if names]


def with_names(form: TimeForm, fields: pl.Series, times: pl.Series) -> TimeForm:
    """A form with the names of months and weekdays that a column (N,) has, unless in English."""
    return replace(
        form,
        months=names_in(fields, times.dt.month(), "months"),
        weekdays=names_in(fields, times.dt.weekday(), "weekdays"),
    )


def fit_form(form: TimeForm, fields: pl.Series, times: pl.Series) -> TimeForm | None:
    """Finds the pattern that writes a column's times as the column does.

    Parameters
    ----------
    form
        What is known: all but its pattern.
    fields, times
        The texts (N,) as the column has them, and the times that they were read as.

    Returns
    -------
    TimeForm or None
        None where no pattern writes most fields.
    """
    # The longest field has the most parts: a zero at the end may be left out.
    example = str(fields[int(fields.str.len_chars().arg_max() or 0)])
    example = in_english(example, fields.drop_nulls().head(_COMPARED))
    zone = form.zone is not None and form.zone[0] not in "+-"
    patterns = _patterns(example, form.reads, _constant_words(fields), abbreviated=zone)
    return fit_patterns(form, patterns, fields, times)


def fit_interval(
    form: TimeForm, fields: pl.Series, starts: pl.Series, times: pl.Series
) -> TimeForm | None:
    """The form of a column of intervals, such as ``01:00 - 02:00``.

    Parameters
    ----------
    form, fields, times
        As in `fit_form`.
    starts
        The starts (N,) of the intervals, as the fields have them.

    Returns
    -------
    TimeForm or None
        None if the fields aren't intervals that end where, or just before, the next begins.
    """
    field, start = str(fields[-1]), str(starts[-1])
    if start == field or start not in field:
        return None
    end = field.index(start) + len(start)
    ahead = fields.str.head(end)
    fitted = fit_form(form, ahead.set(fields.str.len_chars() != len(field), None), times)
    if fitted is None:
        return None
    rest = in_english(field[end:], fields.head(_COMPARED))
    years = re.sub(r"\d{2}$", "%y", re.sub(r"\d{4}$", "%Y", rest))
    for until in (*_patterns(rest, form.reads, _constant_words(fields)), years):
        for lasts in _lengths(times):
            candidate = replace(fitted, until=until, lasts=lasts)
            if 2 * (candidate.texts(times) == fields).sum() > len(fields):
                return candidate
    return None


def _lengths(times: pl.Series) -> Iterator[tuple[int, int]]:
    """Months and microseconds from the start of an interval to its end, likely ones first."""
    rising = times.unique().sort()
    passed = rising.diff().drop_nulls().dt.total_microseconds()
    months = (12 * rising.dt.year() + rising.dt.month()).diff().drop_nulls()
    if passed.is_empty():
        return
    step = int(passed.mode(maintain_order=True)[0])
    of_months = rising.dt.day().n_unique() == 1 and (months > 0).all()
    length = (int(months.mode(maintain_order=True)[0]), 0) if of_months else (0, step)
    # An end may be named by its last day, minute or second.
    for short in (0, _DAY, 60_000_000, 1_000_000, 1000, 1):
        yield length[0], length[1] - short


def _constant_words(fields: pl.Series) -> set[str]:
    """The words that several fields share."""
    words = [set(_WORD.findall(field)) for field in fields.head(_COMPARED).drop_nulls()]
    return set.intersection(*words) if len(words) > 1 else set()


def fit_patterns(
    form: TimeForm, patterns: Iterable[str], fields: pl.Series, times: pl.Series
) -> TimeForm | None:
    """The form with the first of the patterns that writes the most fields, if these are most."""
    fits, most = None, len(fields) / 2
    midnight_is_24 = bool(fields.str.contains(r"\b24:00").any())
    cases: tuple[Case | None, ...] = (None, "upper", "lower")
    for pattern, case in product(patterns, cases):
        at_end = midnight_is_24 and "%H" in pattern
        candidate = replace(form, writes=pattern, case=case, midnight_is_24=at_end)
        try:
            same = int((candidate.texts(times) == fields).sum())
        except pl.exceptions.PolarsError:
            continue  # a percent sign in the field, for example
        if same > most:
            fits, most = candidate, same
        if same == len(fields):
            break
    return fits


def iso_form(form: TimeForm, times: pl.Series) -> TimeForm:
    """A form that writes ISO dates, with a time of day as precise as these times (N,)."""
    passed = times.to_physical()
    clock = next(clock for unit, clock in _CLOCKS.items() if (passed % unit == 0).all())
    if form.zone is not None:
        clock = f"{clock or ' %H:%M'}%:z"
    return replace(form, writes=f"%Y-%m-%d{clock}", stored="text")


def _patterns(
    field: str, reads: str, constant: set[str], *, abbreviated: bool = False
) -> Iterator[str]:
    """Patterns that may have written a field, zeros in front of one digit or none.

    Parameters
    ----------
    field, reads
        The field, with English names, and the order in which it is read.
    constant
        The words that stand in every field.
    abbreviated
        Whether the last word may be the abbreviation of a zone, such as CET or CEST.
    """
    zone = ""
    clock = _CLOCK.search(field)
    if clock is not None and (offset := _OFFSET.search(field)) is not None:
        zone = offset[1] + ("%:z" if offset[2] else "%z" if offset[3] else "%:::z")
        zone += field[offset.end() :].replace("%", "%%")  # such as [Europe/Berlin]
        field = field[: offset.start()]
    elif clock is not None and abbreviated and (named := _ABBREVIATION.search(field)) is not None:
        zone, field = f"{named[1]}%Z", field[: named.start()]
    if clock is not None:
        field = f"{field[: clock.start()]}\0{field[clock.end() :]}"
    words = {word for word in _TOKEN.findall(field) if word.isalpha()}
    if not all(map(_is_known, words - constant)):
        return
    for day, hour in product(("", "-"), repeat=2):
        yield _pattern(field, reads, clock, day, hour) + zone


def _is_known(word: str) -> bool:
    """Whether a word is the same in every time, or stands for a directive.

    Others may change: "So" may abbreviate Sunday, and CET is CEST in summer.
    """
    return bool(len(word) == 1 or word in _CONSTANT or _WEEKDAY.match(word) or _MONTH.match(word))


def _pattern(field: str, reads: str, clock: re.Match[str] | None, day: str, hour: str) -> str:
    tokens = _TOKEN.findall(field)
    twelve = any(part.lower() in ("am", "pm") for part in tokens)
    hours = f"%{hour}{'I' if twelve else 'H'}"
    date = _date_directives(tokens, reads, day)
    # What follows a date without a colon is an hour, as in "2024-12-31 05", or "05h30".
    rest = iter((hours, "%M", "%S"))
    written: list[str] = []
    for part in tokens:
        if part == "\0":
            assert clock is not None
            written.append(_clock_directives(clock, hours))
        elif part.isdigit():
            if not (directive := next(date, None)):
                directive = _DIGITS.get(len(part)) or next(rest, part)
            written.append(directive)
        elif (name := _WEEKDAY.match(part)) is not None:
            written.append("%A" if name[1] else "%a")
        elif (name := _MONTH.match(part)) is not None:
            written.append("%B" if name[1] else "%b")
        elif part.lower() in ("am", "pm"):
            written.append("%p" if part.isupper() else "%P")
        else:
            written.append(part)
    return "".join(written)


def _date_directives(tokens: Sequence[str], reads: str, pad: str) -> Iterator[str]:
    """The directives of the numbers that make the date, in the order of a field."""
    numbers = [part for part in tokens if part.isdigit()]
    words = [part for part in tokens if part.isalpha()]
    day, month = f"%{pad}d", f"%{pad}m"
    if reads == "%G-W%V-%u":
        week = ["%G", f"%{pad}V"] if len(numbers[0]) == 4 else [f"%{pad}V", "%G"]
        return iter([*week, "%u"])
    if any(map(_MONTH.match, words)):
        year = "%y" if reads.endswith("y") else "%Y"
        years = [number for number in numbers if len(number) == 4] or numbers[1:2] or numbers
        return iter([year if number is years[0] else day for number in numbers[:2]])
    if any(word[0] in "QqTtHhSs" for word in words) and {*map(len, numbers)} == {1, 4}:
        part = _HALF if any(word in "HhSs" for word in words) else "%q"
        return iter(["%Y", part] if len(numbers[0]) == 4 else [part, "%Y"])
    first = len(numbers[0]) if numbers else 4  # no digits: a time of day alone
    if reads == "%Y-%m-%d" and first != 4:
        return iter(["%Y%m%d"] if first == 8 else [month, "%Y"])
    letters = {"%d": day, "%m": month}
    return iter([letters.get(part, part) for part in reads.split("-")])


def _clock_directives(clock: re.Match[str], hours: str) -> str:
    seconds = ":%S" if clock[3] else ""
    if clock[5]:
        digits = len(clock[5]) if len(clock[5]) in (3, 6, 9) else ""
        seconds += f"%.{digits}f" if clock[4] == "." else f",%{digits or 3}f"
    return f"{hours}:%M{seconds}"

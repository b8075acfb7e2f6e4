"""Names of months and weekdays in other languages than English, read and written again.

All languages are read together, because no name stands for two months. Only "mar", which is March
in some languages, is a Tuesday in others: it is one where a day and its month follow.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal, TypeAlias

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Unit: TypeAlias = Literal["months", "weekdays"]

_ENGLISH = "english"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WORD = re.compile(r"[^\W\d_]+(?:-feira)?")


def spellings_for(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Patterns with their replacements that give texts English names of months and weekdays.

    Parameters
    ----------
    texts
        Some of the texts; none is needed if they have no such names in other languages.
    """
    words = {_plain(word) for text in texts for word in _WORD.findall(text)}
    return _spellings() if words & _foreign() else ()


def in_english(text: str, column: Iterable[str] = ()) -> str:
    """One text, of a column of such texts, with English names of months and weekdays."""
    for pattern, spelling in spellings_for([text, *column]):
        text = re.sub(pattern, spelling.replace("${", r"\g<").replace("}", ">"), text, count=1)
    return text


def month_of(name: str) -> int | None:
    """The month, from 1, with this name or abbreviation in any of the languages."""
    return _places("months").get(_plain(name.rstrip(".")))


def weekday_of(name: str) -> int | None:
    """The weekday, from 1, with this name or abbreviation in any of the languages."""
    return _places("weekdays").get(_plain(name.rstrip(".")))


def names_in(texts: pl.Series, places: pl.Series, unit: Unit) -> tuple[str, ...]:
    """The names of all months or weekdays as a column has them.

    Parameters
    ----------
    texts, places
        The fields (N,), and the number of the month or weekday of each, from 1.
    unit
        What to look for.

    Returns
    -------
    tuple of str
        Names that the column lacks are completed in its style. Empty if all of its names are
        English, or if it has none.
    """
    # Without digits, the times of a long column have few spellings left.
    if not spellings_for(texts.str.replace_all(r"[\d_]+", " ").unique()):
        return ()
    if unit == "months":
        # Without a weekday in front, which may look like a month.
        texts = texts.str.replace(_leading_weekday(), "${1}")
        names = texts.str.extract(rf"(?i)(?:^|[\W\d_])((?:{_any_of(unit)})\.?)(?:[\W\d_]|$)")
    else:
        names = texts.str.extract(rf"(?i)^({_any_of(unit)})\W")
        names = names.fill_null(texts.str.extract(rf"(?i)\d,? ({_any_of(unit)})$"))
    held = pl.DataFrame({"name": names, "place": places}).drop_nulls()
    if held.is_empty():
        return ()
    usual = held.group_by("place").agg(pl.col("name").mode().first())
    return _completed(dict(usual.iter_rows()), unit)


def _completed(known: dict[int, str], unit: Unit) -> tuple[str, ...]:
    """The names of a column, with those that it lacks in the style and the case of the others."""
    style = max(_styles(unit), key=lambda names: _alike(known, names))
    example = next(iter(known.values()))
    if example.isupper():
        style = [name.upper() for name in style]
    elif example.islower() or example.istitle():
        style = [name.lower() if example.islower() else name.title() for name in style]
    return tuple(known.get(place, name) for place, name in enumerate(style, start=1))


def _alike(known: dict[int, str], names: Sequence[str]) -> tuple[int, int]:
    """How many names are the same, and the same but for a point or accents."""
    pairs = [(name.casefold(), names[place - 1].casefold()) for place, name in known.items()]
    return (
        sum(own == name for own, name in pairs),
        sum(_plain(own.rstrip(".")) == _plain(name.rstrip(".")) for own, name in pairs),
    )


@cache
def _languages() -> dict[str, dict[Unit, list[list[str]]]]:
    text = files("gru_optuna.data.readers").joinpath("calendar_names.toml").read_text("utf-8")
    return {
        language: {unit: [line.split() for line in lines] for unit, lines in units.items()}
        for language, units in tomllib.loads(text).items()
    }


def _styles(unit: Unit) -> list[list[str]]:
    return [names for units in _languages().values() for names in units[unit]]


@cache
def _places(unit: Unit) -> dict[str, int]:
    """The number of each name, from 1."""
    return {
        _plain(name.rstrip(".")): place
        for names in _styles(unit)
        for place, name in enumerate(names, start=1)
    }


@cache
def _foreign() -> frozenset[str]:
    """The names that English doesn't have."""
    english = {
        _plain(name)
        for styles in _languages()[_ENGLISH].values()
        for names in styles
        for name in names
    }
    return frozenset({*_places("months"), *_places("weekdays")} - english)


@cache
def _any_of(unit: Unit, place: int | None = None) -> str:
    """An alternation of the names of one month or weekday, or of all, with and without accents."""
    names = {
        spelled
        for style in _styles(unit)
        for name in (style if place is None else [style[place - 1]])
        for spelled in (name.rstrip("."), _plain(name.rstrip(".")))
    }
    return "|".join(sorted(map(re.escape, names), key=len, reverse=True))


@cache
def _leading_weekday() -> str:
    """A weekday in front of a day and its month, or of a date in digits; the rest is a group."""
    day = r"\d{1,2}(?:er|[º°ª.])?\s*(?:de\s+|d['’]\s*)?"
    date = rf"(?:{day}(?:{_any_of('months')})(?:[\W\d_]|$)|\d{{1,4}}[./-]\d)"
    return rf"(?i)^(?:{_any_of('weekdays')})(\.?,?\s+{date})"


@cache
def _spellings() -> tuple[tuple[str, str], ...]:
    months = (
        (rf"(?i)(^|[\W\d_])(?:{_any_of('months', place)})\.?([\W\d_]|$)", f"${{1}}{name}${{2}}")
        for place, name in enumerate(_MONTHS, start=1)
    )
    trailing = rf"(?i)(\d,? )(?:{_any_of('weekdays')})$"
    return (_leading_weekday(), "Mon${1}"), (trailing, "${1}Mon"), *months


def _plain(word: str) -> str:
    """A word without case and accents."""
    letters = unicodedata.normalize("NFKD", word.casefold())
    return "".join(sign for sign in letters if not unicodedata.combining(sign))

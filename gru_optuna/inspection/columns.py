"""What the columns of a table hold, found from all of their fields."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from gru_optuna.data.readers.numbers import has_markers
from gru_optuna.data.readers.tables import FOR_SEQUENCES, decide_formats
from gru_optuna.data.readers.times import are_days, are_epochs, share_of_times
from gru_optuna.data.series.joined_tables import holds_categories
from gru_optuna.errors import DataError
from gru_optuna.inspection.role_words import name_speaks
from gru_optuna.inspection.scripts import scripts_of, without_spaces
from gru_optuna.inspection.time_column import counts_steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gru_optuna.data.readers.tables import Table

ColumnKind = Literal["text", "category", "number", "time", "id", "constant", "empty", "other"]

_FIRST_YEAR, _LAST_YEAR = 1500, 2100  # a column without a name that counts these holds years
_SAMPLE = 1000  # fields that decide what a column holds
_MOSTLY = 0.95  # of these fields decide; the few others are reported as mistakes
_FEW_WORDS = 3
_FEW_CHARACTERS, _FEW_IDEOGRAMS = 20, 5  # a text has more; the second where no spaces part words
_MOST_DIGITS = 0.4  # of the characters of a text that is one word
_FEW_ROWS = 16  # in which all values may differ by chance
_FEW_VALUES = 50  # up to here, values may be classes, and are counted
_MANY_VALUES = 100  # from here on, values are texts even if each occurs twice
_TIME_NAMES = re.compile(r"time|date|stamp|year|month|^ds$|^ts$|^temps$|时间|日期", re.IGNORECASE)
_LONGEST_TIME = 40  # characters
_FEW_NAMES = 12  # such as months
_FEW_UNITS = 5
_CODED = (
    r"(?i)^(?:['’<>≤≥~≈]? ?[+-]?\d[\d.,٫٬' ]*[%–—-]?|0x[\da-f]+|(?:\d+[ -])?\d+/(?:2|4|8|16|32|64)|"
    r"\d+:\d\d(?::\d\d)?(?:\.\d+)?)$"
)
"""Numbers in forms that aren't read: limits, hexadecimal ones, fractions, durations, or mixed."""
_LIMIT = r"^[<>≤≥~≈] ?\d[\d.,]*$"
_QUANTITY = r"^[+-]?\d[\d.,' ]*( ?[^\d\s.,'+%-][^\d\s]{0,9})$"  # 1.2K, 108 kW
_NUMBERS = (
    r"^\[\s*-?(?:\d[\d.]*(?:e[+-]?\d+)?|[Nn]a[Nn])(?:[\s,].*)?\]$|"
    r"^(?:[-+\d.e]+[\s,;|]+){7}[-+\d.e\s,;|]+$"
)
"""A list of numbers, as JSON or numpy writes it, and eight or more numbers in a field."""
_NESTED = rf'(?s){_NUMBERS}|^\[(?:["\[{{]|null|\]).*\]$|^\{{".*\}}$'
"""These, and other lists and objects, as JSON writes them."""
_WHOLE_NAME = 2  # what `name_speaks` gives for a name that is one such word


@dataclass(frozen=True)
class Spread:
    """Minimum, median and maximum of some numbers."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: pl.Series | NDArray[np.generic]) -> Spread:
        """Measures at least one number."""
        numbers = np.asarray(values, dtype=np.float64)
        return cls(*(round(float(q), 6) for q in np.nanquantile(numbers, (0, 0.5, 1))))


@dataclass(frozen=True)
class Column:
    """One column, over all rows."""

    name: str
    kind: ColumnKind
    missing: int  # number of rows
    distinct: int  # number of different values, missing ones not counted
    values: dict[str, int]  # the number of rows of each, most frequent first; if they are few
    numbers: Spread | None = None
    characters: Spread | None = None
    words: Spread | None = None
    scripts: dict[str, float] | None = None  # share of the letters
    whole: bool = False  # whether numbers have no fractions
    mistake: str | None = None  # about the first row that isn't a number or time, if most are


def describe_columns(table: Table) -> tuple[Column, ...]:
    """Describes every column of a table."""
    return tuple(_describe(table, name) for name in table.names)


def _describe(table: Table, name: str) -> Column:
    column = table.column(name)
    missing = column.null_count()
    if missing == len(table):
        return Column(name, "empty", missing, 0, {})
    try:
        texts = table.strings(name).str.strip_chars()
    except DataError as error:
        return Column(name, "other", missing, 0, {}, mistake=str(error))
    if texts.drop_nulls().str.contains(_NESTED).all():
        row = int(texts.is_not_null().arg_max() or 0)
        nested = f'column "{name}" holds lists or objects. Write one value per field'
        if re.match(f"(?s){_NUMBERS}", texts[row]):
            nested = f'column "{name}" holds several numbers in each field. {FOR_SEQUENCES}'
        return Column(name, "other", missing, 0, {}, mistake=f"{table.at(row)}: {nested}")
    distinct = texts.drop_nulls().n_unique()
    values = _most_frequent(texts) if distinct <= _FEW_VALUES else {}
    if distinct == 1:
        return Column(name, "constant", missing, distinct, values)
    kind, mistake = _numeric_kind(table, name)
    if kind == "time" or (kind == "number" and mistake and table.count_numbers(name)[0] <= 0):
        return Column(name, kind, missing, distinct, {}, mistake=mistake)
    described = (_describe_numbers if kind == "number" else _describe_texts)(table, name)
    return replace(described, distinct=distinct, values=values, mistake=mistake)


def _describe_numbers(table: Table, name: str) -> Column:
    numbers = table.known_numbers(name)
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return Column(name, "empty", len(table), 0, {})
    whole = bool((known == np.round(known)).all())
    return Column(
        name,
        "id" if whole and _counts_rows(numbers) else "number",
        missing=len(numbers) - len(known),
        distinct=0,
        values={},
        numbers=Spread.of(known),
        whole=whole,
    )


def _describe_texts(table: Table, name: str) -> Column:
    texts = table.strings(name)
    held = texts.drop_nulls()
    characters = Spread.of(held.str.len_chars())
    words = Spread.of(held.str.count_matches(r"\S+"))
    scripts = scripts_of(held)
    distinct = held.n_unique()
    enough = words.median >= _FEW_WORDS or characters.median >= (
        _FEW_IDEOGRAMS if without_spaces(scripts) else _FEW_CHARACTERS
    )
    kind: ColumnKind = "category"
    digits = float(held.str.count_matches(r"\d").sum()) / float(held.str.len_chars().sum() or 1)
    coded = words.median < 2 and digits > _MOST_DIGITS  # as in a UUID
    if enough and not coded and (distinct > len(held) / 2 or distinct > _MANY_VALUES):
        kind = "text"
    elif distinct > 0.9 * len(held) and len(held) > _FEW_ROWS:
        kind = "id"
    return Column(
        name, kind, len(texts) - len(held), 0, {},
        characters=characters, words=words, scripts=scripts,
    )  # fmt: skip


def _numeric_kind(table: Table, name: str) -> tuple[ColumnKind, str | None]:
    """Number, time, or neither. A sample decides: one mistake doesn't make a column text."""
    if table.column(name).dtype in (pl.Date, pl.Datetime):
        return "time", None
    sample = table.strings(name).drop_nulls().head(_SAMPLE)
    numeric = _are_numbers(table, name, sample)
    if _are_times(name, sample, numeric=numeric):
        mistake = _mistake(table.times, name)
        # A numeric column that is named time may number the steps of sequences.
        if not numeric or (mistake is None and not counts_steps(table, [name])):
            return "time", mistake
    if not numeric and not _are_quantities(sample):
        return "text", None
    return "number", _mistake(table.numbers, name)


def _mistake(read: Callable[[str], object], name: str) -> str | None:
    """Why a column can't be read; None if it can."""
    try:
        read(name)
    except DataError as error:
        return str(error)
    return None


def _are_numbers(table: Table, name: str, sample: pl.Series) -> bool:
    """Whether a column holds numbers, among them those that can be read in two ways."""
    if _mistake(lambda column: decide_formats([table], column), name) is not None:
        return True
    refused = table.parsed(name)[1].filter(table.column(name).is_not_null()).head(_SAMPLE)
    numeric = int(refused.sum()) <= (1 - _MOSTLY) * len(sample) or has_markers(sample, refused)
    limits = sample.filter(refused[: len(sample)])  # such as "<1" where little was counted
    if not numeric and len(limits) < len(sample) / 2 and sample.n_unique() > _FEW_NAMES:
        numeric = bool(limits.str.contains(_LIMIT).all())
    # Among names of holidays, "None" is a category, not a missing number.
    return numeric and not holds_categories([table], name)


def _are_times(name: str, sample: pl.Series, *, numeric: bool) -> bool:
    """Whether a column is meant to hold times, by its name or its fields."""
    if numeric:
        known = are_days(sample) or are_epochs(sample)
        return _is_time_name(name) or known or (not name and _are_years(sample))
    # A column "time" of lunch and dinner holds no times.
    has_digits = sample.str.contains(r"\d").any()
    named = max(name_speaks(name, "time"), name_speaks(name, "date")) if has_digits else 0
    if named == _WHOLE_NAME or share_of_times(sample) >= _MOSTLY:
        return True
    return bool(named or name_speaks(name, "calendar")) and _may_be_times(sample)


def _are_years(sample: pl.Series) -> bool:
    """Whether a column counts years, as pandas writes the index of a yearly series."""
    years = sample.str.strip_chars().cast(pl.Int64, strict=False)
    recent = years.is_between(_FIRST_YEAR, _LAST_YEAR).fill_null(value=False)
    return bool(recent.all() and (years.diff().drop_nulls() == 1).all()) and len(years) > _FEW_ROWS


def _may_be_times(sample: pl.Series) -> bool:
    """Whether short texts with digits, most of them different, can be times in some form."""
    short = sample.str.len_chars() <= _LONGEST_TIME
    return bool(
        (short & sample.str.contains(r"\d")).mean() >= _MOSTLY  # type: ignore[operator]
        and sample.n_unique() > max(len(sample) / 2, _FEW_NAMES)
    )


def _are_quantities(sample: pl.Series) -> bool:
    """Whether texts are many different numbers in other forms, or with one of a few units each."""
    if sample.n_unique() <= min(len(sample) / 2, _FEW_VALUES):
        return False
    units = sample.str.extract(_QUANTITY)
    plain = sample.cast(pl.Float64, strict=False).is_not_null() & units.is_null()
    return (
        units.count() > 0
        and units.count() + int(plain.sum()) >= _MOSTLY * len(sample)
        and units.n_unique() <= _FEW_UNITS
    ) or bool(sample.str.contains(_CODED).mean() >= _MOSTLY)  # type: ignore[operator]


def _is_time_name(name: str) -> bool:
    named = name_speaks(name, "time") or name_speaks(name, "calendar")
    return bool(named or _TIME_NAMES.search(name))


def _counts_rows(numbers: NDArray[np.float64]) -> bool:
    return len(numbers) > 2 and bool((np.diff(numbers) == 1).all())


def _most_frequent(texts: pl.Series) -> dict[str, int]:
    counts = texts.drop_nulls().alias("value").value_counts()
    return dict(counts.sort(["count", "value"], descending=[True, False]).rows())

"""Finds where a delimited file begins: lines above the header, and whether there is a header."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from gru_optuna.data.readers.numbers import MISSING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBER = re.compile(r"[(+−-]?\W?\d[\d.,' \u00a0\u202f]*(?:[eE][+-]?\d+)?\W{0,2}")
_TIME = re.compile(r"\d{1,4}[-/.]\d{1,2}(?:[-/.]\d{1,4})?(?:[ T].*)?|\d{1,2}:\d{2}.*")
_YEAR = re.compile(r"(?:1[5-9]|2[01])\d\d")
_FEWEST_YEARS = 3  # that are names of columns below a title
_EXCEL = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_MOSTLY = 0.9  # of a column's fields
_MOST_UNITS = 3  # lines
_WORDS = 3  # a field of this many words is a text, not a name


def separator_line(line: str) -> str | None:
    """The separator that a first line such as ``sep=;`` names, as Excel writes it."""
    found = _EXCEL.fullmatch(line)
    return found[1] if found else None


def lines_above(head: Sequence[Sequence[str]]) -> int | None:
    """How many of a file's first records stand above its header.

    Parameters
    ----------
    head
        The first records that aren't blank.

    Returns
    -------
    int or None
        0 if all have as many fields; None if they differ in another way than by lines above.
    """
    if not head:
        return None
    width = len(head[-1])
    begin = next(i for i in range(len(head)) if all(len(row) == width for row in head[i:]))
    rows = head[begin:]
    comments = next((i for i, row in enumerate(rows) if not row[0].startswith("#")), 0)
    if begin == 0 and comments and _names_columns(rows[comments], rows[comments + 1 :]):
        return comments  # with as many fields as the rows
    if begin == 0 or width == 1:
        return begin + _padded(rows) if begin == 0 else None
    if all(row[0].lstrip().startswith("#") for row in head[:begin]):
        return begin
    # Words above numbers are names; else the record above may be the header, and a row too long.
    padded = _padded(rows)
    return begin + padded if _names_columns(rows[padded], rows[padded + 1 :]) else None


def _padded(rows: Sequence[Sequence[str]]) -> int:
    """How many lines of a title stand above the header, filled up with empty fields as by Excel."""
    used = [column for column in range(len(rows[0])) if any(row[column].strip() for row in rows)]
    titles = 0
    while used and titles < len(rows) - 2 and not rows[titles][used[-1]].strip():
        titles += 1
    return titles if titles and _names_columns(rows[titles], rows[titles + 1 :]) else 0


def _names_columns(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a record has a name for every column that the rows below use, and numbers below."""
    used = [column for column in range(len(first)) if any(row[column].strip() for row in rows)]
    if not all(first[column].strip() for column in used):
        return False
    data = _data_columns(rows)
    if not data:
        return False
    years = [field for field in first if _YEAR.fullmatch(field.strip())]
    if len(years) >= _FEWEST_YEARS and _are_counted(first, data):
        return True
    if _are_times_above_numbers(first, rows, data):
        return True
    return not any(_is_data(first[column]) for column in data)


def lacks_header(head: Sequence[Sequence[str]]) -> bool:
    """Whether the first of these records is a row like the others.

    Numbers that count or rise evenly are names, as are the years or months of a wide table.
    """
    first, *rows = head
    if not rows or not all(field.strip() for field in first):
        return False
    data = _data_columns(rows)
    if not data:
        return _is_labelled_text(first, rows)
    if not all(_is_data(first[column]) for column in data):
        return False
    if len(data) == 1 and first[data[0]].strip().isdigit():
        # A column may be called 0 or 1; a row repeats what is below it.
        return first[data[0]].strip() in {row[data[0]].strip() for row in rows}
    return not _are_counted(first, data) and not _are_times_above_numbers(first, rows, data)


def lines_of_units(rows: Sequence[Sequence[str]]) -> int:
    """How many of the first rows below the names are words above numbers, such as units."""
    for count in range(min(_MOST_UNITS, len(rows) - 2), 0, -1):
        below = rows[count:]
        data = _data_columns(below)
        if data and all(_is_above(row, below, data) for row in rows[:count]):
            return count
    return 0


def _is_above(row: Sequence[str], below: Sequence[Sequence[str]], data: Sequence[int]) -> bool:
    """Whether a row has words that don't occur below them, or nothing, in the columns of data."""
    fields = {column: row[column].strip() for column in data}
    held = {column: field for column, field in fields.items() if field}
    if any(any(map(str.isdigit, field)) or field.lower() in MISSING for field in held.values()):
        return False
    if not held:
        # A row that lacks all of several columns, which all others have.
        return len(data) > 1 and all(other[column].strip() for column in data for other in below)
    return not any(
        field == other[column].strip() for column, field in held.items() for other in below
    )


def _are_counted(first: Sequence[str], data: Sequence[int]) -> bool:
    """Whether the fields above numbers are numbers that count, or more than two that rise evenly.

    Columns with many gaps have such names too.
    """
    numbers = [_as_number(field) for field in first]
    known = [number for number in numbers if number is not None]
    steps = {round(b - a, 9) for a, b in pairwise(known)}
    even = all(numbers[column] is not None for column in data) and len(steps) == 1
    return even and 0 not in steps and (len(known) > 2 or steps == {1})


def _are_times_above_numbers(
    first: Sequence[str], rows: Sequence[Sequence[str]], data: Sequence[int]
) -> bool:
    """Whether some fields are times, and those below them are not."""
    times = [
        column
        for column in data
        if _TIME.fullmatch(first[column].strip()) and not _NUMBER.fullmatch(first[column].strip())
    ]
    below = [row[column].strip() for column in times for row in rows]
    return bool(times) and all(_NUMBER.fullmatch(field) for field in below if field)


def _is_labelled_text(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a field of the first record is a class of the rows below, next to a text."""
    if list(first) in [list(row) for row in rows]:
        return False
    for column, field in enumerate(first):
        counts = Counter(row[column] for row in rows)
        others = [other for place, other in enumerate(first) if place != column]
        if (
            counts[field] > 1
            and len(counts) <= len(rows) / 2
            and any(len(other.split()) >= _WORDS for other in others)
        ):
            return True
    return False


def _data_columns(rows: Sequence[Sequence[str]]) -> list[int]:
    """The columns whose fields are numbers or times."""
    found = []
    for column in range(len(rows[0]) if rows else 0):
        fields = [row[column] for row in rows if row[column].strip()]
        if fields and sum(map(_is_data, fields)) >= _MOSTLY * len(fields):
            found.append(column)
    return found


def _is_data(field: str) -> bool:
    field = field.strip()
    return bool(_NUMBER.fullmatch(field) or _TIME.fullmatch(field))


def _as_number(field: str) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None

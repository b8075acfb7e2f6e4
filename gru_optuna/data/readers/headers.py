"""Finds where a delimited file begins: lines above the header, and whether there is a header."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBER = re.compile(r"[(+-−-]?\W?\d[\d.,' \u00a0\u202f]*(?:[eE][+-]?\d+)?\W{0,2}")
_TIME = re.compile(r"\d{1,4}[-/.]\d{1,2}(?:[-/.]\d{1,4})?(?:[ T].*)?|\d{1,2}:\d{2}.*")
_EXCEL = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_MOSTLY = 0.9  # of a column's fields
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
    if begin == 0:
        return 0
    rows = head[begin:]
    if width == 1 or len(rows) < 2:
        return None
    if all(row[0].lstrip().startswith("#") for row in head[:begin]):
        return begin
    # Words above numbers are names; else the record above may be the header, and a row too long.
    data = _data_columns(rows[1:])
    named = data and not any(_is_data(rows[0][column]) for column in data)
    return begin if named and all(field.strip() for field in rows[0]) else None


def lacks_header(head: Sequence[Sequence[str]]) -> bool:
    """Whether the first of these records is a row like the others.

    Numbers that count or rise evenly are names, as are the years of a wide table.
    """
    first, *rows = head
    if not rows or not all(field.strip() for field in first):
        return False
    data = _data_columns(rows)
    if not data:
        return _is_labelled_text(first, rows)
    if not all(_is_data(first[column]) for column in data):
        return False
    numbers = [_as_number(first[column]) for column in data]
    if len(data) < len(first) and len(data) == 1 and first[data[0]].strip().isdigit():
        # A column may be called 0 or 1; a row repeats what is below it.
        return first[data[0]].strip() in {row[data[0]].strip() for row in rows}
    known = [number for number in numbers if number is not None]
    steps = {round(b - a, 9) for a, b in pairwise(known)}
    even = len(known) == len(numbers) and len(steps) == 1 and 0 not in steps
    return not (even and (len(known) > 2 or steps == {1}))


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

"""Reads numbers from texts, and knows the words for a missing one."""

from __future__ import annotations

import polars as pl

MISSING = ("na", "n/a", "nan", "null", "none")
"""Words for a missing number, in lower case; in a column of texts they are ordinary words."""

_SHOWN = 40  # characters of a field, in messages


def parse_numbers(fields: pl.Series, *, decimal_comma: bool) -> tuple[pl.Series, pl.Series]:
    """Reads fields as numbers (N,), null or NaN where missing, and marks those that are neither.

    Parameters
    ----------
    fields
        Texts (N,), null where empty.
    decimal_comma
        Whether 1,5 means 1.5.
    """
    fields = fields.str.strip_chars()
    numbers = fields.cast(pl.Float64, strict=False)
    refused = numbers.is_null() & fields.is_not_null()
    if not refused.any():
        return numbers, numbers.is_infinite().fill_null(value=False)
    refused &= ~fields.str.to_lowercase().is_in(MISSING)
    if decimal_comma and refused.any():
        points = fields.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
        numbers = numbers.fill_null(points)
        refused &= numbers.is_null()
    return numbers, refused | numbers.is_infinite().fill_null(value=False)


def about_no_number(got: str) -> str:
    """The message about a field, which follows ``file, line 5: column "age"``."""
    hint = " Write a decimal point." if got.replace(",", "", 1).isdigit() else ""
    return (
        f'is "{got[:_SHOWN]}", not a finite number.{hint} '
        f"Correct it, or leave it empty where it is missing."
    )

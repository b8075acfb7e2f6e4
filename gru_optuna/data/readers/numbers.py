"""Reads numbers from texts, and knows the words for a missing one.

The whole column decides how its numbers are written: 1.024 may be a thousand and twenty-four, but
not in a column that also contains 0.5. What could be either is refused rather than guessed, unless
other columns of the file show its decimal separator.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gru_optuna.data.readers.column_formats import PLAIN, ColumnFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gru_optuna.data.readers.column_formats import DecimalSign, ThousandsSign

MISSING = ("na", "n/a", "nan", "null", "none")
"""Words for a missing number, in lower case; in a column of texts they are ordinary words."""

_SHOWN = 40  # characters of a field, in messages
_FEW_MARKS, _MANY_NUMBERS = 4, 50
_OFTEN, _VARIOUS, _VERY_FAR = 3, 10, 100.0  # markers, other numbers, and widths of these
_LONGEST_MARKER = 2  # characters that can hardly be anything else, such as "?" or "--"
_CODES = (
    "EUR|USD|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|HUF|RON|BGN|TRY|RUB|UAH|BRL|MXN|ARS|CLP|COP|"
    "CAD|AUD|NZD|SGD|HKD|TWD|KRW|THB|IDR|MYR|PHP|VND|ZAR|ILS|AED|SAR|EGP|NGN|KES"
)
_CURRENCY = rf"(?:[A-Z]{{0,2}}\p{{Sc}}|(?:{_CODES})\b|kr\b\.?|Kč|zł|Fr\.)"
_BEFORE = rf"^([+-]?\(?[+-]?) ?({_CURRENCY}) ?"
_AFTER = rf" ?({_CURRENCY})(\)?)$"
_MINUS_AFTER = r"^([^+(-]*\d(?:[^-]*[^-.,])?)-$"  # but "5.-" are five francs
_STYLES: tuple[tuple[DecimalSign, ThousandsSign], ...] = (
    (".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"),
)  # fmt: skip
_GROUPED = r"^[+-]?[1-9]\d{0,2}(?:[.,]\d{3})+$"


class UndecidedError(ValueError):
    """A column whose numbers could mean two things; `row` is the first that could."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True)
class Hints:
    """What decides how a column is read if its own fields leave it open.

    Attributes
    ----------
    decimal, thousands
        The separators that the study file names; None: any.
    semicolons
        Whether semicolons separate the fields, as where numbers have decimal commas.
    sign_of_file
        Finds the decimal separator that other columns of the file show; None if they show none.
    """

    decimal: DecimalSign | None = None
    thousands: ThousandsSign | None = None
    semicolons: bool = False
    sign_of_file: Callable[[], DecimalSign | None] = lambda: None

    @property
    def styles(self) -> list[tuple[DecimalSign, ThousandsSign]]:
        """The decimal and thousands separators that a column may have."""
        return [
            (decimal, thousands)
            for decimal, thousands in _STYLES
            if self.decimal in (None, decimal)
            and (self.thousands in (None, thousands) or thousands == "")
            and (self.thousands != decimal)
        ]


def parse_numbers(fields: pl.Series, written: ColumnFormat) -> tuple[pl.Series, pl.Series]:
    """Reads fields as numbers (N,), null or NaN where missing, and marks those that are neither.

    Parameters
    ----------
    fields
        Texts (N,), null where empty.
    written
        How the column is written, from `decide_format`.
    """
    fields = fields.str.strip_chars()
    numbers = fields.cast(pl.Float64, strict=False) if written == PLAIN else _parse(fields, written)
    refused = numbers.is_null() & fields.is_not_null()
    if refused.any() and written == PLAIN:
        # A minus may be written with its own sign, as typesetters and some locales do.
        numbers = numbers.fill_null(fields.str.replace("^[−–]", "-").cast(pl.Float64, strict=False))
        refused = numbers.is_null() & fields.is_not_null()
    if refused.any():
        refused &= ~fields.str.to_lowercase().is_in(MISSING)
    return numbers, refused | numbers.is_infinite().fill_null(value=False)


def has_markers(fields: pl.Series, refused: pl.Series) -> bool:
    """Whether the fields (N,) that aren't numbers are a few marks among many different numbers.

    Such marks stand for what wasn't measured: "-", or "<0.5". Classes have fewer numbers.
    """
    marks = fields.filter(refused).n_unique()
    others = fields.filter(~refused)
    return marks <= _FEW_MARKS and others.n_unique() > max(_MANY_NUMBERS, len(others) / 5)


def decide_format(fields: pl.Series, hints: Hints) -> ColumnFormat:
    """How a column of numbers is written; plain if most of its fields aren't numbers.

    Parameters
    ----------
    fields
        Texts of the whole column (N,), null where missing.
    hints
        What decides where the column doesn't.

    Raises
    ------
    UndecidedError
        If it could be read in two ways; the message follows ``file, line 5: column "price"``.
    """
    fields = fields.str.strip_chars()
    plain = fields.cast(pl.Float64, strict=False)
    words = fields.is_null() | fields.str.to_lowercase().is_in(MISSING)
    free = hints.decimal is None and hints.thousands is None
    if (free or hints.decimal == ".") and (plain.is_not_null() | words).all():
        dotted = fields.str.contains(".", literal=True).fill_null(value=False)
        grouped = fields.str.contains(_GROUPED).fill_null(value=False)
        if not dotted.any() or (dotted & ~grouped).any() or hints.decimal == ".":
            return PLAIN
    marks = ~fields.str.contains(r"\d").fill_null(value=True)
    if has_markers(fields, marks):
        words |= marks
    return _decide_signs(fields, _Bare.of(fields), words, hints)


def shown_decimal(fields: pl.Series) -> DecimalSign | None:
    """The decimal separator that a column shows beyond doubt; None if it shows none."""
    bodies = _Bare.of(fields.str.strip_chars()).bodies.drop_nulls()
    held = bodies.filter(bodies.str.contains(r"\d"))  # not marks for missing values, such as "-"
    if 2 * len(held) < len(bodies):
        return None
    fits = {style: _fits(held, style) for style in _STYLES}
    for decimal, other in ((".", ","), (",", ".")):
        mine = fits[decimal, ""] | fits[decimal, other]  # type: ignore[index]
        theirs = fits[other, ""] | fits[other, decimal]  # type: ignore[index]
        if len(held) and mine.all() and not theirs.all():
            return decimal  # type: ignore[return-value]
    return None


def about_no_number(got: str, written: ColumnFormat = PLAIN) -> str:
    """The message about a field, which follows ``file, line 5: column "age"``."""
    like = "" if written == PLAIN else f" in a column of {written}"
    hint = "Correct it, or leave it empty where it is missing."
    if not got.isascii() and any(map(str.isdigit, got)):
        hint = f"Write it with the digits 0 to 9. {hint}"
    elif written.decimal == "." and "," in got and got.replace(",", "", 1).isdigit():
        hint = f"Write a decimal point. {hint}"
    if re.match(r"[+-]?\d[\d.,']* ?[^\d\s]+$", got):
        hint = "Write only the number, in the same unit in every row."
    if re.match(r"(?i)0x[\da-f]+$|[\d -]*/\d+$|\d+:\d", got):
        hint = "Write it as a decimal number"
        hint += ", or as a time with its date." if ":" in got else "."
    if re.match(r"[<>≤≥~≈] ?[\d.,]+$", got):
        hint = (
            f"Write a number for what is below or above the limit, such as the limit itself, or "
            f'give init --missing "{got[:_SHOWN]}".'
        )
    if got.startswith("#") or not any(map(str.isdigit, got)):
        correct = "Correct it. " if len(got) > _LONGEST_MARKER else ""
        marker = f"missing_values = [{json.dumps(got[:_SHOWN], ensure_ascii=False)}]"
        hint = (
            f"{correct}If it stands for a missing value, write {marker} under [data], or give "
            f'init --missing "{got[:_SHOWN]}".'
        )
    return f'is "{got[:_SHOWN]}", not a finite number{like}. {hint}'


def markers_among(numbers: NDArray[np.float64]) -> list[float]:
    """The numbers among others that look like markers for missing values, such as -999 and 1e20.

    A marker is farther from the others than they are from each other, and its digits are nines; or
    it occurs often, and is very far.
    """
    known, markers = numbers[np.isfinite(numbers)], list[float]()
    while (marker := _far_number(known)) is not None:
        markers.append(marker)
        known = known[known != marker]
    return markers


def _far_number(known: NDArray[np.float64]) -> float | None:
    for marker in (known.min(), known.max()) if len(known) else ():
        digits = f"{abs(marker):.10g}".replace(".", "")
        others = known[known != marker]
        if len(others) < 2:
            continue
        distance, width = np.abs(others - marker).min(), np.ptp(others)
        if len(digits) >= 3 and not digits.strip("9") and distance > width:
            return float(marker)
        often = len(known) - len(others) >= _OFTEN and len(np.unique(others)) >= _VARIOUS
        if often and distance > _VERY_FAR * width:
            return float(marker)
    return None


@dataclass(frozen=True)
class _Bare:
    """Fields without the symbols around their digits. Letters: N fields."""

    bodies: pl.Series  # (N,) digits with their separators, and a minus or plus
    currencies: pl.Series  # (N,) null where there is none
    percent: pl.Series  # (N,) whether a per cent sign follows
    parentheses: pl.Series  # (N,) whether they enclose the number
    minus_after: pl.Series  # (N,) whether the minus follows the number

    @classmethod
    def of(cls, fields: pl.Series) -> _Bare:
        texts = fields.str.replace_all(r"\s", " ").str.replace_all("^–|−", "-")
        texts = texts.str.replace_all("’", "'", literal=True)
        minus_after = texts.str.contains(_MINUS_AFTER)
        texts = texts.str.replace(_MINUS_AFTER, "-${1}")
        currencies = texts.str.extract(_BEFORE, 2).fill_null(texts.str.extract(_AFTER, 1))
        texts = texts.str.replace(_BEFORE, "${1}").str.replace(_AFTER, "${2}")
        percent = texts.str.contains(r"\d ?%\)?$")
        texts = texts.str.replace(r" ?%(\)?)$", "${1}")
        parentheses = texts.str.contains(r"^\([^+-].*\)$")
        texts = texts.str.replace(r"^\(([^+-].*)\)$", "${1}").str.replace(r"^([+-]) +", "${1}")
        return cls(texts, currencies, percent, parentheses, minus_after)


def _fits(bodies: pl.Series, style: tuple[DecimalSign, ThousandsSign]) -> pl.Series:
    decimal, thousands = (f"\\{sign}" if sign == "." else sign for sign in style)
    whole = r"\d+"
    if thousands:
        indian = rf"|[1-9]\d?(?:{thousands}\d{{2}})+{thousands}\d{{3}}" if thousands == "," else ""
        whole = rf"(?:[1-9]\d{{0,2}}(?:{thousands}\d{{3}})+{indian}|\d+)"
    exponent = r"(?:[eE][+-]?\d+)?"
    return bodies.str.contains(
        rf"^[+-]?(?:{whole}(?:{decimal}\d*)?|{decimal}\d+){exponent}$"
    ).fill_null(value=False)


def _cast(bodies: pl.Series, style: tuple[DecimalSign, ThousandsSign]) -> pl.Series:
    decimal, thousands = style
    numbers = bodies.set(~_fits(bodies, style), None)
    if thousands:
        numbers = numbers.str.replace_all(thousands, "", literal=True)
    if decimal == ",":
        numbers = numbers.str.replace(",", ".", literal=True)
    return numbers.cast(pl.Float64, strict=False)


def _parse(fields: pl.Series, written: ColumnFormat) -> pl.Series:
    bare = _Bare.of(fields)
    numbers = _cast(bare.bodies, (written.decimal, written.thousands))
    wrong = bare.percent if not written.percent else ~bare.percent
    wrong |= bare.currencies.is_not_null() & (bare.currencies != written.currency)
    if not written.parentheses:
        wrong |= bare.parentheses
    if not written.minus_after:
        wrong |= bare.minus_after
    signed = numbers.zip_with(~bare.parentheses.fill_null(value=False), -numbers)
    return signed.set(wrong.fill_null(value=False), None)


def _decide_signs(fields: pl.Series, bare: _Bare, words: pl.Series, hints: Hints) -> ColumnFormat:
    numbers_of = {style: _cast(bare.bodies, style) for style in hints.styles}
    read = {style: numbers.count() for style, numbers in numbers_of.items()}
    most = max(read.values())
    if 2 * most < len(fields) - int(words.sum()) or not most:
        return PLAIN
    best: list[tuple[DecimalSign, ThousandsSign]] = []
    for style, count in read.items():
        if count == most and not any(numbers_of[style].equals(numbers_of[b]) for b in best):
            best.append(style)
    style = best[0] if len(best) == 1 else _choose(fields, bare, best, numbers_of, hints)
    numeric = numbers_of[style].is_not_null()
    inside = numeric & bare.parentheses
    if inside.any() and inside.sum() == most:
        row = int(inside.arg_max() or 0)
        raise UndecidedError(
            row, f'is "{fields[row]}": negative, or not? All numbers are in parentheses. '
            f"Write them without.",
        )  # fmt: skip
    percent = int((numeric & bare.percent).sum()) * 2 > most
    currencies = bare.currencies.filter(numeric).drop_nulls()
    currency = str(currencies.mode(maintain_order=True)[0]) if len(currencies) else ""
    return ColumnFormat(
        decimal=style[0],
        thousands=style[1],
        percent=percent,
        currency=currency,
        parentheses=bool(inside.any()),
        minus_after=bool((numeric & bare.minus_after).any() and not _minus_before(bare, numeric)),
    )


def _minus_before(bare: _Bare, numeric: pl.Series) -> bool:
    return bool((numeric & ~bare.minus_after & bare.bodies.str.starts_with("-")).any())


def _choose(
    fields: pl.Series,
    bare: _Bare,
    styles: Sequence[tuple[DecimalSign, ThousandsSign]],
    numbers_of: dict[tuple[DecimalSign, ThousandsSign], pl.Series],
    hints: Hints,
) -> tuple[DecimalSign, ThousandsSign]:
    """The style of a column of which several can read all numbers, to different values."""
    bodies, amounts = bare.bodies, bare.currencies.count()
    whole = bodies.str.contains(r"^[+-]?\d+$").fill_null(value=False)
    small = (whole & bodies.str.contains(r"^[+-]?[1-9]\d{0,2}$")).any()
    large = (whole & bodies.str.contains(r"^[+-]?\d{4,}$")).any()
    grouped = [style for style in styles if style[1]]
    plain = [style for style in styles if not style[1]]
    # Numbers below a thousand have no sign, as in 987 and 1.024; decimals would have some.
    by_column = grouped[0] if len(grouped) == 1 and small and not large else None
    if by_column is None and len(grouped) == 1 and not whole.any() and amounts:
        by_column = grouped[0]  # amounts of money don't all have three decimals
    shown = hints.sign_of_file()
    of_file = [style for style in styles if style[0] == shown]
    if shown is not None and len(of_file) == 1 and by_column in (None, of_file[0]):
        return of_file[0]
    if shown is None and by_column is not None:
        return by_column
    # A file with commas between its fields is not from a place with commas in its numbers.
    usual = "," if hints.semicolons else "."
    if shown is None and len(plain) == 1 and plain[0][0] == usual:
        return plain[0]
    one, other = (numbers_of[style] for style in styles[:2])
    row = int((one != other).fill_null(value=False).arg_max() or 0)
    sign = styles[0][1] or styles[1][1] or styles[0][0]
    raise UndecidedError(
        row,
        f'is "{fields[row]}": {one[row]:g}, or {other[row]:g}? Under [data], write '
        f'thousands = "{sign}" or decimal = "{sign}"; or give init --thousands or --decimal.',
    )

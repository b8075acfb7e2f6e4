"""Values, durations and lists as people read them: in the terminal, in reports and in notes.

JSON, TOML and CSV files keep every digit and use none of this.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

NONE = "–"
"""Stands where a value is missing."""


_LONG_LINE = 5000

# Control characters, and those that turn the direction of text around or hide between letters.
_INVISIBLE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff]"
)


def visible(text: str, *, keep: str = "\n\t") -> str:
    r"""A text from anywhere, whose characters can neither command a terminal nor mislead a reader.

    They are written as JSON and TOML write them, so that these formats keep their meaning.

    Parameters
    ----------
    text
        Such as a study's name in a database.
    keep
        The control characters that stay.

    >>> visible("a\x1b[2Jb")
    'a\\\\u001b[2Jb'
    """
    return _INVISIBLE.sub(
        lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text
    )


def shortened(text: str) -> str:
    """A message that quotes no more in a line than people read.

    >>> len(shortened("x" * 100_000))
    2003
    """
    return "\n".join(
        line if len(line) <= _LONG_LINE else f"{line[:1500]} … {line[-500:]}"
        for line in text.split("\n")
    )


def format_metric(value: float | None) -> str:
    """A metric with four decimal places, or with as many figures where those would say too little.

    Parameters
    ----------
    value
        Below 0.001 it has three significant figures, from 10 on five; None is a dash.

    >>> format_metric(0.98148), format_metric(194.612), format_metric(0.000031249)
    ('0.9815', '194.61', '3.12e-5')
    >>> format_metric(1_234_567.8), format_metric(None)
    ('1234568', '–')
    """
    if value is None:
        return NONE
    size = abs(value)
    if 0 < size < 0.000_999_5:
        return _with_short_exponent(f"{value:.3g}")
    if size < 9.99995:
        return f"{value:.4f}"
    return f"{value:#.5g}".rstrip(".") if size < 99_999.5 else f"{value:.0f}"


def format_interval(
    interval: Iterable[float], format_end: Callable[[float], str] = format_metric
) -> str:
    """The two ends of an interval.

    >>> format_interval((0.98, 0.99157))
    '0.9800 to 0.9916'
    """
    low, high = interval
    return f"{format_end(low)} to {format_end(high)}"


def format_measured(value: float, interval: Iterable[float] | None) -> tuple[str, str | None]:
    """A metric and its interval, with no more digits than its uncertainty leaves: two of it.

    Parameters
    ----------
    value
        Without an interval, it is written as `format_metric` does.
    interval
        The two ends; None where they are unknown. Equal ends say only that nothing varied, so they
        are left out, too.

    >>> format_measured(0.98649, (0.9688, 0.9942)), format_measured(193.84, (165.1, 224.6))
    (('0.986', '0.969 to 0.994'), ('194', '165 to 225'))
    >>> format_measured(0.98149, (0.98149, 0.98149)), format_measured(0.5, None)
    (('0.9815', None), ('0.5000', None))
    """
    if interval is None:
        return format_metric(value), None
    low, high = interval
    half = (high - low) / 2
    if half == 0:
        return format_metric(value), None
    # Values far below 1 are written with exponents, which keep their digits.
    if not 0 < half < math.inf or abs(value) < 0.001:
        return format_metric(value), format_interval((low, high))
    decimals = min(max(0, 1 - math.floor(math.log10(half))), 4)

    def written(number: float) -> str:
        return f"{number:.{decimals}f}"

    return written(value), format_interval((low, high), written)


def format_value(value: object) -> str:
    """The value of a hyperparameter: a number with four significant figures, or a word.

    >>> format_value(0.00600524), format_value(0.00003), format_value(128), format_value(True)
    ('0.006005', '3e-5', '128', 'true')
    >>> format_value(20_000.0), format_value(2_500_000.0), format_value(None)
    ('20000', '2.5e6', '–')
    """
    if value is None:
        return NONE
    if not isinstance(value, float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}" if abs(value) < 9999.5 else f"{value:.0f}"
    mantissa, _, exponent = f"{value:.3e}".partition("e")
    return _with_short_exponent(f"{mantissa.rstrip('0').rstrip('.')}e{exponent}")


def format_rate(per_second: float) -> str:
    """How often something happens in a unit of time.

    >>> format_rate(149.3), format_rate(4.26), format_rate(0.031)
    ('149', '4.3', '0.031')
    """
    if per_second >= 10:
        return f"{per_second:.0f}"
    return f"{per_second:.1f}" if per_second >= 1 else f"{per_second:.2g}"


def format_duration(seconds: float) -> str:
    """A measured duration in its two largest units.

    >>> format_duration(0.418), format_duration(7), format_duration(200), format_duration(7300)
    ('0.42 s', '7 s', '3 min 20 s', '2 h 1 min')
    >>> format_duration(720), format_duration(100_000), format_duration(180_000)
    ('12 min', '27 h 46 min', '2 days 2 h')
    """
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two_units(whole // 60, "min", whole % 60, "s")
    if whole < 172_800:
        return _two_units(whole // 3600, "h", whole % 3600 // 60, "min")
    return _two_units(whole // 86_400, "days", whole % 86_400 // 3600, "h")


def format_estimate(seconds: float) -> str:
    """An estimated duration, no finer than it is known.

    >>> format_estimate(3), format_estimate(47), format_estimate(500), format_estimate(30_000)
    ('a few seconds', 'about 50 s', 'about 8 min', 'about 8 h 20 min')
    """
    if seconds < 5:
        return "a few seconds"
    if seconds < 55:
        return f"about {round(seconds / 10) * 10 or 10} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"about {minutes} min"
    coarse = round(minutes / 10) * 10
    return f"about {_two_units(coarse // 60, 'h', coarse % 60, 'min')}"


def format_list(parts: Iterable[object], most: int | None = None, last: str = " and ") -> str:
    """An enumeration.

    Parameters
    ----------
    parts
        Anything whose text is to be listed.
    most
        A longer list ends with the number of those left out, which counts as a part.
    last
        Stands before the last part; a comma in the cells of a table.

    >>> format_list("ab"), format_list("abc"), format_list("abcdef", most=3)
    ('a and b', 'a, b and c', 'a, b and 4 more')
    >>> format_list("abcdef", most=3, last=", ")
    'a, b, 4 more'
    """
    words = [str(part) for part in parts]
    if most is not None and len(words) > most:
        words[most - 1 :] = [f"{len(words) - most + 1} more"]
    return last.join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def _two_units(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large} {large_unit}" + (f" {small} {small_unit}" if small else "")


def _with_short_exponent(number: str) -> str:
    """Python writes 3e-05."""
    mantissa, e, exponent = number.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table of aligned columns, whose cells may come from anywhere."""
    rows = [tuple(visible(cell, keep="") for cell in row) for row in rows]
    widths = [max(_width(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        cells = (cell + " " * (w - _width(cell)) for cell, w in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _width(text: str) -> int:
    """Columns of a terminal that a text takes: East Asian characters take two."""
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)

"""Reads points in time from texts and numbers.

The whole column decides the order of day, month and year: 03/04/2024 alone is ambiguous, but a
column that also contains 25/04/2024 is not. If several orders fit, the one in which the times
ascend is taken; if that leaves two, the column is refused rather than guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAMPLE = 1000  # rows that decide the order of day, month and year
_SHOWN = 40  # characters of a field, in messages

# Rewrites common spellings as one: 2016/10/1T05 and 2016年10月1日 05 become 2016-10-1 05:00.
_SPELLINGS = (
    (r"^(\d{4})年(\d{1,2})月(\d{1,2})日", "${1}-${2}-${3}"),
    (r"^(\d{4})年(\d{1,2})月$", "${1}-${2}-01"),
    (r"^(\d{1,4})[./-](\d{1,2})[./-](\d{1,4})", "${1}-${2}-${3}"),
    (r"^(\d+-\d+-\d+)(?:T|,? +)(\d)", "${1} ${2}"),
    (r"^((?:19|20)\d{2})(\d{2})(\d{2})( \d.*)?$", "${1}-${2}-${3}${4}"),
    (r"^(\d{4})[./-](\d{1,2})$", "${1}-${2}-01"),
    (r"^((?:1[5-9]|2[01])\d{2})$", "${1}-01-01"),
    (r"^(\d+-\d+-\d+ \d{1,2})$", "${1}:00"),
    (r" ([+-]\d{2}:?\d{2})$", "${1}"),
)
# A date must also match the pattern: %Y alone would read 24 as the year 24.
_DATES = {
    "%Y-%m-%d": r"^\d{4}-\d{1,2}-\d{1,2}\b",
    "%d-%m-%Y": r"^\d{1,2}-\d{1,2}-\d{4}\b",
    "%m-%d-%Y": r"^\d{1,2}-\d{1,2}-\d{4}\b",
    "%d %b %Y": r"^\d{1,2} \p{L}+ \d{4}\b",
    "%b %d, %Y": r"^\p{L}+ \d{1,2}, \d{4}\b",
    "%d %B %Y": r"^\d{1,2} \p{L}+ \d{4}\b",
    "%B %d, %Y": r"^\p{L}+ \d{1,2}, \d{4}\b",
}
_CLOCKS = ("", " %H:%M", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p")
_ZONED = (" %H:%M%#z", " %H:%M:%S%.f%#z")
_EPOCH = r"^\d{9,13}(\.\d+)?$"
_MILLISECONDS_FROM = 1e11  # as seconds, the year 5138
_EARLIEST_EPOCH = 1e8  # the year 1973; a smaller number is taken for a count


class NoTimeError(ValueError):
    """A row that isn't a point in time, or (row None) a column that can't be read as times."""

    def __init__(self, row: int | None, message: str) -> None:
        super().__init__(message)
        self.row = row


def parse_times(column: pl.Series) -> NDArray[np.datetime64]:
    """Reads a column of texts, numbers or dates as datetime64[us] (N,).

    Raises
    ------
    NoTimeError
        Its message follows ``file, line 5: column "time"``.
    """
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise NoTimeError(row, "is empty. Every row needs a time: fill it in, or remove the row.")
    if column.dtype in (pl.Date, pl.Datetime):
        return _naive(column).to_numpy()
    if column.dtype.is_temporal():
        raise NoTimeError(None, f"holds {column.dtype} values, not dates. Give full dates.")
    if column.dtype.is_float():
        return _epoch(column)
    texts = column.cast(pl.String).str.strip_chars()
    if 2 * texts.str.contains(_EPOCH).sum() >= len(texts):
        return _epoch(texts.cast(pl.Float64, strict=False))
    return _by_order(_spelled(texts), column).to_numpy()


def share_of_times(texts: pl.Series) -> float:
    """The share of texts that are dates, with or without a time of day; epochs don't count."""
    spelled = _spelled(texts.str.strip_chars())
    return max(_parsed(spelled, date).count() for date in _DATES) / len(texts)


def _spelled(texts: pl.Series) -> pl.Series:
    for pattern, spelling in _SPELLINGS:
        texts = texts.str.replace(pattern, spelling)
    return texts


def _by_order(texts: pl.Series, column: pl.Series) -> pl.Series:
    head = texts.head(_SAMPLE)
    found = {date: _parsed(head, date).count() for date in _DATES}
    most = max(found.values())
    if not most:
        raise NoTimeError(
            0,
            f'is "{str(column[0])[:_SHOWN]}", not a time. '
            f"Write it as 2024-12-31 or 2024-12-31 23:00:00.",
        )
    candidates = [_parsed(texts, date) for date, count in found.items() if count == most]
    best = max(candidate.count() for candidate in candidates)
    candidates = [candidate for candidate in candidates if candidate.count() == best]
    # Both %b and %B read "May", so several formats may give equal results.
    distinct = [c for i, c in enumerate(candidates) if not any(c.equals(d) for d in candidates[:i])]
    ordered = [candidate for candidate in distinct if candidate.is_sorted()]
    if len(distinct) > 1 and len(ordered) != 1:
        raise NoTimeError(
            0, f'is "{str(column[0])[:_SHOWN]}": day or month first? Write it as 2024-12-31.'
        )
    times = ordered[0] if len(distinct) > 1 else distinct[0]
    if times.null_count():
        row = int(times.is_null().arg_max() or 0)
        got, like = str(column[row]), str(column[int(times.is_not_null().arg_max() or 0)])
        raise NoTimeError(
            row, f'is "{got[:_SHOWN]}", not a time like "{like[:_SHOWN]}". Correct it.'
        )
    return times


def _parsed(texts: pl.Series, date: str) -> pl.Series:
    """The times in one order of day, month and year, with any clock; null where that fails."""
    times = pl.Series(values=[None] * len(texts), dtype=pl.Datetime("us"))
    if not (fits := texts.str.contains(_DATES[date])).any():
        return times
    texts = texts.set(~fits, None)
    for clock in (*_CLOCKS, *_ZONED):
        if not times.null_count():
            break
        read = texts.str.to_datetime(date + clock, strict=False, time_unit="us")
        times = times.fill_null(_naive(read))
    return times


def _naive(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return column.cast(pl.Datetime("us"))


def _epoch(numbers: pl.Series) -> NDArray[np.datetime64]:
    seconds = numbers.cast(pl.Float64).fill_null(np.nan).to_numpy()
    refused = ~(np.isfinite(seconds) & (np.abs(seconds) >= _EARLIEST_EPOCH))
    if refused.any():
        row = int(refused.argmax())
        raise NoTimeError(
            row,
            f"is {seconds[row]:g}, not a time. "
            f"Write it as 2024-12-31 23:00:00, or in seconds since 1970.",
        )
    if np.median(seconds) >= _MILLISECONDS_FROM:
        seconds = seconds / 1e3
    return np.round(seconds * 1e6).astype("datetime64[us]")

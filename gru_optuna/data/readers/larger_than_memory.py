"""Tables that don't fit into memory: read a part at a time into frames that lie in a file.

They hold what frames in memory would, row for row and type for type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gru_optuna.data.readers.blank_rows import without_blanks
from gru_optuna.data.readers.delimited import (
    Dialect,
    DisputedError,
    frames_by_csv,
    frames_by_polars,
    in_its_dialect,
)
from gru_optuna.data.readers.json_lines import json_frames, json_frames_by_python
from gru_optuna.data.readers.mapped_frames import Spool
from gru_optuna.data.readers.text_files import encoding_of, lines_of
from gru_optuna.errors import DataError
from gru_optuna.machine import allowance, fits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_HEAD = 1 << 20  # bytes, or rows, that tell how much memory the rest takes
_WORK = 2.0  # times a frame, while it is read and its columns are looked at
_LOOKED_AT = 16  # times a frame: what its columns hold, duplicates, leaks
_FEWEST = 1000  # rows that tell what a table is
_USUAL = 8.0  # bytes in memory for one of a text file, where its head can't be read
_LEAST, _MOST = 1 << 18, 1 << 24  # bytes of a file that are read at a time
_PARTS = 16  # of what data may take

Rows = tuple[pl.DataFrame, "NDArray[np.int64] | None"]
"""A frame without blank rows, and which rows of the file they are; None: all, in order."""


def is_large(path: Path) -> bool:
    """Whether the table in a file is more than memory has room for, by a look at its head."""
    if path.suffix.lower() == ".parquet":
        return not fits(_WORK * _parquet_bytes(path))
    size = path.stat().st_size
    return not fits(_WORK * _USUAL * size) and not fits(_WORK * size * _bytes_a_byte(path))


def rows_that_fit(path: Path) -> int:
    """So many of the first rows of a large file can be looked at from all sides."""
    room = allowance() / _LOOKED_AT
    if path.suffix.lower() == ".parquet":
        rows, size = _parquet_rows(path), _parquet_bytes(path)
    else:
        head = next(lines_of(path, encoding_of(path), _HEAD))
        rows, size = head.count(b"\n") or 1, max(_USUAL, _bytes_a_byte(path)) * len(head)
    return max(_FEWEST, int(room * rows / size))


def map_delimited(path: Path) -> tuple[Rows, Dialect]:
    """What `delimited.read_delimited` reads.

    Raises
    ------
    DataError
        As there.
    """

    def read(path: Path, dialect: Dialect) -> Rows:
        try:
            return _spooled(path, frames_by_polars(path, dialect, part_size()))
        except DisputedError:
            return _spooled(path, frames_by_csv(path, dialect, part_size()))

    next(lines_of(path, encoding_of(path), part_size()))  # has a line an end?
    return in_its_dialect(path, read)


def map_json_lines(path: Path) -> Rows:
    """What `jsonlines.read_json_lines` reads.

    Raises
    ------
    DataError
        As there.
    """
    try:
        return _spooled(path, json_frames(path, part_size()))
    except DisputedError:
        return _spooled(path, json_frames_by_python(path, part_size()))


def map_parquet(path: Path) -> Rows:
    """What `polars.read_parquet` reads, but for columns of lists and the like: they are null.

    Raises
    ------
    polars.exceptions.PolarsError
    """
    scan, total = pl.scan_parquet(path), _parquet_rows(path)
    rows = max(1, int(part_size() / (_parquet_bytes(path) / max(total, 1) + 1)))
    return _spooled(path, (scan.slice(at, rows).collect() for at in range(0, total, rows)))


def part_size() -> int:
    """Bytes of a file that are read at a time."""
    return min(max(allowance() // _PARTS, _LEAST), _MOST)


def _spooled(path: Path, parts: Iterator[pl.DataFrame]) -> Rows:
    spool, read = Spool(), 0
    kept: list[NDArray[np.int64]] = []
    try:
        for part in parts:
            frame, places = without_blanks(part)
            whole = np.arange(part.height, dtype=np.int64)
            kept.append(read + (whole if places is None else places))
            spool.add(frame)
            read += part.height
        if len(spool) == read:
            return spool.frame(), None
        return spool.frame(), np.concatenate(kept)
    except OSError as error:
        raise DataError(
            f"{path}: doesn't fit into memory, and on disk: {error.strerror}."
        ) from None


def _bytes_a_byte(path: Path) -> float:
    """Of memory, for one of a text file."""
    try:
        head = next(lines_of(path, encoding_of(path), _HEAD))
        if path.suffix.lower() in (".csv", ".tsv"):
            separator = max(",;\t", key=lambda one: head.count(one.encode()))
            frame = pl.read_csv(head, infer_schema=False, separator=separator)
        else:
            frame = pl.read_ndjson(head)
    except (pl.exceptions.PolarsError, StopIteration, UnicodeError):
        return _USUAL
    return frame.estimated_size() / len(head)


def _parquet_bytes(path: Path) -> float:
    """Of the whole table in memory."""
    rows = _parquet_rows(path)
    head = pl.scan_parquet(path).head(_HEAD >> 7).collect()
    return rows * (head.estimated_size() / max(head.height, 1) + 16 * head.width)


def _parquet_rows(path: Path) -> int:
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())

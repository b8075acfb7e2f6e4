"""Tables in blocks: one generator of blocks for each format, however large the file.

A table is all of its blocks, in memory or mapped from a temporary file where they don't fit; the
head of a table is its first blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gru_optuna.data.readers.blank_rows import without_blanks
from gru_optuna.data.readers.delimited import (
    Dialect,
    DisputedError,
    frame_of_records,
    in_its_dialect,
    read_records,
    records_by_polars,
)
from gru_optuna.data.readers.json_lines import frame_of_objects, objects_by_polars, read_objects
from gru_optuna.data.readers.mapped_frames import Spool
from gru_optuna.data.readers.parquet import (
    count_parquet_rows,
    measure_parquet,
    read_parquet_slices,
)
from gru_optuna.data.readers.text_files import encoding_of, lines_of
from gru_optuna.errors import DataError
from gru_optuna.machine import allowance, fits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_HEAD = 1 << 20  # bytes, which show how much memory the rest of a file takes
_WORK = 2.0  # memory to read a frame and use its columns, in sizes of the frame
_INSPECTION = 16  # memory to inspect a frame: columns, duplicates, leaks; in sizes of the frame
_FEWEST = 1000  # rows, enough to show what a table holds
_RECORD = 512  # bytes that a record takes in Python, beyond its characters
_USUAL = 8.0  # bytes of memory per byte of a text file, where its head can't be read
_LEAST, _MOST = 1 << 18, 1 << 24  # bytes of a file that are read at a time
_PARTS = 16  # parts of the memory for data, one of which is read at a time

Rows = tuple[pl.DataFrame, "NDArray[np.int64] | None"]
"""A frame without blank rows, and their positions in the file; None: all rows, in order."""

Gather = Callable[["Path", "Iterator[pl.DataFrame]"], Rows]
"""Makes a frame of the blocks of a file."""


def is_large(path: Path) -> bool:
    """Whether a table is too large for memory, judged by its first rows."""
    if path.suffix.lower() == ".parquet":
        return not fits(_WORK * measure_parquet(path))
    size = path.stat().st_size
    return not fits(_WORK * _USUAL * size) and not fits(_WORK * size * _bytes_a_byte(path))


def rows_that_fit(path: Path) -> int:
    """How many rows of a large file can be inspected in memory."""
    room = allowance() / _INSPECTION
    if path.suffix.lower() == ".parquet":
        rows, size = count_parquet_rows(path), measure_parquet(path)
    else:
        head = next(lines_of(path, encoding_of(path), _HEAD))
        rows, size = head.count(b"\n") or 1, max(_USUAL, _bytes_a_byte(path)) * len(head)
    return max(_FEWEST, int(room * rows / size))


def read_delimited(path: Path, gather: Gather, *, header: bool = True) -> tuple[Rows, Dialect]:
    """Reads CSV or TSV, every field as text; `header` as in `in_its_dialect`.

    Raises
    ------
    DataError
        Naming the line.
    """
    size = _block_size(path)

    def read(path: Path, dialect: Dialect) -> Rows:
        try:
            return gather(path, records_by_polars(path, dialect, size))
        except DisputedError:
            names, _, records = read_records(path, dialect)
            return gather(path, _frames(records, partial(frame_of_records, names)))

    if is_large(path):
        next(lines_of(path, encoding_of(path), size))  # refuses a file without ends of lines
    return in_its_dialect(path, read, header=header)


def read_json_lines(path: Path, gather: Gather) -> Rows:
    """Reads JSON lines, with the types that all objects decide.

    Raises
    ------
    DataError
        Naming the line.
    """
    try:
        return gather(path, objects_by_polars(path, _block_size(path)))
    except DisputedError:
        return gather(path, _frames(read_objects(path), frame_of_objects))


def read_parquet(path: Path, gather: Gather) -> Rows:
    """Reads Parquet.

    Raises
    ------
    DataError
        If the file isn't Parquet, or is damaged.
    """
    rows = max(count_parquet_rows(path), 1)
    if is_large(path):
        rows = max(1, int(part_size() / (measure_parquet(path) / rows + 1)))
    return gather(path, read_parquet_slices(path, rows))


def whole(path: Path, blocks: Iterator[pl.DataFrame]) -> Rows:
    """All blocks, in memory, or mapped from a temporary file if they don't fit.

    Raises
    ------
    DataError
        If the temporary file can't be written.
    """
    return _spooled(path, blocks) if is_large(path) else _joined(list(blocks))


def head(rows: int, path: Path, blocks: Iterator[pl.DataFrame]) -> Rows:  # noqa: ARG001 (a `Gather`)
    """The first blocks with this many rows."""
    taken: list[pl.DataFrame] = []
    while sum(block.height for block in taken) < rows and (block := next(blocks, None)) is not None:
        taken.append(block)
    return _joined([pl.concat(taken, how="diagonal", rechunk=False).head(rows)] if taken else [])


def _joined(blocks: list[pl.DataFrame]) -> Rows:
    if not blocks:
        return pl.DataFrame(), None
    return without_blanks(pl.concat(blocks, how="diagonal", rechunk=False))


def _block_size(path: Path) -> int:
    """How many bytes to read at a time: all of a file that fits into memory."""
    return part_size() if is_large(path) else path.stat().st_size


def part_size() -> int:
    """How many bytes of a file are read at a time."""
    return min(max(allowance() // _PARTS, _LEAST), _MOST)


def _frames(
    records: Iterator[tuple[int, Any]], frame_of: Callable[[list[tuple[int, Any]]], pl.DataFrame]
) -> Iterator[pl.DataFrame]:
    """Frames of records that Python has read, with about `part_size()` bytes of them in each."""
    part: list[tuple[int, Any]] = []
    held, size = 0, part_size()
    for record in records:
        part.append(record)
        fields = record[1].values() if isinstance(record[1], dict) else record[1]
        held += _RECORD + sum(len(field or "") for field in fields)
        if held > size:
            yield frame_of(part)
            part, held = [], 0
    if part:
        yield frame_of(part)


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
            f"{path}: the table doesn't fit into memory, and writing it to a temporary file "
            f"failed: {error.strerror}. Free some disk space, or set XDG_CACHE_HOME."
        ) from None


def _bytes_a_byte(path: Path) -> float:
    """How many bytes of memory a byte of a text file takes."""
    try:
        head = next(lines_of(path, encoding_of(path), _HEAD))
        if path.suffix.lower() in (".csv", ".tsv"):
            separator = max(",;\t", key=lambda each: head.count(each.encode()))
            frame = pl.read_csv(head, infer_schema=False, separator=separator)
        else:
            frame = pl.read_ndjson(head)
    except (pl.exceptions.PolarsError, StopIteration, UnicodeError):
        return _USUAL
    return frame.estimated_size() / len(head)

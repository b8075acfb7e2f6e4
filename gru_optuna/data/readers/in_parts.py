"""Tables that may be larger than memory, a part of their rows at a time.

The rows are those of `tables.read_table`, which reads a file faster and knows the types of its
columns from all rows; here each row is read by itself.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
import polars as pl

from gru_optuna.data.readers.blank_rows import without_blanks
from gru_optuna.data.readers.delimited import frame_of_records, read_records
from gru_optuna.data.readers.json_lines import frame_of_objects, read_objects
from gru_optuna.data.readers.larger_than_memory import is_large, rows_that_fit
from gru_optuna.data.readers.parquet import count_parquet_rows, read_parquet_slices
from gru_optuna.data.readers.tables import TABLES, Table, read_table
from gru_optuna.data.readers.text_files import check_file
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gru_optuna.data.readers.column_formats import TableFormats

_BLOCK = 1 << 20


def read_table_in_parts(
    path: Path, rows: int, formats: TableFormats | None = None, *, every: bool = False
) -> Iterator[tuple[Table, float]]:
    """Reads a table in parts of up to `rows` rows.

    Parameters
    ----------
    path
        The file.
    rows
        The most rows of a part.
    formats
        As in `tables.read_table`.
    every
        Whether every row matters, so that an empty one is refused instead of left out.

    Yields
    ------
    Table, float
        A part, which is never empty, and the share of the file that has been read.

    Raises
    ------
    DataError
        As `tables.read_table`, when the reader reaches the row that can't be read.
    """
    check_file(path, TABLES)
    ending = path.suffix.lower()
    if ending == ".parquet":
        parts = _parquet(path, rows, refuse_empty=every)
    else:
        parts = _lines(path, rows, ending, refuse_empty=every)
    empty = True
    for table, share in parts:
        if len(table):
            empty = False
            yield replace(table, formats=formats or table.formats), share
    if empty:
        raise DataError(
            f"{path}: no rows below the names of the columns. Name a file that has some."
        )


def read_head(path: Path) -> tuple[Table, float]:
    """Reads a table, or the first rows of a large one; returns their share of the file too.

    Raises
    ------
    DataError
        As `tables.read_table`, for the rows that are read.
    """
    check_file(path, TABLES)
    if not is_large(path):
        return read_table(path), 1.0
    return next(read_table_in_parts(path, rows_that_fit(path)))


def read_spread(path: Path, every: int) -> Table:
    """Reads the first row of a table and every `every`-th row after it, for files of any size.

    Raises
    ------
    DataError
        As `tables.read_table`.
    """
    check_file(path, TABLES)
    ending = path.suffix.lower()
    if ending == ".parquet":
        parts = [table for table, _ in _parquet(path, rows_that_fit(path), every)]
        records = [table.records for table in parts if table.records is not None]
        return Table(path, pl.concat([table.frame for table in parts]), np.concatenate(records))
    table, _ = next(_lines(path, sys.maxsize, ending, every))
    return table


def _lines(
    path: Path, rows: int, ending: str, every: int = 1, *, refuse_empty: bool = False
) -> Iterator[tuple[Table, float]]:
    total, semicolons = _count_lines(path), False
    records: Iterator[tuple[int, Any]]
    frame_of: Callable[[list[tuple[int, Any]]], pl.DataFrame] = frame_of_objects
    if ending in (".csv", ".tsv"):
        names, semicolons, records = read_records(path)
        frame_of = partial(frame_of_records, names)
    else:
        records = read_objects(path)
    if refuse_empty:
        records = _without_empty(path, records)
    records = islice(records, 0, None, every)
    while part := list(islice(records, rows)):
        frame, places = without_blanks(frame_of(part))
        lines = [line for line, _ in part]
        share = lines[-1] / total if len(part) == rows else 1.0
        yield Table(path, frame, places, lines.__getitem__, semicolons), share


def _without_empty(path: Path, records: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """All records but blank lines, which are rows only between the rows of a single column."""
    blank = None
    for line, fields in records:
        values = list(fields.values() if isinstance(fields, dict) else fields)
        if isinstance(fields, list) and all(value is None for value in values):
            blank = blank or (line if len(values) == 1 else None)
            continue
        if blank or not any((value or "").strip() for value in values):
            _refuse_empty(f"{path}, line {blank or line}")
        yield line, fields


def _refuse_empty(at: str) -> NoReturn:
    raise DataError(
        f"{at}: the row is empty, so there is nothing to predict from. Fill it in, or remove it."
    )


def _parquet(
    path: Path, rows: int, every: int = 1, *, refuse_empty: bool = False
) -> Iterator[tuple[Table, float]]:
    total, start = count_parquet_rows(path), 0
    for whole in read_parquet_slices(path, rows):
        end = start + whole.height
        taken = np.arange(-start % every, whole.height, every)
        part = whole
        if every > 1:
            # A selection of rows would keep the texts of all rows in memory, unless copied.
            arrow = whole[taken].to_arrow(compat_level=pl.CompatLevel.oldest())
            part = cast("pl.DataFrame", pl.from_arrow(arrow))
        frame, records = without_blanks(part)
        if refuse_empty and records is not None:
            kept = np.append(records, part.height)
            _refuse_empty(f"{path}, row {start + int((kept != np.arange(len(kept))).argmax()) + 1}")
        yield (
            Table(path, frame, start + (taken if records is None else taken[records])),
            end / total,
        )
        start = end


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return 1 + sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))

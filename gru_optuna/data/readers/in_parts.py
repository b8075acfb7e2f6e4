"""Tables that may be larger than memory, a part of their rows at a time.

The rows are those of `tables.read_table`, which reads a file faster and knows the types of its
columns from all rows; here each row is read by itself.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

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
    path: Path, rows: int, formats: TableFormats | None = None
) -> Iterator[tuple[Table, float]]:
    """Reads a table in parts of up to `rows` rows.

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
    parts = _parquet(path, rows) if ending == ".parquet" else _lines(path, rows, ending)
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


def _lines(path: Path, rows: int, ending: str, every: int = 1) -> Iterator[tuple[Table, float]]:
    total, semicolons = _count_lines(path), False
    records: Iterator[tuple[int, Any]]
    frame_of: Callable[[list[tuple[int, Any]]], pl.DataFrame] = frame_of_objects
    if ending in (".csv", ".tsv"):
        names, semicolons, records = read_records(path)
        frame_of = partial(frame_of_records, names)
    else:
        records = read_objects(path)
    records = islice(records, 0, None, every)
    while part := list(islice(records, rows)):
        frame, places = without_blanks(frame_of(part))
        lines = [line for line, _ in part]
        share = lines[-1] / total if len(part) == rows else 1.0
        yield Table(path, frame, places, lines.__getitem__, semicolons), share


def _parquet(path: Path, rows: int, every: int = 1) -> Iterator[tuple[Table, float]]:
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
        yield (
            Table(path, frame, start + (taken if records is None else taken[records])),
            end / total,
        )
        start = end


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return 1 + sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))

"""Parts of tables that may be larger than memory: rows one part after another, or a sample.

All of them are rows of `tables.read_table`, with the types and formats that the whole file decides.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import polars as pl

from gru_optuna.data.readers.delimited import read_records
from gru_optuna.data.readers.json_lines import read_objects
from gru_optuna.data.readers.larger_than_memory import head, is_large, rows_that_fit
from gru_optuna.data.readers.mapped_frames import frame_of_arrow
from gru_optuna.data.readers.parquet import count_parquet_rows
from gru_optuna.data.readers.tables import TABLES, Table, read_table
from gru_optuna.data.readers.text_files import check_file
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
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
        A part, which is never empty, and the share of the rows up to its end.

    Raises
    ------
    DataError
        As `tables.read_table`.
    """
    table = read_table(path, formats)
    if every and table.records is not None:
        _refuse_empty_rows(table)
    for start in range(0, len(table), rows):
        end = min(start + rows, len(table))
        records = np.arange(start, end) if table.records is None else table.records[start:end]
        part = replace(table, frame=table.frame.slice(start, rows), records=records)
        yield part, end / len(table)


def read_head(path: Path, formats: TableFormats | None = None) -> tuple[Table, float]:
    """Reads a table, or the first rows of a large one; returns their share of the file too.

    Parameters
    ----------
    path, formats
        As in `tables.read_table`.

    Raises
    ------
    DataError
        As `tables.read_table`, for the rows that are read.
    """
    check_file(path, TABLES)
    if not is_large(path):
        return read_table(path, formats), 1.0
    table = read_table(path, formats, gather=partial(head, rows_that_fit(path)))
    rows = count_parquet_rows if path.suffix.lower() == ".parquet" else _count_lines
    return table, min(1.0, len(table) / max(rows(path), 1))


def read_spread(path: Path, every: int, formats: TableFormats | None = None) -> Table:
    """Reads the first row of a table and every `every`-th row after it, for files of any size.

    Raises
    ------
    DataError
        As `tables.read_table`.
    """
    table = read_table(path, formats)
    rows = np.arange(0, len(table), every)
    # A selection of rows would keep the texts of all rows in memory, unless copied.
    arrow = table.frame[rows].to_arrow(compat_level=pl.CompatLevel.oldest())
    records = rows if table.records is None else table.records[rows]
    return replace(table, frame=frame_of_arrow(arrow), records=records)


def _refuse_empty_rows(table: Table) -> None:
    """Refuses the first row that is empty, in a table some of whose rows or lines are."""
    path, ending = table.path, table.path.suffix.lower()
    if ending == ".parquet":
        assert table.records is not None
        kept = np.append(table.records, -1)
        _refuse_empty(f"{path}, row {int((kept != np.arange(len(kept))).argmax()) + 1}")
    records: Iterator[tuple[int, Any]] = read_objects(path)
    if ending in (".csv", ".tsv"):
        records = read_records(path)[2]
    blank = None
    for line, fields in records:
        values = list(fields.values() if isinstance(fields, dict) else fields)
        if isinstance(fields, list) and all(value is None for value in values):
            # A blank line is a row only between the rows of a single column.
            blank = blank or (line if len(values) == 1 else None)
        elif blank or not any((value or "").strip() for value in values):
            _refuse_empty(f"{path}, line {blank or line}")


def _refuse_empty(at: str) -> NoReturn:
    raise DataError(
        f"{at}: the row is empty, so there is nothing to predict from. Fill it in, or remove it."
    )


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return 1 + sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))

"""Tables that may be larger than memory, a part of their rows at a time.

What `tables.read_table` gives at once, row for row. It goes over the file faster, and knows a
column's types from all of its rows; here a row is read for what it says itself.
"""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl

from gru_optuna.data.readers.blank_rows import without_blanks
from gru_optuna.data.readers.delimited import records_of
from gru_optuna.data.readers.json_lines import objects_of
from gru_optuna.data.readers.larger_than_memory import is_large, rows_that_fit
from gru_optuna.data.readers.tables import TABLES, Table, read_table
from gru_optuna.data.readers.text_files import check_file
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK = 1 << 20


def read_table_in_parts(path: Path, rows: int) -> Iterator[tuple[Table, float]]:
    """The rows of a table, at most so many in each part.

    Yields
    ------
    Table, float
        A part, none of them empty; and the share of the file that has been read with it.

    Raises
    ------
    DataError
        As `tables.read_table`, when the row is reached that can't be read.
    """
    check_file(path, TABLES)
    ending = path.suffix.lower()
    parts = _parquet(path, rows) if ending == ".parquet" else _lines(path, rows, ending)
    empty = True
    for table, share in parts:
        if len(table):
            empty = False
            yield table, share
    if empty:
        raise DataError(f"{path}: no rows below the names of the columns. Name a file with rows.")


def read_head(path: Path) -> tuple[Table, float]:
    """A table, or where it doesn't fit into memory its first rows; and their share of the file.

    Raises
    ------
    DataError
        As `tables.read_table`; what is wrong further down isn't seen.
    """
    check_file(path, TABLES)
    if not is_large(path):
        return read_table(path), 1.0
    return next(read_table_in_parts(path, rows_that_fit(path)))


def read_spread(path: Path, every: int) -> Table:
    """The first row of a table and each `every`-th one behind it, whatever the file's size.

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
    total = _count_lines(path)
    names: list[str] = []
    decimal_comma = False
    records: Iterator[tuple[int, Any]]  # fields in the order of the names, or by them
    if ending in (".csv", ".tsv"):
        names, decimal_comma, records = records_of(path)
    else:
        records = objects_of(path)
    records = islice(records, 0, None, every)
    while part := list(islice(records, rows)):
        lines = [line for line, _ in part]
        frame, places = without_blanks(_frame(names, [record for _, record in part]))
        share = lines[-1] / total if len(part) == rows else 1.0
        yield Table(path, frame, places, lines.__getitem__, decimal_comma), share


def _frame(names: list[str], records: list[Any]) -> pl.DataFrame:
    columns: dict[str, Any]
    if names:
        columns = dict(zip(names, zip(*records, strict=True), strict=True))
    else:
        keys = dict.fromkeys(key for record in records for key in record)
        columns = {key: [record.get(key) for record in records] for key in keys}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def _parquet(path: Path, rows: int, every: int = 1) -> Iterator[tuple[Table, float]]:
    try:
        scan = pl.scan_parquet(path)
        total = int(scan.select(pl.len()).collect().item())
        for start in range(0, total, rows):
            part = scan.slice(start, rows).collect()
            taken = np.arange(-start % every, part.height, every)
            if every > 1:
                # Rows that are picked share the text of all others, unless they are copied.
                arrow = part[taken].to_arrow(compat_level=pl.CompatLevel.oldest())
                part = cast("pl.DataFrame", pl.from_arrow(arrow))
            frame, records = without_blanks(part)
            places = taken if records is None else taken[records]
            yield Table(path, frame, start + places), min(start + rows, total) / total
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not a Parquet file, or damaged ({reason}). Write it again."
        ) from None


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return 1 + sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))

"""Parquet files: whole, or a slice of their rows at a time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl

from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEAD = 1 << 13  # rows that tell how much memory the others take
_OVERHEAD = 16  # bytes of each field, at most, beyond its value


def read_parquet_slices(path: Path, rows: int) -> Iterator[pl.DataFrame]:
    """The rows in order, up to `rows` at a time.

    Raises
    ------
    DataError
        If the file isn't Parquet, or is damaged.
    """
    with _readable(path):
        scan = pl.scan_parquet(path)
        for start in range(0, count_parquet_rows(path), rows):
            yield scan.slice(start, rows).collect()


def count_parquet_rows(path: Path) -> int:
    """The number of rows.

    Raises
    ------
    DataError
        If the file isn't Parquet, or is damaged.
    """
    with _readable(path):
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def measure_parquet(path: Path) -> float:
    """About how many bytes of memory the whole table takes, judged by its first rows.

    Raises
    ------
    DataError
        If the file isn't Parquet, or is damaged.
    """
    with _readable(path):
        head = pl.scan_parquet(path).head(_HEAD).collect()
    a_row = head.estimated_size() / max(head.height, 1) + _OVERHEAD * head.width
    return count_parquet_rows(path) * a_row


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not a Parquet file, or damaged ({reason}). Write it again."
        ) from None

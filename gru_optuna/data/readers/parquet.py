"""Parquet files: their rows, a block at a time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
from pyarrow import parquet

from gru_optuna.data.readers.mapped_frames import frame_of_arrow
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEAD = 1 << 13  # rows that tell how much memory the others take
_OVERHEAD = 16  # bytes of each field, at most, beyond its value
_READ = 1 << 16  # bytes of a column that are read at a time


def read_parquet_slices(path: Path, rows: int) -> Iterator[pl.DataFrame]:
    """The rows in order, up to `rows` at a time.

    Raises
    ------
    DataError
        If the file isn't Parquet, is damaged, or takes more memory than there is.
    """
    # Not by polars, which reads all that a row group holds of a column for each slice of it: many
    # programs write a file as a single group. Where memory ends meanwhile, it waits for ever.
    with _readable(path), parquet.ParquetFile(path, buffer_size=_READ, pre_buffer=False) as file:
        for batch in file.iter_batches(rows):
            yield frame_of_arrow(pa.Table.from_batches([batch]))


def count_parquet_rows(path: Path) -> int:
    """The number of rows.

    Raises
    ------
    DataError
        If the file isn't Parquet, is damaged, or takes more memory than there is.
    """
    with _readable(path):
        return int(parquet.read_metadata(path).num_rows)


def measure_parquet(path: Path) -> float:
    """About how many bytes of memory the whole table takes, judged by its first rows.

    Raises
    ------
    DataError
        If the file isn't Parquet, is damaged, or takes more memory than there is.
    """
    head = next(read_parquet_slices(path, _HEAD), pl.DataFrame())
    a_row = head.estimated_size() / max(head.height, 1) + _OVERHEAD * head.width
    return count_parquet_rows(path) * a_row


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowMemoryError as error:  # a few bytes can say that a value is repeated for ever
        raise DataError(
            f"{path}: its rows take more memory than there is ({error}). Give fewer rows, or rows "
            f"with shorter values."
        ) from error
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not a Parquet file, or damaged ({reason}). Write it again."
        ) from None

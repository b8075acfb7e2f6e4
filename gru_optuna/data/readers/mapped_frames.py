"""Frames in a file that is written part by part, then mapped into memory.

The kernel reads pages of a mapped file when they are accessed and drops them when memory is short,
so such a frame takes almost no memory of its own. Arrow's IPC format has the same layout on disk
and in memory, so polars reads it in place.
"""

from __future__ import annotations

import mmap
from typing import cast

import polars as pl
import pyarrow as pa

from gru_optuna.machine import scratch_file

_ALIGNMENT = 64  # bytes, as Arrow recommends for all buffers


def frame_of_arrow(table: pa.Table) -> pl.DataFrame:
    """A table of Arrow as a frame, in place."""
    frame = cast("pl.DataFrame", pl.from_arrow(table, rechunk=False))
    frame.columns = table.column_names  # polars would give a name to a column without one
    return frame


class Spool:
    """Writes rows to a file part by part, and gives them back as one frame.

    The file has no name, so nothing remains of it, however the process ends.
    """

    def __init__(self) -> None:
        self._file = scratch_file()
        self._parts: list[tuple[int, int]] = []  # offsets where each begins and ends
        self._empty = pl.DataFrame()
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, part: pl.DataFrame) -> None:
        """Appends rows. A column that some parts lack is null in their rows."""
        self._empty = pl.concat([self._empty, part.clear()], how="diagonal")
        self._rows += part.height
        if not part.height:
            return
        self._file.write(b"\0" * (-self._file.tell() % _ALIGNMENT))
        begin = self._file.tell()
        table = part.to_arrow(compat_level=pl.CompatLevel.newest())
        with pa.ipc.new_stream(self._file, table.schema) as stream:
            stream.write_table(table)
        self._parts.append((begin, self._file.tell()))

    def frame(self) -> pl.DataFrame:
        """All rows, mapped from the file."""
        if not self._parts:
            return self._empty
        self._file.flush()
        # Shared with the file, so that the kernel may drop the pages at any time.
        mapped = memoryview(mmap.mmap(self._file.fileno(), 0))
        parts = [
            frame_of_arrow(pa.ipc.open_stream(mapped[begin:end]).read_all())
            for begin, end in self._parts
        ]
        return pl.concat([self._empty, *parts], how="diagonal", rechunk=False)

"""What files may hold at most: far beyond real data, and small enough to be refused in seconds."""

from __future__ import annotations

import re
import zipfile
from math import prod
from typing import IO, TYPE_CHECKING

from gru_optuna.errors import DataError
from gru_optuna.machine import allowance

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_LINE = 1 << 26
"""The most bytes of a line."""

LONGEST_FIELD = 1 << 24
"""The most bytes of a field of CSV or TSV, which may go on for many lines if it is quoted."""

MOST_COLUMNS = 10_000
"""The most columns of a table, or channels of a sequence."""

MOST_STEPS = 1_000_000
"""The most steps of a sequence."""

_MOST_ARRAYS = 100  # in an .npz file; ours have four at most
_NUMBER, _ROW = 8, 100  # bytes that a number and a row take once they are read
_LINE_END = re.compile(rb"[\r\n]")
_BLOCK = 1 << 16


def check_lines(path: Path) -> None:
    """Refuses a text file with a line longer than `LONGEST_LINE`, before a parser meets it.

    Raises
    ------
    DataError
        Naming the byte where the line begins.
    """
    stretch = LONGEST_LINE // 2
    with path.open("rb") as file:
        size = file.seek(0, 2)
        # A longer line fills one of these stretches. Others are left at their first line end, so
        # that a file of any size is checked by a few reads.
        for start in range(0, size, stretch):
            if _next_line_end(file, start, start + stretch) is not None:
                continue
            first = _last_line_end(file, start)
            if _next_line_end(file, start, first + LONGEST_LINE) is None and (
                size - first > LONGEST_LINE
            ):
                raise DataError(
                    f"{path}: the line that begins at byte {first} is longer than "
                    f"{LONGEST_LINE >> 20} MiB. Write one row per line."
                )


def check_columns(place: str, columns: int, what: str = "columns") -> None:
    """Refuses a table with more than `MOST_COLUMNS`; `place` begins the message.

    Raises
    ------
    DataError
        If there are more.
    """
    if columns > MOST_COLUMNS:
        raise DataError(
            f"{place}: {columns:,} {what}, but at most {MOST_COLUMNS:,} are read. "
            f"Keep those that matter, or write one row for each step."
        )


def check_steps(place: str, steps: int) -> None:
    """Refuses a sequence with more than `MOST_STEPS`; `place` begins the message.

    Raises
    ------
    DataError
        If there are more.
    """
    if steps > MOST_STEPS:
        raise DataError(
            f"{place}: {steps:,} steps, but at most {MOST_STEPS:,} are read. "
            f"Cut the sequence into shorter ones."
        )


def check_archive(path: Path) -> None:
    """Refuses an ``.npz`` file that declares more than memory may hold, before it is unpacked.

    Raises
    ------
    DataError
        Naming the array.
    zipfile.BadZipFile, ValueError, OSError
        If it isn't such a file.
    """
    from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic

    room, total = allowance(), 0
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > _MOST_ARRAYS:
            raise DataError(
                f"{path}: {len(members):,} arrays, but at most {_MOST_ARRAYS} are read."
            )
        for member in members:
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as file:
                version = read_magic(file)
                read = read_array_header_1_0 if version == (1, 0) else read_array_header_2_0
                shape, _, dtype = read(file)
            # Numbers are converted, and each row becomes an object.
            bytes_each = dtype.itemsize + (_NUMBER if dtype.kind in "fiub" else 0)
            rows = shape[0] if shape else 1
            total += max(prod(shape) * bytes_each + rows * _ROW, member.file_size)
            if total > room:
                raise DataError(
                    f'{path}: "{name}" has shape {str(shape)[:60]}, and reading the arrays takes '
                    f"{total / 2**30:,.1f} GiB, more than the {room / 2**30:,.1f} GiB that data "
                    f"may take here. Use float32, or fewer rows."
                )


def _next_line_end(file: IO[bytes], start: int, end: int) -> int | None:
    """The position of the first line end from `start` up to `end`."""
    file.seek(start)
    while start < end and (block := file.read(min(_BLOCK, end - start))):
        if found := _LINE_END.search(block):
            return start + found.start()
        start += len(block)
    return None


def _last_line_end(file: IO[bytes], end: int) -> int:
    """Where the line that goes on at `end` begins; no further back than a line may be long."""
    least = max(0, end - LONGEST_LINE)
    while end > least:
        start = max(least, end - _BLOCK)
        file.seek(start)
        block = file.read(end - start)
        if found := max(block.rfind(b"\n"), block.rfind(b"\r")) + 1:
            return start + found
        end = start
    return end

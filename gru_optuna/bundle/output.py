"""Writes predictions to a file part by part, so that the file is complete or not there at all."""

from __future__ import annotations

import re
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import polars as pl

from gru_optuna.errors import DataError
from gru_optuna.files import written_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Endings of the files that predictions can be written to."""


_DATETIME = "%Y-%m-%d %H:%M:%S%.f"
_FORMULA = r"^[=+\-@\t\r]"  # what a spreadsheet takes for the beginning of a formula


class Writer(Protocol):
    """Receives the predictions in order."""

    def write(self, frame: pl.DataFrame) -> None:
        """Appends rows."""


@contextmanager
def writing(out: Path | None, *, for_spreadsheets: bool = False) -> Iterator[Writer]:
    """Opens a writer for a file, in the format of its ending, or for CSV on stdout.

    The file appears, or replaces an earlier one, once it holds the last row. If anything fails,
    an earlier file stays.

    Parameters
    ----------
    out
        The file; None: stdout.
    for_spreadsheets
        Whether texts in CSV and TSV that a spreadsheet would take for a formula get an apostrophe
        in front.

    Raises
    ------
    DataError
        If the ending isn't known, or the file can't be written.
    """
    if out is None:
        yield _DelimitedWriter(sys.stdout.buffer, ",", for_spreadsheets)
        return
    ending = out.suffix.lower()
    if ending not in ENDINGS:
        raise DataError(
            f'{out}: rows can\'t be written as "{out.suffix}". Known: {", ".join(ENDINGS)}.'
        )
    with replacing(out) as temporary:
        if ending == ".parquet":
            with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
                parts = _PartsWriter(Path(folder))
                yield parts
                parts.merge(temporary)
            return
        with temporary.open("wb") as file:
            separator = "\t" if ending == ".tsv" else ","
            yield (
                _JSONWriter(file)
                if "json" in ending
                else _DelimitedWriter(file, separator, for_spreadsheets)
            )


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Gives a path whose file replaces `out` once it is complete.

    Raises
    ------
    DataError
        If it can't be written.
    """
    try:
        with written_whole(out) as temporary:
            yield temporary
    except OSError as error:
        raise DataError(f"{out}: {error.strerror or error}. Check the path.") from None


class _DelimitedWriter:
    def __init__(self, file: IO[bytes], separator: str, for_spreadsheets: bool) -> None:
        self._file, self._separator, self._has_header = file, separator, False
        self._for_spreadsheets = for_spreadsheets

    def write(self, frame: pl.DataFrame) -> None:
        if self._for_spreadsheets:
            frame = frame.with_columns(pl.col(pl.String).str.replace(_FORMULA, "'$0")).rename(
                lambda name: re.sub(_FORMULA, r"'\g<0>", name)
            )
        text = _with_offsets(frame).write_csv(
            separator=self._separator,
            include_header=not self._has_header,
            datetime_format=_DATETIME,
        )
        self._has_header = True
        self._file.write(text.encode())


class _JSONWriter:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, frame: pl.DataFrame) -> None:
        self._file.write(frame.write_ndjson().encode())


def _with_offsets(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame whose times in a zone are texts with their offset, which polars would leave out."""
    return frame.with_columns(
        pl.col(name).dt.strftime(f"{_DATETIME}%:z")
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
    )


class _PartsWriter:
    """Keeps the parts in files: Parquet's description is at its end, so they are merged last."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0

    def write(self, frame: pl.DataFrame) -> None:
        frame.write_ipc(self._folder / f"{self._count:08}.arrow")
        self._count += 1

    def merge(self, out: Path) -> None:
        pl.scan_ipc(self._folder / "*.arrow").sink_parquet(out)

"""Predictions to a file, a part at a time, whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import polars as pl

from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Of files that predictions can be written to."""


class Writer(Protocol):
    """Takes predictions in their order."""

    def write(self, frame: pl.DataFrame) -> None:
        """Some more rows."""


@contextmanager
def writing(out: Path | None) -> Iterator[Writer]:
    """Writes to a file, by its ending; or as CSV to stdout.

    The file stands under its name when the last row is in it; one that was there is replaced
    then, and stays if anything fails.

    Raises
    ------
    DataError
        If the ending isn't known, or the file can't be written.
    """
    if out is None:
        yield _Lines(sys.stdout.buffer, ",")
        return
    ending = out.suffix.lower()
    if ending not in ENDINGS:
        raise DataError(
            f'{out}: predictions are not written as "{out.suffix}". Known: {", ".join(ENDINGS)}.'
        )
    beside = out.with_name(f".{out.name}.{os.getpid()}.writing")
    try:
        if ending == ".parquet":
            with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
                parts = _Parts(Path(folder))
                yield parts
                parts.merge(beside)
        else:
            with beside.open("wb") as file:
                yield _Objects(file) if "json" in ending else _Lines(file, _separator(ending))
        beside.replace(out)
    except OSError as error:
        raise DataError(f"{out}: {error.strerror or error}. Check the path.") from None
    finally:
        beside.unlink(missing_ok=True)


def _separator(ending: str) -> str:
    return "\t" if ending == ".tsv" else ","


class _Lines:
    def __init__(self, file: IO[bytes], separator: str) -> None:
        self._file, self._separator, self._begun = file, separator, False

    def write(self, frame: pl.DataFrame) -> None:
        text = frame.write_csv(
            separator=self._separator,
            include_header=not self._begun,
            datetime_format="%Y-%m-%d %H:%M:%S%.f",
        )
        self._begun = True
        self._file.write(text.encode())


class _Objects:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, frame: pl.DataFrame) -> None:
        self._file.write(frame.write_ndjson().encode())


class _Parts:
    """Parquet has its description at the end: parts are kept, and put together there."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0

    def write(self, frame: pl.DataFrame) -> None:
        frame.write_ipc(self._folder / f"{self._count:08}.arrow")
        self._count += 1

    def merge(self, out: Path) -> None:
        pl.scan_ipc(self._folder / "*.arrow").sink_parquet(out)

"""Reads sequence files, exactly as they are; by their endings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.data.readers.long_format import sequences_from_table
from gru_optuna.data.readers.npz import read_npz
from gru_optuna.data.readers.sequences import Sequences
from gru_optuna.data.readers.text_files import check_file
from gru_optuna.data.readers.ts import read_ts

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SEQUENCES", "Sequences", "read_sequences", "sequences_from_table"]

SEQUENCES = (".ts", ".npz")


def read_sequences(path: Path, *, answered: bool = True) -> Sequences:
    """Reads one file of sequences with their labels or targets; without, unless `answered`.

    Tables in long form are read by `tables.read_table` and turned by `sequences_from_table`.

    Raises
    ------
    DataError
        If the file isn't there, isn't of a known format, or a row can't be used; with its place.
    """
    check_file(path, SEQUENCES)
    reader = read_npz if path.suffix.lower() == ".npz" else read_ts
    return reader(path, answered=answered)

"""Reads files of sequences, by their endings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.data.readers.npz import read_npz
from gru_optuna.data.readers.text_files import check_file
from gru_optuna.data.readers.ts import read_ts

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.data.readers.sequences import Sequences

SEQUENCES = (".ts", ".npz")


def read_sequences(path: Path, *, with_targets: bool = True) -> Sequences:
    """Reads a ``.ts`` or ``.npz`` file, with or without its labels or targets.

    Tables in long form go through `tables.read_table` and `long_format.sequences_from_table`.

    Raises
    ------
    DataError
        If there is no such file, its format isn't known, or a row can't be used; with its place.
    """
    check_file(path, SEQUENCES)
    reader = read_npz if path.suffix.lower() == ".npz" else read_ts
    return reader(path, with_targets=with_targets)

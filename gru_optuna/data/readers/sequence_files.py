"""Reads files of sequences, by their endings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.data.readers.npz import read_npz
from gru_optuna.data.readers.text_files import check_file
from gru_optuna.data.readers.ts import read_ts

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.data.readers.sequences import Sequences
    from gru_optuna.study_file.tasks import Task

SEQUENCES = (".ts", ".npz")


def read_sequences(
    path: Path, *, with_targets: bool = True, task: Task | None = None, held_out: bool = False
) -> Sequences:
    """Reads a ``.ts`` or ``.npz`` file, with or without its labels or targets.

    Tables in long form go through `tables.read_table` and `long_format.sequences_from_table`.

    Parameters
    ----------
    path, with_targets
        The file, and whether its rows must have labels or targets.
    task, held_out
        As in `read_npz`; a ``.ts`` file declares what it holds.

    Raises
    ------
    DataError
        If there is no such file, its format isn't known, or a row can't be used; with its place.
    """
    check_file(path, SEQUENCES)
    if path.suffix.lower() == ".npz":
        return read_npz(path, with_targets=with_targets, task=task, held_out=held_out)
    return read_ts(path, with_targets=with_targets)

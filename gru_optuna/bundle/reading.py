"""Rows to predict from files, so many at a time, whatever the file's size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.bundle.given import Rows, rows_of_table
from gru_optuna.bundle.predicting import CHUNK
from gru_optuna.data.files import SEQUENCES, read_sequences
from gru_optuna.data.opening import check_file
from gru_optuna.data.scaling import SequenceEncoder
from gru_optuna.data.streaming import read_table_in_parts
from gru_optuna.data.tables import TABLES, read_table
from gru_optuna.data.tokens import TextEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gru_optuna.bundle.given import Encoder


def read_rows(path: Path, encoder: Encoder) -> Iterator[tuple[Rows, float]]:
    """The rows of a file in their order, each part with the share of the file that is read then.

    Tables of texts are read a part at a time. Of others the steps of a row may stand anywhere,
    so they are read whole, and predicted a part at a time.

    Raises
    ------
    DataError
        Naming the file, and the row or column, that can't be used.
    """
    sequences = isinstance(encoder, SequenceEncoder)
    check_file(path, (*SEQUENCES, *TABLES) if sequences else TABLES)
    if isinstance(encoder, TextEncoder):
        for table, share in read_table_in_parts(path, CHUNK):
            yield rows_of_table(table, encoder), share
        return
    if path.suffix.lower() in SEQUENCES:
        found = read_sequences(path, answered=False)
        rows = Rows(found.values, found.at, {})
    else:
        rows = rows_of_table(read_table(path), encoder)
    for start in range(0, len(rows), CHUNK):
        end = min(start + CHUNK, len(rows))
        yield rows.part(start, end), end / len(rows)

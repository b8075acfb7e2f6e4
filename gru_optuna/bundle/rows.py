"""Rows to predict, as people have them: frames, lists, arrays. Answers are not asked for.

A row is a text, an array (T, C) of a sequence, or a whole series. Columns are found by their
names in training, whatever their order and whatever else there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gru_optuna.data.readers.in_memory import frame_of
from gru_optuna.data.readers.in_parts import read_table_in_parts
from gru_optuna.data.readers.long_format import steps_by_id
from gru_optuna.data.readers.sequence_files import SEQUENCES, read_sequences
from gru_optuna.data.readers.tables import TABLES, Table, read_table
from gru_optuna.data.readers.text_files import check_file
from gru_optuna.data.sequences.scaler import SequenceEncoder
from gru_optuna.data.series.series import read_series
from gru_optuna.data.texts.prepare import texts_of
from gru_optuna.data.texts.tokenizer import TextEncoder
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from gru_optuna.data.series.encoder import SeriesEncoder


CHUNK = 2048
"""Rows that are encoded and predicted at a time."""


Encoder: TypeAlias = "TextEncoder | SequenceEncoder | SeriesEncoder"

GIVEN = Path("the given rows")
"""How messages name what comes from no file."""


@dataclass(frozen=True)
class RowsToPredict:
    """What is to be predicted, not yet encoded."""

    rows: Sequence[Any]  # texts, (T, C) arrays, or series
    at: Callable[[int], str]  # where a row stands, as messages begin
    names: dict[str, list[str]]  # of the rows, by the column they come from; none for plain rows

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, begin: int, end: int) -> RowsToPredict:
        """Some of them, in their order."""
        names = {column: values[begin:end] for column, values in self.names.items()}
        return RowsToPredict(self.rows[begin:end], lambda row: self.at(begin + row), names)


def rows_of(data: object, encoder: Encoder) -> RowsToPredict:
    """Rows from a frame, a list of texts or arrays, or an array.

    Parameters
    ----------
    data
        A frame of polars or pandas, or a mapping of columns; a list of texts; a list of arrays
        (T, C), or (T,) for one channel; an array (N, T, C), or (N, T) for one channel.
    encoder
        Knows which columns matter.

    Raises
    ------
    DataError
        If it is something else, or lacks a column.
    """
    if isinstance(data, str | bytes):
        raise DataError(
            "a single text where rows are needed. Put it into a list: predict([text]); of a "
            "file, give its Path."
        )
    frame = frame_of(data, str(GIVEN))
    if frame is not None:
        return rows_of_table(Table(GIVEN, frame), encoder)
    return _plain_rows(data, encoder)


def rows_of_table(table: Table, encoder: Encoder) -> RowsToPredict:
    """The rows of a table; of long form and of series, those that its steps make.

    Raises
    ------
    DataError
    """
    from gru_optuna.data.sequences.scaler import SequenceEncoder
    from gru_optuna.data.texts.tokenizer import TextEncoder

    if isinstance(encoder, TextEncoder):
        assert encoder.column is not None
        _check_columns(table, [encoder.column])
        return RowsToPredict(list(texts_of(table, encoder.column)), table.at, {})
    if isinstance(encoder, SequenceEncoder):
        if encoder.id is None or encoder.features is None:
            raise DataError(
                f"{table.source}: the training rows came from a file of sequences, so no column "
                f"names are known. Give .ts, .npz or arrays of {encoder.channels} channels."
            )
        needed = [encoder.id, encoder.time, *encoder.features]
        _check_columns(table, [name for name in needed if name is not None])
        steps = steps_by_id(table, encoder.id, encoder.time, encoder.features)
        names, source = steps.ids, table.source
        return RowsToPredict(
            steps.values, lambda row: f'{source}, id "{names[row]}"', {encoder.id: steps.ids}
        )
    data = encoder.data
    assert data.time is not None
    assert data.target is not None
    needed = [data.time, data.target, data.series, *data.covariates, *data.known]
    _check_columns(table, [name for name in needed if name is not None])
    # Rows ahead of the present have no target, whatever becomes of gaps before it.
    anyhow = data.model_copy(update={"missing": "interpolate"})
    series, frequency = read_series([table], anyhow, encoder.words)
    encoder.check_frequency(frequency, table.source)
    names = [one.name for one in series]
    return RowsToPredict(
        series, lambda _: table.source, {data.series: names} if data.series else {}
    )


def _plain_rows(data: object, encoder: Encoder) -> RowsToPredict:
    from gru_optuna.data.sequences.scaler import SequenceEncoder
    from gru_optuna.data.texts.tokenizer import TextEncoder

    def at(row: int) -> str:
        return f"{GIVEN}, row {row + 1}"

    rows = list(data) if isinstance(data, Sequence | np.ndarray) else None
    if isinstance(encoder, TextEncoder) and rows is not None:
        for number, text in enumerate(rows):
            if not isinstance(text, str) or not text or text.isspace():
                raise DataError(f"{at(number)}: {text!r:.40} is no text with something in it.")
        return RowsToPredict([str(text) for text in rows], at, {})
    if isinstance(encoder, SequenceEncoder) and rows is not None:
        return RowsToPredict(
            [_steps(row, encoder.channels, at(n)) for n, row in enumerate(rows)], at, {}
        )
    kinds = {"TextEncoder": "a list of texts", "SequenceEncoder": "arrays (T, C)"}
    needed = kinds.get(type(encoder).__name__)
    raise DataError(
        f"{type(data).__name__} can't be predicted here. "
        f"Give a frame with the columns of training{f', or {needed}' if needed else ''}."
    )


def check_steps(rows: RowsToPredict, encoder: SequenceEncoder) -> None:
    """Refuses sequences of other channels than those of training.

    Raises
    ------
    DataError
    """
    for number, row in enumerate(rows.rows):
        if row.shape[1] != encoder.channels:
            raise DataError(
                f"{rows.at(number)}: {row.shape[1]} channels, and {encoder.channels} in training. "
                f"Bring the same channels, in the same order."
            )


def _steps(row: object, channels: int, at: str) -> NDArray[np.float64]:
    try:
        steps = np.asarray(row, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{at}: no array of numbers (T, {channels}).") from None
    steps = steps[:, None] if steps.ndim == 1 and channels == 1 else steps
    if steps.ndim != 2 or steps.shape[1] != channels or not len(steps):
        raise DataError(f"{at}: an array of shape {steps.shape}, and (T, {channels}) is needed.")
    if not np.isfinite(steps).all():
        raise DataError(f"{at}: a value is missing or infinite. Fill it in, or leave out the row.")
    return steps


def _check_columns(table: Table, needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in table.names]
    if len(missing) == 1:
        table.column(missing[0])  # which names the nearest
    if missing:
        named = ", ".join(f'"{name}"' for name in missing)
        raise DataError(
            f"{table.source}: no columns {named}, which training has read. "
            f"It has: {', '.join(table.names)}."
        )


def read_rows(path: Path, encoder: Encoder) -> Iterator[tuple[RowsToPredict, float]]:
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
        rows = RowsToPredict(found.values, found.at, {})
    else:
        rows = rows_of_table(read_table(path), encoder)
    for start in range(0, len(rows), CHUNK):
        end = min(start + CHUNK, len(rows))
        yield rows.part(start, end), end / len(rows)

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

from gru_optuna.data.given import frame_of
from gru_optuna.data.long import steps_by_id
from gru_optuna.data.series import read_series
from gru_optuna.data.tables import Table
from gru_optuna.data.text import texts_of
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gru_optuna.data.lookback import SeriesEncoder
    from gru_optuna.data.scaling import SequenceEncoder
    from gru_optuna.data.tokens import TextEncoder

Encoder: TypeAlias = "TextEncoder | SequenceEncoder | SeriesEncoder"

GIVEN = Path("the given rows")
"""How messages name what comes from no file."""


@dataclass(frozen=True)
class Rows:
    """What is to be predicted, not yet encoded."""

    rows: Sequence[Any]  # texts, (T, C) arrays, or series
    at: Callable[[int], str]  # where a row stands, as messages begin
    names: dict[str, list[str]]  # of the rows, by the column they come from; none for plain rows

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, begin: int, end: int) -> Rows:
        """Some of them, in their order."""
        names = {column: values[begin:end] for column, values in self.names.items()}
        return Rows(self.rows[begin:end], lambda row: self.at(begin + row), names)


def rows_of(data: object, encoder: Encoder) -> Rows:
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


def rows_of_table(table: Table, encoder: Encoder) -> Rows:
    """The rows of a table; of long form and of series, those that its steps make.

    Raises
    ------
    DataError
    """
    from gru_optuna.data.scaling import SequenceEncoder
    from gru_optuna.data.tokens import TextEncoder

    if isinstance(encoder, TextEncoder):
        assert encoder.column is not None
        _check_columns(table, [encoder.column])
        return Rows(list(texts_of(table, encoder.column)), table.at, {})
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
        return Rows(
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
    return Rows(series, lambda _: table.source, {data.series: names} if data.series else {})


def _plain_rows(data: object, encoder: Encoder) -> Rows:
    from gru_optuna.data.scaling import SequenceEncoder
    from gru_optuna.data.tokens import TextEncoder

    def at(row: int) -> str:
        return f"{GIVEN}, row {row + 1}"

    rows = list(data) if isinstance(data, Sequence | np.ndarray) else None
    if isinstance(encoder, TextEncoder) and rows is not None:
        for number, text in enumerate(rows):
            if not isinstance(text, str) or not text or text.isspace():
                raise DataError(f"{at(number)}: {text!r:.40} is no text with something in it.")
        return Rows([str(text) for text in rows], at, {})
    if isinstance(encoder, SequenceEncoder) and rows is not None:
        return Rows([_steps(row, encoder.channels, at(n)) for n, row in enumerate(rows)], at, {})
    kinds = {"TextEncoder": "a list of texts", "SequenceEncoder": "arrays (T, C)"}
    needed = kinds.get(type(encoder).__name__)
    raise DataError(
        f"{type(data).__name__} can't be predicted here. "
        f"Give a frame with the columns of training{f', or {needed}' if needed else ''}."
    )


def check_steps(rows: Rows, encoder: SequenceEncoder) -> None:
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

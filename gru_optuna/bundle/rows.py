"""Rows to predict: from frames, lists, arrays and files, without their targets.

A row is a text, a sequence (T, C), or a whole series. Columns are found by their names in
training, in any order, and other columns are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gru_optuna.data.readers.in_memory import frame_of, sequence_values
from gru_optuna.data.readers.in_parts import read_table_in_parts
from gru_optuna.data.readers.long_format import steps_by_id
from gru_optuna.data.readers.sequence_files import SEQUENCES, read_sequences
from gru_optuna.data.readers.tables import TABLES, Table, read_table
from gru_optuna.data.readers.text_files import check_file
from gru_optuna.data.readers.wide_format import rows_of_steps
from gru_optuna.data.sequences.scaler import SequenceEncoder
from gru_optuna.data.series.series import Learned, read_series
from gru_optuna.data.texts.prepare import texts_of
from gru_optuna.data.texts.tokenizer import TextEncoder
from gru_optuna.errors import DataError
from gru_optuna.formatting import format_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gru_optuna.data.readers.time_forms import TimeForm
    from gru_optuna.data.series.encoder import SeriesEncoder


CHUNK = 2048
"""Rows that are encoded and predicted at a time."""

Encoder: TypeAlias = "TextEncoder | SequenceEncoder | SeriesEncoder"

_SOURCE = Path("the given rows")  # what messages name in place of a file
_NAMED = 12  # columns in a message


@dataclass(frozen=True)
class RowsToPredict:
    """Rows that are not yet encoded."""

    rows: Sequence[Any]  # texts, (T, C) arrays, or series
    at: Callable[[int], str]  # the place of a row, with which messages about it begin
    names: dict[str, list[str]]  # of the rows, by the column they come from; may be empty
    forms: tuple[TimeForm, ...] = ()  # of the times that forecasts for series get

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, begin: int, end: int) -> RowsToPredict:
        """The rows from `begin` up to `end`."""
        names = {column: values[begin:end] for column, values in self.names.items()}
        at = lambda row: self.at(begin + row)  # noqa: E731
        return RowsToPredict(self.rows[begin:end], at, names, self.forms)


def rows_of(data: object, encoder: Encoder) -> RowsToPredict:
    """Rows from a frame, a list of texts or arrays, or an array.

    Parameters
    ----------
    data
        A frame of polars or pandas, or a mapping of columns; a list of texts; a list of arrays
        (T, C), or (T,) for one channel; an array (N, T, C), or (N, T) for one channel.
    encoder
        Names the columns that are read.

    Raises
    ------
    DataError
        If the data are something else, or lack a column.
    """
    if isinstance(data, str | bytes):
        raise DataError(
            "predict needs rows, and got a single text. Put it into a list: predict([text]). "
            "For a file, give its Path."
        )
    frame = frame_of(data, str(_SOURCE))
    if frame is not None:
        table = Table(_SOURCE, frame, first_row=0, formats=encoder.formats)
        return rows_of_table(table, encoder)
    return _plain_rows(data, encoder)


def rows_of_table(table: Table, encoder: Encoder) -> RowsToPredict:
    """The rows of a table: its texts, or the sequences or series that its steps form.

    Raises
    ------
    DataError
        If a column of training is missing, or a row can't be read; with its place.
    """
    if isinstance(encoder, TextEncoder):
        assert encoder.column is not None
        _check_columns(table, [encoder.column])
        return RowsToPredict(list(texts_of(table, encoder.column)), table.at, {})
    if isinstance(encoder, SequenceEncoder):
        if encoder.steps is not None:
            _check_columns(table, [name for names in encoder.steps for name in names])
            return RowsToPredict(rows_of_steps(table, encoder.steps), table.at, {})
        if encoder.id is None or encoder.features is None:
            raise DataError(
                f"{table.source}: the training rows came from a file without column names, so a "
                f"table can't be read. Give .ts, .npz or arrays with {encoder.channels} channels."
            )
        needed = [encoder.id, encoder.time, *encoder.features]
        _check_columns(table, [name for name in needed if name is not None])
        steps = steps_by_id(table, encoder.id, encoder.time, encoder.features)
        names, source = steps.ids, table.source
        return RowsToPredict(
            steps.values, lambda row: f'{source}, id "{names[row]}"', {encoder.id: steps.ids}
        )
    return series_of_tables([table], encoder)


def series_of_tables(tables: Sequence[Table], encoder: SeriesEncoder) -> RowsToPredict:
    """The series of tables, each of which continues where the one before it ended.

    Raises
    ------
    DataError
        If a column of training is missing, or a row can't be read; with its place.
    """
    data = encoder.data
    assert data.target is not None
    needed = [*data.times, data.target, data.series, *data.covariates, *data.known]
    for table in tables:
        _check_columns(table, [name for name in needed if name is not None])
    # Rows after the present have no target, so the study's "refuse" must not refuse them here.
    lenient = data.model_copy(update={"missing": "interpolate"})
    learned = Learned(encoder.categories, encoder.plan.frequency, encoder.forms)
    read = read_series(tables, lenient, learned)
    ids = {data.series: [each.name for each in read.series]} if data.series is not None else {}
    forms = read.forms if encoder.forms else ()
    return RowsToPredict(read.series, lambda _: tables[-1].source, ids, forms)


def _plain_rows(data: object, encoder: Encoder) -> RowsToPredict:
    def at(row: int) -> str:
        return f"{_SOURCE}, row {row}"  # from 0, as in Python

    rows = list(data) if isinstance(data, Sequence | np.ndarray) else None
    if isinstance(encoder, TextEncoder) and rows is not None:
        for number, text in enumerate(rows):
            if not isinstance(text, str) or not text or text.isspace():
                what = (
                    "the text is empty" if isinstance(text, str) else f"{text!r:.40} is not a text"
                )
                raise DataError(f"{at(number)}: {what}. Give a text, or leave out the row.")
        return RowsToPredict([str(text) for text in rows], at, {})
    if isinstance(encoder, SequenceEncoder) and rows is not None:
        return RowsToPredict(sequence_values(rows, str(_SOURCE)) if rows else [], at, {})
    kinds = {TextEncoder: ", or a list of texts", SequenceEncoder: ", or arrays (T, C)"}
    raise DataError(
        f"{_SOURCE}: data of type {type(data).__name__} can't be read. "
        f"Give a frame with the columns of training{kinds.get(type(encoder), '')}."
    )


def check_steps(rows: RowsToPredict, encoder: SequenceEncoder) -> None:
    """Refuses sequences whose number of channels differs from training.

    Raises
    ------
    DataError
        Naming the first such row.
    """
    for number, row in enumerate(rows.rows):
        if row.shape[1] != encoder.channels:
            raise DataError(
                f"{rows.at(number)}: the row has {row.shape[1]} channels, but training had "
                f"{encoder.channels}. Give the same channels, in the same order."
            )


def _check_columns(table: Table, needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in table.names]
    if len(missing) == 1:
        table.column(missing[0])  # raises, and suggests the nearest name
    if missing:
        named = format_list((f'"{name}"' for name in missing), most=_NAMED, last=", ")
        raise DataError(
            f"{table.source}: the columns {named}, which training read, are missing. "
            f"The table has: {format_list(table.names, most=_NAMED, last=', ')}."
        )


def read_rows(path: Path, encoder: Encoder) -> Iterator[tuple[RowsToPredict, float]]:
    """The rows of a file in order, part by part, with the share of the file read so far.

    Tables of texts are read part by part. In other tables the steps of one row may be anywhere, so
    those are read whole and predicted part by part.

    Raises
    ------
    DataError
        Naming the file, and the row or column that can't be used.
    """
    sequences = isinstance(encoder, SequenceEncoder)
    check_file(path, (*SEQUENCES, *TABLES) if sequences else TABLES)
    if isinstance(encoder, TextEncoder):
        for table, share in read_table_in_parts(path, CHUNK, encoder.formats, every=True):
            yield rows_of_table(table, encoder), share
        return
    if path.suffix.lower() in SEQUENCES:
        found = read_sequences(path, with_targets=False, held_out=True)
        rows = RowsToPredict(found.values, found.at, {})
    else:
        rows = rows_of_table(read_table(path, encoder.formats), encoder)
    for start in range(0, len(rows), CHUNK):
        end = min(start + CHUNK, len(rows))
        yield rows.part(start, end), end / len(rows)

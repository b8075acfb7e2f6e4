"""Reads tables: CSV, TSV, JSON lines, Parquet.

A `Table` keeps what the file says: texts stay texts until a caller asks for numbers or times, so
that "007" and a label "1" survive. In every format, an empty field or one of spaces only is
missing, and a row of such fields only is not a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gru_optuna.data.readers.column_formats import PLAIN, TableFormats
from gru_optuna.data.readers.delimited import line_of, without_unnamed
from gru_optuna.data.readers.json_lines import line_of_object
from gru_optuna.data.readers.labels import Labels
from gru_optuna.data.readers.larger_than_memory import (
    read_delimited,
    read_json_lines,
    read_parquet,
    whole,
)
from gru_optuna.data.readers.numbers import (
    Hints,
    UndecidedError,
    about_no_number,
    decide_format,
    parse_numbers,
    shown_decimal,
)
from gru_optuna.data.readers.text_files import check_file
from gru_optuna.data.readers.time_columns import parse_columns
from gru_optuna.data.readers.times import NoTimeError
from gru_optuna.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gru_optuna.data.readers.column_formats import ColumnFormat, DecimalSign
    from gru_optuna.data.readers.larger_than_memory import Gather
    from gru_optuna.data.readers.time_forms import TimeForm
    from gru_optuna.data.readers.times import ParsedTimes

FOR_SEQUENCES = (
    "For sequences, write a column for each step, called t0, t1, and so on; or an .npz file: "
    "numpy.savez('rows.npz', values=..., labels=...)"
)
"""Advice about fields that hold many numbers, without the final period."""

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True)
class Table:
    """The rows of one file. Letters: N rows."""

    path: Path
    frame: pl.DataFrame  # N rows; columns of texts, or of the types in Parquet and JSON
    records: NDArray[np.int64] | None = None  # (N,) rows of the file; None: all, in order
    line_of: Callable[[int], int] | None = None  # the line of a record; None: a file without lines
    semicolons: bool = False  # whether they separate the fields
    notes: tuple[str, ...] = ()  # about lines that were skipped, and columns without names
    formats: TableFormats = field(default_factory=TableFormats)  # shared with other tables
    first_row: int = 1  # the number of the first row in messages; 0 in memory, as Python counts

    def __len__(self) -> int:
        return self.frame.height

    @property
    def source(self) -> str:
        """The file, with which messages begin."""
        return str(self.path)

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        return self.frame.columns

    def at(self, row: int) -> str:
        """The place of a row: ``file.csv, line 17``, or ``file.parquet, row 16``."""
        record = row if self.records is None else int(self.records[row])
        if self.line_of is None:
            return f"{self.path}, row {record + self.first_row}"
        return f"{self.path}, line {self.line_of(record)}"

    def column(self, name: str) -> pl.Series:
        """One column as it is.

        Raises
        ------
        DataError
            If there is no such column; the message suggests the nearest name.
        """
        try:  # listing the names first takes long where there are thousands
            column = self.frame.get_column(name)
        except pl.exceptions.ColumnNotFoundError:
            hint = did_you_mean(name, self.names)
            raise DataError(f'{self.path}: no column "{name}". {hint}') from None
        if not self.formats.missing_values:
            return column
        return _without_markers(column, self.formats.missing_values)

    def strings(self, name: str) -> pl.Series:
        """One column as texts (N,), null where missing; a text file's are not copied.

        Raises
        ------
        DataError
            If there is no such column, or it holds lists, objects or bytes.
        """
        column = self.column(name)
        if column.dtype == pl.String:
            return column
        if not is_plain(column.dtype):
            advice = "Write one value per field."
            if isinstance(column.dtype, pl.List | pl.Array):
                advice = f"{advice} {FOR_SEQUENCES}"
            if column.dtype == pl.Duration:
                advice = "Write them as numbers, such as seconds."
            raise DataError(
                f'{self.path}: column "{name}" holds {column.dtype} values, not texts or numbers. '
                f"{advice}"
            )
        if column.dtype.is_float() and (column.is_null() | (column == column.round())).all():
            # Libraries without nullable integers store an integer column with gaps as floats.
            column = column.cast(pl.Int64, strict=False)
        return column.cast(pl.String)

    def labels(self, name: str) -> Labels:
        """One column as labels, stripped of spaces.

        Raises
        ------
        DataError
            Naming the first row without a label.
        """
        labels = self.strings(name).str.strip_chars()
        if labels.null_count():
            row = int(labels.is_null().arg_max() or 0)
            raise DataError(
                f'{self.at(row)}: column "{name}" is empty. Every row needs a label: fill it in, '
                f"or remove the row."
            )
        return Labels.of_column(labels)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """One column as numbers (N,), NaN where empty, NA, N/A, NaN, null or None.

        Raises
        ------
        DataError
            Naming the first row that holds anything else, or an infinite number.
        """
        column = self.column(name)
        if column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
            numbers = column.cast(pl.Float64)
            refused = numbers.is_infinite().fill_null(value=False)
        else:
            written = decide_formats([self], name)
            numbers, refused = parse_numbers(self.strings(name), written)
        if refused.any():
            row = int(refused.arg_max() or 0)
            about = about_no_number(str(column[row]).strip(), self.formats.columns.get(name, PLAIN))
            raise DataError(f'{self.at(row)}: column "{name}" {about}')
        return numbers.fill_null(np.nan).to_numpy()

    def count_numbers(self, name: str) -> tuple[int, int]:
        """How many fields of a column are numbers, and how many are neither that nor missing."""
        column = self.column(name)
        if column.dtype.is_numeric() or column.dtype.is_temporal() or column.dtype == pl.Boolean:
            return len(column) - column.null_count(), 0
        numbers, refused = self.parsed(name)
        held = numbers.is_not_null() & numbers.is_not_nan().fill_null(value=False) & ~refused
        return int(held.sum()), int(refused.sum())

    def parsed(self, name: str) -> tuple[pl.Series, pl.Series]:
        """A column as numbers (N,), null or NaN where missing, and whether a field is neither."""
        try:
            written = decide_formats([self], name)
        except DataError:
            written = PLAIN  # `numbers` says what could be two things
        return parse_numbers(self.strings(name), written)

    def known_numbers(self, name: str) -> NDArray[np.float64]:
        """One column as numbers (N,), NaN where a field is missing or isn't a number."""
        try:
            return self.numbers(name)
        except DataError:
            numbers, refused = self.parsed(name)
            return numbers.set(refused, None).fill_null(np.nan).to_numpy()

    def times(self, *names: str) -> NDArray[np.datetime64]:
        """The points in time (N,), datetime64[us], in UTC where zones are given.

        Raises
        ------
        DataError
            Naming the first row whose time is missing or can't be read.
        """
        return self.parsed_times(*names).values

    def parsed_times(self, *names: str) -> ParsedTimes:
        """The points in time, and how they are written; raises as `times`."""
        return read_times([self.time_column(name) for name in names], self.source, self.at)

    def time_column(self, name: str) -> pl.Series:
        """A column of times or of a part of them: dates and numbers as they are, or texts."""
        column = self.column(name)
        if not column.dtype.is_temporal() and not column.dtype.is_numeric():
            column = self.strings(name)
        return column.alias(name)


def is_plain(dtype: pl.DataType) -> bool:
    """Whether the values of a type can be texts: no lists, objects, bytes or durations."""
    return not dtype.is_nested() and dtype not in (pl.Binary, pl.Object, pl.Duration)


def decide_formats(tables: Sequence[Table], name: str) -> ColumnFormat:
    """How a column of numbers is written, in all tables together; decided once for a study.

    Raises
    ------
    DataError
        Naming the first field that could be two numbers.
    """
    formats = tables[0].formats
    if name in formats.columns:
        for table in tables:
            _check_sign(table, name, formats.columns[name])
        return formats.columns[name]
    texts = [table.strings(name) for table in tables if not table.column(name).dtype.is_numeric()]
    if not texts:
        return PLAIN
    fields = pl.concat([text.alias(name) for text in texts], rechunk=False)
    if (
        formats.trained
        and fields.drop_nulls().str.strip_chars().cast(pl.Float64, strict=False).is_not_null().all()
    ):
        return PLAIN  # what training recorded nothing about
    hints = Hints(
        formats.decimal,
        formats.thousands,
        any(table.semicolons for table in tables),
        lambda: _sign_of_file(tables, name),
    )
    try:
        formats.columns[name] = decide_format(fields, hints)
    except UndecidedError as error:
        row, places = (
            error.row,
            [table for table in tables if not table.column(name).dtype.is_numeric()],
        )
        while row >= len(places[0]):
            row -= len(places.pop(0))
        raise DataError(f'{places[0].at(row)}: column "{name}" {error}') from None
    return formats.columns[name]


def _check_sign(table: Table, name: str, written: ColumnFormat) -> None:
    """Refuses a column with another decimal separator than the rows that decided had."""
    if written == PLAIN or table.column(name).dtype.is_numeric():
        return
    shown = shown_decimal(table.strings(name))
    if shown not in (None, written.decimal):
        sign = "points" if shown == "." else "commas"
        raise DataError(
            f'{table.source}: column "{name}" has decimal {sign}, but the training rows have '
            f"{written}. Write it as they have it."
        )


def _sign_of_file(tables: Sequence[Table], but: str) -> DecimalSign | None:
    """The decimal separator that the other columns show; None if none does, or if they differ."""
    shown = {
        shown_decimal(table.frame[name])
        for table in tables
        for name in table.names
        if name != but and table.frame[name].dtype == pl.String
    } - {None}
    return shown.pop() if len(shown) == 1 else None


def _without_markers(column: pl.Series, markers: Sequence[str]) -> pl.Series:
    """A column with null where a field is one of the markers."""
    if column.dtype.is_numeric():
        values = pl.Series(list(markers)).cast(pl.Float64, strict=False).drop_nulls()
        return column.set(
            column.cast(pl.Float64).is_in(values.implode()).fill_null(value=False), None
        )
    if column.dtype != pl.String:
        return column
    marked = column.str.strip_chars().is_in(pl.Series(list(markers)).implode())
    return column.set(marked.fill_null(value=False), None)


def read_times(
    columns: Sequence[pl.Series],
    source: str,
    at: Callable[[int], str],
    decided: Sequence[TimeForm] = (),
) -> ParsedTimes:
    """The points in time that columns hold, with the places of rows in messages.

    Parameters
    ----------
    columns, decided
        As in `parse_columns`.
    source, at
        The place of the columns, and of a row.

    Raises
    ------
    DataError
        Naming the row that isn't a time, or the columns if they can't be read as times.
    """
    try:
        return parse_columns(columns, decided)
    except NoTimeError as error:
        place = source if error.row is None else at(error.row)
        named = " and ".join(f'"{column.name}"' for column in columns)
        of = f"column {named}" if len(columns) == 1 else f"columns {named}: the time"
        raise DataError(f"{place}: {of} {error}") from None


def read_table(path: Path, formats: TableFormats | None = None, gather: Gather = whole) -> Table:
    """Reads a table; one that doesn't fit into memory is mapped from a temporary file.

    Parameters
    ----------
    path
        The file.
    formats
        What other tables of the same study, or of the training, have decided about its columns.
    gather
        Takes the blocks of the file: all of them, or the first.

    Raises
    ------
    DataError
        If there is no such file, its format isn't known, or a row can't be read; with the line.
    """
    check_file(path, TABLES)
    formats = formats or TableFormats()
    line, semicolons = None, False
    notes: tuple[str, ...] = ()
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv"):
        header = formats.header or not formats.trained
        (frame, records), dialect = read_delimited(path, gather, header=header)
        formats.header &= dialect.header
        line, semicolons = partial(line_of, path, dialect), dialect.separator == ";"
        frame, about_columns = without_unnamed(path, dialect, frame)
        notes = (*dialect.notes, *about_columns)
    elif ending == ".parquet":
        frame, records = read_parquet(path, gather)
    else:
        frame, records = read_json_lines(path, gather)
        line = partial(line_of_object, path)
    if not frame.height:
        raise DataError(
            f"{path}: no rows below the names of the columns. Name a file that has some."
        )
    return Table(path, frame, records, line, semicolons, notes, formats)

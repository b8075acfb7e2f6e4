"""CSV and TSV to a frame of texts, and back from a row to its line.

Polars reads. Where it refuses a file, quotes stand inside fields, or a row may be too short,
Python's csv module goes over the file: it counts lines, and says which one is wrong, or that all
of them are right.
"""

from __future__ import annotations

import csv
import io
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import polars as pl

from gru_optuna.data.opening import Encoding, encoding_of, refuse_encoding
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_GUESSED_FROM = 50  # records
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_SHOWN = 40  # characters of a field, in messages


@dataclass(frozen=True)
class Dialect:
    """How one file separates its fields."""

    encoding: Encoding
    separator: str
    quotes: bool = True  # "…" around fields; many a TSV has quotes that mean themselves

    @property
    def fields(self) -> str:
        """What stands between fields, in words."""
        return _SEPARATORS[self.separator]


@dataclass(frozen=True)
class Record:
    """The fields of one row, or the header, and the line it begins in, from 1."""

    line: int
    fields: list[str]

    @property
    def blank(self) -> bool:
        """Whether the line holds nothing."""
        return not any(field.strip() for field in self.fields) and len(self.fields) <= 1


def read_delimited(path: Path) -> tuple[pl.DataFrame, Dialect]:
    """All records below the header, every field as text, blank lines as rows of nulls.

    Raises
    ------
    DataError
        Naming the line.
    """
    dialect = _dialect_of(path, encoding_of(path))
    try:
        return _read_as(path, dialect), dialect
    except DataError:
        if dialect.separator != "\t":
            raise
        unquoted = Dialect(dialect.encoding, "\t", quotes=False)
        try:
            return _read_as(path, unquoted), unquoted
        except DataError:
            pass
        raise


def records_of(path: Path) -> tuple[list[str], bool, Iterator[tuple[int, Sequence[str | None]]]]:
    """The same records one after another, whatever the file's size.

    Returns
    -------
    list of str, bool, iterator
        The columns' names, whether numbers have decimal commas, and each record's line and
        fields: "" where they are empty, None in a blank line.

    Raises
    ------
    DataError
        Naming the line, when it is reached.
    """
    dialect = _dialect_of(path, encoding_of(path))
    if dialect.separator == "\t":
        # Whether its quotes mean themselves shows at the end of the file.
        try:
            for _ in _checked(path, dialect, _names(path, _header(path, _records(path, dialect)))):
                pass
        except DataError:
            dialect = Dialect(dialect.encoding, "\t", quotes=False)
    names = _names(path, _header(path, _records(path, dialect)))
    records = (
        (record.line, [None] * len(names) if record.blank else record.fields)
        for record in _checked(path, dialect, names)
    )
    return names, dialect.separator == ";", records


def line_of(path: Path, dialect: Dialect, record: int) -> int:
    """The line that a record begins in, from 1; record 0 is the one below the header."""
    records = _records(path, dialect)
    _header(path, records)
    return next(islice(records, record, None)).line


def _read_as(path: Path, dialect: Dialect) -> pl.DataFrame:
    header = _header(path, _records(path, dialect))
    names = _names(path, header)
    frame = _by_polars(path, dialect, lines_above=header.line - 1)
    if frame is None or frame.width != len(names) or (dialect.quotes and _holds_quotes(frame)):
        return _by_csv(path, dialect, names)
    # Polars fills short rows with nulls, so nulls at the end are where one may hide.
    if frame.width > 1 and frame.to_series(-1).null_count():
        for _ in _checked(path, dialect, names):
            pass
    frame.columns = names
    return frame


def _by_polars(path: Path, dialect: Dialect, lines_above: int) -> pl.DataFrame | None:
    source: Path | io.BytesIO = path
    if dialect.encoding == "utf-16":
        try:
            source = io.BytesIO(path.read_bytes().decode(dialect.encoding).encode())
        except UnicodeDecodeError:
            refuse_encoding(path, dialect.encoding)
    try:
        return pl.read_csv(
            source,
            separator=dialect.separator,
            quote_char='"' if dialect.quotes else None,
            skip_lines=lines_above,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError:
        return None


def _holds_quotes(frame: pl.DataFrame) -> bool:
    """Whether quotes stand inside fields: readers differ on those that aren't doubled."""
    return any(column.str.contains('"', literal=True).any() for column in frame)


def _by_csv(path: Path, dialect: Dialect, names: list[str]) -> pl.DataFrame:
    columns: list[list[str | None]] = [[] for _ in names]
    for record in _checked(path, dialect, names):
        fields = [None] * len(names) if record.blank else record.fields
        for column, field in zip(columns, fields, strict=True):
            column.append(field)
    schema = dict.fromkeys(names, pl.String)
    return pl.DataFrame(dict(zip(names, columns, strict=True)), schema=schema)


def _checked(path: Path, dialect: Dialect, names: list[str]) -> Iterator[Record]:
    records = _records(path, dialect)
    _header(path, records)
    for record in records:
        if len(record.fields) != len(names) and not record.blank:
            last = record.fields[-1][:_SHOWN]
            raise DataError(
                f"{path}, line {record.line}: {_count(len(record.fields), 'field')}, and "
                f"{_count(len(names), 'column')} in the header. The last field is "
                f'"{last}". Put quotes around fields that hold {dialect.fields}.'
            )
        yield record


def _records(path: Path, dialect: Dialect) -> Iterator[Record]:
    csv.field_size_limit(sys.maxsize)  # texts may be long
    with _text(path, dialect.encoding) as file:
        reader = csv.reader(
            file,
            delimiter=dialect.separator,
            quoting=csv.QUOTE_MINIMAL if dialect.quotes else csv.QUOTE_NONE,
            strict=True,
        )
        while True:
            line = reader.line_num + 1
            try:
                yield Record(line, next(reader))
            except StopIteration:
                return
            except csv.Error as error:
                unclosed = "unexpected end" in str(error)
                what = "opens and never closes" if unclosed else "closes in the middle of a field"
                raise DataError(
                    f"{path}, line {line}: a quote {what}. Put quotes around the whole field, and "
                    f'write "" for a quote inside it.'
                ) from None


@contextmanager
def _text(path: Path, encoding: Encoding) -> Iterator[io.TextIOWrapper]:
    try:
        with path.open(encoding=encoding, newline="") as file:
            yield file
    except UnicodeError:
        refuse_encoding(path, encoding)


def _dialect_of(path: Path, encoding: Encoding) -> Dialect:
    """The separator under which the first records have the same number of fields, and most."""
    if path.suffix.lower() == ".tsv":
        return Dialect(encoding, "\t")
    best, most = Dialect(encoding, ","), 1
    for separator in _SEPARATORS:
        dialect = Dialect(encoding, separator)
        try:
            head = [r for r in islice(_records(path, dialect), _GUESSED_FROM) if not r.blank]
        except DataError:
            continue  # told again, if this is the separator after all
        widths = {len(record.fields) for record in head}
        if len(widths) == 1 and (width := widths.pop()) > most:
            best, most = dialect, width
    return best


def _header(path: Path, records: Iterator[Record]) -> Record:
    for record in records:
        if not record.blank:
            return record
    raise DataError(f"{path}: the file is empty. Name a file with rows.")


def _names(path: Path, header: Record) -> list[str]:
    names = [name.strip() for name in header.fields]
    first: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name and names.count("") > 1:
            raise DataError(
                f"{path}, line {header.line}: column {number} has no name. "
                f"The first line names the columns; remove empty ones."
            )
        if name in first:
            raise DataError(
                f'{path}, line {header.line}: columns {first[name]} and {number} are both "{name}".'
                f" Rename one; or if this line is data already, put a line of names above it."
            )
        first[name] = number
    return names


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

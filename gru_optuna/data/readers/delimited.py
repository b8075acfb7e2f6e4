"""CSV and TSV to a frame of texts, and back from a row to its line.

Polars reads. Where it refuses a file, quotes stand inside fields, or a row may be too short,
Python's csv module goes over the file: it counts lines, and says which one is wrong, or that all
of them are right.
"""

from __future__ import annotations

import csv
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl

from gru_optuna.data.readers.text_files import (
    LONGEST,
    Encoding,
    blocks_of,
    encoding_of,
    refuse_encoding,
    refuse_line,
)
from gru_optuna.errors import DataError
from gru_optuna.machine import allowance

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

_GUESSED_FROM = 50  # records
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_SHOWN = 40  # characters of a field, in messages
_RECORD = 256  # bytes that a short record takes in Python

Found = TypeVar("Found")


class DisputedError(Exception):
    """Polars read something that Python's csv module might read otherwise."""


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
    return in_its_dialect(path, _read_as)


def in_its_dialect(path: Path, read: Callable[[Path, Dialect], Found]) -> tuple[Found, Dialect]:
    """What is read from a file, and the dialect that it turned out to be in.

    Raises
    ------
    DataError
        As `read` does.
    """
    dialect = _dialect_of(path, encoding_of(path))
    try:
        return read(path, dialect), dialect
    except DataError:
        if dialect.separator != "\t":
            raise
        unquoted = Dialect(dialect.encoding, "\t", quotes=False)
        try:
            return read(path, unquoted), unquoted
        except DataError:
            pass
        raise


def frames_by_polars(path: Path, dialect: Dialect, size: int) -> Iterator[pl.DataFrame]:
    """The same records as `read_delimited`'s, about so many bytes of the file at a time.

    Raises
    ------
    DisputedError
        If Python's csv module must be asked.
    DataError
        Naming the line.
    """
    header = _header(path, _records(path, dialect))
    names = _names(path, header)
    above, skipped, short = b"", header.line - 1, False
    for block in _whole_records(path, dialect, size):
        frame = _by_polars(above + block, dialect, skipped)
        # The first block has its header; those behind it get one as wide.
        above, skipped = f"{dialect.separator.join('c' * len(names))}\n".encode(), 0
        if frame is None or frame.width != len(names) or (dialect.quotes and _holds_quotes(frame)):
            raise DisputedError
        short |= frame.width > 1 and bool(frame.to_series(-1).null_count())
        frame.columns = names
        yield frame
    if short:
        for _ in _checked(path, dialect, names):
            pass


def frames_by_csv(path: Path, dialect: Dialect, size: int) -> Iterator[pl.DataFrame]:
    """The same by Python's csv module, about so many characters of the file at a time.

    Raises
    ------
    DataError
        Naming the line.
    """
    names = _names(path, _header(path, _records(path, dialect)))
    part: list[Record] = []
    held = 0
    for record in _checked(path, dialect, names):
        part.append(record)
        held += sum(map(len, record.fields))
        if held > size or len(part) > size // _RECORD:
            yield _frame(names, part)
            part, held = [], 0
    if part:
        yield _frame(names, part)


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
    source: Path | bytes = path
    if dialect.encoding == "utf-16":
        try:
            source = path.read_bytes().decode(dialect.encoding).encode()
        except UnicodeDecodeError:
            refuse_encoding(path, dialect.encoding)
    frame = _by_polars(source, dialect, lines_above=header.line - 1)
    if frame is None or frame.width != len(names) or (dialect.quotes and _holds_quotes(frame)):
        return _by_csv(path, dialect, names)
    # Polars fills short rows with nulls, so nulls at the end are where one may hide.
    if frame.width > 1 and frame.to_series(-1).null_count():
        for _ in _checked(path, dialect, names):
            pass
    frame.columns = names
    return frame


def _by_polars(source: Path | bytes, dialect: Dialect, lines_above: int = 0) -> pl.DataFrame | None:
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
    return _frame(names, _checked(path, dialect, names))


def _frame(names: list[str], records: Iterable[Record]) -> pl.DataFrame:
    columns: list[list[str | None]] = [[] for _ in names]
    for record in records:
        fields = [None] * len(names) if record.blank else record.fields
        for column, field in zip(columns, fields, strict=True):
            column.append(field)
    schema = dict.fromkeys(names, pl.String)
    return pl.DataFrame(dict(zip(names, columns, strict=True)), schema=schema)


def _whole_records(path: Path, dialect: Dialect, size: int) -> Iterator[bytes]:
    """The file in UTF-8, cut between records, about so many bytes at a time.

    A line ends a record if the quotes before it are even in number, where all quotes are around
    fields or doubled within them. Where they aren't, one is found inside a field.
    """
    rest, lines = b"", 0
    try:
        for block in blocks_of(path, dialect.encoding, size):
            rest += block
            end = _last_end(rest, quotes=dialect.quotes)
            if end:
                yield rest[:end]
                lines += rest.count(b"\n", 0, end)
                rest = rest[end:]
            elif len(rest) > LONGEST:
                if b"\n" in rest:
                    raise DisputedError
                refuse_line(path, lines + 1)
    except UnicodeError:
        refuse_encoding(path, dialect.encoding)
    if rest:
        yield rest


def _last_end(block: bytes, *, quotes: bool) -> int:
    """Behind the last line of a block that ends a record; 0: there is none."""
    end = block.rfind(b"\n")
    places = np.flatnonzero(np.frombuffer(block, np.uint8) == ord('"')) if quotes else ()
    while end >= 0 and (before := int(np.searchsorted(places, end))) % 2:
        end = block.rfind(b"\n", 0, int(places[before - 1]))
    return end + 1


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
    # Texts may be long; behind a quote that never closes, a field is the rest of the file.
    longest = max(LONGEST, allowance() // 8)
    csv.field_size_limit(longest)
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
                if "field limit" in str(error):
                    raise DataError(
                        f"{path}, line {line}: a field of more than {longest >> 20} MiB. Close the "
                        f"quote that opens it, or write one row a line."
                    ) from None
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

"""Reads CSV and TSV into a frame of texts, and finds the line of a row again.

Polars reads the file. Where it refuses, where fields contain quotes, or where a row may be too
short, Python's csv module reads the file again: it counts lines, so it can name the wrong one or
show that none is.
"""

from __future__ import annotations

import csv
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import polars as pl

from gru_optuna.data.readers.headers import lacks_header, lines_above, separator_line
from gru_optuna.data.readers.limits import LONGEST_FIELD, check_columns
from gru_optuna.data.readers.text_files import (
    LONGEST,
    Encoding,
    blocks_of,
    encoding_of,
    refuse_encoding,
    refuse_line,
)
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

_GUESSED_FROM = 50  # records, which decide on the separator
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_LINE_BREAK = re.compile(r"\s*[\r\n]+\s*")
_COLUMN = "column_{}"  # the name of a column by its number, where no line names it
_UNNAMED = "\x1f"  # begins the name of a column, followed by its number, if several have no name
_SHOWN = 40  # characters of a field, in messages
_LONGEST_SEPARATOR_LINE = 16  # characters

Fields: TypeAlias = "Sequence[str | None]"
Found = TypeVar("Found")


class DisputedError(Exception):
    """Polars refused the file, or read something that Python's own reader may read differently."""


@dataclass(frozen=True)
class Dialect:
    """How a file separates its fields."""

    encoding: Encoding
    separator: str
    quotes: bool = True  # whether quotes enclose fields; in many a TSV they are characters
    above: int = 0  # lines above the header that are skipped
    header: bool = True  # whether the first record names the columns
    spaces: bool = False  # whether spaces stand in front of quotes

    @property
    def fields(self) -> str:
        """The name of the separator, for messages."""
        return _SEPARATORS.get(self.separator, f"{self.separator!r}")

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the file should know, in sentences."""
        notes = []
        if self.above:
            lines = "the first line is" if self.above == 1 else f"the first {self.above} lines are"
            notes.append(f"{lines} above the names of the columns, and skipped")
        if not self.header:
            notes.append(
                "no line names the columns: the first is data like the others, so they are called "
                "column_1, column_2, and so on"
            )
        return tuple(notes)


@dataclass(frozen=True)
class Record:
    """The fields of one row or of the header, and the line where it begins, from 1."""

    line: int
    fields: list[str]

    @property
    def blank(self) -> bool:
        """Whether the line is blank."""
        return not any(field.strip() for field in self.fields) and len(self.fields) <= 1


def in_its_dialect(
    path: Path, read: Callable[[Path, Dialect], Found], *, header: bool = True
) -> tuple[Found, Dialect]:
    """Calls `read` with the file's dialect; returns its result and the dialect that fits.

    Without `header`, the file is like one whose first line holds data, as in training.

    Raises
    ------
    DataError
        As `read` does.
    """
    dialect = _dialect_of(path, encoding_of(path))
    if not header and dialect.header:
        # One row can't show that it isn't a header; the names that training gave the columns can.
        dialect = replace(dialect, header=_begin(path, dialect)[0][0] == _COLUMN.format(1))
    try:
        return read(path, dialect), dialect
    except DataError:
        if dialect.separator != "\t":
            raise
        unquoted = replace(dialect, quotes=False)
        try:
            return read(path, unquoted), unquoted
        except DataError:
            pass
        raise


def notes_on(path: Path) -> tuple[str, ...]:
    """The notes on the first lines of a CSV or TSV file.

    Raises
    ------
    DataError
        If the file can't be read.
    """
    return _dialect_of(path, encoding_of(path)).notes


def records_by_polars(path: Path, dialect: Dialect, size: int) -> Iterator[pl.DataFrame]:
    """Reads all records below the header with polars, about `size` bytes at a time.

    Every field is a text, and a blank line is a row of nulls.

    Raises
    ------
    DisputedError
        If Python's csv module has to read the file.
    DataError
        Naming the line.
    """
    if dialect.spaces:
        raise DisputedError
    names, skipped, _ = _begin(path, dialect)
    above, short, header = b"", False, dialect.header
    for block in _whole_records(path, dialect, size):
        frame = _by_polars(above + block, replace(dialect, header=header), skipped)
        # Only the first block has a header, so the others get one of the same width.
        above, skipped = f"{dialect.separator.join('c' * len(names))}\n".encode(), 0
        header = True
        if frame is None or frame.width != len(names) or (dialect.quotes and _holds_quotes(frame)):
            raise DisputedError
        short |= frame.width > 1 and bool(frame.to_series(-1).null_count())
        frame.columns = names
        yield frame
    if short:
        _check(path, dialect, names)


def read_records(
    path: Path, dialect: Dialect | None = None
) -> tuple[list[str], bool, Iterator[tuple[int, Fields]]]:
    """Reads the records of `records_by_polars` one after another with Python's csv module.

    Parameters
    ----------
    path
        The file, of any size.
    dialect
        How it separates fields; None: found out.

    Returns
    -------
    list of str, bool, iterator
        The names of the columns, whether semicolons separate the fields, and the line and fields of
        each record: "" for an empty field, None in a blank line.

    Raises
    ------
    DataError
        Naming the line, when it is reached.
    """
    if dialect is None:
        dialect = _dialect_of(path, encoding_of(path))
        if dialect.separator == "\t":
            # Only a whole pass shows whether quotes are characters: the last may not be closed.
            try:
                _check(path, dialect, _begin(path, dialect)[0])
            except DataError:
                dialect = replace(dialect, quotes=False)
    names, _, _ = _begin(path, dialect)
    blank = [None] * len(names)
    records = (
        (record.line, blank if len(record.fields) < len(names) else record.fields)
        for record in _checked(path, dialect, names)
    )
    return names, dialect.separator == ";", records


def frame_of_records(names: Sequence[str], records: Iterable[tuple[int, Fields]]) -> pl.DataFrame:
    """The fields of records from `read_records` as columns of texts."""
    columns: list[list[str | None]] = [[] for _ in names]
    for _, fields in records:
        for column, field in zip(columns, fields, strict=True):
            column.append(field)
    frame = pl.DataFrame([pl.Series(values=column, dtype=pl.String) for column in columns])
    frame.columns = list(names)  # polars would give a name to a column without one
    return frame


def without_unnamed(
    path: Path, dialect: Dialect, frame: pl.DataFrame
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Leaves out the columns with neither a name nor a value; returns a note about them too.

    Separators at the end or at the beginning of every line make such columns.

    Raises
    ------
    DataError
        If several columns have values, but no name.
    """
    unnamed = [name for name in frame.columns if not name or name.startswith(_UNNAMED)]
    empty = [name for name in unnamed if frame[name].null_count() == frame.height]
    if not empty and len(unnamed) < 2:
        return frame, ()
    frame = frame.drop(empty)
    held = [name for name in unnamed if name not in empty]
    if len(held) > 1:
        raise DataError(
            f"{path}, line {_begin(path, dialect)[1] + 1}: column {held[0].removeprefix(_UNNAMED)} "
            f"has no name. The first line names the columns; remove empty ones."
        )
    has = "1 column has" if len(empty) == 1 else f"{len(empty)} columns have"
    note = f"{has} neither a name nor a value, and {'is' if len(empty) == 1 else 'are'} left out"
    return frame.rename(dict.fromkeys(held, "")), (note,) if empty else ()


def line_of(path: Path, dialect: Dialect, record: int) -> int:
    """The line where a record begins, from 1; record 0 is the first below the header."""
    return next(islice(_begin(path, dialect)[2], record, None)).line


def _by_polars(source: bytes, dialect: Dialect, skipped: int) -> pl.DataFrame | None:
    try:
        return pl.read_csv(
            source,
            separator=dialect.separator,
            quote_char='"' if dialect.quotes else None,
            skip_lines=skipped,
            has_header=dialect.header,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError:
        return None


def _holds_quotes(frame: pl.DataFrame) -> bool:
    """Whether fields contain quotes: readers differ where these aren't doubled."""
    return any(column.str.contains('"', literal=True).any() for column in frame)


def _whole_records(path: Path, dialect: Dialect, size: int) -> Iterator[bytes]:
    """The file in UTF-8, cut between records, about `size` bytes at a time.

    A line ends a record if an even number of quotes stand before its end, provided that quotes
    only enclose fields or are doubled within them. Any other quote shows up inside a field.
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
            elif len(rest) > LONGEST and b"\r" not in rest:
                if b"\n" in rest:
                    raise DisputedError
                refuse_line(path, lines + 1)
    except UnicodeError:
        refuse_encoding(path, dialect.encoding)
    if dialect.quotes and rest.count(b'"') % 2:
        raise DisputedError  # a quote that is never closed, which polars may read as nothing
    if rest:
        yield rest


def _last_end(block: bytes, *, quotes: bool) -> int:
    """The position after the last line that ends a record; 0 if no line does."""
    end = block.rfind(b"\n")
    places = np.flatnonzero(np.frombuffer(block, np.uint8) == ord('"')) if quotes else ()
    while end >= 0 and (before := int(np.searchsorted(places, end))) % 2:
        end = block.rfind(b"\n", 0, int(places[before - 1]))
    return end + 1


def _checked(path: Path, dialect: Dialect, names: list[str]) -> Iterator[Record]:
    for number, record in enumerate(_begin(path, dialect)[2]):
        if len(record.fields) != len(names) and not record.blank:
            last = record.fields[-1][:_SHOWN]
            advice = "Give every row one field for each column, and remove lines that are not rows."
            if dialect.separator == "," and len(record.fields) > len(names):
                advice = "Put quotes around fields that hold commas."
                if any(field.strip().startswith("'") for field in record.fields):
                    advice = "Put double quotes around fields that hold commas, not single ones."
            if len(record.fields) == len(names) + 1 and not last:
                advice = (
                    "Remove the separator at the end of the rows, or add one to the first line."
                )
            if number == 0 and len(record.fields) == len(names) + 1 and record.fields[0].isdigit():
                advice = (
                    "If the first field numbers the rows, as R's write.table does, begin the line "
                    "of names with a name for it."
                )
            raise DataError(
                f"{path}, line {record.line}: {_count(len(record.fields), 'field')}, but the "
                f"header has {_count(len(names), 'column')}. The last field is "
                f'"{last}". {advice}'
            )
        yield record


def _check(path: Path, dialect: Dialect, names: list[str]) -> None:
    for _ in _checked(path, dialect, names):
        pass


def _records(path: Path, dialect: Dialect) -> Iterator[Record]:
    # After a quote that never closes, the field is the rest of the file.
    csv.field_size_limit(LONGEST_FIELD)
    with _text(path, dialect.encoding) as file:
        for _ in range(dialect.above):
            file.readline()
        reader = csv.reader(
            file,
            delimiter=dialect.separator,
            quoting=csv.QUOTE_MINIMAL if dialect.quotes else csv.QUOTE_NONE,
            skipinitialspace=dialect.spaces,
            strict=True,
        )
        while True:
            line = dialect.above + reader.line_num + 1
            try:
                yield Record(line, next(reader))
            except StopIteration:
                return
            except csv.Error as error:
                if "field limit" in str(error):
                    raise DataError(
                        f"{path}, line {line}: a field is longer than {LONGEST_FIELD >> 20} MiB. "
                        f"Close the quote that opens it, or write one row a line."
                    ) from None
                unclosed = "unexpected end" in str(error)
                what = "is never closed" if unclosed else "is closed in the middle of a field"
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
    """The separator that gives all of the first records the same, largest number of fields."""
    with _text(path, encoding) as file:
        named = separator_line(file.readline(_LONGEST_SEPARATOR_LINE))
    first = Dialect(encoding, named or ",", above=1 if named else 0)
    separators = [named] if named else ["\t"] if path.suffix.lower() == ".tsv" else _SEPARATORS
    best, most = replace(first, separator=named or next(iter(separators))), 1
    for separator in separators:
        dialect = replace(first, separator=separator)
        try:
            head = [r for r in islice(_records(path, dialect), _GUESSED_FROM) if not r.blank]
            if any(field.startswith(' "') for record in head for field in record.fields):
                dialect = replace(dialect, spaces=True)
                head = [r for r in islice(_records(path, dialect), _GUESSED_FROM) if not r.blank]
        except DataError:
            continue  # reading the file raises it again, if this is the separator after all
        above = lines_above([record.fields for record in head])
        if above is None or len(head[-1].fields) < most + (len(separators) > 1):
            continue
        if above:
            dialect = replace(dialect, above=head[above].line - 1)
        header = not lacks_header([record.fields for record in head[above:]])
        best, most = replace(dialect, header=header), len(head[-1].fields)
    if most == 1 and not named:
        with suppress(DataError):
            records = islice(_records(path, best), _GUESSED_FROM)
            rows = [record.fields for record in records if not record.blank]
            if rows and {*map(len, rows)} == {1}:
                best = replace(best, header=not lacks_header(rows))
    return best


def _begin(path: Path, dialect: Dialect) -> tuple[list[str], int, Iterator[Record]]:
    """The names of the columns, the lines above the first record, and the records of data."""
    records = _records(path, dialect)
    for record in records:
        if not record.blank:
            break
    else:
        raise DataError(f"{path}: the file is empty. Name a file with rows.")
    if dialect.header:
        return _names(path, record), record.line - 1, records
    check_columns(f"{path}, line {record.line}", len(record.fields))
    names = [_COLUMN.format(number) for number, _ in enumerate(record.fields, start=1)]
    return names, record.line - 1, chain([record], records)


def _names(path: Path, header: Record) -> list[str]:
    check_columns(f"{path}, line {header.line}", len(header.fields))
    # A spreadsheet may break a name into lines, which messages and comments can't have.
    names = [_LINE_BREAK.sub(" ", name.strip()) for name in header.fields]
    if len(drawn := "".join(names)) > 2 and not any(map(str.isalnum, drawn)):
        raise DataError(
            f'{path}, line {header.line}: "{drawn[:_SHOWN]}" names no column. Remove the lines '
            f"that only draw a table, so that the first line names the columns."
        )
    first: dict[str, int] = {}
    if names.count("") > 1:
        names = [name or f"{_UNNAMED}{number}" for number, name in enumerate(names, start=1)]
    for number, name in enumerate(names, start=1):
        if name in first:
            raise DataError(
                f'{path}, line {header.line}: columns {first[name]} and {number} are both "{name}".'
                f" Rename one. If this line is already data, insert a line of names above it; "
                f"if the names stand further down, remove the lines above them."
            )
        first[name] = number
    return names


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

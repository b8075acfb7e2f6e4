"""JSON lines to a frame: one object a line, its keys the columns.

Polars reads. What it refuses, Python's json module reads line by line: it takes NaN and columns
of mixed types, and names the line that is wrong.
"""

from __future__ import annotations

import codecs
import io
import json
from typing import TYPE_CHECKING

import polars as pl

from gru_optuna.data.readers.delimited import DisputedError
from gru_optuna.data.readers.text_files import encoding_of, lines_of, read_text, refuse_encoding
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ROW = 512  # bytes that a short object takes in Python


def read_json_lines(path: Path) -> pl.DataFrame:
    """All objects of a file; a key that an object lacks is null in its row.

    Raises
    ------
    DataError
        Naming the line.
    """
    source: Path | io.BytesIO = path
    if encoding_of(path) == "utf-16" or _has_mark(path):
        source = io.BytesIO(read_text(path).encode())
    try:
        frame = pl.read_ndjson(source, infer_schema_length=None)
    except pl.exceptions.PolarsError:
        return _by_json(path)
    # Lists and objects are kept as they are written: there is no field to read them as.
    if any(dtype.is_nested() for dtype in frame.dtypes):
        return _by_json(path)
    return frame


def json_frames(path: Path, size: int) -> Iterator[pl.DataFrame]:
    """The same a part at a time, about so many bytes of the file in each.

    Raises
    ------
    DisputedError
        If Python's json module must be asked.
    DataError
        Naming the line.
    """
    encoding = encoding_of(path)
    try:
        if encoding == "utf-16" or _has_mark(path):
            schema = _schema_of_parts(lines_of(path, encoding, size))
        else:
            # Looks at all rows, and keeps none.
            schema = pl.scan_ndjson(path, infer_schema_length=None).collect_schema()
        if any(dtype.is_nested() for dtype in schema.dtypes()):
            raise DisputedError
        for lines in lines_of(path, encoding, size):
            if lines.strip():
                yield pl.read_ndjson(lines, schema=schema)
    except UnicodeError:
        refuse_encoding(path, encoding)
    except pl.exceptions.PolarsError:
        raise DisputedError from None


def _schema_of_parts(parts: Iterator[bytes]) -> pl.Schema:
    empty = [pl.read_ndjson(part, infer_schema_length=None).clear() for part in parts]
    return pl.concat(empty, how="diagonal_relaxed").schema


def json_frames_by_python(path: Path, size: int) -> Iterator[pl.DataFrame]:
    """The same by Python's json module; a column that a part doesn't have is null in it.

    Raises
    ------
    DataError
        Naming the line.
    """
    rows: list[dict[str, str | None]] = []
    held = 0
    for _, row in objects_of(path):
        rows.append(row)
        held += _ROW + sum(len(value or "") for value in row.values())
        if held > size:
            yield _frame(rows)
            rows, held = [], 0
    if rows:
        yield _frame(rows)


def line_of_object(path: Path, record: int) -> int:
    """The line of an object, from 1; blank lines hold none."""
    seen = -1
    with path.open(encoding=encoding_of(path), newline="\n") as file:
        for number, line in enumerate(file, start=1):
            seen += bool(line.strip())
            if seen == record:
                return number
    raise IndexError(record)


def _has_mark(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(3) == codecs.BOM_UTF8


def objects_of(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The line and the fields of each object, one after another, whatever the file's size.

    Raises
    ------
    DataError
        Naming the line, when it is reached.
    """
    encoding = encoding_of(path)
    try:
        with path.open(encoding=encoding, newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = _parse(path, number, line.rstrip("\n"))
                    yield number, {name: _as_text(value) for name, value in row.items()}
    except UnicodeError:
        refuse_encoding(path, encoding)


def _by_json(path: Path) -> pl.DataFrame:
    return _frame([row for _, row in objects_of(path)])


def _frame(rows: list[dict[str, str | None]]) -> pl.DataFrame:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))


def _parse(path: Path, number: int, line: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        column = error.colno if isinstance(error, json.JSONDecodeError) else 1
        raise DataError(
            f"{path}, line {number}: not JSON at column {column} ({what}). "
            f"Write one whole object a line."
        ) from None
    if not isinstance(row, dict):
        kind = "an array" if isinstance(row, list) else "a single value"
        raise DataError(
            f'{path}, line {number}: {kind}, and each line needs an object: {{"text": …}}.'
        )
    return row


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)

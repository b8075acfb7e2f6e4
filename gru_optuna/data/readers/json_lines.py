"""Reads JSON lines into a frame: one object per line, whose keys are the columns.

Polars reads the file. What it refuses, Python's json module reads line by line: it accepts NaN and
columns of mixed types, and can name the wrong line.
"""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING

import polars as pl
import polars.selectors as cs

from gru_optuna.data.readers.delimited import DisputedError
from gru_optuna.data.readers.limits import LONGEST_LINE, check_columns
from gru_optuna.data.readers.text_files import (
    blocks_of,
    encoding_of,
    lines_of,
    refuse_encoding,
)
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_AS_PANDAS = (
    "; pandas does it with pandas.read_json(FILE).to_json(NEW_FILE, orient='records', lines=True)"
)
_LINES_WITHOUT_NEWS = 1_000  # other keys are rare from then on


def objects_by_polars(path: Path, size: int) -> Iterator[pl.DataFrame]:
    """Reads all objects with polars, about `size` bytes at a time.

    A key that an object lacks is null in its row. All objects decide the types of the columns.

    Raises
    ------
    DisputedError
        If Python's json module has to read the file.
    DataError
        Naming the line.
    """
    encoding = encoding_of(path)
    schema: pl.Schema | None = None
    _check_keys(path)
    try:
        if path.stat().st_size <= size:
            parts = iter([b"".join(blocks_of(path, encoding, size))])
        elif encoding == "utf-16" or _has_mark(path):
            schema = _schema_of_parts(lines_of(path, encoding, size))
            parts = lines_of(path, encoding, size)
        else:
            # Polars reads every row for its types, but keeps none.
            schema = pl.scan_ndjson(path, infer_schema_length=None).collect_schema()
            parts = lines_of(path, encoding, size)
        for lines in parts:
            if lines.strip():
                frame = pl.read_ndjson(lines, schema=schema, infer_schema_length=None)
                check_columns(str(path), frame.width)
                yield frame.with_columns(map(_in_json, frame.select(cs.nested()).columns))
    except UnicodeError:
        refuse_encoding(path, encoding)
    except pl.exceptions.PolarsError:
        raise DisputedError from None


def _in_json(name: str) -> pl.Expr:
    """A column of lists or objects as JSON."""
    key = f"{{{json.dumps(name, ensure_ascii=False)}:"
    column = pl.col(name)
    texts = pl.struct(column).struct.json_encode().str.strip_prefix(key).str.strip_suffix("}")
    return pl.when(column.is_not_null()).then(texts).alias(name)


def _schema_of_parts(parts: Iterator[bytes]) -> pl.Schema:
    empty = [pl.read_ndjson(part, infer_schema_length=None).clear() for part in parts]
    return pl.concat(empty, how="diagonal_relaxed").schema


def line_of_object(path: Path, record: int) -> int:
    """The line of an object, from 1; blank lines don't count as objects.

    Raises
    ------
    IndexError
        If the file has fewer objects.
    """
    seen = -1
    with path.open(encoding=encoding_of(path), newline="\n") as file:
        for number, line in enumerate(file, start=1):
            seen += bool(line.strip())
            if seen == record:
                return number
    raise IndexError(record)


def _check_keys(path: Path) -> None:
    """Refuses too many keys before polars makes a column of each, which takes minutes."""
    names: set[str] = set()
    with path.open("rb") as file:
        new = 0  # the last line with a new key
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                return  # the reader of the lines reports it, with its place
            if not isinstance(row, dict):
                return
            if not names.issuperset(row):
                names.update(row)
                new = number
                check_columns(f"{path}, line {number}", len(names))
            if number - new > _LINES_WITHOUT_NEWS:
                return


def _has_mark(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(3) == codecs.BOM_UTF8


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The line and the fields of each object, one after another, for files of any size.

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


def frame_of_objects(objects: Iterable[tuple[int, dict[str, str | None]]]) -> pl.DataFrame:
    """The fields of objects from `read_objects` as columns of texts."""
    rows = [row for _, row in objects]
    names = dict.fromkeys(name for row in rows for name in row)
    check_columns("the lines together", len(names))
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))


def _parse(path: Path, number: int, line: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        too_much = "nested too deeply" if isinstance(error, RecursionError) else "too many digits"
        what = error.msg if isinstance(error, json.JSONDecodeError) else too_much
        column = error.colno if isinstance(error, json.JSONDecodeError) else 1
        raise DataError(
            f"{path}, line {number}: not JSON at column {column} ({what}). "
            f"Write one complete object per line{_AS_PANDAS if number == 1 else ''}."
        ) from None
    if not isinstance(row, dict):
        kind = "an array" if isinstance(row, list) else "a single value"
        raise DataError(
            f'{path}, line {number}: {kind}, but each line must be an object: {{"text": …}}.'
        )
    check_columns(f"{path}, line {number}", len(row))
    return row


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)

"""The same rows as files of every format."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import strategies as st

from gru_optuna.data.readers.tables import Table, read_table
from gru_optuna.errors import DataError
from helpers.workspaces import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


DATA = REPOSITORY / "studies" / "data"


Rows = list[dict[str, str | None]]


def table(folder: Path, content: bytes | str, name: str = "x.csv") -> Table:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path)


def refusal(folder: Path, content: bytes | str, name: str = "x.csv") -> str:
    """What is said about a file that isn't accepted, without its folder."""
    with pytest.raises(DataError) as caught:
        table(folder, content, name)
    return str(caught.value).replace(f"{folder}/", "")


def delimited(rows: Rows, separator: str, newline: str = "\n") -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator=newline)
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return buffer.getvalue().encode()


def json_lines(rows: Rows) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def parquet(rows: Rows) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String)).write_parquet(buffer)
    return buffer.getvalue()


FIELDS = st.one_of(
    st.none(),
    st.sampled_from(
        ["", " ", "a,b", "a;b", "a\tb", 'say "no"', '"', "two\nlines", "007", "1e5", "NA", "null"]
    ),
    st.sampled_from(["真的很好看", "👍🏽 très bien", "שלום", "\u3000", "it's", "#1", "\\n", "1,5"]),
    # No surrogates: they aren't text. No \r: "\r\n" inside a field is a matter of who saved the
    # file. No NUL: Python's csv of 3.11 refuses it. Nor what only Python calls spaces.
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\x1c\x1d\x1e\x1f"),
        max_size=12,
    ),
)


@st.composite
def contents(draw: st.DrawFn) -> Rows:
    names = draw(st.sampled_from([("text", "label"), ("id", "a,b", "标签"), ("only", "other")]))
    rows = draw(st.lists(st.tuples(*[FIELDS] * len(names)), min_size=1, max_size=8))
    return [dict(zip(names, row, strict=True)) for row in rows]


HOSTILE = [
    ("x.csv", b"", "x.csv: the file is empty. Name a file with rows."),
    ("x.csv", b" \n\n", "x.csv: the file is empty."),
    ("x.csv", b"a,b\n", "x.csv: no rows below the names of the columns."),
    ("x.csv", b"a,b,c\n1,2,3\n4,5\n", "x.csv, line 3: 2 fields, but the header has 3 columns."),
    ("x.csv", b"a,b\n1,2\n\n3,4,5\n", "x.csv, line 4: 3 fields, but the header has 2 columns."),
    ("x.csv", b'a,b\n"x\ny",1\n2\n', "x.csv, line 4: 1 field, but the header has 2 columns."),
    ("x.csv", b"a,b,a\n1,2,3\n", 'x.csv, line 1: columns 1 and 3 are both "a". Rename one'),
    ("x.csv", b"a,,\n1,2,3\n", "x.csv, line 1: column 2 has no name."),
    ("x.csv", b'a,b\n1,2\n"x,2\n1,2\n', "x.csv, line 3: a quote is never closed."),
    ("x.csv", b'a,b\n"x"y,2\n', "x.csv, line 2: a quote is closed in the middle of a field."),
    ("x.csv", b"a,b\n1,\xff\n", "x.csv, line 2: byte 6 (0xFF) is not UTF-8."),
    ("x.csv", b"a\xff,b\n1,2\n", "x.csv, line 1: byte 1 (0xFF) is not UTF-8."),
    ("x.csv", b"\xef\xbb\xbfa,b\n1,\xff\n", "x.csv, line 2: byte 9 (0xFF) is not UTF-8."),
    ("x.csv", "a,b\n1,很好\n".encode("gb18030"), 'Read as GB18030, the line begins "1,很好"'),
    ("x.csv", "a,b\n1,né\n".encode("latin-1"), 'Read as Windows-1252, the line begins "1,né"'),
    ("x.csv", "a,b\n1,2\n".encode("utf-16-le"), "x.csv: every other byte is zero, as in UTF-16"),
    ("x.csv", "a,b\n1,2\n".encode("utf-16") + b"x", "line 3: the bytes at 18 are not UTF-16"),
    ("x.csv", b"PK\x03\x04...", "x.csv is a ZIP archive or an Excel workbook."),
    ("x.csv", b"\x1f\x8b....", "x.csv is compressed with gzip. Unpack it."),
    ("x.xlsx", b"PK", 'x.xlsx: files with the ending ".xlsx" are not read here. Save the sheet'),
    ("x.txt", b"a", "Known: .csv, .tsv, .jsonl, .ndjson, .parquet."),
    ("x.json", b"[]", "Write one JSON object a line and name the file .jsonl."),
    ("x.jsonl", b"\n\n", "x.jsonl: no rows"),
    ("x.jsonl", b'{"a": 1}\n\n{"a": \n', "x.jsonl, line 3: not JSON at column 7 (Expecting value)"),
    ("x.jsonl", b'[\n{"a": 1}\n]\n', "to_json(NEW_FILE, orient='records', lines=True)"),
    ("x.jsonl", b'[{"a": 1}]', "x.jsonl, line 1: an array, but each line must be an object"),
    ("x.jsonl", b'{"a": 1}\n7\n', "x.jsonl, line 2: a single value, but each line must be an"),
    ("x.jsonl", b'{"a": "\xff"}', "x.jsonl, line 1: byte 7 (0xFF) is not UTF-8."),
    ("x.parquet", b"PAR1 or not", "x.parquet: not a Parquet file, or damaged"),
    ("x.parquet", b"", "x.parquet: the file is empty."),
]

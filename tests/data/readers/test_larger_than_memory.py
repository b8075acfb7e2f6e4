"""Files that don't fit into memory give what they would give if they did."""

from __future__ import annotations

import gc
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pytest
from helpers.table_files import HOSTILE, contents, delimited, json_lines, parquet, refusal, table
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gru_optuna.data.readers import larger_than_memory as large
from gru_optuna.data.readers.mapped_frames import Spool
from gru_optuna.data.readers.parquet import read_parquet_slices
from gru_optuna.errors import DataError, UserError
from gru_optuna.machine import MEMORY

if TYPE_CHECKING:
    from helpers.table_files import Rows

    from gru_optuna.data.readers.tables import Table


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Nothing fits, and files are read a few bytes at a time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(MEMORY, "1")
    monkeypatch.setattr(large, "part_size", lambda: 24)
    return monkeypatch


def both(folder: Path, content: bytes, name: str, size: int) -> tuple[Table | str, Table | str]:
    """What a file gives in memory, and read so many bytes at a time; or what is said of it."""

    def read() -> Table | str:
        try:
            return table(folder, content, name)
        except DataError as error:
            return str(error)

    small = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MEMORY, "1")
        patch.setattr(large, "part_size", lambda: size)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        return small, read()


def same(one: Table | str, other: Table | str) -> None:
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
        return
    assert one.frame.schema == other.frame.schema
    assert one.frame.equals(other.frame)
    assert one.semicolons == other.semicolons
    assert [one.at(row) for row in range(len(one))] == [other.at(row) for row in range(len(one))]


@settings(max_examples=40)
@given(rows=contents(), size=st.integers(1, 60))
def test_every_format_gives_the_same_rows_in_parts(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, size: int
) -> None:
    written = {
        "x.csv": delimited(rows, ","),
        "crlf.csv": delimited(rows, ";", "\r\n"),
        "bom.csv": b"\xef\xbb\xbf" + delimited(rows, ","),
        "utf16.csv": delimited(rows, ",").decode().encode("utf-16"),
        "x.tsv": delimited(rows, "\t"),
        "x.jsonl": json_lines(rows),
        "bom.jsonl": b"\xef\xbb\xbf" + json_lines(rows),
        "x.parquet": parquet(rows),
    }
    for name, content in written.items():
        same(*both(tmp_path_factory.getbasetemp(), content, name, size))


@settings(max_examples=100)
@example(content=b'a,b\n1,"""', name="h.csv", size=40)  # polars reads no second field
@given(
    # No \r: Polars and Python's csv differ on whether it ends a line, in small files too.
    content=st.text('a1,;\t"\n é', max_size=60).map(lambda text: f"a,b\n{text}".encode())
    | st.binary(max_size=80).map(lambda one: b"a\n" + one.replace(b"\r", b"")),
    name=st.sampled_from(["h.csv", "h.tsv", "h.jsonl"]),
    size=st.integers(1, 40),
)
def test_whatever_the_bytes_parts_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str, size: int
) -> None:
    same(*both(tmp_path_factory.getbasetemp(), content, name, size))


@settings(max_examples=60)
@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from("abc"),
            st.none() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("xyz", max_size=20)
            | st.booleans() | st.lists(st.integers(), max_size=2),
            min_size=1,
        ),
        min_size=1,
        max_size=8,
    ),
    size=st.integers(1, 60),
)  # fmt: skip
def test_json_of_mixed_kinds_is_of_the_same_kinds_in_parts(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], size: int
) -> None:
    content = json_lines(rows)  # type: ignore[arg-type]
    same(*both(tmp_path_factory.getbasetemp(), content, "x.jsonl", size))


@pytest.mark.parametrize(("name", "content", "message"), HOSTILE)
def test_what_is_wrong_with_a_large_file_is_refused_alike(
    tmp_path: Path, no_memory: pytest.MonkeyPatch, name: str, content: bytes, message: str
) -> None:
    assert message in refusal(tmp_path, content, name)


def test_every_type_lies_in_a_file_as_it_is(no_memory: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame(
        {
            "text": ["a", None, "x" * 13, "é" * 40, "", None, "more than twelve"],
            "whole": [1, 2, None, 4, 5, 6, 7],
            "small": pl.Series([1, 2, 3, 4, 5, 6, None], dtype=pl.Int8),
            "number": [1.5, None, 2, 3, 4, 5, float("nan")],
            "told": [True, False, None, True, True, False, True],
            "day": [date(2020, 1, day) for day in range(1, 8)],
            "nothing": [None] * 7,
        }
    )
    spool = Spool()
    for start, stop in ((0, 1), (1, 4), (4, 4), (4, 7)):
        spool.add(frame[start:stop])
    spool.add(frame.tail(2).drop("whole").with_columns(late=pl.lit("new")))
    expected = pl.concat(
        [frame, frame.tail(2).drop("whole").with_columns(late=pl.lit("new"))], how="diagonal"
    )
    assert spool.frame().equals(expected)
    assert spool.frame().schema == expected.schema


def test_a_mapped_column_lives_as_long_as_what_was_taken_from_it(
    no_memory: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def deleted() -> int:
        """Files that this process has mapped and that have no name any more."""
        return Path("/proc/self/maps").read_text().count(str(tmp_path))

    spool = Spool()
    spool.add(pl.DataFrame({"text": ["one long text of many letters", "another one of them"]}))
    frame = spool.frame()
    some = frame["text"].gather([1])
    del spool, frame
    gc.collect()
    assert deleted() == 1
    assert some.to_list() == ["another one of them"]
    del some
    gc.collect()
    assert deleted() == 0
    assert not list((tmp_path / "cache").rglob("*.*")), "scratch files have no names"


def test_a_line_without_an_end_is_refused_before_memory_is_full(
    tmp_path: Path, no_memory: pytest.MonkeyPatch
) -> None:
    no_memory.setattr(large, "part_size", lambda: 1 << 18)
    no_memory.setattr("gru_optuna.data.readers.text_files.LONGEST", 1 << 20)
    no_memory.setattr("gru_optuna.data.readers.delimited.LONGEST_FIELD", 1 << 20)
    assert "line 2: a field is longer than 1 MiB" in refusal(
        tmp_path, b"a,b\n" + b"x" * (3 << 20), "x.csv"
    )
    message = refusal(tmp_path, b'{"a": 1}\n' + b" " * (3 << 20), "x.jsonl")
    assert "line 2: the line is longer than 1 MiB" in message


def test_a_cache_that_cannot_be_written_is_refused(
    tmp_path: Path, no_memory: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    no_memory.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set XDG_CACHE_HOME"):
        table(tmp_path, b"a,b\n1,2\n")


def test_a_parquet_file_of_one_group_is_not_held_as_a_whole(tmp_path: Path) -> None:
    """Many programs write all rows as one group, however many there are."""
    rows = [f"{row:06}" * 1000 for row in range(2000)]
    path = tmp_path / "x.parquet"
    pl.DataFrame({"text": rows}).write_parquet(
        path, compression="uncompressed", row_group_size=len(rows)
    )
    before, most, read = pa.total_allocated_bytes(), 0, list[str]()
    for part in read_parquet_slices(path, 20):
        read.extend(part["text"])
        most = max(most, pa.total_allocated_bytes() - before)
    assert read == rows
    assert 0 < most < path.stat().st_size / 4

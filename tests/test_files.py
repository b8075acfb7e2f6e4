"""Reading .ts files: exactly what they hold, or exactly where they are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gru_optuna.data.files import Sequences, read_sequences
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

VOWELS = REPOSITORY / "studies" / "data"
HEADER = b"@problemName x\n@timeStamps false\n@classLabel true a b\n@data\n"  # rows from line 5


def read(folder: Path, content: bytes) -> Sequences:
    path = folder / "x.ts"
    path.write_bytes(content)
    return read_sequences(path)


def refusal(path: Path) -> str:
    """What is said about a file that isn't accepted, without its folder."""
    with pytest.raises(DataError) as caught:
        read_sequences(path)
    return str(caught.value).replace(f"{path.parent}/", "")


# --- files that are read ---


@pytest.mark.parametrize(("name", "rows"), [("train", 270), ("test", 370)])
def test_japanese_vowels_are_read_whole(name: str, rows: int) -> None:
    vowels = read_sequences(VOWELS / f"japanese_vowels_{name}.ts")
    lengths = [len(row) for row in vowels.values]
    assert len(vowels) == len(vowels.labels) == rows
    assert vowels.channels == 12
    assert (min(lengths), max(lengths)) == {"train": (7, 26), "test": (7, 29)}[name]
    assert vowels.classes == tuple("123456789")
    assert set(vowels.labels) == set(vowels.classes)


def test_the_first_row_holds_the_numbers_of_its_line() -> None:
    path = VOWELS / "japanese_vowels_train.ts"
    vowels = read_sequences(path)
    line = path.read_text(encoding="utf-8").splitlines()[vowels.lines[0] - 1]
    *channels, label = line.split(":")
    assert vowels.values[0].T.tolist() == [[float(s) for s in c.split(",")] for c in channels]
    assert vowels.labels[0] == label == "1"


@st.composite
def ragged_rows(draw: st.DrawFn) -> list[tuple[np.ndarray, str]]:
    channels = draw(st.integers(1, 4))
    values = st.integers(1, 9).flatmap(
        lambda steps: arrays(
            np.float64, (steps, channels), elements=st.floats(allow_nan=False, allow_infinity=False)
        )
    )
    labels = st.sampled_from(["a", "7", "é", "x,y", "#1", "-1.0"])
    return draw(st.lists(st.tuples(values, labels), min_size=1, max_size=6))


@settings(deadline=None, max_examples=60)
@given(rows=ragged_rows())
def test_any_ragged_sequences_are_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[np.ndarray, str]]
) -> None:
    lines = [
        ":".join([*(",".join(map(repr, channel.tolist())) for channel in row.T), label])
        for row, label in rows
    ]
    text = "@classLabel true a 7 é x,y #1 -1.0\n@data\n" + "\n".join(lines)
    back = read(tmp_path_factory.getbasetemp(), text.encode())
    assert back.labels == [label for _, label in rows]
    for (row, _), read_row in zip(rows, back.values, strict=True):
        assert read_row.shape == row.shape
        assert read_row.tobytes() == row.tobytes()  # bytes: -0.0 is not 0.0


@pytest.mark.parametrize(
    "content",
    [
        HEADER + b"1,2:a\n3:b\n",
        HEADER + b"1,2:a\n3:b",
        b"\xef\xbb\xbf" + HEADER + b"1,2:a\n3:b\n",
        (HEADER + b"1,2:a\n3:b\n").replace(b"\n", b"\r\n"),
        HEADER + b" 1 , 2 : a \n3:b\n",
        HEADER.lower().replace(b"@classlabel true a b", b"@classlabel TRUE a b") + b"1,2:a\n3:b\n",
    ],
    ids=["plain", "no last newline", "byte order mark", "CRLF", "spaces", "other capitals"],
)
def test_how_a_file_was_saved_makes_no_difference(tmp_path: Path, content: bytes) -> None:
    sequences = read(tmp_path, content)
    assert [row.tolist() for row in sequences.values] == [[[1.0], [2.0]], [[3.0]]]
    assert sequences.labels == ["a", "b"]
    assert sequences.lines == [5, 6]


def test_comments_and_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    sequences = read(tmp_path, b"# about\n" + HEADER + b"1:a\n\n% more\n2:b\n")
    assert sequences.lines == [6, 9]
    assert sequences.at(1) == f"{tmp_path / 'x.ts'}, line 9"


# --- files that are not ---

NOT_THE_SAME_CHANNELS = "channels, and 2 in line 5. Every row needs the same channels."
HOSTILE = [
    (b"", "x.ts: the file is empty. Name a file with rows."),
    (b"\n  \n", "x.ts: the file is empty."),
    (HEADER, "x.ts: no rows after @data."),
    (b"@problemName x\n@classLabel true a\n", "x.ts: no line @data."),
    (b"1,2:a\n", 'x.ts, line 1: expected an @ header line, got "1,2:a".'),
    (b"@timeStamps true\n@classLabel true a\n@data\n(0,1):a", "x.ts: @timeStamps true, and time"),
    (b"@data\n1:a", "x.ts: no labels (@classLabel true LABEL LABEL …)."),
    (b"@classLabel false\n@data\n1", "x.ts: no labels"),
    (HEADER + b"1:ab\n", 'x.ts, line 5: label "ab" is not declared by @classLabel. Did you mean'),
    (HEADER + b"1,2:\n", 'x.ts, line 5: label "" is not declared by @classLabel. Known: a, b.'),
    (HEADER + b"a\n", "x.ts, line 5: no channel before the label. Write CHANNEL:…:LABEL."),
    (HEADER + b"1,2:3:a\n", "x.ts, line 5: channel 2 has 1 steps, channel 1 has 2."),
    (HEADER + b"1:3:a\n1:b\n", f"x.ts, line 6: 1 {NOT_THE_SAME_CHANNELS}"),
    (HEADER + b"1:3:a\n1:2:3:b\n", f"x.ts, line 6: 3 {NOT_THE_SAME_CHANNELS}"),
    (HEADER + b"1:1,?:a", 'line 5: channel 2, step 2 is "?", not a number. It marks a missing'),
    (HEADER + b"1,nan:a", "line 5: channel 1, step 2 is nan. Fill in or remove such rows first."),
    (HEADER + b"1:a\n-inf:a", "line 6: channel 1, step 1 is -inf. Fill in or remove"),
    (HEADER + b"1e999:a", "line 5: channel 1, step 1 is inf. Fill in or remove"),
    (HEADER + b"1:2,3,x:a", 'line 5: channel 2, step 3 is "x", not a number. Steps are'),
    (HEADER + b"1,:a", 'line 5: channel 1, step 2 is "", not a number. Is there a comma'),
    (HEADER + b"1::a", 'line 5: channel 2, step 1 is "", not a number. Is there a comma'),
    (HEADER + b"1\xff:a", "x.ts: byte 61 is not UTF-8. Save the file as UTF-8."),
]


@pytest.mark.parametrize(("content", "answer"), HOSTILE)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, answer: str) -> None:
    path = tmp_path / "x.ts"
    path.write_bytes(content)
    assert answer in refusal(path)


def test_a_missing_file_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "vowels_train.ts").write_bytes(HEADER)
    message = refusal(tmp_path / "vowel_train.ts")
    assert message == 'vowel_train.ts: no such file. Did you mean "vowels_train.ts"?'


def test_a_file_in_a_missing_folder_is_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none" / "x.ts").startswith("x.ts: there is no folder")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.ts").mkdir()
    assert refusal(tmp_path / "x.ts") == "x.ts: Is a directory."


def test_an_unknown_ending_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    message = refusal(tmp_path / "x.csv")
    assert message == 'x.csv: the ending ".csv" is not one this version reads. Known: .ts.'


def test_headers_may_be_separated_by_tabs(tmp_path: Path) -> None:
    assert read(tmp_path, HEADER.replace(b" ", b"\t") + b"1:a\n").classes == ("a", "b")


def test_a_class_declared_twice_is_one_class(tmp_path: Path) -> None:
    assert read(tmp_path, b"@classLabel true a b a\n@data\n1:a\n").classes == ("a", "b")


def test_an_underscore_makes_no_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1_0"):
        read(tmp_path, HEADER + b"1_0:a\n")

"""Reading sequences: exactly what files hold, or exactly where they are wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.workspaces import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gru_optuna import study_file
from gru_optuna.data.readers.in_memory import sequence_values
from gru_optuna.data.readers.long_format import sequences_from_table
from gru_optuna.data.readers.sequence_files import read_sequences
from gru_optuna.data.readers.tables import read_table
from gru_optuna.data.sequences.prepare import read_study_sequences
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from gru_optuna.data.readers.sequences import Sequences

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


@given(numbers=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5))
@settings(max_examples=20)
def test_a_ts_file_may_hold_numbers_to_predict(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float]
) -> None:
    path = tmp_path_factory.getbasetemp() / "numbers.ts"
    rows = "".join(f"1,2,3:{row},0,1:{number!r}\n" for row, number in enumerate(numbers))
    path.write_text(f"@problemName x\n@targetLabel true\n@data\n{rows}", encoding="utf-8")
    found = read_sequences(path)
    assert found.targets is not None
    assert (found.targets.tolist(), found.labels, found.classes) == (numbers, [], ())
    assert (len(found), found.channels) == (len(numbers), 2)
    without = read_sequences(path, with_targets=False)
    assert (without.targets, without.channels) == (None, 2)


CLASSES, NUMBERS = np.arange(20) % 3, np.arange(20) / 3


@pytest.mark.parametrize(
    ("names", "predicted", "labelled"),
    [
        (("X", "y"), CLASSES, True),
        (("x", "y"), CLASSES.astype(float), True),
        (("data", "target"), np.array(list("abcd") * 5), True),
        (("X", "y"), CLASSES[:, None], True),  # a column, as Keras has it
        (("X", "y"), NUMBERS, False),
        (("data", "target"), np.arange(20) * 7, False),  # whole numbers, one for each row
        (("X", "Y"), CLASSES, True),
        (("features", "labels"), np.arange(20) * 7, True),
        (("inputs", "targets"), CLASSES, False),
        (("values", "labels"), CLASSES, True),
        (("values", "targets"), CLASSES, False),
    ],
)
def test_npz_files_have_the_usual_names(
    tmp_path: Path, names: tuple[str, str], predicted: np.ndarray, labelled: bool
) -> None:
    path, rows = tmp_path / "x.npz", np.arange(120.0).reshape(20, 3, 2)
    np.savez(path, **{names[0]: rows, names[1]: predicted})
    found = read_sequences(path)
    np.testing.assert_array_equal(np.stack(found.values), rows)
    assert (found.targets is None) == labelled
    flat = predicted.ravel()
    if labelled:
        whole = flat.astype(int) if flat.dtype.kind == "f" else flat
        assert found.labels == [str(label) for label in whole]
    else:
        np.testing.assert_array_equal(found.targets, flat)
    if names[1] in ("labels", "targets"):
        return
    if flat.dtype.kind != "U":  # the study's task decides, if it is known
        assert read_sequences(path, task="regression").targets is not None
    if flat.dtype.kind == "i":
        assert read_sequences(path, task="classification").targets is None


@pytest.mark.parametrize("names", ["x_{0} y_{0}", "X_{0} y_{0}", "X_{0} Y_{0}"])
def test_an_npz_file_may_hold_its_test_rows(tmp_path: Path, names: str) -> None:
    path = tmp_path / "x.npz"
    train, test = np.zeros((20, 4, 1)), np.ones((6, 4, 1))
    ours = zip(names.format("train").split(), (train, CLASSES), strict=True)
    held = zip(names.format("test").split(), (test, CLASSES[:6]), strict=True)
    np.savez(path, **dict(ours), **dict(held))
    assert np.stack(read_sequences(path).values).shape == (20, 4, 1)
    held_out = read_sequences(path, held_out=True)
    assert np.stack(held_out.values).shape == (6, 4, 1)
    assert held_out.labels == [str(label) for label in CLASSES[:6]]


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


def same_rows(back: Sequences, rows: list[tuple[np.ndarray, str]]) -> None:
    """Asserts that rows were read back to the last bit: -0.0 is not 0.0."""
    assert back.labels == [label for _, label in rows]
    for (row, _), read_row in zip(rows, back.values, strict=True):
        assert read_row.shape == row.shape
        assert read_row.tobytes() == row.tobytes()


@settings(max_examples=60)
@given(rows=ragged_rows())
def test_any_ragged_sequences_are_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[np.ndarray, str]]
) -> None:
    lines = [
        ":".join([*(",".join(map(repr, channel.tolist())) for channel in row.T), label])
        for row, label in rows
    ]
    text = "@classLabel true a 7 é x,y #1 -1.0\n@data\n" + "\n".join(lines)
    same_rows(read(tmp_path_factory.getbasetemp(), text.encode()), rows)


@settings(max_examples=60)
@given(rows=ragged_rows())
def test_npz_files_hold_any_ragged_sequences(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[np.ndarray, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.npz"
    lengths = np.array([len(row) for row, _ in rows])
    values = np.full((len(rows), lengths.max(), rows[0][0].shape[1]), np.nan)
    for padded, (row, _) in zip(values, rows, strict=True):
        padded[: len(row)] = row
    np.savez(path, values=values, lengths=lengths, labels=np.array([label for _, label in rows]))
    same_rows(read_sequences(path), rows)


@settings(max_examples=60)
@given(rows=ragged_rows(), shuffle=st.randoms(use_true_random=False))
def test_long_form_holds_any_ragged_sequences_in_any_order(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[np.ndarray, str]],
    shuffle: random.Random,
) -> None:
    path = tmp_path_factory.getbasetemp() / "long.jsonl"
    channels = rows[0][0].shape[1]
    names = [f"c{channel}" for channel in range(channels)]
    steps = [
        {"id": f"row {number}", "t": time, "label": label, **dict(zip(names, step, strict=True))}
        for number, (row, label) in enumerate(rows)
        for time, step in enumerate(row.tolist())
    ]
    shuffle.shuffle(steps)
    path.write_text("\n".join(json.dumps(step) for step in steps))
    back = sequences_from_table(read_table(path), id="id", time="t", features=names, label="label")
    assert back.ids is not None
    in_order = sorted(range(len(rows)), key=lambda number: back.ids.index(f"row {number}"))
    same_rows(back, [rows[number] for number in in_order])


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

NOT_THE_SAME_CHANNELS = "channels, but line 5 has 2. Every row needs the same channels."
HOSTILE = [
    (b"", "x.ts: the file is empty. Name a file with rows."),
    (b"\n  \n", "x.ts: the file is empty."),
    (HEADER, "x.ts: no rows after @data."),
    (b"@problemName x\n@classLabel true a\n", "x.ts: there is no line @data,"),
    (b"1,2:a\n", 'x.ts, line 1: expected an @ header line, got "1,2:a".'),
    (b"@timeStamps true\n@classLabel true a\n@data\n(0,1):a", "x.ts: @timeStamps is true, but"),
    (b"@data\n1:a", "x.ts: neither labels (@classLabel true LABEL LABEL …) nor numbers"),
    (b"@targetLabel true\n@data\n1,2:3\n1,2:a", 'x.ts, line 4: the number to predict is "a".'),
    (b"@targetLabel true\n@data\n1,2:1_0", 'line 3: the number to predict is "1_0".'),
    (b"@targetLabel true\n@data\n1,2:nan", 'line 3: the number to predict is "nan".'),
    (b"@classLabel false\n@data\n1", "x.ts: neither labels"),
    (HEADER + b"1:ab\n", 'x.ts, line 5: label "ab" is not declared by @classLabel. Did you mean'),
    (HEADER + b"1,2:\n", 'x.ts, line 5: label "" is not declared by @classLabel. Known: a, b.'),
    (HEADER + b"a\n", "x.ts, line 5: there is no channel before the label. Write CHANNEL:…:LABEL."),
    (HEADER + b"1,2:3:a\n", "x.ts, line 5: channel 2 has 1 steps, but channel 1 has 2."),
    (HEADER + b"1:3:a\n1:b\n", f"x.ts, line 6: the row has 1 {NOT_THE_SAME_CHANNELS}"),
    (HEADER + b"1:3:a\n1:2:3:b\n", f"x.ts, line 6: the row has 3 {NOT_THE_SAME_CHANNELS}"),
    (HEADER + b"1,2:?,?:a\n?,?:NaN,?:a", "line 6: every value is missing. Leave out the row."),
    (HEADER + b"1:a\n-inf:a", "line 6: channel 1, step 1 is -inf. Correct such"),
    (HEADER + b"1e999:a", "line 5: channel 1, step 1 is inf. Correct such"),
    (HEADER + b"1:2,3,x:a", 'line 5: channel 2, step 3 is "x", not a number. Steps are'),
    (HEADER + b"1,:a", 'line 5: channel 1, step 2 is "", not a number. There may be a comma'),
    (HEADER + b"1::a", 'line 5: channel 2, step 1 is "", not a number. There may be a comma'),
    (HEADER + b"1\xff:a", "x.ts, line 5: byte 61 (0xFF) is not UTF-8."),
]


@pytest.mark.parametrize(("content", "message"), HOSTILE)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.ts"
    path.write_bytes(content)
    assert message in refusal(path)


def test_a_missing_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "vowels_train.ts").write_bytes(HEADER)
    message = refusal(tmp_path / "vowel_train.ts")
    assert message == 'vowel_train.ts: no such file. Did you mean "vowels_train.ts"?'


def test_a_file_in_a_missing_folder_is_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none" / "x.ts").startswith("x.ts: there is no folder")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.ts").mkdir()
    assert refusal(tmp_path / "x.ts") == (
        "x.ts is a folder. There is no file of these types in x.ts: .npz .ts."
    )


def test_an_unknown_ending_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    message = refusal(tmp_path / "x.csv")
    assert message == 'x.csv: files with the ending ".csv" are not read here. Known: .ts, .npz.'


def test_headers_may_be_separated_by_tabs(tmp_path: Path) -> None:
    assert read(tmp_path, HEADER.replace(b" ", b"\t") + b"1:a\n").classes == ("a", "b")


def test_a_class_declared_twice_is_one_class(tmp_path: Path) -> None:
    assert read(tmp_path, b"@classLabel true a b a\n@data\n1:a\n").classes == ("a", "b")


def test_an_underscore_makes_no_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1_0"):
        read(tmp_path, HEADER + b"1_0:a\n")


# --- arrays ---


def arrays_file(folder: Path, **content: object) -> Path:
    """An .npz file of two rows, three steps, two channels, with changes."""
    given = {"values": np.arange(12.0).reshape(2, 3, 2), "labels": np.array(["a", "b"])}
    path = folder / "x.npz"
    np.savez(path, **{k: v for k, v in (given | content).items() if v is not None})  # type: ignore[arg-type]
    return path


def test_arrays_without_lengths_are_full(tmp_path: Path) -> None:
    sequences = read_sequences(arrays_file(tmp_path))
    assert [row.shape for row in sequences.values] == [(3, 2), (3, 2)]
    assert sequences.at(1) == f"{tmp_path / 'x.npz'}, row 2"


def test_two_dimensions_are_one_channel(tmp_path: Path) -> None:
    sequences = read_sequences(arrays_file(tmp_path, values=np.ones((2, 3), dtype=np.int8)))
    assert sequences.values[0].tolist() == [[1.0], [1.0], [1.0]]


def test_numbers_as_labels_are_classes_by_size(tmp_path: Path) -> None:
    labels = np.arange(12)[::-1]
    sequences = read_sequences(arrays_file(tmp_path, values=np.ones((12, 1)), labels=labels))
    assert sequences.classes == tuple(str(label) for label in range(12))


def test_targets_are_numbers_to_predict(tmp_path: Path) -> None:
    path = arrays_file(tmp_path, labels=None, targets=np.array([0.5, -1.0]))
    sequences = read_sequences(path)
    assert sequences.targets is not None
    assert sequences.targets.tolist() == [0.5, -1.0]
    assert sequences.labels == []
    assert sequences.classes == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"values": None}, 'x.npz: no array "values" (N, T, C) or "X". It has: labels.'),
        ({"labels": None}, 'x.npz: needs either "labels" (classes) or "targets" (numbers).'),
        ({"targets": np.zeros(2)}, 'needs either "labels" (classes) or "targets" (numbers).'),
        ({"lenghts": np.ones(2)}, 'x.npz: unknown array "lenghts". Did you mean "lengths"?'),
        ({"values": np.zeros((2, 0, 1))}, '"values" has shape (2, 0, 1) and type float64. Give'),
        ({"values": np.array(["x"])}, '"values" has shape (1,) and type <U1. Give numbers'),
        (
            {"lengths": np.array([1.0, 2.0])},
            '"lengths" has shape (2,) and type float64. Give whole',
        ),
        ({"lengths": np.array([1, 4])}, 'x.npz, row 2: "lengths" is 4, but values has 3 steps.'),
        ({"lengths": np.array([0, 3])}, 'x.npz, row 1: "lengths" is 0'),
        ({"labels": np.array(["a"])}, '"labels" has shape (1,) and type <U1. Give texts or whole'),
        ({"labels": np.array([0.5, 1])}, '("targets" are for regression) of shape (2,)'),
        ({"labels": np.array(["a", " "])}, "x.npz, row 2: the label is empty."),
        ({"values": np.full((2, 3, 2), np.inf)}, "x.npz, row 1: channel 1, step 1 is inf."),
        ({"labels": None, "targets": np.array([1, np.nan])}, "x.npz, row 2: the target is nan."),
        (
            {"values": np.array([[1], None], dtype=object)},
            "x.npz: it holds Python objects, which may contain code",
        ),
    ],
)
def test_arrays_that_cannot_be_used_are_named(
    tmp_path: Path, content: dict[str, object], message: str
) -> None:
    assert message in refusal(arrays_file(tmp_path, **content))


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut", b"not an archive"])
def test_a_damaged_archive_is_called_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    assert "not an .npz file, or damaged" in refusal(path) or "Python objects" in refusal(path)


# --- long form ---

LONG = "id,t,x,y,label\nb,2,3,30,yes\na,1,1,10,no\nb,1,2,20,yes\na,2,4,40,no\n"


def long_form(folder: Path, text: str, **columns: str | list[str] | None) -> Sequences:
    path = folder / "x.csv"
    path.write_text(text)
    roles = {"id": "id", "time": "t", "label": "label"} | columns
    return sequences_from_table(read_table(path), **roles)  # type: ignore[arg-type]


def test_steps_are_ordered_by_time_and_ids_as_they_appear(tmp_path: Path) -> None:
    sequences = long_form(tmp_path, LONG)
    assert sequences.ids == ["b", "a"]
    assert [row.tolist() for row in sequences.values] == [[[2, 20], [3, 30]], [[1, 10], [4, 40]]]
    assert (sequences.labels, sequences.classes) == (["yes", "no"], ("no", "yes"))
    assert sequences.features == ("x", "y")
    assert sequences.at(1) == f'{tmp_path / "x.csv"}, id "a"'


def test_without_a_time_the_order_of_rows_counts(tmp_path: Path) -> None:
    sequences = long_form(tmp_path, LONG, time=None, features=["x"])
    assert sequences.values[0].tolist() == [[3], [2]]


def test_dates_order_steps_too(tmp_path: Path) -> None:
    text = "id,t,x,label\na,10/2/2024,1,c\na,9/2/2024,2,c\na,13/2/2024,3,c\n"
    assert long_form(tmp_path, text).values[0].tolist() == [[2], [1], [3]]


def test_a_target_is_a_number_for_each_sequence(tmp_path: Path) -> None:
    text = LONG.replace("yes", "1.5").replace("no", "-2")
    sequences = long_form(tmp_path, text, label=None, target="label")
    assert sequences.targets is not None
    assert sequences.targets.tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("change", "columns", "message"),
    [
        (("b,1,", "b,2,"), {}, 'x.csv, line 4: id "b" has the time "2" twice.'),
        (("40,no", "40,yes"), {}, 'x.csv, line 5: label is "yes", but "no" in the first row of id'),
        (("40,no", "40,"), {}, 'x.csv, line 5: column "label" is empty.'),
        (("a,2,4", "a,2,four"), {}, 'x.csv, line 5: column "x" is "four", not a finite number.'),
        (("a,1", ",1"), {}, 'x.csv, line 3: column "id" is empty. Every step needs the id'),
        (("a,1", "a,"), {}, 'x.csv, line 3: column "t" is empty. Every row needs a time'),
        (("", ""), {"features": ["z"]}, 'x.csv: no column "z". Known: id, label, t, x, y.'),
        (("", ""), {"label": None}, "x.csv: name either a label or a target"),
        (("", ""), {"time": "time"}, 'x.csv: no column "time"'),
    ],
)
def test_a_step_that_cannot_be_used_is_named(
    tmp_path: Path, change: tuple[str, str], columns: dict[str, list[str] | None], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        long_form(tmp_path, LONG.replace(*change) if change[0] else LONG, **columns)
    assert message in str(caught.value).replace(f"{tmp_path}/", "")


def test_missing_values_of_sequences_are_kept_wherever_they_stand(tmp_path: Path) -> None:
    nan = np.nan
    (tmp_path / "x.ts").write_bytes(HEADER + b"1,?,3:?,NaN,6:a\n7,8:9,?:b")
    first, second = read_sequences(tmp_path / "x.ts").values
    np.testing.assert_array_equal(first, [[1, nan], [nan, nan], [3, 6]])
    np.testing.assert_array_equal(second, [[7, 9], [8, nan]])
    padded = np.array([[[1.0], [nan], [3.0]], [[4.0], [nan], [nan]]])  # the second row is shorter
    np.savez(tmp_path / "x.npz", values=padded, labels=["a", "b"])
    assert [row.ravel().tolist() for row in read_sequences(tmp_path / "x.npz").values][1] == [4.0]
    (tmp_path / "x.csv").write_text("id,x,y,label\na,1,,u\na,,2,u\nb,3,4,v\n")
    content = {"name": "x", "data": {"train": "x.csv", "id": "id", "label": "label"}}
    spec = study_file.parse(content, source="x.toml")
    rows = read_study_sequences(spec, tmp_path).files.train.rows
    np.testing.assert_array_equal(rows[0], [[1, nan], [nan, 2]])


def test_what_a_masked_array_masks_is_missing() -> None:
    rows = np.ma.masked_less(np.arange(24.0).reshape(4, 6) % 5, 1)
    values = sequence_values(rows, "X")
    expected = [row[: np.flatnonzero(~np.isnan(row))[-1] + 1] for row in rows.filled(np.nan)]
    for row, numbers in zip(values, expected, strict=True):
        np.testing.assert_array_equal(row[:, 0], numbers)

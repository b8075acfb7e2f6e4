"""From rows to tensors: who is held out, who the scaler sees, and what stays as it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from helpers.splits import split_of_rows
from helpers.workspaces import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gru_optuna import study_file
from gru_optuna.data.load import load_dataset, load_folds
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.data.dataset import Dataset, Split

VOWELS = {"train": "japanese_vowels_train.ts", "test": "japanese_vowels_test.ts"}
NUMBERED = [f"{row}:{'aaabbc'[row % 6]}" for row in range(60)]
"""60 rows of one step, whose value is the row's number: 30 of class a, 20 of b, 10 of c."""


def write(folder: Path, name: str, rows: list[str]) -> None:
    """Rows as the file has them: ``"1,2:3,4:a"`` is two channels of two steps, of class a."""
    classes = " ".join(sorted({row.rpartition(":")[2] for row in rows}))
    text = "\n".join([f"@classLabel true {classes}", "@data", *rows])
    (folder / name).write_text(f"{text}\n", encoding="utf-8")


def load(folder: Path, seed: int = 0, **data: Any) -> Dataset:
    content = {"name": "x", "seed": seed, "data": {"train": "train.ts"} | data}
    return load_dataset(study_file.parse(content, source="x.toml"), folder)


def refusal(folder: Path, **data: Any) -> str:
    """What is said about data that aren't accepted, without their folder."""
    with pytest.raises(DataError) as caught:
        load(folder, **data)
    return str(caught.value).replace(f"{folder}/", "")


def steps(split: Split) -> Tensor:
    """(steps of all rows, C), without the padding."""
    return torch.cat([v[:n] for v, n in zip(split.batch().values, split.lengths, strict=True)])


def numbers(split: Split) -> set[int]:
    """Which of the numbered rows a split holds."""
    return {int(number) for number in split.batch().values.flatten()}


@pytest.fixture(scope="module")
def vowels() -> Dataset:
    return load(REPOSITORY / "studies" / "data", **VOWELS)


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    write(tmp_path, "train.ts", NUMBERED)
    return tmp_path


# --- the split ---


def test_a_fifth_of_every_class_is_held_out(vowels: Dataset) -> None:
    assert vowels.train.targets.bincount().tolist() == [24] * 9
    assert vowels.validation.targets.bincount().tolist() == [6] * 9
    assert vowels.test is not None
    assert len(vowels.test) == 370


def test_classes_keep_their_shares(numbered: Path) -> None:
    data = load(numbered, validation=0.3)
    assert data.train.targets.bincount().tolist() == [21, 14, 7]
    assert data.validation.targets.bincount().tolist() == [9, 6, 3]


def test_every_row_is_in_one_split_and_keeps_its_label(numbered: Path) -> None:
    data = load(numbered, standardize=False)
    assert numbers(data.train) | numbers(data.validation) == set(range(60))
    assert len(data.train) + len(data.validation) == 60
    for split in (data.train, data.validation):
        labels = ["aaabbc"[int(number) % 6] for number in split.batch().values.flatten()]
        assert [data.classes[target] for target in split.targets] == labels


def test_the_split_is_the_seeds(numbered: Path) -> None:
    held_out = [
        numbers(load(numbered, seed, standardize=False).validation) for seed in (0, 0, 1, 2)
    ]
    assert held_out[0] == held_out[1]
    assert len({frozenset(rows) for rows in held_out}) == 3


def test_a_validation_file_leaves_all_training_rows_for_training(numbered: Path) -> None:
    write(numbered, "held_out.ts", ["1,2:a", "3:b"])
    data = load(numbered, validation="held_out.ts", standardize=False)
    assert numbers(data.train) == set(range(60))
    assert data.validation.batch().values.tolist() == [[[1.0], [2.0]], [[3.0], [0.0]]]
    assert data.validation.targets.tolist() == [0, 1]


# --- scaling and padding ---


def test_training_steps_have_mean_0_and_deviation_1_in_every_channel(vowels: Dataset) -> None:
    seen = steps(vowels.train).double()
    torch.testing.assert_close(seen.mean(0), torch.zeros(12).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        seen.std(0, correction=0), torch.ones(12).double(), atol=1e-5, rtol=0
    )


def test_other_rows_are_scaled_as_the_training_rows_are(vowels: Dataset) -> None:
    assert vowels.test is not None
    raw = load(REPOSITORY / "studies" / "data", **VOWELS, standardize=False)
    assert raw.test is not None
    seen = steps(raw.train).double()
    scaled = (steps(raw.test).double() - seen.mean(0)) / seen.std(0, correction=0)
    torch.testing.assert_close(steps(vowels.test).double(), scaled, atol=1e-4, rtol=1e-4)


def test_held_out_rows_change_no_training_tensor(numbered: Path) -> None:
    write(numbered, "test.ts", ["1:a", "2:b"])
    before = load(numbered, test="test.ts")
    held_out = numbers(load(numbered, standardize=False).validation)
    larger = [f"{row}000:{'aaabbc'[row % 6]}" for row in range(60)]
    write(
        numbered,
        "train.ts",
        [larger[row] if row in held_out else NUMBERED[row] for row in range(60)],
    )
    write(numbered, "test.ts", ["1000:a", "2000:b"])
    after = load(numbered, test="test.ts")
    assert torch.equal(before.train.batch().values, after.train.batch().values)
    assert not torch.equal(before.validation.batch().values, after.validation.batch().values)


def test_without_standardizing_values_stay_as_they_are() -> None:
    data = load(REPOSITORY / "studies" / "data", **VOWELS, standardize=False)
    assert data.test is not None
    line = (REPOSITORY / "studies" / "data" / VOWELS["test"]).read_text().splitlines()[15]
    first = torch.tensor([[float(s) for s in c.split(",")] for c in line.split(":")[:-1]]).T
    assert torch.equal(data.test.batch().values[0, : data.test.lengths[0]], first)


def test_a_channel_that_never_changes_becomes_zero(tmp_path: Path) -> None:
    write(tmp_path, "train.ts", [f"7:{row}:{'ab'[row % 2]}" for row in range(10)])
    assert torch.equal(load(tmp_path).train.batch().values[:, :, 0], torch.zeros(8, 1))


def test_behind_its_length_a_row_is_zero(vowels: Dataset) -> None:
    for split in (vowels.train, vowels.validation, vowels.test):
        assert split is not None
        behind = torch.arange(split.batch().values.shape[1]) >= split.lengths[:, None]
        assert behind.any()
        assert (split.batch().values[behind] == 0).all()
        assert int(split.lengths.max()) == split.batch().values.shape[1]


def test_a_number_too_large_for_training_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train.ts", ["1e39:a", "2:b"] * 5)
    assert "train.ts, line 3" in refusal(tmp_path, standardize=False)


# --- data that can't be trained on ---


def test_one_class_is_too_few(tmp_path: Path) -> None:
    write(tmp_path, "train.ts", ["1:a", "2:a"])
    assert refusal(tmp_path) == (
        'train.ts: only one class, "a", in 2 rows. Classification needs two or more.'
    )


def test_a_class_with_a_single_row_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, "train.ts", ["1:a", "2:a", "3:b", "4:a"])
    assert refusal(tmp_path).startswith('train.ts, line 5: class "b" has this single row')


def test_a_single_row_is_enough_beside_a_validation_file(tmp_path: Path) -> None:
    write(tmp_path, "train.ts", ["1:a", "2:b"])
    assert len(load(tmp_path, validation="train.ts").train) == 2


def test_a_label_that_training_never_saw_is_named_with_its_line(numbered: Path) -> None:
    write(numbered, "other.ts", ["1:a", "2:d"])
    for role in ("test", "validation"):
        assert refusal(numbered, **{role: "other.ts"}) == (
            'other.ts, line 4: label "d" is not in the training data (train.ts). Known: a, b, c.'
        )


def test_files_of_differing_channels_are_refused(numbered: Path) -> None:
    write(numbered, "other.ts", ["1:2:a"])
    assert refusal(numbered, test="other.ts") == (
        "other.ts has 2 channels, but train.ts has 1. Give both files the same channels."
    )


@pytest.mark.parametrize(("fraction", "left"), [(0.03, "58 for training and 2"), (0.97, "2 for")])
def test_a_fraction_too_small_for_the_classes_is_refused(
    numbered: Path, fraction: float, left: str
) -> None:
    message = refusal(numbered, validation=fraction)
    assert f"validation = {fraction} of 60 rows leaves {left}" in message
    assert "Change the fraction, or name a validation file." in message


def test_a_fraction_that_takes_all_rows_of_a_class_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train.ts", ["1:a"] * 18 + ["2:b"] * 2)
    assert 'class "b" has too few rows' in refusal(tmp_path, validation=0.8)


def test_a_fraction_that_leaves_a_class_out_of_validation_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train.ts", ["1:a"] * 48 + ["2:b"] * 2)
    assert "none is left for validation" in refusal(tmp_path, validation=0.1)


def test_a_class_that_is_declared_and_never_used_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "train.ts", ["1:a", "2:b"] * 5)
    path = tmp_path / "train.ts"
    path.write_text(path.read_text().replace("true a b", "true unused b a"))
    assert load(tmp_path).classes == ("b", "a")


# --- tests by fraction, groups, folds ---


def test_a_fraction_is_held_out_for_the_test_before_validation(numbered: Path) -> None:
    data = load(numbered, test=0.2, validation=0.25, standardize=False)
    assert data.test is not None
    parts = [numbers(split) for split in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [36, 12, 12]
    assert set().union(*parts) == set(range(60))
    assert data.test.targets.bincount().tolist() == [6, 4, 2]


def long_form(folder: Path, name: str, ids: range, answer: str = "label") -> None:
    """Two steps an id, whose first feature is the id; six ids a subject."""
    lines = [f"id,step,subject,{answer},value,other"]
    for row in ids:
        told = "ab"[row % 2] if answer == "label" else str(row * 1.5)
        lines += [f"{row},{step},s{row // 6},{told},{row},{step}" for step in (1, 0)]
    (folder / name).write_text("\n".join(lines) + "\n")


LONG = {"train": "long.csv", "id": "id", "time": "step", "label": "label"}


def test_a_table_of_steps_becomes_sequences_in_order_of_time(tmp_path: Path) -> None:
    long_form(tmp_path, "long.csv", range(20))
    data = load(tmp_path, **LONG, features=["other", "value"], standardize=False)
    assert data.train.batch().values.shape == (16, 2, 2)
    assert data.train.batch().values[:, :, 0].tolist() == [[0.0, 1.0]] * 16
    assert data.preprocessing["columns"]["features"] == ["other", "value"]


def wide_form(folder: Path, name: str, rows: range, answer: str = "label") -> None:
    """Two channels of up to three steps a row, the columns in no order; six rows a subject."""
    lines = [f"a_2,subject,b0,a_10,{answer},b1,b2,a_1"]
    for row in rows:
        told = "ab"[row % 2] if answer == "label" else str(row * 1.5)
        last = "," if row % 3 == 0 else f"{row}.2,"
        lines.append(f"{row}.1,s{row // 6},7,{last}{told},8,{'' if row % 3 == 0 else 9},{row}")
    (folder / name).write_text("\n".join(lines) + "\n")


WIDE = {"train": "wide.csv", "label": "label", "standardize": False}


def test_a_row_may_be_a_whole_sequence(tmp_path: Path) -> None:
    wide_form(tmp_path, "wide.csv", range(30))
    data = load(tmp_path, **WIDE, steps=["a_", "b"], validation=0.5)
    rows = [row for part in (data.train, data.validation) for row in part.batch().values.tolist()]
    lengths = [n for part in (data.train, data.validation) for n in part.lengths.tolist()]
    assert sorted(lengths) == [2] * 10 + [3] * 20  # an empty end is no step
    whole = [row for row, length in zip(rows, lengths, strict=True) if length == 3]
    for steps in whole:
        first = steps[0][0]
        np.testing.assert_allclose(steps, [[first, 7], [first + 0.1, 8], [first + 0.2, 9]])
    assert data.preprocessing["columns"]["steps"] == [["a_1", "a_2", "a_10"], ["b0", "b1", "b2"]]


def test_groups_of_whole_sequences_stay_together(tmp_path: Path) -> None:
    wide_form(tmp_path, "wide.csv", range(60))
    data = load(tmp_path, **WIDE, steps="a_", group="subject", test=0.2)
    assert data.test is not None
    subjects = [
        {int(row) // 6 for row in split.batch().values[:, 0, 0]}
        for split in (data.train, data.validation, data.test)
    ]
    assert [len(part) for part in subjects] == [6, 2, 2]
    assert set().union(*subjects) == set(range(10))


def test_a_number_may_be_predicted_for_a_whole_sequence(tmp_path: Path) -> None:
    wide_form(tmp_path, "wide.csv", range(30), "target")
    keys = {"train": "wide.csv", "target": "target", "steps": "a_"}
    spec = study_file.parse({"name": "x", "task": "regression", "data": keys}, source="x.toml")
    assert len(load_dataset(spec, tmp_path).train) == 24


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"steps": "c"}, 'wide.csv: no column is named "c" and a number, as steps = "c" says.'),
        ({"steps": ["a_", "subject"]}, 'no column is named "subject" and a number'),
        ({"steps": "a_", "label": None}, "which column should be predicted?"),
    ],
)
def test_steps_that_are_not_there_are_refused(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    wide_form(tmp_path, "wide.csv", range(30))
    assert message in refusal(tmp_path, **(WIDE | keys))


def test_channels_of_different_lengths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text("a1,a2,b1,label\n" + "1,2,3,x\n1,2,3,y\n" * 9)
    assert refusal(tmp_path, **WIDE, steps=["a", "b"]) == (
        'wide.csv: "a" has 2 steps, and "b" has 1. All channels of a sequence have the same steps.'
    )


def test_a_whole_sequence_without_a_value_or_with_a_word_is_refused(tmp_path: Path) -> None:
    rows = ["1,2,x", "1,2,y"] * 9
    (tmp_path / "wide.csv").write_text("\n".join(["a1,a2,label", *rows, ",,x"]))
    assert "wide.csv, line 20: every value is missing" in refusal(tmp_path, **WIDE, steps="a")
    (tmp_path / "wide.csv").write_text("\n".join(["a1,a2,label", *rows, "1,high,x"]))
    assert 'column "a2" is "high"' in refusal(tmp_path, **WIDE, steps="a")


def test_groups_stay_together(tmp_path: Path) -> None:
    long_form(tmp_path, "long.csv", range(60))
    data = load(tmp_path, **LONG, group="subject", test=0.2, standardize=False)
    assert data.channels == 2  # neither the id nor the group is a channel
    assert data.test is not None
    subjects = [
        {int(row) // 6 for row in split.batch().values[:, 0, 0]}
        for split in (data.train, data.validation, data.test)
    ]
    assert [len(part) for part in subjects] == [6, 2, 2]
    assert set().union(*subjects) == set(range(10))


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("answer", ["label", "target"])
def test_every_row_is_validated_by_one_fold(tmp_path: Path, answer: str, grouped: bool) -> None:
    long_form(tmp_path, "long.csv", range(60), answer)
    keys = {"train": "long.csv", "id": "id", "time": "step", answer: answer, "folds": 5}
    keys |= {"standardize": False, "group": "subject" if grouped else None, "features": ["value"]}
    task = "classification" if answer == "label" else "regression"
    spec = study_file.parse({"name": "x", "task": task, "data": keys}, source="x.toml")
    folds = load_folds(spec, tmp_path)
    validated = [[int(row) for row in fold.validation.batch().values[:, 0, 0]] for fold in folds]
    assert sorted(row for part in validated for row in part) == list(range(60))
    for fold, part in zip(folds, validated, strict=True):
        trained = {int(row) for row in fold.train.batch().values[:, 0, 0]}
        assert trained == set(range(60)) - set(part)
        if grouped:
            assert not {row // 6 for row in trained} & {row // 6 for row in part}


def test_a_number_may_be_predicted_for_a_sequence(tmp_path: Path) -> None:
    long_form(tmp_path, "long.csv", range(50), "target")
    keys = {"train": "long.csv", "id": "id", "time": "step", "target": "target", "group": "subject"}
    keys |= {"test": 0.2}
    content = {"name": "x", "task": "regression", "metric": "mae", "data": keys}
    data = load_dataset(study_file.parse(content, source="x.toml"), tmp_path)
    assert (data.outputs, data.classes) == (1, ())
    assert data.train.targets.shape == (len(data.train), 1)
    assert data.train.targets.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert data.train.targets.std(correction=0).item() == pytest.approx(1.0, abs=1e-6)
    assert data.test is not None
    assert data.test.units is not None
    told = data.test.units.restore(data.test.targets)
    assert {round(float(value) / 1.5, 3) % 1 for value in told} == {0.0}
    mean = data.preprocessing["target"]["mean"]
    assert data.baselines == {"mean": pytest.approx((told - mean).abs().mean().item(), rel=1e-5)}


def test_the_majority_is_the_baseline(numbered: Path) -> None:
    assert load(numbered, validation=0.5).baselines == {"majority class": 0.5}
    content = {"name": "x", "metric": "log_loss", "data": {"train": "train.ts"}}
    log_loss = load_dataset(study_file.parse(content, source="x.toml"), numbered).baselines
    shares = {0.5: 6, 1 / 3: 4, 1 / 6: 2}
    expected = -sum(rows * math.log(share) for share, rows in shares.items()) / 12
    assert log_loss == {"majority class": pytest.approx(expected)}


def test_a_group_in_two_files_is_named_with_its_row(tmp_path: Path) -> None:
    long_form(tmp_path, "long.csv", range(18))
    long_form(tmp_path, "test.csv", range(17, 24))
    message = refusal(tmp_path, **LONG, group="subject", test="test.csv")
    assert message == (
        'test.csv, id "17": group "s2" is also in long.csv. A group belongs to one part: '
        "move its rows, or split one file by fractions."
    )


def test_too_few_groups_to_split_are_refused(tmp_path: Path) -> None:
    long_form(tmp_path, "long.csv", range(18))
    assert refusal(tmp_path, **LONG, group="subject") == (
        "long.csv: there are 3 groups, but a part of 0.2 in whole groups needs 5 or more. "
        "Use a larger fraction, or another column of groups."
    )


def test_too_few_rows_of_a_class_for_the_folds_are_refused(numbered: Path) -> None:
    assert refusal(numbered, folds=11) == (
        "train.ts: folds = 11, but there are only 10 rows of the rarest class to share out. "
        "Use fewer folds."
    )


def test_a_table_without_a_column_of_ids_is_asked_for_one(tmp_path: Path) -> None:
    long_form(tmp_path, "long.csv", range(18))
    message = refusal(tmp_path, train="long.csv", label="label")
    assert 'write text = "COLUMN", id = "COLUMN", or steps = "t" for the columns t0, t1' in message
    assert "Its columns: id, step, subject, label, value and other." in message
    message = refusal(tmp_path, train="long.csv", id="id")
    assert 'which column should be predicted? Under [data], write label = "COLUMN".' in message


def test_a_column_of_a_file_that_has_none_is_refused(numbered: Path) -> None:
    assert "train.ts: group names a column, but only tables have columns" in refusal(
        numbered, group="subject"
    )


def test_labels_where_numbers_are_to_be_predicted_are_refused(numbered: Path) -> None:
    content = {"name": "x", "task": "regression", "data": {"train": "train.ts"}}
    with pytest.raises(DataError, match=r'holds labels, but task = "regression" needs numbers'):
        load_dataset(study_file.parse(content, source="x.toml"), numbered)


def test_numbers_that_never_differ_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", values=np.zeros((10, 3)), targets=np.full(10, 2.5))
    content = {"name": "x", "task": "regression", "data": {"train": "train.npz"}}
    with pytest.raises(DataError, match=r"every number to predict is 2\.5 in the training rows"):
        load_dataset(study_file.parse(content, source="x.toml"), tmp_path)


def test_a_metric_that_is_not_defined_on_the_rows_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train.ts", ["1:a", "2:b"] * 5)
    write(tmp_path, "test.ts", ["1:a", "2:a"])
    content = {"name": "x", "metric": "roc_auc", "data": {"train": "train.ts", "test": "test.ts"}}
    with pytest.raises(DataError, match=r"roc_auc is not defined on the test rows"):
        load_dataset(study_file.parse(content, source="x.toml"), tmp_path)


# --- the fingerprint ---


def test_the_fingerprint_of_the_first_release_stays() -> None:
    """A study that goes on under a newer release must know its data again."""
    data = load(REPOSITORY / "studies" / "data", **VOWELS)
    assert data.fingerprint.startswith("cd37d22a5182fa56b3af12d21e7e1538900cd63da6ce0de7")


def test_equal_data_elsewhere_have_an_equal_fingerprint(numbered: Path) -> None:
    elsewhere = numbered / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere, "renamed.ts", NUMBERED)
    moved = load(elsewhere, train="renamed.ts")
    assert moved.fingerprint == load(numbered).fingerprint


@pytest.mark.parametrize(
    "rows",
    [
        ["0.0000001:a", *NUMBERED[1:]],
        ["0:b", *NUMBERED[1:]],
        ["0,0:a", *NUMBERED[1:]],
        NUMBERED[:-1],
        NUMBERED[::-1],
    ],
    ids=["a value", "a label", "a length", "a row less", "the order"],
)
def test_any_change_of_the_rows_changes_the_fingerprint(numbered: Path, rows: list[str]) -> None:
    before = load(numbered).fingerprint
    write(numbered, "train.ts", rows)
    assert load(numbered).fingerprint != before


def test_the_fingerprint_is_of_all_files(numbered: Path) -> None:
    write(numbered, "other.ts", ["1:a"])
    without = load(numbered).fingerprint
    with_test = load(numbered, test="other.ts").fingerprint
    with_both = load(numbered, test="other.ts", validation="other.ts").fingerprint
    assert len({without, with_test, with_both}) == 3


# --- rows and batches ---


def ragged(lengths: list[int]) -> Split:
    """Row i holds i + 1 in all its steps."""
    longest = max(lengths)
    values = torch.zeros(len(lengths), longest, 1)
    for row, length in enumerate(lengths):
        values[row, :length] = row + 1
    return split_of_rows(values, torch.tensor(lengths), torch.arange(len(lengths)))


def test_chosen_rows_are_padded_to_the_longest_of_them() -> None:
    rows = ragged([5, 2, 3, 9]).batch(torch.tensor([2, 1]))
    assert rows.values.tolist() == [[[3.0], [3.0], [3.0]], [[2.0], [2.0], [0.0]]]
    assert rows.lengths.tolist() == [3, 2]
    assert rows.targets.tolist() == [2, 1]


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    size=st.integers(1, 40),
    shuffle=st.randoms(use_true_random=False),
)
def test_batches_hold_every_row_once_in_the_given_order(
    lengths: list[int], size: int, shuffle: Any
) -> None:
    order = list(range(len(lengths)))
    shuffle.shuffle(order)
    batches = list(ragged(lengths).batches(size, torch.tensor(order)))
    assert [int(t) for batch in batches for t in batch.targets] == order
    assert len(batches) == math.ceil(len(lengths) / size)
    assert all(len(batch) == size for batch in batches[:-1])
    for batch in batches:
        for values, length, target in zip(batch.values, batch.lengths, batch.targets, strict=True):
            assert length == lengths[target]
            assert (values[:length] == target + 1).all()
            assert (values[length:] == 0).all()


# --- once everything is decided ---


@pytest.mark.parametrize("study", ["japanese-vowels.toml", "movie-snippets.toml", "traffic.toml"])
def test_refitting_trains_on_the_validation_rows_too(study: str) -> None:
    path = REPOSITORY / "studies" / study
    spec = study_file.load(path)
    before, after = (load_dataset(spec, path.parent, refit=refit) for refit in (False, True))
    if spec.kind != "series":  # whose windows reach over the end of the training rows
        assert len(after.train) == len(before.train) + len(before.validation)
    assert len(after.train) > len(before.train)
    assert before.test is not None
    assert after.test is not None
    assert len(after.test) == len(before.test)
    # What is learned from training rows is learned from all of them.
    assert after.preprocessing != before.preprocessing
    assert after.fingerprint == before.fingerprint


def test_a_validation_file_is_joined_to_the_training_file(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    for name, rows in (("train", 20), ("validation", 10)):
        values = drawn.normal(size=(rows, 4, 2))
        np.savez(tmp_path / f"{name}.npz", values=values, labels=np.arange(rows) % 2)
    content = {"name": "x", "data": {"train": "train.npz", "validation": "validation.npz"}}
    spec = study_file.parse(content, "x")
    data = load_dataset(spec, tmp_path, refit=True)
    assert (len(data.train), len(data.validation)) == (30, 10)
    torch.testing.assert_close(data.train.batch().values[20:], data.validation.batch().values)

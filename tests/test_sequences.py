"""From rows to tensors: who is held out, who the scaler sees, and what stays as it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gru_optuna import spec as study_file
from gru_optuna.data.dataset import Dataset, Split
from gru_optuna.data.sequences import load_sequences
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

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
    return load_sequences(study_file.parse(content, source="x.toml"), folder)


def refusal(folder: Path, **data: Any) -> str:
    """What is said about data that aren't accepted, without their folder."""
    with pytest.raises(DataError) as caught:
        load(folder, **data)
    return str(caught.value).replace(f"{folder}/", "")


def steps(split: Split) -> Tensor:
    """(steps of all rows, C), without the padding."""
    return torch.cat([v[:n] for v, n in zip(split.values, split.lengths, strict=True)])


def numbers(split: Split) -> set[int]:
    """Which of the numbered rows a split holds."""
    return {int(number) for number in split.values.flatten()}


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
        labels = ["aaabbc"[int(number) % 6] for number in split.values.flatten()]
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
    assert data.validation.values.tolist() == [[[1.0], [2.0]], [[3.0], [0.0]]]
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
    assert torch.equal(before.train.values, after.train.values)
    assert not torch.equal(before.validation.values, after.validation.values)


def test_without_standardizing_values_stay_as_they_are() -> None:
    data = load(REPOSITORY / "studies" / "data", **VOWELS, standardize=False)
    assert data.test is not None
    line = (REPOSITORY / "studies" / "data" / VOWELS["test"]).read_text().splitlines()[15]
    first = torch.tensor([[float(s) for s in c.split(",")] for c in line.split(":")[:-1]]).T
    assert torch.equal(data.test.values[0, : data.test.lengths[0]], first)


def test_a_channel_that_never_changes_becomes_zero(tmp_path: Path) -> None:
    write(tmp_path, "train.ts", [f"7:{row}:{'ab'[row % 2]}" for row in range(10)])
    assert torch.equal(load(tmp_path).train.values[:, :, 0], torch.zeros(8, 1))


def test_behind_its_length_a_row_is_zero(vowels: Dataset) -> None:
    for split in (vowels.train, vowels.validation, vowels.test):
        assert split is not None
        behind = torch.arange(split.values.shape[1]) >= split.lengths[:, None]
        assert behind.any()
        assert (split.values[behind] == 0).all()
        assert int(split.lengths.max()) == split.values.shape[1]


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
        "other.ts: 2 channels, and 1 in train.ts. Both need the same channels."
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


# --- the fingerprint ---


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
    return Split(values, torch.tensor(lengths), torch.arange(len(lengths)))


def test_chosen_rows_are_padded_to_the_longest_of_them() -> None:
    rows = ragged([5, 2, 3, 9]).rows(torch.tensor([2, 1]))
    assert rows.values.tolist() == [[[3.0], [3.0], [3.0]], [[2.0], [2.0], [0.0]]]
    assert rows.lengths.tolist() == [3, 2]
    assert rows.targets.tolist() == [2, 1]


@settings(deadline=None)
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

"""Rows are split, and channels measured, as by scikit-learn, which is the oracle here."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    train_test_split,
)
from sklearn.preprocessing import StandardScaler

from gru_optuna import seeds, study_file
from gru_optuna.data.readers.labels import Labels
from gru_optuna.data.readers.text_column import Texts
from gru_optuna.data.sequences.scaler import measure_channels
from gru_optuna.data.splitting import Examples, Files, Part, Parts, divide, draw_halves
from gru_optuna.errors import DataError, RareClass

SEEDS = st.integers(0, 2**32 - 1)


@given(st.integers(2, 300), st.floats(0, 1), SEEDS)
def test_rows_are_held_out_as_by_train_test_split(count: int, share: float, seed: int) -> None:
    held_out = min(max(1, round(share * count)), count - 1)

    halves = draw_halves(count, held_out, None, seed)

    expected = train_test_split(np.arange(count), test_size=held_out, random_state=seed)
    for half, wanted in zip(halves, expected, strict=True):
        assert_array_equal(half, wanted)


@given(st.lists(st.integers(2, 60), min_size=1, max_size=12), st.floats(0, 1), SEEDS)
def test_each_class_gets_its_share_as_by_train_test_split(
    sizes: list[int], share: float, seed: int
) -> None:
    strata = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    held_out = min(max(len(sizes), round(share * len(strata))), len(strata) - len(sizes))

    halves = draw_halves(len(strata), held_out, strata, seed)

    expected = train_test_split(
        np.arange(len(strata)), test_size=held_out, stratify=strata, random_state=seed
    )
    for half, wanted in zip(halves, expected, strict=True):
        assert_array_equal(half, wanted)


@given(
    st.integers(1, 500),
    st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1e-9, 1.0, 1e5])),
        min_size=1,
        max_size=5,
    ),
    SEEDS,
)
def test_channels_are_measured_as_by_standard_scaler(
    count: int, channels: list[tuple[float, float]], seed: int
) -> None:
    noise = np.random.default_rng(seed).standard_normal((count, len(channels)))
    steps = np.array([mean for mean, _ in channels]) + noise * [spread for _, spread in channels]

    means, deviations = measure_channels(steps)

    scaler = StandardScaler().fit(steps)
    assert_array_equal(means, scaler.mean_)
    assert_array_equal(deviations, scaler.scale_)


# --- files into parts ---


def rows_of(
    answers: str | list[float], groups: str | None = None, source: str = "train.csv", **more: Any
) -> Examples[Any]:
    """A file whose rows are numbered; labels and groups are single letters."""
    labels = Labels.of(answers) if isinstance(answers, str) else None
    return Examples(
        source=source,
        rows=list(range(len(answers))),
        labels=labels,
        targets=None if isinstance(answers, str) else np.array(answers),
        at=lambda row: f"{source}, row {row}",
        classes=() if labels is None else labels.names,
        groups=None if groups is None else Labels.of(groups),
        **more,
    )


def divided(train: Examples[Any], fold: int | None = None, **data: Any) -> Parts[Any]:
    """Splits files as a study of seed 5 does; ``validation`` and ``test`` may be files."""
    files = {
        key: data[key] for key in ("validation", "test") if isinstance(data.get(key), Examples)
    }
    names = {key: file.source for key, file in files.items()}
    content = {"name": "x", "seed": 5, "data": {"train": "train.csv", **data, **names}}
    if train.labels is None:
        content |= {"task": "regression"}
        content["data"]["target"] = "y"
    spec = study_file.parse(content, source="x.toml")
    return divide(spec, Files(train, files.get("validation"), files.get("test")), fold)


def split_seed(index: int) -> int:
    """The seed of the validation split (0) or the test split (1) in a study of seed 5."""
    return seeds.seed_for(5, "split", index) % 2**32


def test_test_rows_are_drawn_first_and_validation_rows_from_the_rest() -> None:
    file = rows_of("aaabbc" * 10)

    parts = divided(file, test=0.2, validation=0.25)

    letters = np.array(list("aaabbc" * 10))
    rest, test = train_test_split(
        np.arange(60), test_size=12, stratify=letters, random_state=split_seed(1)
    )
    rest.sort()
    train, validation = train_test_split(
        rest, test_size=12, stratify=letters[rest], random_state=split_seed(0)
    )
    assert parts.test is not None
    for part, expected in zip(
        (parts.train, parts.validation, parts.test), (train, validation, test), strict=True
    ):
        assert list(part.rows) == sorted(expected)


def test_numbers_are_split_without_strata_and_groups_as_a_whole() -> None:
    numbers = [float(n % 7) for n in range(40)]
    plain = divided(rows_of(numbers), validation=0.3)
    expected = train_test_split(np.arange(40), test_size=12, random_state=split_seed(0))
    assert list(plain.train.rows) == sorted(expected[0])
    assert list(plain.validation.rows) == sorted(expected[1])

    groups = "abcdefgh" * 5
    grouped = divided(rows_of(numbers, groups), validation=0.3)
    splitter = GroupShuffleSplit(1, test_size=0.3, random_state=split_seed(0))
    train, validation = next(splitter.split(numbers, groups=list(groups)))
    assert list(grouped.train.rows) == list(train)
    assert list(grouped.validation.rows) == list(validation)


@pytest.mark.parametrize(("fraction", "folds"), [(0.2, 5), (0.28, 4), (0.3, 3), (0.9, 2)])
def test_labelled_groups_are_one_fold_of_about_the_fraction(fraction: float, folds: int) -> None:
    labels, groups = "ab" * 30, "".join(letter * 6 for letter in "cdefghijkl")

    parts = divided(rows_of(labels, groups), validation=fraction)

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=split_seed(0))
    train, validation = next(splitter.split(labels, list(labels), list(groups)))
    assert list(parts.train.rows) == list(train)
    assert list(parts.validation.rows) == list(validation)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
def test_folds_are_those_of_scikit_learn(labelled: bool, grouped: bool) -> None:
    labels, groups = "ab" * 15, "cdefg" * 6
    file = rows_of(labels if labelled else [1.0] * 30, groups if grouped else None)

    parts = [divided(file, folds=3, fold=fold) for fold in range(3)]

    kind = {
        (True, True): StratifiedGroupKFold,
        (True, False): StratifiedKFold,
        (False, True): GroupKFold,
        (False, False): KFold,
    }[labelled, grouped]
    splitter = kind(3, shuffle=True, random_state=split_seed(0))
    expected = splitter.split(
        np.arange(30), list(labels) if labelled else None, list(groups) if grouped else None
    )
    for part, (train, validation) in zip(parts, expected, strict=True):
        assert list(part.train.rows) == list(train)
        assert list(part.validation.rows) == list(validation)


def test_files_of_their_own_are_used_whole() -> None:
    train, validation = rows_of("abab"), rows_of("ba", source="validation.csv")
    test = rows_of("a", source="test.csv")
    parts = divided(train, validation=validation, test=test)
    assert parts.test is not None
    for part, file in zip(
        (parts.train, parts.validation, parts.test), (train, validation, test), strict=True
    ):
        assert part.examples.source == file.source
        assert_array_equal(part.index, np.arange(len(file)))


def test_classes_without_rows_are_dropped_from_the_training_file() -> None:
    file = rows_of("abab" * 5)
    declared = Examples(**(vars(file) | {"classes": ("a", "b", "c")}))
    assert divided(declared).train.examples.classes == ("a", "b")


# --- what is refused ---


def refusal(train: Examples[Any], kind: type[DataError] = DataError, **data: Any) -> str:
    with pytest.raises(DataError) as caught:
        divided(train, **data)
    assert type(caught.value) is kind
    return str(caught.value)


def test_one_class_is_refused_and_two_are_enough() -> None:
    assert refusal(rows_of("aaaa"), validation=0.5) == (
        'train.csv: only one class, "a", in 4 rows. Classification needs two or more.'
    )
    assert divided(rows_of("aabb"), validation=0.5).train.examples.classes == ("a", "b")


def test_a_class_of_one_row_is_refused_if_it_has_to_be_split() -> None:
    file = rows_of("aaab")
    assert refusal(file, validation=0.5, kind=RareClass) == (
        'train.csv, row 3: class "b" has this single row, but training and validation need one '
        "each. Add rows, or remove the class."
    )
    with pytest.raises(RareClass) as caught:
        divided(file, validation=0.5)
    assert caught.value.label == "b"
    assert len(divided(file, validation=rows_of("ab", source="validation.csv")).train) == 4


def test_a_label_that_training_lacks_is_named_with_its_place_and_the_nearest() -> None:
    test = rows_of("abc", source="test.csv")
    assert refusal(rows_of("aabb"), test=test, validation=0.5) == (
        'test.csv, row 2: label "c" is not in the training data (train.csv). Known: a, b.'
    )


def test_a_missing_number_is_named_with_its_place() -> None:
    numbers = [1.0, 2.0, float("nan"), 4.0, float("inf")]
    message = "the number to predict is missing. Fill it in, or remove the row."
    assert refusal(rows_of(numbers)) == f"train.csv, row 2: {message}"
    later = rows_of([1.0, float("inf")], source="test.csv")
    assert refusal(rows_of([1.0, 2.0]), test=later) == f"test.csv, row 1: {message}"


def test_a_group_belongs_to_one_file() -> None:
    train, test = rows_of("abab", "ccdd"), rows_of("ab", "ed", source="test.csv")
    assert refusal(train, test=test) == (
        'test.csv, row 1: group "d" is also in train.csv. '
        "A group belongs to one part: move its rows, or split one file by fractions."
    )
    validation, plain = rows_of("ab", "ed", source="validation.csv"), rows_of("ab", source="t.csv")
    # A file without groups has nothing to compare, but the one after it has.
    assert 'group "d" is also in train.csv' in refusal(train, validation=plain, test=test)
    train = rows_of("abab", "ccff")
    assert len(divided(train, validation=validation, test=plain).validation) == 2
    assert refusal(train, validation=validation, test=test).startswith(
        'test.csv, row 0: group "e" is also in validation.csv.'
    )


def test_a_fraction_leaves_each_part_a_row_of_each_class() -> None:
    message = (
        "train.csv: validation = {} of {} rows leaves {} for training and {} for validation, "
        "but each needs at least one row of each of the 2 classes. "
        "Change the fraction, or name a validation file."
    )
    file = rows_of("aabb" * 2)
    assert refusal(file, validation=0.1) == message.format(0.1, 8, 7, 1)
    assert refusal(file, validation=0.9) == message.format(0.9, 8, 1, 7)
    assert [len(divided(file, validation=share).validation) for share in (0.25, 0.75)] == [2, 6]

    assert refusal(rows_of([1.0, 2.0]), test=0.1) == (
        "train.csv: test = 0.1 of 2 rows leaves 2 for training and 0 for test, "
        "but each needs at least one row. Change the fraction, or name a test file."
    )
    assert len(divided(rows_of([1.0, 2.0]), validation=0.5).train) == 1


def test_whole_groups_need_enough_of_them() -> None:
    message = (
        "train.csv: there are {} groups, but a part of {} in whole groups needs {} or more. "
        "Use a larger fraction, or another column of groups."
    )
    assert refusal(rows_of("ab" * 6, "cdef" * 3)) == message.format(4, 0.2, 5)
    assert len(divided(rows_of("ab" * 10, "ccddeeffgg" * 2)).validation) == 4
    numbers = [float(n) for n in range(10)]
    assert refusal(rows_of(numbers, "c" * 10)) == message.format(1, 0.2, 2)
    assert len(divided(rows_of(numbers, "cd" * 5)).validation) == 5


def test_folds_need_enough_rows_or_groups_or_rows_of_the_rarest_class() -> None:
    message = "train.csv: folds = {}, but there are only {} {} to share out. Use fewer folds."
    numbers = [float(n) for n in range(4)]
    for file, folds, enough, of_what in (
        (rows_of(numbers), 5, 4, "rows"),
        (rows_of(numbers, "ccdd"), 3, 2, "groups"),
        (rows_of("aaab" * 2), 3, 2, "rows of the rarest class"),
        (rows_of("aabb" * 3, "ccddee" * 2), 4, 3, "groups of the rarest class"),
    ):
        assert refusal(file, folds=folds, fold=0) == message.format(folds, enough, of_what)
    assert len(divided(rows_of(numbers), folds=4, fold=3).validation) == 1
    assert len(divided(rows_of(numbers, "ccdd"), folds=2, fold=0).validation) == 2
    assert len(divided(rows_of("aaab" * 2), folds=2, fold=0).validation) == 4


@pytest.mark.filterwarnings("error")  # a library's warning would name no file
def test_a_class_that_a_part_lacks_is_named() -> None:
    grouped = rows_of("aaaaaaaabb", "ccddeeffgg")
    assert refusal(grouped, kind=RareClass) == (
        'train.csv: class "b" has too few groups for validation = 0.2: none is left for '
        "validation. Change the fraction, add rows, or name a validation file."
    )
    assert refusal(rows_of("aaaabb", "ccddee"), folds=2, fold=0, kind=RareClass) in {
        f'train.csv: class "b" has too few groups for folds = 2: none is left for {part}. '
        "Change the fraction, add rows, or name a validation file."
        for part in ("training", "validation")
    }
    rare = rows_of("a" * 18 + "bb")
    with pytest.raises(RareClass) as caught:
        divided(rare, validation=0.1)
    assert caught.value.label == "b"
    assert str(caught.value).startswith('train.csv: class "b" has too few rows for validation')


# --- rows, taken and joined ---


def test_rows_that_are_taken_keep_their_places_targets_labels_and_groups() -> None:
    kept = np.array([3, 1])
    labelled = rows_of("abcd", "efgh").take(kept)
    assert list(labelled.rows) == [3, 1]
    assert [labelled.target(row) for row in range(2)] == ["d", "b"]
    assert [labelled.at(row) for row in range(2)] == ["train.csv, row 3", "train.csv, row 1"]
    assert labelled.groups is not None
    assert list(labelled.groups) == ["h", "f"]

    numbers = rows_of([0.5, 1.5, 2.5, 3.5]).take(kept)
    assert [numbers.target(row) for row in range(2)] == [3.5, 1.5]
    assert isinstance(numbers.target(0), float)
    assert numbers.labels is numbers.groups is None


def test_texts_stay_a_column_when_they_are_taken_and_joined() -> None:
    texts = Texts(pl.Series(["a", "b", "c", "d"]))
    file = Examples("x.csv", texts, None, np.arange(4.0), at=str)
    taken = file.take(np.array([2, 0]))
    assert isinstance(taken.rows, Texts)
    assert list(taken.rows) == ["c", "a"]
    joined = taken.followed_by(file)
    assert isinstance(joined.rows, Texts)
    assert list(joined.rows) == ["c", "a", "a", "b", "c", "d"]
    mixed = file.followed_by(Examples("y.csv", ["e"], None, np.arange(1.0), at=str))
    assert mixed.rows == ["a", "b", "c", "d", "e"]


def test_a_part_is_the_rows_at_its_places() -> None:
    labelled = Part(rows_of("abcd", "efgh"), np.array([1, 3]))
    assert list(labelled.rows) == [1, 3]
    assert list(labelled.labels) == ["b", "d"]
    assert labelled.groups is not None
    assert list(labelled.groups) == ["f", "h"]
    numbers = Part(rows_of([0.5, 1.5, 2.5]), np.array([2, 0]))
    assert numbers.groups is None
    assert_array_equal(numbers.targets, [2.5, 0.5])


def test_refitting_adds_the_validation_rows_in_the_order_of_the_file() -> None:
    file, test = rows_of("abcd"), Part.whole(rows_of("ab", source="test.csv"))
    parts = Parts(Part(file, np.array([1, 3])), Part(file, np.array([0])), test)
    refitted = parts.refitting()
    assert refitted.train.examples is file
    assert_array_equal(refitted.train.index, [0, 1, 3])
    assert refitted.validation is parts.validation
    assert refitted.test is test


@pytest.mark.parametrize("labelled", [True, False])
def test_refitting_appends_a_validation_file(labelled: bool) -> None:
    train = rows_of("abcd" if labelled else [0.5, 1.5, 2.5, 3.5], "efgh")
    validation = rows_of("da" if labelled else [4.5, 5.5], "ij", source="validation.csv")
    parts = Parts(Part(train, np.array([1, 3])), Part(validation, np.array([1])), None)

    joined = parts.refitting().train

    assert list(joined.rows) == [1, 3, 1]
    assert [joined.examples.at(row) for row in range(3)] == [
        "train.csv, row 1", "train.csv, row 3", "validation.csv, row 1",
    ]  # fmt: skip
    assert joined.examples.source == "train.csv"
    assert joined.examples.classes == train.classes
    assert joined.groups is not None
    assert list(joined.groups) == ["f", "h", "j"]
    expected = ["b", "d", "a"] if labelled else [1.5, 3.5, 5.5]
    assert [joined.examples.target(row) for row in range(3)] == expected


def test_what_only_one_of_two_joined_files_has_is_dropped() -> None:
    train, other = rows_of("ab", "ef"), rows_of([0.5, 1.5], source="other.csv")
    for joined in (train.followed_by(other), other.followed_by(train)):
        assert len(joined) == 4
        assert joined.labels is joined.targets is joined.groups is None


def test_all_files_begin_with_the_training_file() -> None:
    train, validation, test = (rows_of("ab", source=f"{name}.csv") for name in "abc")
    assert Files(train, validation, test).all() == [train, validation, test]
    assert Files(train, None, test).all() == [train, test]
    assert Files(train, None, None).all() == [train]

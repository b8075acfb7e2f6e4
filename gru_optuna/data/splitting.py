"""The rows of files for classification or regression, and the part that each belongs to.

No row and no group is ever in two parts. The split depends only on the rows and the study's seed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np

from gru_optuna import seeds
from gru_optuna.data.readers.text_column import Texts
from gru_optuna.errors import DataError, RareClass, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gru_optuna.data.readers.labels import Labels
    from gru_optuna.study_file import Specification

Row = TypeVar("Row")  # a text, or a (T, C) array


@dataclass(frozen=True)
class Examples(Generic[Row]):
    """The rows of one file, with labels (classification) or targets (regression)."""

    source: str
    rows: Sequence[Row]
    labels: Labels | None
    targets: NDArray[np.float64] | None  # (N,)
    at: Callable[[int], str]  # where a row stands, as messages begin
    classes: tuple[str, ...] = ()  # in the order of the outputs
    groups: Labels | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def target(self, row: int) -> str | float:
        """The label of a row, or the number to predict for it."""
        if self.labels is not None:
            return self.labels[row]
        assert self.targets is not None
        return float(self.targets[row])

    def take(self, kept: NDArray[np.int64]) -> Examples[Row]:
        """Selects rows; messages still name their places in the file."""
        return replace(
            self,
            rows=_take(self.rows, kept),
            labels=None if self.labels is None else self.labels.take(kept),
            targets=None if self.targets is None else self.targets[kept],
            at=lambda row: self.at(int(kept[row])),
            groups=None if self.groups is None else self.groups.take(kept),
        )

    def followed_by(self, other: Examples[Row]) -> Examples[Row]:
        """Appends another file's rows; messages still name their places in their files."""
        count, targets = len(self), None
        if self.targets is not None and other.targets is not None:
            targets = np.concatenate([self.targets, other.targets])
        return Examples(
            source=self.source,
            rows=_joined(self.rows, other.rows),
            labels=_joined_labels(self.labels, other.labels),
            targets=targets,
            at=lambda row: self.at(row) if row < count else other.at(row - count),
            classes=self.classes,
            groups=_joined_labels(self.groups, other.groups),
        )


def _take(rows: Sequence[Row], index: NDArray[np.int64]) -> Sequence[Row]:
    if isinstance(rows, Texts):
        return cast("Sequence[Row]", rows.take(index))
    return [rows[row] for row in index]


def _joined(rows: Sequence[Row], others: Sequence[Row]) -> Sequence[Row]:
    if isinstance(rows, Texts) and isinstance(others, Texts):
        return cast("Sequence[Row]", rows.followed_by(others))
    return [*rows, *others]


def _joined_labels(first: Labels | None, second: Labels | None) -> Labels | None:
    return None if first is None or second is None else first.followed_by(second)


@dataclass(frozen=True)
class Files(Generic[Row]):
    """The files that the study names; a part without a file of its own is taken from `train`."""

    train: Examples[Row]
    validation: Examples[Row] | None
    test: Examples[Row] | None

    def all(self) -> list[Examples[Row]]:
        """The files that there are, training first."""
        files = (self.train, self.validation, self.test)
        return [examples for examples in files if examples is not None]


@dataclass(frozen=True)
class Part(Generic[Row]):
    """Rows of a file that are used together."""

    examples: Examples[Row]
    index: NDArray[np.int64]  # (N,) their places in the file

    @classmethod
    def whole(cls, examples: Examples[Row]) -> Part[Row]:
        """All rows of a file."""
        return cls(examples, np.arange(len(examples)))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def rows(self) -> Sequence[Row]:
        """The rows themselves."""
        return _take(self.examples.rows, self.index)

    @property
    def labels(self) -> Labels:
        """Their labels."""
        assert self.examples.labels is not None
        return self.examples.labels.take(self.index)

    @property
    def groups(self) -> Labels | None:
        """Their groups, if there are any."""
        groups = self.examples.groups
        return None if groups is None else groups.take(self.index)

    @property
    def targets(self) -> NDArray[np.float64]:
        """Their numbers to predict (N,)."""
        assert self.examples.targets is not None
        return self.examples.targets[self.index]

    def joined(self, other: Part[Row]) -> Part[Row]:
        """Joins these rows with another part's, from the same file or another one."""
        if self.examples is other.examples:
            return Part(self.examples, np.sort(np.concatenate([self.index, other.index])))
        return Part.whole(
            self.examples.take(self.index).followed_by(other.examples.take(other.index))
        )

    def split(
        self, places: tuple[NDArray[np.int64], NDArray[np.int64]]
    ) -> tuple[Part[Row], Part[Row]]:
        """The rows at the first places and those at the second, each in the file's order."""
        first, second = (Part(self.examples, np.sort(self.index[half])) for half in places)
        return first, second


@dataclass(frozen=True)
class Parts(Generic[Row]):
    """The three parts of a study."""

    train: Part[Row]
    validation: Part[Row]
    test: Part[Row] | None

    def refitting(self) -> Parts[Row]:
        """Adds the validation rows to the training rows; they are still measured on as well."""
        return replace(self, train=self.train.joined(self.validation))


def divide(spec: Specification, files: Files[Row], fold: int | None = None) -> Parts[Row]:
    """Checks that the files fit together, and splits them.

    Parameters
    ----------
    spec
        Its ``data`` section and seed.
    files
        As read.
    fold
        The fold of ``data.folds`` to validate on; None: the part that ``data.validation`` names.

    Raises
    ------
    DataError
        If the files contradict one another, or there are too few rows for all parts.
    """
    data, file = spec.data, _without_unused_classes(files.train)
    _check_classes(file, files.validation is None)
    for other in files.all():
        _check_labels(other, file)
        _check_targets(other)
    _check_groups(files.all())
    train = Part.whole(file)
    test = None if files.test is None else Part.whole(files.test)
    if isinstance(data.test, float):
        train, test = _hold_out(train, "test", data.test, _seed(spec, 1))
    if files.validation is not None:
        return Parts(train, Part.whole(files.validation), test)
    if fold is not None and data.folds is not None:
        return Parts(*_fold(train, data.folds, fold, _seed(spec, 0)), test)
    assert isinstance(data.validation, float)
    return Parts(*_hold_out(train, "validation", data.validation, _seed(spec, 0)), test)


def _seed(spec: Specification, index: int) -> int:
    return seeds.seed_for(spec.seed, "split", index) % 2**32


def _without_unused_classes(train: Examples[Row]) -> Examples[Row]:
    """Drops the classes that the file declares but no row has."""
    present = set() if train.labels is None else train.labels.counts().keys()
    return replace(train, classes=tuple(label for label in train.classes if label in present))


def _check_classes(train: Examples[Any], will_be_split: bool) -> None:
    if train.labels is None:
        return
    counts = train.labels.counts()
    if len(counts) < 2:
        raise DataError(
            f'{train.source}: only one class, "{train.labels[0]}", in {len(train)} rows. '
            f"Classification needs two or more."
        )
    for label, count in counts.items():
        if count < 2 and will_be_split:
            raise RareClass(
                f'{train.at(train.labels.first(label))}: class "{label}" has this single row, '
                f"but training and validation need one each. Add rows, or remove the class.",
                label,
            )


def _check_labels(other: Examples[Any], train: Examples[Any]) -> None:
    for label in other.labels.counts() if other.labels is not None else ():
        if label not in train.classes:
            assert other.labels is not None
            place = other.at(other.labels.first(label))
            raise DataError(
                f'{place}: label "{label}" is not in the training data '
                f"({train.source}). {did_you_mean(label, train.classes)}"
            )


def _check_targets(examples: Examples[Any]) -> None:
    if examples.targets is None or np.isfinite(examples.targets).all():
        return
    row = int((~np.isfinite(examples.targets)).argmax())
    raise DataError(
        f"{examples.at(row)}: the number to predict is missing. Fill it in, or remove the row."
    )


def _check_groups(files: list[Examples[Any]]) -> None:
    seen: dict[str, str] = {}
    for file in files:
        if file.groups is None:
            continue
        for group in (groups := file.groups).counts():
            if seen.get(group, file.source) != file.source:
                raise DataError(
                    f'{file.at(groups.first(group))}: group "{group}" is also in {seen[group]}. '
                    f"A group belongs to one part: move its rows, or split one file by fractions."
                )
        seen |= dict.fromkeys(groups.counts(), file.source)


def _hold_out(
    rows: Part[Row], part: str, fraction: float, seed: int
) -> tuple[Part[Row], Part[Row]]:
    """Splits rows into those that stay and those held out."""
    source, classes = rows.examples.source, len(rows.examples.classes)
    labels = rows.labels if classes else None
    count = round(len(rows) * fraction)
    if min(count, len(rows) - count) < (classes or 1):
        raise DataError(
            f"{source}: {part} = {fraction} of {len(rows)} rows leaves "
            f"{len(rows) - count} for training and {count} for {part}, but each needs "
            f"at least one row{f' of each of the {classes} classes' if classes else ''}. "
            f"Change the fraction, or name a {part} file."
        )
    if (groups := rows.groups) is not None:
        stay, leave = _grouped(source, labels, groups, fraction, seed)
    else:
        stay, leave = draw_halves(len(rows), count, None if labels is None else labels.places, seed)
    halves = rows.split((stay, leave))
    _check_shares(rows, halves, f"{part} = {fraction}", part)
    return halves


def draw_halves(
    count: int, held_out: int, strata: NDArray[np.integer[Any]] | None, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws the rows that stay and the rows held out, each half with its share of each stratum.

    These are the halves of scikit-learn's ``train_test_split`` (tested). Importing that takes a
    second, a third of the time from ``tune`` to its first trial.

    Parameters
    ----------
    count
        Rows, N.
    held_out
        How many of them are held out.
    strata
        (N,) the class of each row; None: rows are drawn without regard to classes.
    seed
        Below 2³².

    Returns
    -------
    tuple
        (N - held_out,) and (held_out,), places of rows in the order drawn.
    """
    random = np.random.RandomState(seed)
    if strata is None:
        places = random.permutation(count)
        return places[held_out:], places[:held_out]
    _, sizes = np.unique(strata, return_counts=True)
    staying = _shares(sizes, count - held_out, random)
    leaving = _shares(sizes - staying, held_out, random)
    members = np.split(np.argsort(strata, kind="stable"), np.cumsum(sizes)[:-1])
    drawn = [rows[random.permutation(len(rows))] for rows in members]
    stay = [rows[:some] for rows, some in zip(drawn, staying, strict=True)]
    leave = [
        rows[some : some + others]
        for rows, some, others in zip(drawn, staying, leaving, strict=True)
    ]
    return random.permutation(np.concatenate(stay)), random.permutation(np.concatenate(leave))


def _shares(
    sizes: NDArray[np.int64], total: int, random: np.random.RandomState
) -> NDArray[np.int64]:
    """Shares a total out in proportion to sizes (the largest remainders first, ties drawn)."""
    exact = sizes / sizes.sum() * total
    shares = np.floor(exact)
    missing = int(total - shares.sum())
    for remainder in np.unique(exact - shares)[::-1] if missing else ():
        (tied,) = np.where(exact - np.floor(exact) == remainder)
        raised = random.choice(tied, size=min(len(tied), missing), replace=False)
        shares[raised] += 1
        missing -= len(raised)
        if not missing:
            break
    whole: NDArray[np.int64] = shares.astype(np.int64)
    return whole


def _grouped(
    source: str, labels: Labels | None, groups: Labels, fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places that stay and those held out: about the fraction, in whole groups."""
    folds = max(2, round(1 / fraction))
    needed = 2 if labels is None else folds
    if (count := len(groups.counts())) < needed:
        raise DataError(
            f"{source}: there are {count} groups, but a part of {fraction} in whole groups needs "
            f"{needed} or more. Use a larger fraction, or another column of groups."
        )
    # Here, because scikit-learn takes a second to import and most studies don't need it.
    from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

    if labels is None:
        splitter = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
    else:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    strata = None if labels is None else labels.places
    with warnings.catch_warnings():
        # A class in few groups: what a part lacks is refused by `_check_shares`, which names it.
        warnings.filterwarnings("ignore", "The least populated class")
        stay, leave = next(splitter.split(groups.places, strata, groups.places))
    return stay, leave


def _fold(rows: Part[Row], folds: int, fold: int, seed: int) -> tuple[Part[Row], Part[Row]]:
    """Splits rows into those that one fold trains on and those it validates on."""
    labels = rows.labels if rows.examples.classes else None
    groups = rows.groups
    enough = len(rows) if groups is None else len(groups.counts())
    if labels is not None:
        enough = min(enough, *labels.counts().values())
    if enough < folds:
        whose = " of the rarest class" if labels is not None else ""
        raise DataError(
            f"{rows.examples.source}: folds = {folds}, but there are only {enough} "
            f"{'rows' if groups is None else 'groups'}{whose} to share out. Use fewer folds."
        )
    # Here for the same reason as in `_grouped`.
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    if groups is not None:
        kind = GroupKFold if labels is None else StratifiedGroupKFold
    else:
        kind = KFold if labels is None else StratifiedKFold
    strata, owners = (None if column is None else column.places for column in (labels, groups))
    places = list(kind(folds, shuffle=True, random_state=seed).split(rows.index, strata, owners))
    halves = rows.split(places[fold])
    _check_shares(rows, halves, f"folds = {folds}", "validation")
    return halves


def _check_shares(
    rows: Part[Any], halves: tuple[Part[Any], Part[Any]], wish: str, part: str
) -> None:
    """Refuses halves in one of which a class is missing."""
    for half, name in zip(halves, ("training", part), strict=True):
        held = () if rows.examples.labels is None else half.labels.counts()
        if missing := set(rows.examples.classes) - set(held):
            raise RareClass(
                f'{rows.examples.source}: class "{min(missing)}" has too few '
                f"{'rows' if rows.groups is None else 'groups'} for {wish}: none is left for "
                f"{name}. Change the fraction, add rows, or name a {part} file.",
                min(missing),
            )

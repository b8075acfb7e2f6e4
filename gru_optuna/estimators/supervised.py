"""A classifier and a regressor of texts and sequences, for scikit-learn."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from gru_optuna import seeds
from gru_optuna.data.readers.in_memory import TARGET, TEXT, array_rows, check_targets, text_rows
from gru_optuna.data.readers.tables import Table
from gru_optuna.data.splitting import draw_halves
from gru_optuna.data.texts.prepare import MOST_TOKENS
from gru_optuna.errors import RareClass
from gru_optuna.estimators.base import AGAIN, GRUEstimator, value_errors
from gru_optuna.estimators.inputs import EstimatorInput, read_rows
from gru_optuna.search.default_sizes import Rows, choose_default_sizes

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray
    from sklearn.utils import Tags

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.data.readers.sequences import Sequences

_TOKENS_A_WORD = 1.5


@dataclass(repr=False, eq=False)
class _Labelled(GRUEstimator):
    """What the classifier and the regressor have in common."""

    space: Mapping[str, Any] | None = None

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags

    def _fit_rows(
        self, rows: EstimatorInput, targets: NDArray[Any], classes: int, **data: Any
    ) -> None:
        self._like = EstimatorInput(rows.kind, rows.values[:1])
        role = "label" if classes else "target"
        whole: Table | Sequences
        with value_errors():
            if rows.kind == "texts":
                data = {"text": TEXT, role: TARGET, **data}
                whole = text_rows(rows.values, targets, self._task, "X")
                steps = [len(text.split()) * _TOKENS_A_WORD for text in rows.values]
            else:
                whole = array_rows(rows.values, targets, self._task, "X")
                steps = [len(row) for row in rows.values]
        source: dict[str, Table | Sequences] = {"X": whole}
        if not self._can_hold_out(len(rows), classes):
            warnings.warn(
                f"{len(rows)} rows are too few to hold some out for validation, so trials are "
                f"compared on the rows that they train on.",
                stacklevel=3,
            )
            data |= {"validation": AGAIN, **({"deduplicate": False} if "text" in data else {})}
            source[AGAIN] = whole
        usual = min(int(np.quantile(steps, 0.9)) + 1, MOST_TOKENS if "text" in data else 10**9)
        kind: Rows = "texts" if "text" in data else "sequences"
        sizes = choose_default_sizes(kind, len(rows), usual, rows.channels or None)
        seed, rare = self._seed(), set[str]()
        while True:
            try:
                return self._tune(self.space, {"train": "X", **data}, source, sizes, seed)
            except RareClass as error:
                self._check_rare(error, rows, targets, rare)
                rare.add(error.label)
            held_out = self._hold_out(targets, rare, seed)
            source = {"X": _taken(whole, ~held_out), "X held out": _taken(whole, held_out)}
            data |= {"validation": "X held out"}

    def _can_hold_out(self, rows: int, classes: int) -> bool:
        """Whether validation rows can be held out, or the study file's checks decide instead."""
        if not self._draws_validation():
            return True
        held = round(rows * self.validation)
        return min(held, rows - held) >= max(classes, 1)

    def _draws_validation(self) -> bool:
        """Whether a share of the rows is for validation, and no key under `data` says otherwise."""
        given = bool(self.data and ({"folds", "validation"} & set(self.data)))
        return not given and isinstance(self.validation, float) and 0 < self.validation < 1

    def _check_rare(
        self, error: RareClass, rows: EstimatorInput, targets: NDArray[Any], rare: set[str]
    ) -> None:
        """Refuses a class without which there is nothing to hold out, or whose rows are equal."""
        own = np.flatnonzero(targets == error.label).tolist()
        if rows.kind == "texts" and len({rows.values[row] for row in own}) < len(own):
            raise ValueError(
                f"{error} Equal texts count as one row; data={{'deduplicate': False}} keeps all."
            ) from None
        others = set(targets) - rare - {error.label}
        if not self._draws_validation() or len(others) < 2:
            raise ValueError(str(error)) from None
        count = "1 row, which stays" if len(own) == 1 else f"{len(own)} rows, which stay"
        warnings.warn(
            f'class "{error.label}" has only {count} in training: the rows held out for '
            f"validation are of the other classes.",
            stacklevel=4,
        )

    def _hold_out(self, targets: NDArray[Any], rare: set[str], seed: int) -> NDArray[np.bool_]:
        """Which rows (N,) are for validation: none of a rare class, a share of each other one."""
        (frequent,) = np.nonzero(~np.isin(targets, list(rare)))
        strata = np.unique(targets[frequent], return_inverse=True)[1]
        count = max(1, round(len(frequent) * self.validation))
        random = seeds.seed_for(seed, "split", 0) % 2**32
        held_out = np.zeros(len(targets), dtype=bool)
        held_out[frequent[draw_halves(len(frequent), count, strata, random)[1]]] = True
        return held_out

    def _rows(self, X: Any) -> Any:
        """The rows of X, as the bundle reads them."""
        check_is_fitted(self, "bundle_")
        with value_errors():
            return read_rows(self, X, self._like).values


@dataclass(repr=False, eq=False)
class GRUClassifier(ClassifierMixin, _Labelled):  # type: ignore[misc]
    """Classifies texts or sequences with the best GRU found within the budget.

    The default metric is accuracy.

    Parameters
    ----------
    {parameters}
    class_weight
        How much a row of each class counts in the loss. A dict gives weights by class, 1 for
        those left out; with "balanced", rare classes count as much as frequent ones; with None,
        all rows count the same.

    Attributes
    ----------
    classes_
        The classes (O,), sorted.
    {attributes}
    n_features_in_
        Columns of a matrix, or channels of sequences; not set for texts.

    Examples
    --------
    >>> model = GRUClassifier(random_state=0).fit(texts, labels)  # doctest: +SKIP
    >>> model.predict(["a delight"])                              # doctest: +SKIP
    array(['positive'], dtype='<U8')
    """

    _task = "classification"

    _: KW_ONLY
    class_weight: Mapping[Any, float] | str | None = None

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Tunes, and keeps the best network in ``bundle_``.

        Parameters
        ----------
        X
            A list of texts; a list of arrays (T, C) or (T,), of differing lengths; an array
            (N, T, C), or (N, T) of one channel.
        y
            (N,) classes.

        Raises
        ------
        ValueError
            If they can't be used; the message says where and why.
        StudyFailed
            If no trial completes.
        """
        with value_errors():
            rows = read_rows(self, X)
        targets = _targets(self, y, rows)
        check_classification_targets(targets)
        self.classes_, codes = np.unique(targets, return_inverse=True)
        names = np.array([str(label).strip() for label in self.classes_], dtype=object)
        if len(set(names)) < len(names) or "" in names:
            raise ValueError("y: two classes differ only in white space, or a class is empty.")
        if isinstance(self.class_weight, str) and self.class_weight != "balanced":
            raise ValueError(
                f'class_weight = "{self.class_weight}". Give "balanced", a dict, or None.'
            )
        data = {"class_weights": "balanced"} if self.class_weight == "balanced" else {}
        self._fit_rows(rows, names[codes], len(names), **data)
        return self

    def _weighted(self, dataset: Dataset) -> Dataset:
        if not isinstance(self.class_weight, Mapping):
            return dataset
        named = {str(label).strip(): weight for label, weight in self.class_weight.items()}
        if unknown := named.keys() - set(dataset.classes):
            raise ValueError(f"class_weight: {min(unknown)} is not a class of y.")
        weights = [float(named.get(label, 1.0)) for label in dataset.classes]
        # Weights are part of what was trained on: a stored study resumes only with the same.
        fingerprint = hashlib.sha256(f"{dataset.fingerprint} {weights}".encode()).hexdigest()
        return replace(dataset, class_weights=torch.tensor(weights), fingerprint=fingerprint)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predicts the most likely class (N,) of each row.

        Raises
        ------
        ValueError
            If X can't be used, or differs in kind from that of `fit`.
        """
        codes = self.predict_proba(X).argmax(axis=1)
        predictions: NDArray[Any] = self.classes_[codes]
        return predictions

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predicts the probability (N, O) of each class, in the order of ``classes_``.

        Raises
        ------
        ValueError
            As `predict`.
        """
        rows = self._rows(X)
        labels = self.bundle_.labels
        places = [labels.index(str(label).strip()) for label in self.classes_]
        with value_errors():
            shares: NDArray[np.float64] = self.bundle_.predict_proba(rows)[:, places]
        return shares


class GRURegressor(RegressorMixin, _Labelled):  # type: ignore[misc]
    """Predicts a number for a text or a sequence with the best GRU found within the budget.

    The default metric is rmse.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}
    n_features_in_
        Columns of a matrix, or channels of sequences; not set for texts.

    Examples
    --------
    >>> model = GRURegressor(random_state=0).fit(recordings, ages)  # doctest: +SKIP
    >>> model.predict(recordings[:2])                               # doctest: +SKIP
    array([31.4, 58.0])
    """

    _task = "regression"

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Tunes, and keeps the best network in ``bundle_``.

        Parameters
        ----------
        X
            As for `GRUClassifier.fit`.
        y
            (N,) numbers.

        Raises
        ------
        ValueError
            If they can't be used; the message says where and why.
        StudyFailed
            If no trial completes.
        """
        with value_errors():
            rows = read_rows(self, X)
        targets = _targets(self, y, rows).astype(np.float64)
        if not np.isfinite(targets).all():
            row = int((~np.isfinite(targets)).argmax())
            raise ValueError(f"y, row {row}: the target is {targets[row]}. Leave the row out.")
        self._fit_rows(rows, targets, classes=0)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predicts a number (N,) for each row, in the units of y.

        Raises
        ------
        ValueError
            If X can't be used, or differs in kind from that of `fit`.
        """
        rows = self._rows(X)
        with value_errors():
            predictions: NDArray[np.float64] = self.bundle_.predict(rows)
        return predictions

    def predict_interval(self, X: Any, level: Literal[80, 95] = 80) -> NDArray[np.float64]:
        """Predicts the lower and upper bounds (N, 2) of a prediction interval.

        At level 80, the interval should contain 80% of the true numbers.

        They are as far from the prediction as the errors on the validation rows (split conformal
        prediction), which only a model that was fitted with `confirm` has measured.

        Raises
        ------
        ValueError
            As `predict`, or if no intervals were measured.
        """
        rows = self._rows(X)
        with value_errors():
            frame = self.bundle_.predict_frame(rows, [str(level)])
        bounds = [np.asarray(frame[f"{side}_{level}"]) for side in ("low", "high")]
        return np.column_stack(bounds)


def _taken(rows: Table | Sequences, chosen: NDArray[np.bool_]) -> Table | Sequences:
    """The chosen rows (N,); messages still name them by their places among all rows."""
    index = np.flatnonzero(chosen)
    if isinstance(rows, Table):
        return replace(rows, frame=rows.frame[index], records=index)
    return replace(
        rows,
        values=[rows.values[row] for row in index],
        labels=[rows.labels[row] for row in index],
        lines=index.tolist(),
    )


def _targets(estimator: GRUEstimator, y: ArrayLike, rows: EstimatorInput) -> NDArray[Any]:
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None."
        )
    with value_errors():
        check_targets(y)
    targets: NDArray[Any] = column_or_1d(y, warn=True)
    check_consistent_length(rows.values, targets)
    return targets

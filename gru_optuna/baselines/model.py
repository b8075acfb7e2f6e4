"""The interface of a family of simple models, and functions that several families share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from gru_optuna import seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from gru_optuna.baselines.rows import Inputs, RawFold
    from gru_optuna.study_file import Specification

Settings: TypeAlias = dict[str, Any]
"""The settings of one model; JSON can hold them."""

Predictor: TypeAlias = "Callable[[Inputs], NDArray[np.float64]]"
"""From N rows to the probabilities of the classes (N, O), or to numbers in the data's units."""


class Family(Protocol):
    """Models of one kind that differ in their settings, for the training rows of one fold.

    An instance may keep what its settings share, such as features.
    """

    def __init__(self, spec: Specification, fold: RawFold) -> None: ...

    def settings(self) -> Iterator[Settings]:
        """Yields the settings to try, the most usual first, since time may run out."""
        ...

    def fit(self, settings: Settings) -> Predictor:
        """Fits a model to the training rows alone."""
        ...

    @staticmethod
    def label(settings: Settings) -> str:
        """The model's name in sentences, such as "ridge regression on 48 lags"."""
        ...


class NotPossibleError(Exception):
    """A family has no model for these rows; the message says why."""


def balances(spec: Specification) -> list[bool]:
    """Whether rare classes count as much as frequent ones in the loss: the ways to try.

    A model has the class weights that the networks have. Where the metric counts every class
    alike, weights may help a simple model that the study gives the networks in another way.
    """
    if spec.task != "classification":
        return [False]
    if spec.data.class_weights == "balanced":
        return [True]
    return [False, True] if spec.metric in ("macro_f1", "balanced_accuracy") else [False]


def row_weights(classes: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Weights (N,) with which every class counts alike; their mean is 1."""
    rows_of = np.bincount(classes, minlength=count)
    weights: NDArray[np.float64] = (len(classes) / (np.count_nonzero(rows_of) * rows_of))[classes]
    return weights


def random_seed(spec: Specification) -> int:
    """The seed of models that draw at random, which scikit-learn takes."""
    return seeds.seed_for(spec.seed, "split", 3) % 2**32


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities (N, O) in proportion to exponentials of scores."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares

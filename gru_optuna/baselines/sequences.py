"""Simple models of sequences: features and trees, random convolutions, ridge on the row.

Letters: N rows, T steps, C channels, P features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gru_optuna.baselines.convolutions import RandomConvolutions
from gru_optuna.baselines.features import RowStatistics, RowValues, statistics, without_gaps
from gru_optuna.baselines.model import balances, random_seed, row_weights
from gru_optuna.baselines.ridge import PENALTIES, RidgePath
from gru_optuna.baselines.sequence_ridge import SequenceRidge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gru_optuna.baselines.convolutions import Arrays
    from gru_optuna.baselines.features import Way
    from gru_optuna.baselines.model import Predictor, Settings
    from gru_optuna.baselines.rows import Inputs, RawFold
    from gru_optuna.baselines.sequence_ridge import SequenceFeatures
    from gru_optuna.study_file import Specification

_TREES = 400
_TEMPERATURES = (2.0, 1.0, 4.0, 8.0, 16.0, 32.0)  # from scores of -1 to 1 to probabilities


class FeatureTrees:
    """Statistics and spectra of each row, and extremely randomized trees (Geurts et al. 2006)."""

    def __init__(self, spec: Specification, fold: RawFold) -> None:
        self._spec, self._fold = spec, fold
        self._rows = without_gaps(fold.train.inputs)
        self._longest = max(map(len, self._rows))
        self._features: dict[bool, NDArray[np.float64]] = {}

    def settings(self) -> Iterator[Settings]:
        """With spectra and without, and how many features a split looks at."""
        for balanced in balances(self._spec):
            for spectra in (True, False):
                for share in ("sqrt", 0.3):
                    yield {"spectra": spectra, "share": share, "balanced": balanced}

    def fit(self, settings: Settings) -> Predictor:
        """Grows the trees."""
        from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

        spectra, longest = bool(settings["spectra"]), self._longest
        if spectra not in self._features:
            self._features[spectra] = statistics(self._rows, longest, spectra=spectra)
        features = self._features[spectra]

        def of(rows: Inputs) -> NDArray[np.float64]:
            return statistics(without_gaps(rows), longest, spectra=spectra)

        targets, classes = self._fold.train.targets, self._fold.classes
        given: dict[str, Any] = {
            "n_estimators": _TREES,
            "max_features": settings["share"],
            "random_state": random_seed(self._spec),
        }
        if not classes:
            trees = ExtraTreesRegressor(**given).fit(features, targets[:, 0])
            return lambda rows: trees.predict(of(rows))[:, None]
        weight = "balanced" if settings["balanced"] else None
        forest = ExtraTreesClassifier(**given, class_weight=weight).fit(features, targets)

        def shares(rows: Inputs) -> NDArray[np.float64]:
            found = forest.predict_proba(of(rows))
            # A class that no tree predicts isn't impossible.
            probabilities = np.full((len(found), classes), 1 / _TREES)
            probabilities[:, forest.classes_] += found
            probabilities /= probabilities.sum(axis=1, keepdims=True)
            return probabilities

        return shares

    @staticmethod
    def label(settings: Settings) -> str:
        """Such as "extra trees on statistics and spectra"."""
        return f"extra trees on statistics{' and spectra' if settings['spectra'] else ''}"


class _RidgeFamily(ABC):
    """Ridge regression on features; of classes, on 1 for the right class and -1 for others."""

    def __init__(self, spec: Specification, fold: RawFold) -> None:
        self._spec, self._fold = spec, fold
        self._rows = without_gaps(fold.train.inputs)
        self._read: dict[str, _ReadRows] = {}  # the latest, by their way
        self._paths: dict[bool, RidgePath] = {}  # of these, balanced or not

    @abstractmethod
    def _ways(self) -> tuple[str, ...]:
        """The names of the ways to make features."""

    @abstractmethod
    def _make(self, way: str) -> tuple[SequenceFeatures, Arrays]:
        """Features, and what they learn from the training rows."""

    def settings(self) -> Iterator[Settings]:
        """Every way to make features, with every penalty."""
        scaled = self._spec.metric in ("log_loss", "roc_auc")
        temperatures = _TEMPERATURES if scaled and self._fold.classes else _TEMPERATURES[:1]
        for way in self._ways():
            for balanced in balances(self._spec):
                for penalty in PENALTIES:
                    for temperature in temperatures:
                        yield {
                            "features": way,
                            "penalty": penalty,
                            "balanced": balanced,
                            "temperature": temperature,
                        }

    def fit(self, settings: Settings) -> Predictor:
        """Solves the regression; the settings share what they can."""
        way, balanced = settings["features"], bool(settings["balanced"])
        targets, classes = self._fold.train.targets, self._fold.classes
        if way not in self._read:
            self._read = {way: _ReadRows(*self._make(way), self._rows, self._fold)}
            self._paths = {}
        read = self._read[way]
        if balanced not in self._paths:
            outputs = 2 * np.eye(classes)[targets] - 1 if classes else targets
            weights = row_weights(targets, classes) if balanced else None
            self._paths = {balanced: RidgePath(read.of_training, outputs, weights)}
        return SequenceRidge.of(
            read.features, read.learned, self._paths[balanced].solve(settings["penalty"]),
            self._rows[0].shape[1], settings["temperature"] if classes else None,
            known=read.known,
        )  # fmt: skip


@dataclass(eq=False)
class _ReadRows:
    """The rows of a fold as features, which many settings share."""

    features: SequenceFeatures
    learned: Arrays
    rows: list[NDArray[np.float64]]  # of training, without gaps
    fold: RawFold

    @cached_property
    def of_training(self) -> NDArray[np.float64]:
        return self.features(self.rows, self.learned)

    @cached_property
    def _of_validation(self) -> NDArray[np.float64]:
        return self.features(without_gaps(self.fold.validation.inputs), self.learned)

    def known(self, rows: Inputs) -> NDArray[np.float64] | None:
        """The features of the rows that settings are compared on."""
        return self._of_validation if rows is self.fold.validation.inputs else None


class RowRidge(_RidgeFamily):
    """Ridge regression on the values of the row, side by side."""

    def _ways(self) -> tuple[str, ...]:
        return ("row", "differences", "standardised row", "standardised differences", "statistics")

    def _make(self, way: str) -> tuple[SequenceFeatures, Arrays]:
        if way == "statistics":
            return RowStatistics(max(map(len, self._rows))), {}
        return RowValues.of(cast("Way", way), self._rows), {}

    @staticmethod
    def label(settings: Settings) -> str:
        """Such as "ridge regression on the flattened row"."""
        on = {"row": "the flattened row", "statistics": "statistics and spectra of the row"}
        way = settings["features"]
        return f"ridge regression on {on.get(way, f'the {way}'.replace('the d', 'd'))}"


class ConvolutionRidge(_RidgeFamily):
    """Random convolutions and ridge regression, as MiniRocket (Dempster et al. 2021)."""

    def _ways(self) -> tuple[str, ...]:
        return ("convolutions", "convolutions of the standardised row")

    def _make(self, way: str) -> tuple[SequenceFeatures, Arrays]:
        return RandomConvolutions.draw(
            self._rows, standardised=way != "convolutions", seed=random_seed(self._spec)
        )

    @staticmethod
    def label(_settings: Settings) -> str:
        """The name of the model, whatever its settings."""
        return "random convolutions and ridge regression"

"""Simple models of texts: weights of words or characters, and a linear model of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl

from gru_optuna.baselines.model import NotPossibleError, balances
from gru_optuna.baselines.tfidf import MOST_TERMS, TfidfModel, make_vectorizer
from gru_optuna.inspection.scripts import scripts_of, without_spaces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scipy.sparse import csr_matrix

    from gru_optuna.baselines.model import Predictor, Settings
    from gru_optuna.baselines.rows import RawFold
    from gru_optuna.baselines.tfidf import Terms
    from gru_optuna.study_file import Specification

_STRENGTHS = (10.0, 1.0, 100.0)  # C of the logistic regression
_PENALTIES = (1.0, 0.1, 10.0, 0.01, 100.0)  # alpha of the ridge regression


class TextLinear:
    """TF-IDF (Spärck Jones 1972) and logistic or ridge regression."""

    def __init__(self, spec: Specification, fold: RawFold) -> None:
        self._spec, self._fold = spec, fold
        self._texts = list(cast("Sequence[str]", fold.train.inputs))
        self._features: dict[str, tuple[Any, csr_matrix]] = {}

    def settings(self) -> Iterator[Settings]:
        """Words first, where spaces separate them; then pieces of words."""
        sample = self._texts[:: len(self._texts) // 2000 + 1]
        whole = without_spaces(scripts_of(pl.Series(sample, dtype=pl.String)))
        terms = ["characters"] if whole else ["words", "pieces of words"]
        numbers = _STRENGTHS if self._fold.classes else _PENALTIES
        key = "C" if self._fold.classes else "alpha"
        for term in terms:
            for number in numbers:
                for balanced in balances(self._spec):
                    yield {"terms": term, key: number, "balanced": balanced}

    def fit(self, settings: Settings) -> Predictor:
        """Learns the terms' weights and the linear model.

        Raises
        ------
        NotPossibleError
            If the rows hold no terms, or a single class.
        """
        from sklearn.linear_model import LogisticRegression, Ridge

        vectorizer, features = self._vectorized(settings["terms"])
        targets, classes = self._fold.train.targets, self._fold.classes
        if not classes:
            mean, deviation = float(targets.mean()), float(targets.std()) or 1.0
            ridge = Ridge(alpha=settings["alpha"], solver="lsqr")
            ridge.fit(features, (targets[:, 0] - mean) / deviation)
            return TfidfModel.of(
                settings["terms"], vectorizer, ridge.coef_[None, :], np.array([ridge.intercept_]),
                classes=[], outputs=1, mean=mean, deviation=deviation,
            )  # fmt: skip
        if len(np.unique(targets)) < 2:
            raise NotPossibleError("the training rows that were drawn have a single class")
        model = LogisticRegression(
            C=settings["C"],
            class_weight="balanced" if settings["balanced"] else None,
            max_iter=200,
            tol=1e-3,
        )
        model.fit(features, targets)
        weights, offsets = model.coef_, model.intercept_
        if len(weights) == 1:  # of two classes, the second one's against the first one's
            weights, offsets = (np.concatenate([0 * each, each]) for each in (weights, offsets))
        return TfidfModel.of(
            settings["terms"], vectorizer, weights, offsets,
            classes=model.classes_.tolist(), outputs=classes,
        )  # fmt: skip

    def _vectorized(self, terms: Terms) -> tuple[Any, csr_matrix]:
        if terms not in self._features:
            vectorizer = make_vectorizer(
                terms, min_df=1 if len(self._texts) < 1000 else 2, max_features=MOST_TERMS
            )
            try:
                self._features[terms] = vectorizer, vectorizer.fit_transform(self._texts)
            except ValueError as error:  # no term is in two texts
                raise NotPossibleError(str(error).partition(".")[0]) from None
        return self._features[terms]

    @staticmethod
    def label(settings: Settings) -> str:
        """Such as "TF-IDF of words and logistic regression"."""
        kind = "logistic" if "C" in settings else "ridge"
        return f"TF-IDF of {settings['terms']} and {kind} regression"

"""Simple models of texts: weights of words or characters, and a linear model of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl

from gru_optuna.baselines.model import NotPossibleError, balances
from gru_optuna.inspection.scripts import scripts_of, without_spaces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from gru_optuna.baselines.model import Predictor, Settings
    from gru_optuna.baselines.rows import Inputs, RawFold
    from gru_optuna.study_file import Specification

_MOST_TERMS = 200_000  # the most frequent ones; the others occur in a text or two
_TOGETHER = 4096  # texts that are predicted at a time
_STRENGTHS = (10.0, 1.0, 100.0)  # C of the logistic regression
_PENALTIES = (1.0, 0.1, 10.0, 0.01, 100.0)  # alpha of the ridge regression


class TextLinear:
    """TF-IDF (Spärck Jones 1972) and logistic or ridge regression."""

    def __init__(self, spec: Specification, fold: RawFold) -> None:
        self._spec, self._fold = spec, fold
        self._texts = [text for some in _some(fold.train.inputs) for text in some]
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
        """Learns the terms' weights and the linear model."""
        from sklearn.linear_model import LogisticRegression, Ridge

        vectorizer, features = self._vectorized(settings["terms"])
        targets, classes = self._fold.train.targets, self._fold.classes
        if not classes:
            mean, deviation = targets.mean(), targets.std() or 1.0
            ridge = Ridge(alpha=settings["alpha"], solver="lsqr")
            ridge.fit(features, (targets[:, 0] - mean) / deviation)

            def predict(texts: Inputs) -> NDArray[np.float64]:
                parts = [ridge.predict(vectorizer.transform(some)) for some in _some(texts)]
                numbers: NDArray[np.float64] = np.concatenate(parts)[:, None] * deviation + mean
                return numbers

            return predict
        if len(np.unique(targets)) < 2:
            raise NotPossibleError("the training rows that were drawn have a single class")
        model = LogisticRegression(
            C=settings["C"],
            class_weight="balanced" if settings["balanced"] else None,
            max_iter=200,
            tol=1e-3,
        )
        model.fit(features, targets)

        def shares(texts: Inputs) -> NDArray[np.float64]:
            parts = [model.predict_proba(vectorizer.transform(some)) for some in _some(texts)]
            found = np.zeros((sum(map(len, parts)), classes))
            found[:, model.classes_] = np.concatenate(parts)
            return found

        return shares

    def _vectorized(self, terms: str) -> tuple[Any, csr_matrix]:
        if terms not in self._features:
            from sklearn.feature_extraction.text import TfidfVectorizer

            ways: dict[str, dict[str, Any]] = {
                # Any run of letters or digits, single ones too, and signs such as "!" alone.
                "words": {"ngram_range": (1, 2), "token_pattern": r"(?u)\w+|[^\w\s]"},
                "pieces of words": {"ngram_range": (2, 5), "analyzer": "char_wb"},
                "characters": {"ngram_range": (1, 3), "analyzer": "char"},
            }
            vectorizer = TfidfVectorizer(
                sublinear_tf=True,
                min_df=1 if len(self._texts) < 1000 else 2,
                max_features=_MOST_TERMS,
                dtype=np.float32,
                **ways[terms],
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


def _some(texts: Inputs) -> Iterator[list[str]]:
    strings = cast("Sequence[str]", texts)
    for start in range(0, len(strings), _TOGETHER):
        yield list(strings[start : start + _TOGETHER])

"""A linear model of the TF-IDF weights of texts (Spärck Jones 1972), as a few arrays.

It predicts what scikit-learn's vectorizer and regression predict, but it can be written to a file
and read again without running any code of the file's.

Letters: N texts, P terms, K outputs of the regression, O outputs (all classes, or 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np

from gru_optuna.baselines.model import softmax

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sklearn.feature_extraction.text import TfidfVectorizer

    from gru_optuna.baselines.rows import Inputs

Terms: TypeAlias = Literal["words", "pieces of words", "characters"]

MOST_TERMS = 200_000  # the most frequent ones; the others occur in a text or two

_TOGETHER = 4096  # texts that are predicted at a time
_WAYS: dict[Terms, dict[str, Any]] = {
    # Any run of letters or digits, single ones too, and symbols such as "!" alone.
    "words": {"ngram_range": (1, 2), "token_pattern": r"(?u)\w+|[^\w\s]"},
    "pieces of words": {"ngram_range": (2, 5), "analyzer": "char_wb"},
    "characters": {"ngram_range": (1, 3), "analyzer": "char"},
}


def make_vectorizer(terms: Terms, **options: Any) -> TfidfVectorizer:
    """A vectorizer that knows no terms yet, or those of ``vocabulary``."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **_WAYS[terms], **options)


@dataclass(frozen=True, eq=False)
class TfidfModel:
    """A fitted model; called with texts, it predicts their probabilities or numbers (N, O).

    Parameters
    ----------
    terms
        What is counted.
    vocabulary
        The P terms, in the order of the weights.
    classes
        The places of the K classes among all O; empty for numbers.
    outputs
        O.
    arrays
        ``frequencies`` (P,) inverse document frequencies, ``weights`` (K, P), ``offsets`` (K,);
        float32. The scores of numbers are in deviations from their mean: ``mean``, ``deviation``.
    """

    terms: Terms
    vocabulary: list[str]
    classes: list[int]
    outputs: int
    arrays: dict[str, NDArray[np.float32]]
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(
        cls,
        terms: Terms,
        vectorizer: TfidfVectorizer,
        weights: NDArray[np.floating[Any]],
        offsets: NDArray[np.floating[Any]],
        **of_targets: Any,
    ) -> TfidfModel:
        """The model of a fitted vectorizer and regression."""
        numbers = {"frequencies": vectorizer.idf_, "weights": weights, "offsets": offsets}
        arrays = {name: np.ascontiguousarray(a, np.float32) for name, a in numbers.items()}
        vocabulary = vectorizer.get_feature_names_out().tolist()
        return cls(terms, vocabulary, arrays=arrays, **of_targets)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each array."""
        terms, scores = len(self.vocabulary), len(self.classes) or 1
        return {"frequencies": (terms,), "weights": (scores, terms), "offsets": (scores,)}

    def __call__(self, texts: Inputs) -> NDArray[np.float64]:
        """Predicts texts, each independently of the others."""
        parts = [self._predict(some) for some in _some(texts)]
        return np.concatenate(parts) if parts else np.zeros((0, self.outputs))

    def _predict(self, texts: list[str]) -> NDArray[np.float64]:
        # A sparse product goes row by row, so that it rounds alike whatever the batch.
        weights, offsets = self._weights, self.arrays["offsets"].astype(np.float64)
        scores = self._vectorizer.transform(texts).astype(np.float64) @ weights + offsets
        if not self.classes:
            numbers: NDArray[np.float64] = scores * self.deviation + self.mean
            return numbers
        shares = np.zeros((len(texts), self.outputs))
        shares[:, self.classes] = softmax(scores)
        return shares

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        return np.ascontiguousarray(self.arrays["weights"].T, np.float64)

    @cached_property
    def _vectorizer(self) -> TfidfVectorizer:
        vectorizer = make_vectorizer(self.terms, vocabulary=self.vocabulary)
        vectorizer.idf_ = self.arrays["frequencies"].astype(np.float64)
        return vectorizer


def _some(texts: Inputs) -> Iterator[list[str]]:
    strings = cast("Sequence[str]", texts)
    for start in range(0, len(strings), _TOGETHER):
        yield list(strings[start : start + _TOGETHER])

"""Columns of words as numbers: each frequent word of the training rows has a channel, 0 or 1.

A word that training hasn't met lights the channel that its rare words share, if it has met any,
else none. None is lit either where the field is empty: there is nothing between two words to fill
it with, and an empty field beside holidays often says that there is none. Empty is what has no
sign in it: "None" and "NA" are words. Letters: S steps of a series, W channels of a column.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


MOST_CATEGORIES = 16
"""Of a column that have a channel of their own."""


@dataclass(frozen=True)
class Categories:
    """What the training rows say of one column."""

    kept: tuple[str, ...]  # the most frequent first
    rest: bool  # whether training has met others, which share a channel behind those

    @classmethod
    def of(cls, words: Iterable[str | None]) -> Categories:
        """Of the training rows' words, None where one is missing."""
        counts = Counter(word for word in words if word is not None)
        # Of equally frequent ones the first in the alphabet, whatever the order of the rows.
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ranked[:MOST_CATEGORIES]), len(ranked) > MOST_CATEGORIES)

    @property
    def channels(self) -> int:
        """W."""
        return len(self.kept) + self.rest

    def encode(self, column: NDArray[np.object_], missing: float = 0.0) -> NDArray[np.float64]:
        """The channels (S, W) of a column (S,), each of them `missing` where it is None."""
        places = {word: place for place, word in enumerate(self.kept)}
        # Behind the last channel lies one that is cut off: of words that nobody knows.
        found = np.array([places.get(word, len(self.kept)) for word in column], dtype=np.int64)
        lit = np.eye(len(self.kept) + 1)[found][:, : self.channels]
        lit[~has_word(column)] = missing
        return lit


def has_word(column: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Where (S,) no word of a column is missing."""
    return np.array([word is not None for word in column], dtype=bool)

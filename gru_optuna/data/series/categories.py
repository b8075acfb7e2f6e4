"""Categorical covariates as channels of 0 and 1: one for each frequent category in training.

All rare categories of the training rows share one more channel. A category that training hasn't
seen sets that channel to 1, if there is one, and none otherwise. An empty field sets none: it
can't be interpolated between two categories, and in a column of holidays it often means that there
is none. "None" and "NA" are categories; only a field without a character in it is empty.

scikit-learn's ``OneHotEncoder(max_categories=17)`` comes close, but it orders channels by the
alphabet, counts a 17th category as frequent, and can't be restored from a bundle's JSON.

Letters: S steps of a series, W channels of a column.
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
"""The most categories of a column that have a channel of their own."""


@dataclass(frozen=True)
class Categories:
    """The categories of one column in the training rows."""

    kept: tuple[str, ...]  # the most frequent first
    rest: bool  # whether the training rows have others, which share the last channel

    @classmethod
    def of(cls, column: Iterable[str | None]) -> Categories:
        """Counts the categories of training rows; None where one is missing."""
        counts = Counter(category for category in column if category is not None)
        # Ties go to the first in the alphabet, whatever the order of the rows.
        ranked = sorted(counts, key=lambda category: (-counts[category], category))
        return cls(tuple(ranked[:MOST_CATEGORIES]), len(ranked) > MOST_CATEGORIES)

    @property
    def channels(self) -> int:
        """W."""
        return len(self.kept) + self.rest

    def encode(self, column: NDArray[np.object_], missing: float = 0.0) -> NDArray[np.float64]:
        """The channels (S, W) of a column (S,); all of them are `missing` where it is None."""
        places = {category: place for place, category in enumerate(self.kept)}
        # Other categories get the place after the kept ones: a channel, or cut off without one.
        found = np.array([places.get(one, len(self.kept)) for one in column], dtype=np.int64)
        lit = np.eye(len(self.kept) + 1)[found][:, : self.channels]
        lit[~is_present(column)] = missing
        return lit


def is_present(column: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Where (S,) a column of categories isn't missing."""
    return np.array([category is not None for category in column], dtype=bool)

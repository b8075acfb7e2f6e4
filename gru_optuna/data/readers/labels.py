"""Labels and groups: texts that repeat, kept as integer codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Labels(Sequence[str]):
    """N texts at four bytes each. Their codes compare as the texts do."""

    names: tuple[str, ...]  # the distinct texts, sorted by code point
    places: NDArray[np.int32]  # (N,) among the names

    @classmethod
    def of(cls, texts: Iterable[str]) -> Labels:
        """Encodes texts."""
        return cls.of_column(pl.Series(list(texts), dtype=pl.String))

    @classmethod
    def of_column(cls, texts: pl.Series) -> Labels:
        """Encodes a column of texts (N,) without nulls."""
        names = texts.unique().sort()
        places = texts.cast(pl.Enum(names)).to_physical().cast(pl.Int32).to_numpy()
        return cls(tuple(names.to_list()), places)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Labels: ...
    def __getitem__(self, row: int | slice) -> str | Labels:
        if isinstance(row, slice):
            return Labels(self.names, self.places[row])
        return self.names[int(self.places[row])]

    def take(self, index: NDArray[np.int64]) -> Labels:
        """The labels of the rows at these positions."""
        return Labels(self.names, self.places[index])

    def followed_by(self, other: Labels) -> Labels:
        """These labels, then the others."""
        names = tuple(sorted({*self.names, *other.names}))
        place_of = {name: place for place, name in enumerate(names)}
        moved = [
            np.array([place_of[name] for name in labels.names], np.int32)[labels.places]
            for labels in (self, other)
        ]
        return Labels(names, np.concatenate(moved))

    def counts(self) -> dict[str, int]:
        """The number of rows of each text, in order of first occurrence."""
        places, firsts, counts = np.unique(self.places, return_index=True, return_counts=True)
        order = np.argsort(firsts)
        return {self.names[places[position]]: int(counts[position]) for position in order}

    def first(self, text: str) -> int:
        """The first row with this text, which must occur."""
        return int((self.places == self.names.index(text)).argmax())

    def places_among(self, names: Sequence[str]) -> NDArray[np.int64]:
        """The position (N,) of each label in `names`, which must contain all of them."""
        place_of = {name: place for place, name in enumerate(names)}
        # After `take`, some of this object's names may occur in no row, and be absent in `names`.
        return np.array([place_of.get(name, -1) for name in self.names], np.int64)[self.places]

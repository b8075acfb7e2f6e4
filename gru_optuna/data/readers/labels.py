"""Labels and groups: texts of which many are equal, as a small number for each."""

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
    """N texts, four bytes each. Equal texts have equal places, and lesser ones lesser places."""

    names: tuple[str, ...]  # in the order of their characters' numbers
    places: NDArray[np.int32]  # (N,) among the names

    @classmethod
    def of(cls, texts: Iterable[str]) -> Labels:
        """Some texts."""
        return cls.of_column(pl.Series(list(texts), dtype=pl.String))

    @classmethod
    def of_column(cls, texts: pl.Series) -> Labels:
        """A column of texts (N,), none of them null."""
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
        """Those of some rows."""
        return Labels(self.names, self.places[index])

    def followed_by(self, other: Labels) -> Labels:
        """These and others."""
        names = tuple(sorted({*self.names, *other.names}))
        place_of = {name: place for place, name in enumerate(names)}
        moved = [
            np.array([place_of[name] for name in one.names], np.int32)[one.places]
            for one in (self, other)
        ]
        return Labels(names, np.concatenate(moved))

    def counts(self) -> dict[str, int]:
        """How often each text occurs, in the order in which they first do."""
        places, firsts, counts = np.unique(self.places, return_index=True, return_counts=True)
        order = np.argsort(firsts)
        return {self.names[places[one]]: int(counts[one]) for one in order}

    def first(self, text: str) -> int:
        """The first row of a text that occurs."""
        return int((self.places == self.names.index(text)).argmax())

    def places_among(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Which of the names (N,) each is; all are among them."""
        place_of = {name: place for place, name in enumerate(names)}
        # A name that doesn't occur may not be among them.
        return np.array([place_of.get(name, -1) for name in self.names], np.int64)[self.places]

"""Texts as a column of a table, which stays where it is, often mapped from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_TOGETHER = 4096  # texts that are Python strings at a time


@dataclass(frozen=True)
class Texts(Sequence[str]):
    """N texts of a column without nulls; only a few at a time become Python strings."""

    column: pl.Series
    chosen: NDArray[np.int64] | None = None  # (N,) rows of the column; None: all

    def __len__(self) -> int:
        return len(self.column) if self.chosen is None else len(self.chosen)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            if self.chosen is None:
                return self.column[row].to_list()
            return self.column.gather(self.chosen[row]).to_list()
        return str(self.column[row if self.chosen is None else int(self.chosen[row])])

    def __iter__(self) -> Iterator[str]:
        for chunk in self.chunks():
            yield from chunk

    def chunks(self) -> Iterator[list[str]]:
        """All texts in order, a few thousand at a time."""
        for start in range(0, len(self), _TOGETHER):
            yield self[start : start + _TOGETHER]

    def take(self, index: NDArray[np.int64]) -> Texts:
        """The texts of the rows at these positions."""
        return Texts(self.column, index if self.chosen is None else self.chosen[index])

    def followed_by(self, other: Texts) -> Texts:
        """These texts, then the others."""
        column = pl.concat([self.column, other.column.alias(self.column.name)], rechunk=False)
        mine, others = (
            np.arange(len(texts.column)) if texts.chosen is None else texts.chosen
            for texts in (self, other)
        )
        return Texts(column, np.concatenate([mine, others + len(self.column)]))

"""Many texts, as a column of a table that is read where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_TOGETHER = 4096  # that are Python's strings at a time


@dataclass(frozen=True)
class Texts(Sequence[str]):
    """Rows of a column: N texts, none of them null, of which few are strings at a time."""

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
            some = self.column[row] if self.chosen is None else self.column.gather(self.chosen[row])
            return some.to_list()
        return str(self.column[row if self.chosen is None else int(self.chosen[row])])

    def __iter__(self) -> Iterator[str]:
        for some in self.chunks():
            yield from some

    def chunks(self) -> Iterator[list[str]]:
        """All of them, some thousand at a time."""
        for start in range(0, len(self), _TOGETHER):
            yield self[start : start + _TOGETHER]

    def take(self, index: NDArray[np.int64]) -> Texts:
        """Those of some rows."""
        return Texts(self.column, index if self.chosen is None else self.chosen[index])

    def followed_by(self, other: Texts) -> Texts:
        """These and others."""
        column = pl.concat([self.column, other.column.alias(self.column.name)], rechunk=False)
        mine, others = (
            np.arange(len(one.column)) if one.chosen is None else one.chosen
            for one in (self, other)
        )
        return Texts(column, np.concatenate([mine, others + len(self.column)]))

"""Sequences as a file holds them: not scaled, padded or split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Sequences:
    """The rows of one file. Letters: N rows, T steps (which differ), C channels.

    They have either labels (classification) or targets (regression).
    """

    source: str
    values: list[NDArray[np.float64]]  # one (T, C) array per row
    labels: list[str]  # empty where there are targets
    lines: list[int]  # each row's line in the file, from 1, for messages
    classes: tuple[str, ...]  # as the header declares them, else in their natural order
    targets: NDArray[np.float64] | None = None  # (N,)
    ids: list[str] | None = None  # in long form: the names of the rows in messages
    unit: str = "line"  # what `lines` counts: lines of a text, or rows of an array
    features: tuple[str, ...] | None = None  # the names of the channels, if the file has any

    def __len__(self) -> int:
        return len(self.values)

    @property
    def channels(self) -> int:
        """C, which is the same in every row."""
        return int(self.values[0].shape[1])

    def at(self, row: int) -> str:
        """The place of a row, with which messages about it begin."""
        if self.ids is not None:
            return f'{self.source}, id "{self.ids[row]}"'
        return f"{self.source}, {self.unit} {self.lines[row]}"


def known_steps(row: NDArray[np.float64], at: str) -> int:
    """The steps of a row (T, C) up to its last value.

    Raises
    ------
    DataError
        If it has no value at all; `at` says where it stands.
    """
    there = np.flatnonzero(~np.isnan(row).all(axis=1))
    if not len(there):
        raise DataError(f"{at}: every value is missing. Leave out the row.")
    return int(there[-1]) + 1


def classes_of(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels in order: numbers by size, words alphabetically.

    >>> classes_of(["10", "9", "9"])
    ('9', '10')
    """
    found = set(labels)
    try:
        return tuple(sorted(found, key=lambda label: (float(label), label)))
    except ValueError:
        return tuple(sorted(found))

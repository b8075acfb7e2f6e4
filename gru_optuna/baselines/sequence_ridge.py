"""A fitted ridge regression on features of sequences, as a few arrays.

It predicts what the regression that it was made of predicts, but it can be written to a file and
read again without running any code of the file's.

Letters: N rows, T steps, C channels, P features, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from gru_optuna.baselines.convolutions import RandomConvolutions
from gru_optuna.baselines.features import RowStatistics, RowValues, without_gaps
from gru_optuna.baselines.model import softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gru_optuna.baselines.convolutions import Arrays
    from gru_optuna.baselines.ridge import RidgeModel
    from gru_optuna.baselines.rows import Inputs

SequenceFeatures: TypeAlias = RowValues | RowStatistics | RandomConvolutions
"""Turns rows (T, C) without gaps, and what it learned, into features (N, P)."""


def _nothing(_rows: Inputs) -> None:
    return None


@dataclass(frozen=True, eq=False)
class SequenceRidge:
    """A fitted model; called with rows (T, C), it predicts their probabilities or numbers (N, O).

    Parameters
    ----------
    features
        What the regression reads of a row.
    channels
        C.
    outputs
        O.
    temperature
        From scores to probabilities; None: the scores are numbers.
    arrays
        What the features need, the ``means`` (P,) of the features, ``weights`` (P, O) and
        ``offsets`` (O,); float32.
    known
        Features of rows that were computed before, or None.
    """

    features: SequenceFeatures
    channels: int
    outputs: int
    temperature: float | None
    arrays: Arrays
    known: Callable[[Inputs], NDArray[np.float64] | None] = _nothing

    @classmethod
    def of(
        cls,
        features: SequenceFeatures,
        learned: Arrays,
        model: RidgeModel,
        channels: int,
        temperature: float | None,
        known: Callable[[Inputs], NDArray[np.float64] | None],
    ) -> SequenceRidge:
        """The model of a fitted regression."""
        arrays = learned | {
            name: np.ascontiguousarray(a, np.float32) for name, a in model.as_arrays().items()
        }
        return cls(features, channels, len(arrays["offsets"]), temperature, arrays, known)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each array."""
        width = self.features.width(self.channels)
        own = {"means": (width,), "weights": (width, self.outputs), "offsets": (self.outputs,)}
        return self.features.shapes(self.channels) | own

    def __call__(self, rows: Inputs) -> NDArray[np.float64]:
        """Predicts rows, each independently of the others."""
        if not len(rows):
            return np.zeros((0, self.outputs))
        features = self.known(rows)
        if features is None:
            features = self.features(without_gaps(rows), self.arrays)
        means, weights, offsets = self._regression
        # Row by row: a product of whole matrices rounds differently from batch to batch.
        scores = np.stack([(row - means) @ weights for row in features]) + offsets
        return scores if self.temperature is None else softmax(self.temperature * scores)

    @cached_property
    def _regression(self) -> Sequence[NDArray[np.float64]]:
        return [self.arrays[name].astype(np.float64) for name in ("means", "weights", "offsets")]

"""Ridge regression on the same rows with many penalties, at the price of one.

Hoerl & Kennard 1970. One eigendecomposition serves all penalties; with fewer rows than features,
that of the rows' inner products. Letters: N rows, P features, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDS = 3
_USUAL = 1.4826  # a normal error's deviation, in times of its median size

PENALTIES = tuple(10.0**power for power in range(3, -9, -1))
"""In units of the mean eigenvalue, strongest first."""


class RidgePath:
    """Ridge regressions of outputs on standardised features, with an intercept.

    Parameters
    ----------
    features
        (N, P).
    outputs
        (N, O).
    weights
        (N,) how much each row counts; None: all alike.
    """

    def __init__(
        self,
        features: NDArray[np.float64],
        outputs: NDArray[np.float64],
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        share = np.ones(len(features)) if weights is None else weights / weights.mean()
        self._mean = np.average(features, axis=0, weights=share)
        centred = features - self._mean
        deviation = np.sqrt(np.average(centred**2, axis=0, weights=share))
        # A feature that is constant but for rounding would be blown up to noise.
        flat = deviation <= 1e-12 * np.maximum(np.abs(self._mean), 1e-300)
        self._deviation = np.where(flat, np.inf, deviation)
        self._offset = np.average(outputs, axis=0, weights=share)
        root = np.sqrt(share)[:, None]
        self._rows = root * (centred / self._deviation)
        residual = root * (outputs - self._offset)
        self._residual = residual
        self._dual = self._rows.shape[0] < self._rows.shape[1]
        gram = self._rows @ self._rows.T if self._dual else self._rows.T @ self._rows
        values, self._vectors = np.linalg.eigh(gram)
        self._values = np.maximum(values, 0.0)
        self._projected = self._project(residual)
        self._unit = max(float(self._values.mean()), 1e-300)

    def solve(self, penalty: float, *, robust: bool = False) -> RidgeModel:
        """The regression with one of `PENALTIES`.

        A `robust` one forgives outliers: of errors larger than the usual one, only that much
        counts (Huber 1964, by pseudo-values).
        """
        weights, shift = self._weights(self._projected, penalty), np.zeros(len(self._offset))
        for _ in range(_ROUNDS if robust else 0):
            fitted = self._rows @ weights + shift
            errors = self._residual - fitted
            usual = _USUAL * np.median(np.abs(errors), axis=0)
            pseudo = fitted + np.clip(errors, -usual, usual)
            shift = pseudo.mean(axis=0)
            weights = self._weights(self._project(pseudo - shift), penalty)
        return RidgeModel(self._mean, self._deviation, weights, self._offset + shift)

    def _project(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        right = outputs if self._dual else self._rows.T @ outputs
        projected: NDArray[np.float64] = self._vectors.T @ right
        return projected

    def _weights(self, projected: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
        shrunk = projected / (self._values + penalty * self._unit)[:, None]
        weights: NDArray[np.float64] = self._vectors @ shrunk
        return self._rows.T @ weights if self._dual else weights


@dataclass(frozen=True, eq=False)
class RidgeModel:
    """A fitted ridge regression."""

    mean: NDArray[np.float64]  # (P,)
    deviation: NDArray[np.float64]  # (P,)
    weights: NDArray[np.float64]  # (P, O)
    offset: NDArray[np.float64]  # (O,)

    def as_arrays(self) -> dict[str, NDArray[np.float64]]:
        """``means`` (P,), ``weights`` (P, O) and ``offsets`` (O,) of the same predictions.

        Rounded to single precision, the means move the offsets, too.
        """
        means = self.mean.astype(np.float32).astype(np.float64)
        weights = self.weights / self.deviation[:, None]
        offsets = self.offset + (means - self.mean) @ weights
        return {"means": means, "weights": weights, "offsets": offsets}

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """The outputs (N, O) of features (N, P)."""
        scaled = (features - self.mean) / self.deviation
        outputs: NDArray[np.float64] = scaled @ self.weights + self.offset
        return outputs

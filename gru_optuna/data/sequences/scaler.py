"""Scales sequences of numbers by the mean and deviation of the training rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gru_optuna.data.mapped_tensors import Growing
from gru_optuna.data.readers.column_formats import TableFormats
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor


def measure_channels(
    steps: NDArray[np.float64],  # (M, C)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation (C,) of each channel; 1 as the deviation of a constant one.

    The numbers are those of scikit-learn's ``StandardScaler`` to the last bit (tested), whose
    import takes a second.

    Source: Chan, Golub and LeVeque, "Algorithms for computing the sample variance: analysis and
    recommendations", The American Statistician 37(3), 1983: the two-pass algorithm with its
    correction, and the bound below which a variance is rounding alone.
    """
    count, rounding = len(steps), np.finfo(np.float64).eps
    means = steps.sum(axis=0) / count
    centred = steps - means
    variances = ((centred**2).sum(axis=0) - centred.sum(axis=0) ** 2 / count) / count
    constant = variances <= count * rounding * variances + (count * means * rounding) ** 2
    return means, np.where(constant, 1.0, np.sqrt(np.maximum(variances, 0.0)))


@dataclass(frozen=True)
class SequenceEncoder:
    """Encodes sequences: how channels are scaled, and how a table names them."""

    channels: int  # C
    means: NDArray[np.float64] | None  # (C,); None: nothing is scaled
    deviations: NDArray[np.float64] | None  # (C,)
    id: str | None = None
    time: str | None = None
    features: list[str] | None = None  # columns of the channels; None: the rows aren't a table's
    formats: TableFormats = field(default_factory=TableFormats)

    @classmethod
    def fit(
        cls,
        rows: Sequence[NDArray[np.float64]],
        *,
        standardize: bool,
        id: str | None = None,  # noqa: A002 (the study file's word)
        time: str | None = None,
        features: list[str] | None = None,
        formats: TableFormats | None = None,
    ) -> SequenceEncoder:
        """Measures mean and deviation of each channel over all steps of the training rows."""
        means, deviations = measure_channels(np.concatenate(rows)) if standardize else (None, None)
        formats = formats or TableFormats()
        return cls(rows[0].shape[1], means, deviations, id, time, features, formats)

    def encode(
        self, rows: Sequence[NDArray[np.float64]], at: Callable[[int], str]
    ) -> tuple[Tensor, Tensor]:
        """Scaled steps (M, C) of all rows, one after another, and the rows' lengths (N,).

        Parameters
        ----------
        rows
            (T, C) each.
        at
            Where a row stands, as messages begin.

        Raises
        ------
        DataError
            If a value doesn't fit into 32 bits.
        """
        steps = Growing()
        for number, row in enumerate(rows):
            scaled = torch.from_numpy(self._scaled(row)).float()
            if not scaled.isfinite().all():
                raise DataError(
                    f"{at(number)}: a value is too large for 32 bits, in which networks train. "
                    f"Correct it, or remove the row."
                )
            steps.append(scaled)
        return steps.whole(), torch.tensor([len(row) for row in rows])

    def as_json(self) -> dict[str, Any]:
        """Everything that encoding needs."""
        return {
            "kind": "sequences",
            "columns": {"id": self.id, "time": self.time, "features": self.features},
            "channels": self.channels,
            "means": None if self.means is None else self.means.tolist(),
            "deviations": None if self.deviations is None else self.deviations.tolist(),
            **self.formats.in_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SequenceEncoder:
        """The encoder that `as_json` wrote."""
        columns = content["columns"]
        means, deviations = content["means"], content["deviations"]
        return cls(
            content["channels"],
            None if means is None else np.array(means, np.float64),
            None if deviations is None else np.array(deviations, np.float64),
            columns["id"],
            columns["time"],
            columns["features"],
            TableFormats.from_json(content.get("formats")),
        )

    def _scaled(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = row if self.means is None else row - self.means
        return centred if self.deviations is None else centred / self.deviations

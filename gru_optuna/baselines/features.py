"""Features of sequences: statistics of their values, spectra, and the values themselves.

Letters: N rows, T steps, C channels, P features.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Way: TypeAlias = Literal["row", "differences", "standardised row", "standardised differences"]

_MOST_BINS = 512  # of the spectra of all channels
_BINS = 64  # of one channel; more would drown the statistics
MOST_VALUES = 4096  # of a flattened row
_LONGEST = 8192  # steps of which a spectrum is computed
_SHAPE = 16  # points of a row's course, and a level for each of these stretches
_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def without_gaps(rows: Any) -> list[NDArray[np.float64]]:
    """Rows (T, C) whose missing values repeat the last known one; 0 before the first."""
    return [_filled(np.asarray(row, dtype=np.float64)) for row in rows]


def _filled(row: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(row)
    if known.all():
        return row
    places = np.where(known, np.arange(len(row))[:, None], 0)
    filled = np.take_along_axis(row, np.maximum.accumulate(places, axis=0), axis=0)
    return np.where(np.isfinite(filled), filled, 0.0)


def statistics(
    rows: Sequence[NDArray[np.float64]], longest: int, *, spectra: bool = True
) -> NDArray[np.float64]:
    """Statistics and spectra (N, P) of rows.

    Parameters
    ----------
    rows
        (T, C) each, without gaps; their lengths may differ.
    longest
        T of the longest training row, which decides the spectrum's frequencies.
    spectra
        Whether the spectra are wanted.
    """
    longest = min(longest, _LONGEST) if spectra else 0
    return np.stack([_of_row(row, longest) for row in rows])


def _of_row(row: NDArray[np.float64], longest: int) -> NDArray[np.float64]:
    steps, channels = row.shape
    mean, deviation = row.mean(axis=0), row.std(axis=0)
    scaled = (row - mean) / np.where(deviation > 0, deviation, 1.0)
    steps_between = np.diff(row, axis=0) if steps > 1 else np.zeros((1, channels))
    places = np.linspace(0, steps - 1, _SHAPE)
    course = np.stack([np.interp(places, np.arange(steps), column) for column in row.T])
    ends = np.linspace(0, steps, _SHAPE // 2 + 1).round().astype(int)
    # In a row with few steps, several stretches are the last step.
    levels = [
        row[min(a, steps - 1) : max(b, a + 1)].mean(axis=0) for a, b in itertools.pairwise(ends)
    ]
    crossings = np.abs(np.diff(np.sign(scaled), axis=0)).sum(axis=0) / (2 * steps)
    time = np.arange(steps) - (steps - 1) / 2
    slope = time @ row / max(float(time @ time), 1.0)
    parts = [
        [float(steps)],
        mean,
        deviation,
        np.quantile(row, _QUANTILES, axis=0).ravel(),
        row[0],
        row[-1],
        slope,
        np.sqrt((row**2).mean(axis=0)),
        (scaled**3).mean(axis=0),
        (scaled**4).mean(axis=0),
        np.abs(steps_between).mean(axis=0),
        steps_between.std(axis=0),
        crossings,
        np.abs(scaled).max(axis=0),
        course.ravel(),
        np.concatenate(levels),
    ]
    if longest:
        parts.append(_spectra(row - mean, longest).ravel())
    if 1 < channels <= 16:
        # How channels correlate.
        parts.append((scaled.T @ scaled / steps)[np.triu_indices(channels, 1)])
    return np.concatenate(parts)


def _spectra(row: NDArray[np.float64], longest: int) -> NDArray[np.float64]:
    """Amplitudes (C, 2 bins) of the same frequencies for all rows; and their shares of the sum.

    Low frequencies have bins of their own, high ones share bins whose widths grow.
    """
    amplitudes = np.abs(np.fft.rfft(row[:longest], n=longest, axis=0)) / min(len(row), longest)
    count = int(np.clip(_MOST_BINS // (2 * row.shape[1]), 8, _BINS))
    edges = _edges(len(amplitudes), count)
    pooled = np.add.reduceat(amplitudes, edges, axis=0)
    shares = pooled / np.maximum(pooled.sum(axis=0), 1e-300)
    return np.concatenate([pooled, shares]).T


def _edges(frequencies: int, count: int) -> NDArray[np.int64]:
    """Where bins begin: half of them hold a frequency each, the others share out the rest."""
    if frequencies <= count:
        return np.arange(frequencies)
    single = count // 2
    rest = np.geomspace(single, frequencies, count - single + 1)[:-1].astype(np.int64)
    return np.unique(np.concatenate([np.arange(single), rest]))


@dataclass(frozen=True)
class RowStatistics:
    """Statistics of rows, and spectra, as features (N, P)."""

    longest: int  # steps of the longest training row

    def width(self, channels: int) -> int:
        """P."""
        return int(self([np.zeros((2, channels))], {}).shape[1])

    def shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        """It learns no arrays."""
        return {}

    def __call__(self, rows: Sequence[NDArray[np.float64]], _arrays: object) -> NDArray[np.float64]:
        """The features of rows (T, C) without gaps."""
        return statistics(rows, self.longest)


@dataclass(frozen=True)
class RowValues:
    """The values of each row, side by side (N, P).

    Parameters
    ----------
    way
        "row" or "differences", of the row itself or, after "standardised", of the row with mean 0
        and deviation 1 in each channel.
    steps
        To which every row is brought by interpolation.
    alike
        Whether all training rows have the same length; otherwise a row's length is a feature.
    """

    way: Way
    steps: int
    alike: bool

    @classmethod
    def of(cls, way: Way, rows: Sequence[NDArray[np.float64]]) -> RowValues:
        """Brings rows to the median length of the training rows."""
        lengths = np.array([len(row) for row in rows])
        most = max(8, MOST_VALUES // rows[0].shape[1])
        steps = max(min(int(np.median(lengths)), most), 2)
        return cls(way, steps, len(np.unique(lengths)) == 1)

    def width(self, channels: int) -> int:
        """P."""
        steps = self.steps - 1 if self.way.endswith("differences") else self.steps
        return steps * channels + (not self.alike)

    def shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        """It learns no arrays."""
        return {}

    def __call__(self, rows: Sequence[NDArray[np.float64]], _arrays: object) -> NDArray[np.float64]:
        """The features of rows (T, C) without gaps."""
        return np.stack([self._of(row) for row in rows])

    def _of(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        values = row
        if len(row) != self.steps:
            places = np.linspace(0, len(row) - 1, self.steps)
            columns = [np.interp(places, np.arange(len(row)), column) for column in row.T]
            values = np.stack(columns, axis=1)
        if self.way.startswith("standardised"):
            deviation = values.std(axis=0)
            values = (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
        if self.way.endswith("differences"):
            values = np.diff(values, axis=0)
        return values.ravel() if self.alike else np.append(values.ravel(), len(row))

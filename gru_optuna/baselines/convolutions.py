"""Random convolutions of sequences, after MiniRocket (Dempster, Schmidt & Webb 2021).

84 kernels of nine weights, six of -1 and three of 2, are spread over the row at several dilations.
A feature is the share of steps at which a kernel's output exceeds a threshold, and thresholds are
quantiles of outputs for training rows. Letters: N rows, T steps, C channels, P features.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

Arrays: TypeAlias = "dict[str, NDArray[np.float32]]"
"""Arrays learned from the training rows, by name."""

_KERNELS = tuple(combinations(range(9), 3))  # where the weights are 2
KERNELS = len(_KERNELS)
_MOST_FEATURES = 10_000
_WORK = 6e9  # comparisons of an output with a threshold, over all training rows
_MOST_DILATIONS = 32
_MOST_CHANNELS = 9  # that a kernel adds up
_TOGETHER = 2_000_000  # numbers of a block of rows
_LEAST = 1e-30  # deviation of a constant channel
_GOLDEN = (5**0.5 + 1) / 2  # its multiples fill an interval evenly, however many they are


@dataclass(frozen=True)
class KernelGroup:
    """The features of one kernel at one dilation."""

    dilation: int
    kernel: int  # below 84
    channels: tuple[int, ...]  # that it adds up
    thresholds: int  # how many


@dataclass(frozen=True)
class RandomConvolutions:
    """Turns rows into features (N, P).

    Parameters
    ----------
    standardised
        Whether every channel of a row gets mean 0 and deviation 1 first.
    groups
        The features, in their order.
    """

    standardised: bool
    groups: tuple[KernelGroup, ...]

    @classmethod
    def draw(
        cls, rows: Sequence[NDArray[np.float64]], *, standardised: bool, seed: int
    ) -> tuple[RandomConvolutions, Arrays]:
        """Draws kernels and learns what they need from training rows.

        Parameters
        ----------
        rows
            Training rows (T, C), without gaps.
        standardised
            As above.
        seed
            Decides the channels of each kernel, and the rows that thresholds come from.
        """
        scale = np.maximum(np.std(np.concatenate(rows), axis=0), _LEAST).astype(np.float32)
        random = np.random.default_rng(seed)
        lengths = np.array([len(row) for row in rows])
        channels = rows[0].shape[1]
        features = int(np.clip(_WORK / lengths.sum(), 8 * KERNELS, _MOST_FEATURES))
        each = features // KERNELS
        widest = max(0.0, np.log2(max(np.median(lengths) - 1, 8) / 8))
        powers = np.linspace(0, widest, min(each, _MOST_DILATIONS))
        dilations, counts = np.unique((2**powers).astype(int), return_counts=True)
        shares = np.maximum(1, counts * each // counts.sum())
        groups: list[KernelGroup] = []
        thresholds: list[NDArray[np.float32]] = []
        drawn = 0
        for dilation, count in zip(dilations.tolist(), shares.tolist(), strict=True):
            sample = random.choice(len(rows), min(len(rows), 32), replace=False)
            block = _block([rows[int(place)] for place in sample], scale, standardised)
            parts = _Shifted.of(*block, dilation)
            for kernel in range(KERNELS):
                size = int(2 ** random.uniform(0, np.log2(min(channels, _MOST_CHANNELS) + 1)))
                chosen = np.sort(random.choice(channels, min(size, channels), replace=False))
                output, valid = parts.output(kernel, chosen)
                places = (np.arange(drawn + 1, drawn + count + 1) * _GOLDEN) % 1
                drawn += count
                values = output[valid]
                levels = np.quantile(values, places) if len(values) else np.zeros(count)
                groups.append(KernelGroup(dilation, kernel, tuple(chosen.tolist()), count))
                thresholds.append(levels.astype(np.float32))
        made = cls(standardised, tuple(groups))
        return made, {"scale": scale, "thresholds": np.concatenate(thresholds)}

    def width(self, channels: int) -> int:
        """P."""
        return sum(group.thresholds for group in self.groups)

    def shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the arrays that it needs."""
        return {"scale": (channels,), "thresholds": (self.width(channels),)}

    def __call__(self, rows: Sequence[NDArray[np.float64]], arrays: Arrays) -> NDArray[np.float64]:
        """The features (N, P) of rows."""
        return np.concatenate([self._features(block, arrays) for block in _blocks(rows)])

    def _features(self, rows: Sequence[NDArray[np.float64]], arrays: Arrays) -> NDArray[np.float64]:
        values, lengths = _block(rows, arrays["scale"], self.standardised)
        columns, parts, begin = [], None, 0
        for group in self.groups:
            if parts is None or parts.dilation != group.dilation:
                parts = _Shifted.of(values, lengths, group.dilation)
            output, valid = parts.output(group.kernel, np.array(group.channels))
            count = np.maximum(valid.sum(axis=1), 1)
            levels = arrays["thresholds"][begin : begin + group.thresholds]
            begin += group.thresholds
            above = [((output > level) & valid).sum(axis=1) for level in levels]
            columns.append(np.stack(above, axis=1) / count[:, None])
        return np.concatenate(columns, axis=1)


def _block(
    rows: Sequence[NDArray[np.float64]], scale: NDArray[np.float32], standardised: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows side by side (C, N, T), 0 after the end of each, and their lengths (N,)."""
    lengths = np.array([len(row) for row in rows])
    values = np.zeros((rows[0].shape[1], len(rows), int(lengths.max())), dtype=np.float32)
    for number, row in enumerate(rows):
        scaled = row / scale.astype(np.float64)
        if standardised:
            deviation = scaled.std(axis=0)
            scaled = (scaled - scaled.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
        values[:, number, : len(row)] = scaled.T
    return values, lengths


@dataclass(frozen=True)
class _Shifted:
    """A block moved by each of the nine places of a kernel."""

    dilation: int
    total: NDArray[np.float32]  # (C, N, T) minus the sum of all nine
    moved: NDArray[np.float32]  # (9, C, N, T) three times each
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[np.float32], lengths: NDArray[np.int64], dilation: int) -> _Shifted:
        reach = 4 * dilation
        padded = np.pad(values, ((0, 0), (0, 0), (reach, reach)))
        steps = values.shape[2]
        moved = np.stack(
            [padded[:, :, place * dilation : place * dilation + steps] for place in range(9)]
        )
        return cls(dilation, -moved.sum(axis=0), 3 * moved, lengths)

    def output(
        self, kernel: int, channels: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The sum (N, T) of a kernel over channels, and where it counts.

        Every second kernel counts only where it lies within the row, if it does anywhere.
        """
        first, second, third = _KERNELS[kernel]
        output: NDArray[np.float32] = (
            self.total[channels]
            + self.moved[first, channels]
            + self.moved[second, channels]
            + self.moved[third, channels]
        ).sum(axis=0)
        place, reach = np.arange(output.shape[1]), 4 * self.dilation
        ends = self.lengths[:, None]
        valid = place < ends
        if kernel % 2:
            inside = (place >= reach) & (place < ends - reach)
            valid = np.where(inside.any(axis=1, keepdims=True), inside, valid)
        return output, valid


def _blocks(rows: Sequence[NDArray[np.float64]]) -> Iterator[Sequence[NDArray[np.float64]]]:
    """Rows in order, as many at a time as memory allows."""
    size = max(row.size for row in rows)
    count = max(1, _TOGETHER // size)
    for start in range(0, len(rows), count):
        yield rows[start : start + count]

"""Scales sequences of numbers by the mean and deviation of the training rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gru_optuna.data.mapped_tensors import Growing
from gru_optuna.data.readers.column_formats import TableFormats
from gru_optuna.data.views import PLAIN, View, differences_of, patched, spectra
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

_CHUNK = 2**20  # numbers of the rows that are encoded together
_LEAST_SPREAD = 1e-3  # of a row, in deviations of the training rows: less is rounding alone


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


def channels_with_gaps(rows: Sequence[NDArray[np.float64]]) -> tuple[int, ...]:
    """The channels that lack a value in any of these rows (T, C)."""
    lacking = np.any([np.isnan(row).any(axis=0) for row in rows], axis=0)
    return tuple(np.flatnonzero(lacking).tolist())


def _measure_with_gaps(
    steps: NDArray[np.float64],  # (M, C), NaN where a value is missing
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each channel's known values; 0 and 1 where there are none."""
    missing = np.isnan(steps)
    if not missing.any():
        return measure_channels(steps)
    found = [
        measure_channels(column[there, None]) if there.any() else (np.zeros(1), np.ones(1))
        for column, there in zip(steps.T, ~missing.T, strict=True)
    ]
    means, deviations = zip(*found, strict=True)
    return np.concatenate(means), np.concatenate(deviations)


@dataclass(frozen=True)
class SequenceEncoder:
    """Encodes sequences: how channels are scaled, which are added, and how a table names them."""

    channels: int  # C, of a row as it comes
    means: NDArray[np.float64] | None = None  # (C,); None: nothing is scaled
    deviations: NDArray[np.float64] | None = None  # (C,)
    id: str | None = None
    time: str | None = None
    features: list[str] | None = None  # columns of the channels, if a row is a step
    steps: list[list[str]] | None = None  # columns of each channel, if a row is a sequence
    formats: TableFormats = field(default_factory=TableFormats)
    view: View = PLAIN
    gaps: tuple[int, ...] = ()  # channels that lacked values in training; inputs say where
    # Mean and deviation of each channel that the view adds, before patches are made.
    added: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def fitted(self, rows: Sequence[NDArray[np.float64]]) -> SequenceEncoder:
        """An encoder that has measured its channels over all steps of the training rows."""
        if self.view.normalize == "none":
            return self
        means, deviations = _measure_with_gaps(np.concatenate(rows))
        encoder = replace(self, means=means, deviations=deviations)
        if not (self.view.differences or self.view.spectrum or self.view.statistics):
            return encoder
        parts = [encoder._channels_of(chunk) for chunk in _chunks(rows)]
        measured = [
            measure_channels(np.concatenate(columns))
            for columns in zip(*(added for _, added, _ in parts), strict=True)
        ]
        means, deviations = (np.concatenate(column) for column in zip(*measured, strict=True))
        return replace(encoder, added=(means, deviations))

    @property
    def inputs(self) -> int:
        """The channels of a step as a network reads it."""
        view = self.view
        values = self.channels * (1 + view.differences) * view.patch
        if view.spectrum:
            values = self.channels * view.frequencies
        constant = 2 * self.channels if view.statistics else 0
        return values + 2 * len(self.gaps) * view.patch + constant

    def encode(
        self, rows: Sequence[NDArray[np.float64]], at: Callable[[int], str]
    ) -> tuple[Tensor, Tensor]:
        """Steps (M, `inputs`) of all rows, one after another, and the rows' lengths (N,).

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
        counts: list[Tensor] = []
        for number, row in enumerate(rows):
            # Nothing in a float64 is too large to be scaled by its own mean and deviation, but
            # whether a value can be used mustn't depend on the view.
            with np.errstate(over="ignore", invalid="ignore"):
                fits = np.isfinite(self._scaled(self._known(row)).astype(np.float32)).all()
            if not fits:
                raise DataError(
                    f"{at(number)}: a value is too large for 32 bits, in which networks train. "
                    f"Correct it, or remove the row."
                )
        for chunk in _chunks(rows):
            encoded, lengths = self._encoded(chunk)
            steps.append(torch.from_numpy(encoded))
            counts.append(torch.from_numpy(lengths))
        return steps.whole(), torch.cat(counts)

    def as_json(self) -> dict[str, Any]:
        """Everything that encoding needs."""
        content: dict[str, Any] = {
            "kind": "sequences",
            "columns": {"id": self.id, "time": self.time, "features": self.features}
            | ({"steps": self.steps} if self.steps else {}),
            "channels": self.channels,
            "means": None if self.means is None else self.means.tolist(),
            "deviations": None if self.deviations is None else self.deviations.tolist(),
            **self.formats.in_json(),
        }
        if view := self.view.as_json():  # left out if plain, so that older versions can read it
            content["view"] = view
        if self.added is not None:
            means, deviations = self.added
            content["added"] = {"means": means.tolist(), "deviations": deviations.tolist()}
        if self.gaps:
            content["gaps"] = list(self.gaps)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SequenceEncoder:
        """The encoder that `as_json` wrote."""
        columns, added = content["columns"], content.get("added")
        means, deviations = content["means"], content["deviations"]
        return cls(
            channels=content["channels"],
            means=None if means is None else np.array(means, np.float64),
            deviations=None if deviations is None else np.array(deviations, np.float64),
            **columns,
            formats=TableFormats.from_json(content.get("formats")),
            view=View(**(content.get("view") or {})),
            gaps=tuple(content.get("gaps") or ()),
            added=added and (np.array(added["means"]), np.array(added["deviations"])),
        )

    def _encoded(
        self, rows: Sequence[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Steps (M, `inputs`) and lengths (N,) of the rows of a chunk."""
        steps, added, lengths = self._channels_of(rows)
        if self.added is not None:
            bounds = np.cumsum([part.shape[1] for part in added])[:-1]
            means, deviations = (np.split(numbers, bounds) for numbers in self.added)
            added = [
                (part - mean) / deviation
                for part, mean, deviation in zip(added, means, deviations, strict=True)
            ]
        statistics = [added.pop()] if self.view.statistics else []
        of_patches = [added.pop()] if self.view.spectrum else []
        if self.gaps:
            added.append(np.concatenate([_gaps(row, self.gaps) for row in rows]))
        patches, counts = patched(np.concatenate([steps, *added], 1), lengths, self.view.patch)
        of_patches += [np.repeat(of_row, counts, axis=0) for of_row in statistics]
        return np.concatenate([patches, *of_patches], 1).astype(np.float32), counts

    def _channels_of(
        self, rows: Sequence[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], list[NDArray[np.float64]], NDArray[np.int64]]:
        """The scaled steps (M, C) of a chunk; what the view adds, not scaled yet; lengths (N,).

        Added are differences (M, C), each order by itself, or spectra (M', C * frequencies), one
        for each patch, in place of the steps, which have no channels then; and then statistics
        (N, 2 * C).
        """
        lengths = np.array([len(row) for row in rows], np.int64)
        rows = [self._known(row) for row in rows]
        statistics: list[NDArray[np.float64]] = []
        if self.view.by_row:
            assert self.means is not None
            assert self.deviations is not None
            levels = np.array([row.mean(axis=0) for row in rows])
            spreads = np.array([row.std(axis=0) for row in rows])
            spreads = np.maximum(spreads, _LEAST_SPREAD * self.deviations)
            steps = np.concatenate(
                [(row - own) / s for row, own, s in zip(rows, levels, spreads, strict=True)]
            )
            if self.view.statistics:
                statistics = [np.concatenate([levels, np.log(spreads)], axis=1)]
        else:
            steps = np.concatenate([self._scaled(row) for row in rows])
        if self.view.spectrum:
            return steps[:, :0], [spectra(steps, lengths, self.view), *statistics], lengths
        starts = lengths.cumsum() - lengths
        changes = differences_of(steps, starts, self.view.differences)
        return steps, [*changes, *statistics], lengths

    def _known(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        """A row (T, C) without gaps; a channel without any value is at its mean."""
        filled = _filled(row)
        return np.where(np.isnan(filled), 0.0 if self.means is None else self.means, filled)

    def _scaled(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = row if self.means is None else row - self.means
        return centred if self.deviations is None else centred / self.deviations


def _chunks(rows: Sequence[NDArray[np.float64]]) -> Iterator[list[NDArray[np.float64]]]:
    """Neighbouring rows, so few that the copies which a view makes of them stay small."""
    chunk: list[NDArray[np.float64]] = []
    numbers = 0
    for row in rows:
        chunk.append(row)
        numbers += row.size
        if numbers > _CHUNK:
            yield chunk
            chunk, numbers = [], 0
    if chunk:
        yield chunk


def _filled(row: NDArray[np.float64]) -> NDArray[np.float64]:
    """A row (T, C) in which each missing value repeats the one before it.

    Where there is none before, the next one is repeated; a channel without values stays empty.
    """
    missing = np.isnan(row)
    if not missing.any():
        return row
    places = np.arange(len(row))[:, None]
    latest = np.maximum.accumulate(np.where(missing, -1, places))
    first = np.where(missing.all(axis=0), 0, np.argmin(missing, axis=0))
    return np.take_along_axis(row, np.where(latest < 0, first, latest), axis=0)


def _gaps(row: NDArray[np.float64], channels: Sequence[int]) -> NDArray[np.float64]:
    """Whether each of these channels lacks a value, and the log of the steps since it had one.

    (T, 2 * len(channels)). Source: masks and intervals next to the values, Che et al., "Recurrent
    Neural Networks for Multivariate Time Series with Missing Values", Scientific Reports 8, 2018.
    """
    missing = np.isnan(row[:, list(channels)])
    places = np.arange(len(row))[:, None]
    latest = np.maximum.accumulate(np.where(missing, -1, places))
    return np.concatenate([missing, np.log1p(places - latest)], axis=1)

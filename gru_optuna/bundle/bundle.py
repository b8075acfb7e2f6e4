"""A bundle in memory, and its predictions.

What is predicted for a row depends on that row and on the bundle alone: not on its neighbours,
its place, or how many rows are predicted at once. Compiled code sums a row's numbers in one
order wherever the row stands, which a library of matrix products doesn't promise; and it is the
code that trials on a CPU train and are measured with, so predictions are theirs, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch

from gru_optuna.bundle.folder import write_files
from gru_optuna.bundle.rows import CHUNK, check_steps, rows_of
from gru_optuna.data.dataset import Split, Units, starts_of
from gru_optuna.data.sequences.scaler import SequenceEncoder
from gru_optuna.data.series.encoder import SeriesEncoder, joined_units
from gru_optuna.data.targets import Classes, Numbers
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from gru_optuna.bundle.manifest import Manifest
    from gru_optuna.bundle.rows import Encoder, RowsToPredict
    from gru_optuna.data.series.frequency import Times
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification
    from gru_optuna.training.network import Network

PREDICTION = "prediction"
"""The column of what is predicted."""


NO_UNITS = Units(torch.zeros(0, 1), torch.zeros(0, 1))
"""Of classes."""

_BATCH = 128
_MOST_BYTES = 256 * 2**20  # of the buffers that a batch needs


@dataclass(frozen=True)
class Preprocessing:
    """What rows go through on their way into a network, and what comes out of it means."""

    encoder: Encoder
    answers: Classes | Numbers | None  # None: each series has its own units

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes; none where numbers are predicted."""
        return self.answers.classes if self.answers is not None else ()


@dataclass(frozen=True)
class TrainedNetwork:
    """One network with its weights."""

    network: Network
    weights: dict[str, Tensor]
    preprocessing: Preprocessing

    def outputs(self, split: Split) -> Tensor:
        """Logits or scaled numbers (N, O) of rows, which needn't have targets."""
        from gru_optuna.training.engines.compiled.epoch import predict
        from gru_optuna.training.engines.compiled.slots import RowArrays, flatten
        from gru_optuna.training.engines.compiled.workspace import Workspace, workspace_bytes

        batch, steps = min(_BATCH, len(split)), split.longest
        while batch > 1 and workspace_bytes(self.network, batch, steps) > _MOST_BYTES:
            batch //= 2
        workspace = Workspace.of(self.network, batch, steps)
        flat = flatten(self.network, self.weights)
        return torch.from_numpy(predict(workspace, flat, RowArrays.of(split)))


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model: one network, or several whose predictions are averaged.

    `load_bundle` reads one.

    Attributes
    ----------
    manifest
        What is known of it: study, trial, versions, metrics.
    spec
        The study file that it comes from.
    hyperparameters
        Of the trial.
    networks
        One, or an ensemble.
    files
        As they are kept on disk.
    """

    manifest: Manifest
    spec: Specification
    hyperparameters: Hyperparameters
    networks: tuple[TrainedNetwork, ...]
    files: Mapping[str, bytes]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of `predict_proba`'s columns; none where numbers are told."""
        return self.networks[0].preprocessing.labels

    @property
    def kind(self) -> Literal["texts", "sequences", "series"]:
        """What its rows are."""
        return self.spec.kind

    @property
    def encoder(self) -> Encoder:
        """What rows go through, of the first network: its columns are those of all."""
        return self.networks[0].preprocessing.encoder

    def save(self, folder: str | Path) -> None:
        """Writes the bundle to a new folder, whole or not at all.

        Raises
        ------
        BundleError
            If the folder is there already or can't be written.
        """
        write_files(Path(folder), self.files)

    def predict(self, data: object) -> Any:
        """What the model says of each row, in their order.

        Parameters
        ----------
        data
            A frame (polars, pandas, or a mapping of columns) with the columns of training; a list
            of texts; a list of arrays (T, C); an array (N, T, C); or the Path of a file. Answers
            are not needed. Of series, the rows up to the present.

        Returns
        -------
        numpy.ndarray, or polars.DataFrame
            (N,) labels, or numbers in the data's units. Of series, a frame with the horizon's
            times and forecasts of each, in the data's units.

        Raises
        ------
        DataError
            If columns are missing or values can't be used; it says where.
        """
        if self.kind == "series":
            return self.predict_frame(data)
        return self.predict_frame(data)[PREDICTION].to_numpy()

    def predict_proba(self, data: object) -> NDArray[np.float64]:
        """The probability (N, O) of each class in `labels`.

        Raises
        ------
        DataError
            As `predict`, or if the model tells numbers.
        """
        if not self.labels:
            raise DataError(f"a model of {self.spec.task} tells numbers, not probabilities.")
        return np.concatenate([self.probabilities(part) for part in self._parts(data)])

    def predict_frame(self, data: object) -> pl.DataFrame:
        """What ``gru-optuna predict`` writes: a row for each row given, or for each step ahead.

        Raises
        ------
        DataError
            As `predict`.
        """
        return pl.concat([self.tell(part) for part in self._parts(data)])

    def tell(self, rows: RowsToPredict) -> pl.DataFrame:
        """The same, of rows that are at hand: as many as `CHUNK`, rather than millions."""
        if self.labels:
            return self._classes(rows)
        encoded = self._encode(rows)
        numbers = _mean(
            [
                encoded[number].units.restore(outputs)
                for number, outputs in enumerate(self._outputs(encoded))
            ]
        )  # (N, O)
        ahead = numbers.shape[1]
        columns = {
            name: [value for value in values for _ in range(ahead)]
            for name, values in rows.names.items()
        }
        if (times := encoded[0].times) is not None:
            assert self.spec.data.time is not None
            return pl.DataFrame(
                {**columns, self.spec.data.time: times, PREDICTION: numbers.ravel()}
            )
        return pl.DataFrame({**columns, PREDICTION: numbers.ravel()})

    def probabilities(self, rows: RowsToPredict) -> NDArray[np.float64]:
        """(N, O) of each class; of several networks, their mean."""
        return _mean([_softmax(outputs) for outputs in self._outputs(self._encode(rows))])

    def _classes(self, rows: RowsToPredict) -> pl.DataFrame:
        probabilities = self.probabilities(rows)
        told = [self.labels[place] for place in probabilities.argmax(axis=1)]
        shares = dict(zip([f"P({name})" for name in self.labels], probabilities.T, strict=True))
        names = {name: pl.Series(values=values) for name, values in rows.names.items()}
        return pl.DataFrame({**names, PREDICTION: told, **shares})

    def _encode(self, rows: RowsToPredict) -> list[_Encoded]:
        """Of each network; networks that share their preprocessing share the result."""
        encoded: dict[int, _Encoded] = {}
        for network in self.networks:
            ways = network.preprocessing
            if id(ways) not in encoded:
                encoded[id(ways)] = _encode(ways, rows).cut(self.hyperparameters.max_tokens)
        return [encoded[id(network.preprocessing)] for network in self.networks]

    def _outputs(self, encoded: list[_Encoded]) -> Iterator[Tensor]:
        """Of each network, (N, O) float64."""
        for network, one in zip(self.networks, encoded, strict=True):
            yield network.outputs(one.split).double()

    def _parts(self, data: object) -> Iterator[RowsToPredict]:
        """All rows, so many at a time."""
        if isinstance(data, Path):
            from gru_optuna.bundle.rows import read_rows

            for rows, _ in read_rows(data, self.encoder):
                yield rows
            return
        rows = rows_of(data, self.encoder)
        if not len(rows):
            raise DataError("no rows to predict.")
        for start in range(0, len(rows), CHUNK):
            yield rows.part(start, start + CHUNK)


@dataclass(frozen=True)
class _Encoded:
    """Rows as a network reads them, and what its outputs mean."""

    split: Split  # of targets that nobody knows yet
    units: Units = NO_UNITS
    times: Times | None = None  # (N * O,) of forecasts

    @classmethod
    def of(
        cls, steps: Tensor, lengths: Tensor, units: Units, times: Times | None = None
    ) -> _Encoded:
        unknown = torch.zeros(len(lengths), dtype=torch.int64)
        return cls(Split(steps, starts_of(lengths), lengths, unknown), units, times)

    def cut(self, steps: int | None) -> _Encoded:
        return replace(self, split=self.split.cut(steps))


def _encode(ways: Preprocessing, rows: RowsToPredict) -> _Encoded:
    encoder, answers = ways.encoder, ways.answers
    if isinstance(encoder, SeriesEncoder):
        presents = [encoder.present(series, rows.at(n)) for n, series in enumerate(rows.rows)]
        return _Encoded.of(
            torch.cat([one.values for one in presents]),
            torch.tensor([len(one.values) for one in presents]),
            joined_units([one.units for one in presents]),
            np.concatenate([one.times for one in presents]),
        )
    if isinstance(encoder, SequenceEncoder):
        check_steps(rows, encoder)
        encoded = encoder.encode(rows.rows, rows.at)
    else:
        encoded = encoder.encode(rows.rows)
    units = answers.units(len(rows)) if isinstance(answers, Numbers) else NO_UNITS
    return _Encoded.of(*encoded, units)


def _softmax(outputs: Tensor) -> Tensor:
    """Row by row in numpy, whose sums of a row don't depend on how many rows there are."""
    logits = outputs.numpy()
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return torch.from_numpy(shares / shares.sum(axis=1, keepdims=True))


def _mean(told: list[Tensor]) -> NDArray[np.float64]:
    """Added in the order of the networks, one after another."""
    total = told[0]
    for one in told[1:]:
        total = total + one
    mean: NDArray[np.float64] = (total / len(told)).numpy()
    return mean

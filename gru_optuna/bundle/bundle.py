"""A bundle in memory, and its predictions.

The prediction for a row depends on that row and the bundle alone: not on neighbouring rows, on
its position, or on how many rows are predicted at once. The compiled code adds a row's numbers in
a fixed order wherever the row stands, which a library of matrix products doesn't promise. Trials
on a CPU train and validate with the same code, so a bundle repeats their predictions bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch

from gru_optuna.baselines.model import softmax
from gru_optuna.bundle.folder import write_files
from gru_optuna.bundle.rows import CHUNK, check_steps, read_rows, rows_of
from gru_optuna.data.dataset import Split, Units, joined_units, starts_of
from gru_optuna.data.readers.in_memory import is_pandas
from gru_optuna.data.sequences.scaler import SequenceEncoder
from gru_optuna.data.series.encoder import SeriesEncoder
from gru_optuna.data.series.windows import naive_error
from gru_optuna.data.targets import Classes, Numbers
from gru_optuna.errors import DataError
from gru_optuna.formatting import format_list

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from gru_optuna.bundle.linear import FittedLinear
    from gru_optuna.bundle.manifest import Level, Manifest
    from gru_optuna.bundle.rows import Encoder, RowsToPredict
    from gru_optuna.data.series.frequency import Times
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification
    from gru_optuna.training.network import Network

PREDICTION = "prediction"
"""The column of predictions."""

_NO_UNITS = Units(torch.zeros(0, 1), torch.zeros(0, 1))  # classes have none
_BATCH = 128  # rows
_MOST_BYTES = 256 * 2**20  # for the buffers of one batch


@dataclass(frozen=True)
class Preprocessing:
    """How rows become a network's input, and what its output means."""

    encoder: Encoder
    targets: Classes | Numbers | None  # None: each series has its own units

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes; empty where numbers are predicted."""
        return self.targets.classes if self.targets is not None else ()


@dataclass(frozen=True)
class TrainedNetwork:
    """One network with its weights."""

    network: Network
    weights: dict[str, Tensor]
    preprocessing: Preprocessing
    longest: int | None = None  # tokens of a row that it reads; None: all of them
    weight: int = 1  # how much it counts in the average

    def outputs(self, split: Split) -> Tensor:
        """Logits or scaled numbers (N, O) for the rows of a split, whose targets are ignored."""
        # Heavy: numba, which only predictions need.
        from gru_optuna.training.engines.compiled.epoch import predict
        from gru_optuna.training.engines.compiled.slots import RowArrays, flatten
        from gru_optuna.training.engines.compiled.workspace import KernelWorkspace, workspace_bytes

        batch, steps = min(_BATCH, len(split)), split.longest
        while batch > 1 and workspace_bytes(self.network, batch, steps) > _MOST_BYTES:
            batch //= 2
        workspace = KernelWorkspace.of(self.network, batch, steps)
        flat = flatten(self.network, self.weights)
        return torch.from_numpy(predict(workspace, flat, RowArrays.of(split)))


@dataclass(frozen=True)
class LinearModel:
    """A linear model, and how much it counts in the average."""

    predict: FittedLinear
    weight: int


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model: one network, or several members whose predictions are averaged.

    `load_bundle` reads a bundle from disk.

    Attributes
    ----------
    manifest
        Study, trial, versions of libraries, and metrics.
    spec
        The study file.
    hyperparameters
        The trial's.
    networks
        One, or the networks of an ensemble.
    linear
        The linear models of an ensemble.
    files
        The content of each file on disk, by name.
    """

    manifest: Manifest
    spec: Specification
    hyperparameters: Hyperparameters
    networks: tuple[TrainedNetwork, ...]
    linear: tuple[LinearModel, ...]
    files: Mapping[str, bytes]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of `predict_proba`'s columns; empty for numbers."""
        return self.networks[0].preprocessing.labels

    @property
    def kind(self) -> Literal["texts", "sequences", "series"]:
        """The kind of rows that it reads."""
        return self.spec.kind

    @property
    def encoder(self) -> Encoder:
        """The first network's encoder; every network of a bundle reads the same columns."""
        return self.networks[0].preprocessing.encoder

    def save(self, folder: str | Path) -> None:
        """Writes the bundle to a new folder, whole or not at all.

        Raises
        ------
        BundleError
            If the folder exists already or can't be written.
        """
        write_files(Path(folder), self.files)

    def predict(self, data: object) -> Any:
        """One prediction for each row, in the order of the rows.

        Parameters
        ----------
        data
            A frame (polars, pandas, or a mapping of columns) with the columns of training; a list
            of texts; a list of arrays (T, C); an array (N, T, C); or the Path of a file. Targets
            are not needed. For a series, the rows up to the present.

        Returns
        -------
        numpy.ndarray, polars.DataFrame or pandas.DataFrame
            (N,) labels, or numbers in the data's units. For series, the frame of `predict_frame`,
            with the times of the horizon and the forecasts in the data's units.

        Raises
        ------
        DataError
            If columns are missing or values can't be used; the message says where.
        """
        if self.kind == "series":
            return self.predict_frame(data)
        return self.predict_frame(data)[PREDICTION].to_numpy()

    def predict_proba(self, data: object) -> NDArray[np.float64]:
        """The probability (N, O) of each class in `labels`.

        Raises
        ------
        DataError
            As `predict`, or if the model predicts numbers.
        """
        if not self.labels:
            raise DataError(
                f"a model for {self.spec.task} predicts numbers, so it has no probabilities. "
                f"Call predict instead."
            )
        return np.concatenate([self.probabilities(part) for part in self._parts(data)])

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels of the intervals that it can give, in percent; none for classes."""
        return tuple(self.manifest.intervals.widths) if self.manifest.intervals else ()

    def predict_frame(self, data: object, levels: Collection[str] = ()) -> Any:
        """The table that ``gru-optuna predict`` writes: one row per row, or per step ahead.

        Parameters
        ----------
        data
            As `predict` takes it.
        levels
            Which of `levels` to add intervals of, as columns such as ``low_80`` and ``high_80``.

        Returns
        -------
        polars.DataFrame, or pandas.DataFrame if the data are one

        Raises
        ------
        DataError
            As `predict`, or if there are no intervals of a level.
        """
        self.check_levels(levels)
        frame = pl.concat([self.predict_rows(part, levels) for part in self._parts(data)])
        return frame.to_pandas() if is_pandas(data) else frame

    def check_levels(self, levels: Collection[str]) -> None:
        """Refuses levels of intervals that the bundle doesn't have.

        Raises
        ------
        DataError
            If it lacks one of them; the message names those that it has.
        """
        for level in levels:
            if level not in self.levels:
                known = f"It has {format_list(self.levels)}." if self.levels else "It has none."
                raise DataError(
                    f"this model has no intervals of level {level}. {known} Models of numbers have "
                    f"them once they are confirmed on fresh seeds, unless they are exported with "
                    f"--single or had too few validation rows."
                )

    def predict_rows(self, rows: RowsToPredict, levels: Collection[str] = ()) -> pl.DataFrame:
        """The predictions for rows that are encoded all at once, up to `CHUNK` of them."""
        if self.labels:
            return self._predict_classes(rows)
        encoded = self._encode(rows)
        numbers = self._mean(
            rows,
            (
                encoded[number].units.restore(outputs)
                for number, outputs in enumerate(self._outputs(encoded))
            ),
        )  # (N, O)
        ahead = numbers.shape[1]
        columns: dict[str, Any] = {
            name: [value for value in values for _ in range(ahead)]
            for name, values in rows.names.items()
        }
        if (times := encoded[0].times) is not None:
            found = pl.Series(values=times)
            # Bundles of earlier versions don't know how the times came.
            written = [form.write(found) for form in rows.forms] or [found]
            columns |= zip(self.spec.data.times, written, strict=True)
        bounds = dict(self._bounds(rows, numbers, levels))
        return pl.DataFrame({**columns, PREDICTION: numbers.ravel(), **bounds})

    def _bounds(
        self, rows: RowsToPredict, numbers: NDArray[np.float64], levels: Collection[str]
    ) -> Iterator[tuple[str, pl.Series]]:
        """Columns of bounds around predictions (N, O); null where a series' error is unknown."""
        intervals = self.manifest.intervals
        if intervals is None:
            return
        unit = np.ones(len(numbers))
        if intervals.relative:
            assert isinstance(self.encoder, SeriesEncoder)
            season = self.encoder.plan.season
            # The error of a constant series is measured as it is.
            unit = np.array(
                [
                    (naive_error(each.target, season) or 1.0) * intervals.scales.get(each.name, 1.0)
                    for each in rows.rows
                ]
            )
        for level, widths in intervals.widths.items():
            if level in levels:
                apart = np.outer(unit, widths)
                for side, bound in (("low", numbers - apart), ("high", numbers + apart)):
                    yield f"{side}_{level}", pl.Series(bound.ravel()).fill_nan(None)

    def probabilities(self, rows: RowsToPredict) -> NDArray[np.float64]:
        """The probability (N, O) of each class: the members' average, at the temperature."""
        encoded = self._encode(rows)
        # In numpy, whose sum of a row doesn't depend on the number of rows.
        of_networks = (
            torch.from_numpy(softmax(outputs.numpy())) for outputs in self._outputs(encoded)
        )
        shares = self._mean(rows, of_networks)
        if (temperature := self.manifest.temperature) == 1:
            return shares
        # Relative to the largest one, so that powers of small probabilities aren't all 0.
        powers = (shares / shares.max(axis=1, keepdims=True)) ** (1 / temperature)
        scaled: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return scaled

    def _mean(self, rows: RowsToPredict, of_networks: Iterable[Tensor]) -> NDArray[np.float64]:
        """The mean over the members, always added in their order, so that it rounds alike."""
        linear = (torch.from_numpy(model.predict(rows.rows)) for model in self.linear)
        weights = [network.weight for network in self.networks]
        weights += [model.weight for model in self.linear]
        predictions = zip(weights, chain(of_networks, linear), strict=True)
        total = sum((weight * each for weight, each in predictions), torch.tensor(0.0))
        mean: NDArray[np.float64] = (total / sum(weights)).numpy()
        return mean

    def _predict_classes(self, rows: RowsToPredict) -> pl.DataFrame:
        probabilities = self.probabilities(rows)
        predictions = [self.labels[place] for place in probabilities.argmax(axis=1)]
        shares = dict(zip([f"P({name})" for name in self.labels], probabilities.T, strict=True))
        names = {name: pl.Series(values=values) for name, values in rows.names.items()}
        return pl.DataFrame({**names, PREDICTION: predictions, **shares})

    def _encode(self, rows: RowsToPredict) -> list[_Encoded]:
        """The rows as each network reads them; encoded once for each distinct preprocessing."""
        encoded: dict[tuple[int, int | None], _Encoded] = {}
        for network in self.networks:
            key = id(network.preprocessing), network.longest
            if key not in encoded:
                encoded[key] = _encode(network.preprocessing, rows, network.longest)
        return [encoded[id(each.preprocessing), each.longest] for each in self.networks]

    def _outputs(self, encoded: list[_Encoded]) -> Iterator[Tensor]:
        """The output (N, O) of each network, in float64."""
        for network, rows in zip(self.networks, encoded, strict=True):
            yield network.outputs(rows.split).double()

    def _parts(self, data: object) -> Iterator[RowsToPredict]:
        """All rows, up to `CHUNK` at a time."""
        if isinstance(data, Path):
            for rows, _ in read_rows(data, self.encoder):
                yield rows
            return
        rows = rows_of(data, self.encoder)
        if not len(rows):
            raise DataError("there are no rows to predict. Give at least one.")
        for start in range(0, len(rows), CHUNK):
            yield rows.part(start, start + CHUNK)


@dataclass(frozen=True)
class _Encoded:
    """Rows as a network reads them, and what its outputs mean."""

    split: Split  # with zeros for the targets, which are unknown
    units: Units
    times: Times | None  # (N * O,) of forecasts


def _encode(preprocessing: Preprocessing, rows: RowsToPredict, steps: int | None) -> _Encoded:
    """Encodes rows, cut to their first `steps` steps."""
    encoder, targets = preprocessing.encoder, preprocessing.targets
    units, times = _NO_UNITS, None
    if isinstance(encoder, SeriesEncoder):
        presents = [encoder.present(series, rows.at(n)) for n, series in enumerate(rows.rows)]
        values = torch.cat([present.values for present in presents])
        lengths = torch.tensor([len(present.values) for present in presents])
        units = joined_units([present.units for present in presents])
        times = np.concatenate([present.times for present in presents])
    elif isinstance(encoder, SequenceEncoder):
        check_steps(rows, encoder)
        values, lengths = encoder.encode(rows.rows, rows.at)
    else:
        values, lengths = encoder.encode(rows.rows)
    if isinstance(targets, Numbers):
        units = targets.units(len(rows))
    unknown = torch.zeros(len(lengths), dtype=torch.int64)
    split = Split(values, starts_of(lengths), lengths, unknown)
    return _Encoded(split.cut(steps), units, times)

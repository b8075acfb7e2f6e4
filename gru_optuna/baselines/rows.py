"""The rows of a study as its files have them, in the parts that its networks have.

Simple models read texts, sequences and series themselves, not what a network's preprocessing
makes of them. Letters: N rows, T steps, C channels, O outputs, S steps of a series.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from gru_optuna import seeds
from gru_optuna.data.dataset import Split, Units
from gru_optuna.data.series import windows
from gru_optuna.data.series.encoder import SeriesEncoder
from gru_optuna.data.series.frequency import calendar_channels
from gru_optuna.data.series.plan import SeriesSplit, choose_categories
from gru_optuna.data.series.prepare import prepare_forecasting, read_forecasting
from gru_optuna.data.splitting import divide
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.data.series.series import Series
    from gru_optuna.data.series.windows import WindowPlan
    from gru_optuna.data.splitting import Files, Part
    from gru_optuna.study_file import Specification

MOST_TRAINING_ROWS = 20_000
"""At most this many training rows are drawn: more would take time and help little."""

MOST_TRAINING_WINDOWS = 8_000
"""The limit for windows of series, which overlap."""

MOST_VALIDATION_ROWS = 10_000
"""Of more validation rows, this many are drawn to choose settings on."""

MOST_NUMBERS = 20_000_000
"""Numbers, or characters of texts, of the training rows that are held in memory together."""


_EPOCH = np.datetime64(0, "us")


@dataclass(frozen=True)
class SeriesTable:
    """One series with its gaps filled, and what is known about each of its steps."""

    target: NDArray[np.float64]  # (S,)
    past: NDArray[np.float64]  # (S, P) covariates that are known up to the present
    known: NDArray[np.float64]  # (S + O, K) covariates that are known in advance; NaN at the end
    calendar: NDArray[np.float64]  # (S + O, 2 * cycles) sine and cosine
    training: int  # steps of the training part
    name: str = ""
    first: np.datetime64 = _EPOCH  # its first time


@dataclass(frozen=True)
class Origins:
    """Forecasts to make: in which series, and after which of its steps."""

    tables: tuple[SeriesTable, ...]
    plan: WindowPlan
    series: NDArray[np.int64]  # (N,) places among the tables
    at: NDArray[np.int64]  # (N,) the last step that is known
    seasons: tuple[int, ...]  # candidates, in steps; all fit into the training rows several times

    def __len__(self) -> int:
        return len(self.at)

    def take(self, index: NDArray[np.int64]) -> Origins:
        """Selects forecasts."""
        return replace(self, series=self.series[index], at=self.at[index])


def origins_in(inputs: Inputs) -> Origins:
    """The rows that a model of series reads."""
    assert isinstance(inputs, Origins)
    return inputs


Inputs: TypeAlias = "Sequence[str] | list[NDArray[np.float64]] | Origins"
"""Texts, sequences (T, C), or origins of forecasts."""


@dataclass(frozen=True)
class RawPart:
    """Rows of one part: what a model reads, and what it is to predict."""

    inputs: Inputs
    truth: Split  # its targets, units and groups alone; it has no steps

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def targets(self) -> NDArray[Any]:
        """(N,) classes, or (N, O) numbers in the data's own units; NaN where one is missing."""
        if self.truth.units is None:
            classes: NDArray[np.int64] = self.truth.targets.numpy()
            return classes
        numbers: NDArray[np.float64] = self.truth.units.restore(self.truth.targets).numpy()
        return numbers


@dataclass(frozen=True)
class RawFold:
    """The parts of one fold, or of the whole study."""

    train: RawPart
    validation: RawPart
    test: RawPart | None
    classes: int  # 0 where numbers are predicted
    of: int  # training rows that there are; more than `train` holds if some were drawn


def read_raw_folds(spec: Specification, folder: Path, *, refit: bool = False) -> list[RawFold]:
    """Reads a study's rows, once for each fold of ``data.folds``.

    The test rows are in the order of the networks' test rows.

    Parameters
    ----------
    spec
        Its task, ``data`` section and seed.
    folder
        What relative paths are relative to.
    refit
        Whether the validation rows are training rows, too, and of series all later rows; then there
        is a single fold.

    Raises
    ------
    DataError
        As `load_dataset`.
    """
    folds: Sequence[int | None] = [None] if spec.data.folds is None else range(spec.data.folds)
    if spec.kind == "series":
        read = read_forecasting(spec, folder)
        return [
            _series_fold(
                spec,
                read.rows.series,
                prepare_forecasting(spec, read, fold, refit=refit),
                fold,
                refit=refit,
            )
            for fold in (folds[:1] if refit else folds)
        ]
    # Here, because each kind of rows brings libraries that the others don't need.
    files: Files[Any]
    if spec.kind == "texts":
        from gru_optuna.data.texts.prepare import read_texts

        files = read_texts(spec, folder).files
    else:
        from gru_optuna.data.sequences.prepare import read_study_sequences

        files = read_study_sequences(spec, folder).files
    return [
        _labelled_fold(spec, files, fold, refit=refit) for fold in (folds[:1] if refit else folds)
    ]


def _labelled_fold(
    spec: Specification, files: Files[Any], fold: int | None, *, refit: bool
) -> RawFold:
    parts = divide(spec, files, fold)
    parts = parts.refitting() if refit else parts
    classes = parts.train.examples.classes
    random = np.random.default_rng(seeds.seed_for(spec.seed, "split", 2))
    train, validation = (
        _drawn(parts.train, MOST_TRAINING_ROWS, random),
        _drawn(parts.validation, MOST_VALIDATION_ROWS, random),
    )
    return RawFold(
        train=_labelled(train, classes),
        validation=_labelled(validation, classes),
        test=None if parts.test is None else _labelled(parts.test, classes),
        classes=len(classes) if parts.train.examples.labels is not None else 0,
        of=len(parts.train),
    )


def _drawn(part: Part[Any], most: int, random: np.random.Generator) -> Part[Any]:
    """At most this many rows, and no more than fit into memory together; drawn at random."""
    sizes = [_size(part.examples.rows[int(row)]) for row in part.index[:: len(part) // 1000 + 1]]
    most = max(1, min(most, int(MOST_NUMBERS / max(float(np.mean(sizes)), 1.0))))
    if len(part) <= most:
        return part
    chosen = np.sort(random.choice(len(part), most, replace=False))
    return replace(part, index=part.index[chosen])


def _size(row: str | NDArray[np.float64]) -> int:
    return len(row) if isinstance(row, str) else int(row.size)


def _labelled(part: Part[Any], classes: tuple[str, ...]) -> RawPart:
    if part.examples.labels is not None:
        targets = torch.from_numpy(part.labels.places_among(classes))
        return RawPart(part.rows, _truth(targets, None))
    numbers = torch.from_numpy(part.targets).unsqueeze(1)
    rows = torch.ones(len(numbers), 1, dtype=torch.float64)
    return RawPart(part.rows, _truth(numbers, Units(offset=0 * rows, scale=rows)))


def _truth(targets: torch.Tensor, units: Units | None) -> Split:
    none = torch.zeros(len(targets), dtype=torch.int64)
    return Split(torch.zeros(0, 0), none, none, targets, units)


def _series_fold(
    spec: Specification, series: list[Series], dataset: Dataset, fold: int | None, *, refit: bool
) -> RawFold:
    plan = SeriesEncoder.from_json(dataset.preprocessing, spec.data).plan
    splits = [SeriesSplit.of(each.files, spec.data, fold) for each in series]
    splits = [split.refitting() for split in splits] if refit else splits
    categories = choose_categories(series, splits)
    tables = []
    for each, split in zip(series, splits, strict=True):
        columns = np.column_stack([each.target, each.past, each.known])
        columns = windows.fill(columns, split.train[1])
        lit = {name: found.encode(each.categories[name]) for name, found in categories.items()}
        past = np.column_stack(
            [columns[:, 1 : 1 + each.past.shape[1]]]
            + [lit[name] for name in spec.data.covariates if name in lit]
        )
        known = np.column_stack(
            [columns[:, 1 + each.past.shape[1] :]]
            + [lit[name] for name in spec.data.known if name in lit]
        )
        ahead = np.full((plan.horizon, known.shape[1]), np.nan)
        times = plan.frequency.times(each.first, len(each) + plan.horizon)
        tables.append(
            SeriesTable(
                target=columns[:, 0],
                past=past,
                known=np.concatenate([known, ahead]),
                calendar=calendar_channels(times, plan.calendar),
                training=split.train[1],
                name=each.name,
                first=each.first,
            )
        )
    shortest = min(table.training for table in tables)
    usual = {plan.season, *plan.frequency.seasons()}
    seasons = tuple(sorted(s for s in usual if s > 1 and 2 * s + plan.horizon <= shortest))
    whole = Origins(tuple(tables), plan, *_all_origins(tables, plan), seasons)
    there = len(whole)
    if there > MOST_TRAINING_WINDOWS:
        # Drawn, because windows a fixed number of steps apart may all begin at the same hour.
        random = np.random.default_rng(seeds.seed_for(spec.seed, "split", 2))
        whole = whole.take(np.sort(random.choice(there, MOST_TRAINING_WINDOWS, replace=False)))
    train = _forecasts(whole)
    validation = _evaluated(whole, dataset.validation)
    test = None if dataset.test is None else _evaluated(whole, dataset.test)
    return RawFold(train, validation, test, classes=0, of=there)


def _all_origins(
    tables: Sequence[SeriesTable], plan: WindowPlan
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every origin whose targets are training steps: series and step."""
    counts = [max(table.training - plan.horizon, 0) for table in tables]
    return (
        np.repeat(np.arange(len(tables)), counts),
        np.concatenate([np.arange(count) for count in counts]),
    )


def _forecasts(origins: Origins) -> RawPart:
    """Training rows: the steps after each origin, as the files have them, gaps filled."""
    steps = origins.at[:, None] + np.arange(1, origins.plan.horizon + 1)
    values = np.empty(steps.shape)
    for number, table in enumerate(origins.tables):
        own = origins.series == number
        values[own] = table.target[steps[own]]
    rows = torch.ones(len(steps), 1, dtype=torch.float64)
    return RawPart(origins, _truth(torch.from_numpy(values), Units(0 * rows, rows)))


def _evaluated(whole: Origins, split: Split) -> RawPart:
    """The forecasts that networks are measured on, with their targets and units."""
    assert split.groups is not None
    assert split.units is not None
    owners = split.groups.numpy().astype(np.int64)
    firsts = np.cumsum([0, *(len(table.target) for table in whole.tables[:-1])])
    at = split.starts.numpy() - firsts[owners] + whole.plan.window - 1
    origins = replace(whole, series=owners, at=at)
    part = RawPart(origins, split)
    # The windows of networks say where they end; what follows must be what they are to predict.
    truth, found = _forecasts(origins).targets, part.targets
    scale = split.units.scale.numpy()
    if not np.nanmax(np.abs(truth - found) / scale, initial=0) < 1e-3:  # float32 targets
        raise DataError("the windows of the networks don't end where simple models expect it")
    return part

"""From series to a `Dataset` of windows: split by time, fill, scale, cut, in this order.

Training targets end before validation targets begin, and those end before the test's. Scales,
season, categories and the filling of gaps know the training rows alone. The inputs of a validation
window may reach back into training rows, as those of a real forecast do. Rows of several files are
one series, split where the files meet.

A network predicts how far each step will be from a simple forecast, such as the median of past
seasons (`reference_values`): even an untrained one forecasts well.

Letters: S steps of a series, N windows, C channels, O the horizon.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from gru_optuna.data.dataset import Dataset, Split, joined_units, with_views
from gru_optuna.data.mapped_tensors import Growing
from gru_optuna.data.metrics import measure
from gru_optuna.data.readers.column_formats import TableFormats
from gru_optuna.data.readers.in_memory import open_table
from gru_optuna.data.series import windows
from gru_optuna.data.series.encoder import Prepared, SeriesEncoder
from gru_optuna.data.series.plan import (
    SeriesSplit,
    choose_categories,
    choose_stride,
    make_plan,
    measure_scales,
)
from gru_optuna.data.series.reference_values import usual
from gru_optuna.data.series.series import read_series
from gru_optuna.data.targets import check_defined
from gru_optuna.data.views import views_of
from gru_optuna.errors import DataError, TooFewRows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from gru_optuna.data.dataset import Units
    from gru_optuna.data.readers.in_memory import Source
    from gru_optuna.data.series.categories import Categories
    from gru_optuna.data.series.frequency import Times
    from gru_optuna.data.series.series import Series, SeriesRows, Span
    from gru_optuna.data.series.windows import WindowPlan
    from gru_optuna.data.views import View
    from gru_optuna.study_file import Data, Metric, Specification

_TOGETHER = 1024  # windows whose steps are made at a time
_FAR = 3.0  # usual errors; a training target further away is an outlier (Hampel 1974)


@dataclass(frozen=True)
class SeriesFiles:
    """The series of the study's files."""

    sources: dict[str, str]  # the file of each part, as messages name it
    rows: SeriesRows
    fingerprint: str
    formats: TableFormats


def read_forecasting(spec: Specification, source: Source) -> SeriesFiles:
    """Reads one or several series.

    Parameters
    ----------
    spec
        Its ``data`` section.
    source
        As in `load_dataset`.

    Raises
    ------
    DataError
        If a file can't be read, or its rows don't form regular series.
    """
    data, formats = spec.data, TableFormats.of(spec.data)
    files = {"training": data.train, "validation": data.validation, "test": data.test}
    tables = {
        name: open_table(source, file, formats)
        for name, file in files.items()
        if isinstance(file, str)
    }
    trained_on = tables["training"].source
    sources = {name: tables[name].source if name in tables else trained_on for name in files}
    read = read_series(list(tables.values()), data)
    return SeriesFiles(sources, read, fingerprint(read.series), formats)


def prepare_forecasting(
    spec: Specification, read: SeriesFiles, fold: int | None = None, *, refit: bool = False
) -> Dataset:
    """Splits series by time, scales them, and cuts them into windows.

    Parameters
    ----------
    spec
        Its metric and ``data`` section.
    read
        The series, from `read_forecasting`.
    fold, refit
        As in `load_dataset`.

    Raises
    ------
    DataError
        If a series is too short, or can't be scaled or measured as the study wants.
    """
    data, series, sources = spec.data, read.rows.series, read.sources
    trained_on = sources["training"]
    splits = [SeriesSplit.of(each.files, data, fold) for each in series]
    splits = [split.refitting() for split in splits] if refit else splits
    categories = choose_categories(series, splits)
    _check_parts(series, splits, data, sources)
    _check_columns(series, splits, categories, data, trained_on)
    plan = make_plan(series, splits, read.rows.frequency, data)
    _check_training(series, splits, plan, trained_on)
    stride = data.stride or choose_stride(splits, plan)
    _check_views(spec, series, splits, plan, trained_on)
    # RMSE is dominated by outliers, so networks must learn them; the other metrics forgive them.
    limit = math.inf if spec.metric == "rmse" else _FAR

    def make(view: View) -> Dataset:
        scales = measure_scales(series, splits, plan, stride, view)
        by_name = {each.name: scale for each, scale in zip(series, scales, strict=True)}
        encoder = SeriesEncoder(
            plan, by_name, categories, data, read.formats, read.rows.forms, view
        )
        prepared = [
            _Prepared(encoder.prepare(each, split.train[1]), each.target, limit)
            for each, split in zip(series, splits, strict=True)
        ]
        shared: Tensor | None = None
        if prepared[0].ready.shares_steps:
            steps = Growing()
            for each in prepared:
                steps.append(torch.from_numpy(each.ready.channels))
            shared = steps.whole()
        parts = {
            "training": _part(shared, prepared, [split.train for split in splits], stride),
            "validation": _part(
                shared, prepared, [split.validation for split in splits], stride, evaluated=True
            ),
        }
        if data.test is not None:
            # Every step of the test is forecast, from every origin.
            spans = [split.test for split in splits if split.test is not None]
            parts["test"] = _part(shared, prepared, spans, stride=1, evaluated=True)
        baselines: dict[str, float] = {}
        for name, part in parts.items():
            _check_windows(part, name, sources[name])
            if name != "training":  # the test comes last: its baselines are kept
                baselines = part.baselines(spec.metric)
                check_defined(spec, baselines, sources[name], name)
        return Dataset(
            train=parts["training"].split,
            validation=parts["validation"].split,
            test=parts["test"].split if "test" in parts else None,
            classes=(),
            fingerprint=read.fingerprint,
            task=spec.task,
            baselines=baselines,
            preprocessing=encoder.as_json(),
            view=view,
        )

    def shape(view: View) -> tuple[int, int]:
        encoder = SeriesEncoder(plan, {}, categories, data, view=view)
        return encoder.inputs, -(-plan.window // view.patch)

    return with_views(spec, make, shape)


def fingerprint(series: list[Series]) -> str:
    """SHA-256 of all series: their names, times, values, and where files meet."""
    digest = hashlib.sha256()
    for each in series:
        if len(each.files) > 1:
            digest.update(str(each.files).encode())
        digest.update(f"{each.name!r} {each.first} {each.past.shape} {each.known.shape}".encode())
        for values in (each.target, each.past, each.known):
            digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
        for column, fields in each.categories.items():
            digest.update(json.dumps([column, fields.tolist()]).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Part:
    """The windows of one part, with simple forecasts for them."""

    split: Split
    naive: dict[str, Tensor]  # (N, O) each, in the data's units

    def baselines(self, metric: Metric) -> dict[str, float]:
        assert self.split.units is not None
        return {
            name: measure(metric, self.split.units.scaled(forecasts), self.split)
            for name, forecasts in self.naive.items()
        }


@dataclass(frozen=True)
class _Prepared:
    """One series, ready to be cut into windows with targets."""

    ready: Prepared
    observed: NDArray[np.float64]  # (S,) the target as the file has it
    limit: float  # of training targets, in usual errors

    def windows(self, span: Span, stride: int, evaluated: bool) -> _Windows:
        """The windows whose targets lie in a span.

        Windows to evaluate have only targets that were observed; training uses filled ones, too.
        """
        ready, plan, values = self.ready, self.ready.units.plan, self.ready.values
        origins = plan.origins(*span, stride)
        in_past = usual(values, origins, plan)
        truth = windows.targets(values, origins, plan)
        # Where gaps aren't filled, windows that touch one are dropped.
        whole = windows.are_whole(ready.channels, origins, plan)
        whole &= np.isfinite(in_past + truth).all(axis=1)
        origins, in_past, truth = origins[whole], in_past[whole], truth[whole]
        if evaluated:
            truth = windows.targets(self.observed, origins, plan)
        units = ready.units.of(origins)
        targets = units.scaled(torch.from_numpy(truth))
        if not evaluated:
            targets = targets.clamp(-self.limit, self.limit)
        seasons = {"last value": 1}
        if plan.season > 1:
            seasons = {"seasonal-naive": plan.season} | seasons
        naive = {
            name: windows.naive_forecasts(values, origins, plan.horizon, season)
            for name, season in seasons.items()
        }
        if plan.seasons > 1:
            naive = {f"median of {plan.seasons} seasons": in_past} | naive
        return _Windows(
            origins=origins,
            times=plan.frequency.times(ready.units.first, len(values))[origins],
            targets=targets.float(),
            units=units,
            naive={name: torch.from_numpy(forecasts) for name, forecasts in naive.items()},
        )


@dataclass(frozen=True)
class _Windows:
    """Windows of one series."""

    origins: NDArray[np.int64]  # (N,)
    times: Times  # (N,) of the origins
    targets: Tensor  # (N, O)
    units: Units
    naive: dict[str, Tensor]


def _part(
    shared: Tensor | None,  # (M, C) of all series, one after another, if windows may overlap
    prepared: Sequence[_Prepared],
    spans: Sequence[Span],
    stride: int,
    evaluated: bool = False,
) -> _Part:
    """One part of all series, series by series."""
    found = [
        each.windows(span, stride, evaluated) for each, span in zip(prepared, spans, strict=True)
    ]
    counts = torch.tensor([len(each.origins) for each in found])
    rows, window = int(counts.sum()), prepared[0].ready.units.plan.window
    if shared is not None:
        firsts = np.cumsum([0, *(len(each.ready.channels) for each in prepared[:-1])])
        ends = [each.origins + first for each, first in zip(found, firsts, strict=True)]
        steps, starts = shared, torch.from_numpy(np.concatenate(ends)) - window + 1
    else:
        window = -(-window // prepared[0].ready.units.view.patch)
        steps, starts = _steps_of(prepared, found), torch.arange(rows) * window
    split = Split(
        steps=steps,
        starts=starts,
        lengths=torch.full((rows,), window),
        targets=torch.cat([each.targets for each in found]),
        units=joined_units([each.units for each in found]),
        groups=torch.arange(len(found)).repeat_interleave(counts),
        times=_microseconds(np.concatenate([each.times for each in found])) if evaluated else None,
    )
    naive = {name: torch.cat([each.naive[name] for each in found]) for name in found[0].naive}
    return _Part(split, naive)


def _microseconds(times: Times) -> Tensor:
    return torch.from_numpy(times.astype("datetime64[us]").astype(np.int64))


def _steps_of(prepared: Sequence[_Prepared], found: Sequence[_Windows]) -> Tensor:
    """The steps (M, C) of all windows, one after another: each has its own."""
    steps = Growing()
    for each, windows_of_one in zip(prepared, found, strict=True):
        origins = windows_of_one.origins
        for first in range(0, max(1, len(origins)), _TOGETHER):
            chunk = each.ready.inputs(origins[first : first + _TOGETHER])
            steps.append(torch.from_numpy(chunk).flatten(0, 1))
    return steps.whole()


def _check_views(
    spec: Specification,
    series: list[Series],
    splits: list[SeriesSplit],
    plan: WindowPlan,
    source: str,
) -> None:
    """Refuses views that these series can't have."""
    views = list(views_of(spec))
    training = min(split.train[1] for split in splits)
    if any(view.residual == "yearly" for view in views) and (
        "day of year" not in plan.frequency.calendar(training)
    ):
        raise TooFewRows(
            f'{source}: residual = "yearly" needs a year of training rows, and there are '
            f"{training} rows of {plan.frequency}. Remove it, or add rows."
        )
    for each in series:
        if any(view.log for view in views) and (each.target <= 0).any():
            raise DataError(
                f'{source}: log needs positive values, but "{spec.data.target}" is '
                f"{each.target[each.target <= 0][0]:g}{each.named}. Remove log under [data]."
            )


def _check_columns(
    series: list[Series],
    splits: list[SeriesSplit],
    categories: Mapping[str, Categories],
    data: Data,
    source: str,
) -> None:
    names = [data.target, *(n for n in (*data.covariates, *data.known) if n not in categories)]
    for each, split in zip(series, splits, strict=True):
        columns = np.column_stack([each.target, each.past, each.known])[: split.train[1]]
        empty = np.isnan(columns).all(axis=0)
        if empty.any():
            raise DataError(
                f'{source}: column "{names[int(empty.argmax())]}" has no value in the '
                f"{split.train[1]} training rows{each.named}. Name another column, or make the "
                f"validation and test parts smaller."
            )
    for name, found in categories.items():
        if not found.kept:
            raise DataError(
                f'{source}: column "{name}" has no value in the training rows. Name another '
                f"column, or make the validation and test parts smaller."
            )


def _check_parts(
    series: list[Series], splits: list[SeriesSplit], data: Data, sources: Mapping[str, str]
) -> None:
    assert data.horizon is not None
    for each, split in zip(series, splits, strict=True):
        for name, span in (("validation", split.validation), ("test", split.test)):
            if span is not None and span[1] - span[0] < data.horizon:
                raise TooFewRows(
                    f"{sources[name]}: horizon = {data.horizon} is longer than the {name} part"
                    f"{each.named}, {span[1] - span[0]} of {len(each)} rows. Shorten the horizon, "
                    f"add rows, or change test and validation under [data]."
                )
        if split.train[1] == 0:
            raise TooFewRows(
                f"{sources['training']}: the validation and test parts leave no rows for training"
                f"{each.named}, of {len(each)}. Make them smaller under [data], or add rows."
            )


def _check_training(
    series: list[Series], splits: list[SeriesSplit], plan: WindowPlan, source: str
) -> None:
    needed = plan.first_origin + 1 + plan.horizon
    for each, split in zip(series, splits, strict=True):
        if split.train[1] < needed:
            season = f", season = {plan.season}" if plan.season > 1 else ""
            raise TooFewRows(
                f"{source}: the training part{each.named} has {split.train[1]} of {len(each)} "
                f"rows, but window = {plan.window}, horizon = {plan.horizon}{season} need "
                f"{needed}. Make them smaller, or add rows."
            )


def _check_windows(part: _Part, name: str, source: str) -> None:
    if not len(part.split):
        raise DataError(
            f"{source}: every {name} window touches a missing value. "
            f'Write missing = "interpolate" under [data], or make the window smaller.'
        )

"""Series to a `Dataset` of windows: split by time, scale, fill, cut into windows. In this order.

Training targets end before validation targets begin, and those before the test's. Scalers, the
season and the filling of gaps know the training rows alone. The inputs of a validation window
may reach back into training rows: that is how a forecast is made. Rows of several files are one
series, cut where the files meet.

A network predicts how far each step will be from its usual value, the median of the last
seasons: an untrained one is a good forecast already.

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

from gru_optuna.data.dataset import Dataset, Split
from gru_optuna.data.mapped_tensors import Growing
from gru_optuna.data.metrics import measure
from gru_optuna.data.readers.in_memory import open_table
from gru_optuna.data.series import windows
from gru_optuna.data.series.encoder import Prepared, SeriesEncoder, joined_units
from gru_optuna.data.series.plan import (
    SeriesSplit,
    choose_categories,
    choose_stride,
    make_plan,
    measure_scales,
)
from gru_optuna.data.series.series import read_series
from gru_optuna.data.targets import check_defined
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from gru_optuna.data.dataset import Units
    from gru_optuna.data.readers.in_memory import Source
    from gru_optuna.data.series.frequency import Frequency
    from gru_optuna.data.series.series import Series, Span
    from gru_optuna.data.series.windows import WindowPlan
    from gru_optuna.study_file import Data, Metric, Specification

_FAR = 3.0  # usual errors; further off, a training target is an outlier (Hampel 1974)


@dataclass(frozen=True)
class SeriesFiles:
    """What the study's files hold."""

    sources: dict[str, str]  # of each part, as messages begin
    series: list[Series]
    frequency: Frequency
    fingerprint: str


def read_forecasting(spec: Specification, source: Source) -> SeriesFiles:
    """Reads one series or several.

    Parameters
    ----------
    spec
        Its ``data`` section.
    source
        As `load_dataset`'s.

    Raises
    ------
    DataError
    """
    data = spec.data
    files = {"training": data.train, "validation": data.validation, "test": data.test}
    tables = {
        name: open_table(source, file) for name, file in files.items() if isinstance(file, str)
    }
    trained_on = tables["training"].source
    sources = {name: tables[name].source if name in tables else trained_on for name in files}
    series, frequency = read_series(list(tables.values()), data)
    return SeriesFiles(sources, series, frequency, fingerprint(series))


def prepare_forecasting(
    spec: Specification, read: SeriesFiles, fold: int | None = None, *, refit: bool = False
) -> Dataset:
    """Splits what was read by time, scales it, and cuts it into windows.

    Parameters
    ----------
    spec
        Its metric and ``data`` section.
    read
        By `read_forecasting`.
    fold
        As `load_dataset`'s; a fold validates the rows that follow those it trains on.
    refit
        As `load_dataset`'s.

    Raises
    ------
    DataError
    """
    data, series, sources = spec.data, read.series, read.sources
    trained_on = sources["training"]
    cuts = [SeriesSplit.of(one.files, data, fold) for one in series]
    cuts = [cut.refitting() for cut in cuts] if refit else cuts
    _check_parts(series, cuts, data, sources)
    _check_columns(series, cuts, data, trained_on)
    plan = make_plan(series, cuts, read.frequency, data)
    _check_training(series, cuts, plan, trained_on)
    stride = data.stride or choose_stride(cuts, plan)
    scales = measure_scales(series, cuts, plan, stride)
    names = [one.name for one in series]
    words = choose_categories(series, cuts)
    encoder = SeriesEncoder(plan, dict(zip(names, scales, strict=True)), words, data)
    # Squared errors chase outliers, which errors that are not squared forgive.
    limit = math.inf if spec.metric == "rmse" else _FAR
    prepared = [
        _Prepared(encoder.prepare(one, cut.train[1]), one.target, limit)
        for one, cut in zip(series, cuts, strict=True)
    ]
    steps = Growing()
    for one in prepared:
        steps.append(torch.from_numpy(one.ready.channels))
    all_steps = steps.whole()
    parts = {
        "training": _part(all_steps, prepared, [cut.train for cut in cuts], stride),
        "validation": _part(
            all_steps, prepared, [cut.validation for cut in cuts], stride, evaluated=True
        ),
    }
    if data.test is not None:
        # Every hour of the test is forecast, from every present.
        spans = [cut.test for cut in cuts if cut.test is not None]
        parts["test"] = _part(all_steps, prepared, spans, stride=1, evaluated=True)
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
    )


def fingerprint(series: list[Series]) -> str:
    """SHA-256 of all series: names, times, values, and where files meet."""
    digest = hashlib.sha256()
    for one in series:
        if len(one.files) > 1:
            digest.update(str(one.files).encode())
        digest.update(f"{one.name!r} {one.first} {one.past.shape} {one.known.shape}".encode())
        for values in (one.target, one.past, one.known):
            digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
        for column, words in one.words.items():
            digest.update(json.dumps([column, words.tolist()]).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Part:
    """Windows, and what forecasts that learn nothing say of them."""

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
    """One series, ready to be cut into windows with what is to be told of them."""

    ready: Prepared
    observed: NDArray[np.float64]  # (S,) as the file has it
    limit: float  # of training targets, in usual errors

    def windows(self, span: Span, stride: int, evaluated: bool) -> _Windows:
        """Those whose targets lie in a span.

        Evaluated ones are judged by what was observed. Training takes what was filled in too.
        """
        plan, target = self.ready.plan, self.ready.target
        origins = plan.origins(*span, stride)
        usual = windows.usual(target, origins, plan)
        truth = windows.targets(target, origins, plan)
        # What is missing was dropped, if it wasn't filled in.
        whole = windows.are_whole(self.ready.channels, origins, plan)
        whole &= np.isfinite(usual + truth).all(axis=1)
        origins, usual, truth = origins[whole], usual[whole], truth[whole]
        if evaluated:
            truth = windows.targets(self.observed, origins, plan)
        units = self.ready.units(usual)
        targets = units.scaled(torch.from_numpy(truth))
        if not evaluated:
            targets = targets.clamp(-self.limit, self.limit)
        seasons = {"last value": 1}
        if plan.season > 1:
            seasons = {"seasonal-naive": plan.season} | seasons
        naive = {
            name: windows.naive_forecasts(target, origins, plan.horizon, season)
            for name, season in seasons.items()
        }
        if plan.seasons > 1:
            naive = {f"median of {plan.seasons} seasons": usual} | naive
        return _Windows(
            starts=torch.from_numpy(origins) - plan.window + 1,
            targets=targets.float(),
            units=units,
            naive={name: torch.from_numpy(forecasts) for name, forecasts in naive.items()},
        )


@dataclass(frozen=True)
class _Windows:
    """Some of one series."""

    starts: Tensor  # (N,) first steps, counted in the series
    targets: Tensor  # (N, O)
    units: Units
    naive: dict[str, Tensor]


def _part(
    steps: Tensor,  # (M, C) of all series, one after another
    prepared: Sequence[_Prepared],
    spans: Sequence[Span],
    stride: int,
    evaluated: bool = False,
) -> _Part:
    """One part of all series, one series after another."""
    found = [
        one.windows(span, stride, evaluated) for one, span in zip(prepared, spans, strict=True)
    ]
    firsts = np.cumsum([0, *(len(one.ready.channels) for one in prepared[:-1])])
    starts = [one.starts + int(first) for one, first in zip(found, firsts, strict=True)]
    counts = torch.tensor([len(some) for some in starts])
    split = Split(
        steps=steps,
        starts=torch.cat(starts),
        lengths=torch.full((int(counts.sum()),), prepared[0].ready.plan.window),
        targets=torch.cat([one.targets for one in found]),
        units=joined_units([one.units for one in found]),
        groups=torch.arange(len(found)).repeat_interleave(counts),
    )
    naive = {name: torch.cat([one.naive[name] for one in found]) for name in found[0].naive}
    return _Part(split, naive)


def _check_columns(series: list[Series], cuts: list[SeriesSplit], data: Data, source: str) -> None:
    words = series[0].words
    names = [data.target, *(n for n in (*data.covariates, *data.known) if n not in words)]
    for one, cut in zip(series, cuts, strict=True):
        columns = np.column_stack([one.target, one.past, one.known])[: cut.train[1]]
        empty = np.isnan(columns).all(axis=0)
        if empty.any():
            raise DataError(
                f'{source}: column "{names[int(empty.argmax())]}" has no value in the '
                f"{cut.train[1]} training rows{_of(one)}. Name another column, or smaller parts "
                f"for validation and test."
            )
    for name, found in choose_categories(series, cuts).items():
        if not found.kept:
            raise DataError(
                f'{source}: column "{name}" has no word in the training rows. Name another '
                f"column, or smaller parts for validation and test."
            )


def _check_parts(
    series: list[Series], cuts: list[SeriesSplit], data: Data, sources: Mapping[str, str]
) -> None:
    assert data.horizon is not None
    for one, cut in zip(series, cuts, strict=True):
        for name, span in (("validation", cut.validation), ("test", cut.test)):
            if span is not None and span[1] - span[0] < data.horizon:
                raise DataError(
                    f"{sources[name]}: horizon = {data.horizon} is longer than the {name} part"
                    f"{_of(one)}, {span[1] - span[0]} of {len(one)} rows. Shorten the horizon, "
                    f"bring more rows, or change test and validation under [data]."
                )


def _check_training(
    series: list[Series], cuts: list[SeriesSplit], plan: WindowPlan, source: str
) -> None:
    needed = plan.first_origin + 1 + plan.horizon
    for one, cut in zip(series, cuts, strict=True):
        if cut.train[1] < needed:
            season = f", season = {plan.season}" if plan.season > 1 else ""
            raise DataError(
                f"{source}: the training part{_of(one)} has {cut.train[1]} of {len(one)} rows, "
                f"and window = {plan.window}, horizon = {plan.horizon}{season} need {needed}. "
                f"Make them smaller, or bring more rows."
            )


def _check_windows(part: _Part, name: str, source: str) -> None:
    if not len(part.split):
        raise DataError(
            f"{source}: every {name} window touches a missing value. "
            f'Write missing = "interpolate" under [data], or a smaller window.'
        )


def _of(series: Series) -> str:
    return f' of series "{series.name}"' if series.name else ""

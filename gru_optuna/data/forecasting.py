"""Series to a `Dataset` of windows: split by time, scale, fill, cut into windows. In this order.

Training targets end before validation targets begin, and those before the test's. Scalers, the
season and the filling of gaps know the training rows alone. The inputs of a validation window
may reach back into training rows: that is how a forecast is made.

A network predicts how far each step will be from the seasonal-naive forecast, so an untrained
one starts at that baseline.

Letters: S steps of a series, N windows, O the horizon, P past-only and K known covariates.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gru_optuna.data import windows
from gru_optuna.data.answers import check_defined
from gru_optuna.data.dataset import Dataset, Split, Units
from gru_optuna.data.metrics import measure
from gru_optuna.data.series import read_series
from gru_optuna.data.tables import read_table
from gru_optuna.data.windows import Plan, Scales
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from gru_optuna.data.frequencies import Frequency
    from gru_optuna.data.series import Series
    from gru_optuna.spec import Data, Specification

TRAINING_WINDOWS = 4096
"""So many at most, unless the study file gives a stride: neighbours tell nearly the same."""

DIFF, SCALE, K, OFF = True, "level", 4, "median"  # experiment

RES = [0.0]
_SEASONS_SEEN = 3  # in the training rows, before a season is taken for one

Span = tuple[int, int]


@dataclass(frozen=True)
class Cuts:
    """Steps of one series whose values are the targets of each part: begin and end."""

    train: Span
    validation: Span
    test: Span | None

    @classmethod
    def of(cls, steps: int, data: Data, fold: int | None = None) -> Cuts:
        """The parts of a series of so many steps, the last ones for the test.

        Folds share out what isn't for the test: the first one trains on the earliest part and
        validates the next, and each other one trains on one part more.
        """
        test = _count(data.test, steps)
        end = steps - test - (data.gap if test else 0)
        begin = end - _count(data.validation, end)
        if fold is not None and data.folds is not None:
            part = end // (data.folds + 1)
            begin, end = end - (data.folds - fold) * part, end - (data.folds - fold - 1) * part
        return cls(
            train=(0, max(begin - data.gap, 0)),
            validation=(begin, end),
            test=(steps - test, steps) if test else None,
        )


def load_forecasting(spec: Specification, folder: Path, fold: int | None = None) -> Dataset:
    """Reads and prepares one series or several.

    Parameters
    ----------
    spec
        Its metric and ``data`` section.
    folder
        What relative paths are relative to: the study file's folder.
    fold
        As `load_dataset`'s; a fold validates the rows that follow those it trains on.

    Raises
    ------
    DataError
    """
    data = spec.data
    table = read_table(folder / data.train)
    series, frequency = read_series(table, data)
    cuts = [Cuts.of(len(one), data, fold) for one in series]
    _check_columns(series, cuts, data, table.source)
    plan = _plan(series, cuts, frequency, data)
    _check_lengths(series, cuts, plan, table.source)
    scales = _scales(series, cuts)
    prepared = [
        _Prepared.of(one, cut.train[1], plan, scale, data)
        for one, cut, scale in zip(series, cuts, scales, strict=True)
    ]
    stride = data.stride or _stride(cuts, plan)
    parts = {
        "training": _part(prepared, [cut.train for cut in cuts], stride, evaluated=False),
        "validation": _part(prepared, [cut.validation for cut in cuts], stride),
    }
    if data.test is not None:
        # Every hour of the test is forecast, from every present.
        parts["test"] = _part(prepared, [cut.test for cut in cuts if cut.test], stride=1)
    baselines: dict[str, float] = {}
    for name, part in parts.items():
        _check_windows(part, name, table.source)
        if name != "training":  # the test comes last: its baselines are kept
            baselines = part.measure_baselines(spec)
            check_defined(spec, baselines, table.source, name)
    return Dataset(
        train=parts["training"].split,
        validation=parts["validation"].split,
        test=parts["test"].split if "test" in parts else None,
        classes=(),
        fingerprint=fingerprint(series),
        task=spec.task,
        baselines=baselines,
        preprocessing=_preprocessing(series, scales, plan, data),
    )


def fingerprint(series: list[Series]) -> str:
    """SHA-256 of all series: names, times, values."""
    digest = hashlib.sha256()
    for one in series:
        digest.update(f"{one.name!r} {one.first} {one.past.shape} {one.known.shape}".encode())
        for values in (one.target, one.past, one.known):
            digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Part:
    """Windows, and what forecasts that learn nothing say of them, in the data's units (N, O)."""

    split: Split
    seasonal: Tensor
    last: Tensor
    season: int

    def measure_baselines(self, spec: Specification) -> dict[str, float]:
        assert self.split.units is not None
        forecasts = {"last value": self.last}
        if self.season > 1:
            forecasts = {"seasonal-naive": self.seasonal} | forecasts
        return {
            name: measure(spec.metric, self.split.units.scaled(forecast), self.split)
            for name, forecast in forecasts.items()
        }


@dataclass(frozen=True)
class _Prepared:
    """One series, ready to be cut into windows."""

    plan: Plan
    scales: Scales
    naive: float  # mean error of the seasonal-naive forecast in training: MASE's divisor
    channels: NDArray[np.float32]  # (S, C)
    target: NDArray[np.float64]  # (S,) filled, unless what is missing is dropped
    observed: NDArray[np.float64]  # (S,) as the file has it

    @classmethod
    def of(cls, series: Series, training: int, plan: Plan, scales: Scales, data: Data) -> _Prepared:
        columns = np.column_stack([series.target, series.past, series.known])
        if data.missing != "drop":
            columns = windows.fill(columns, training)
        target, covariates = columns[:, 0], columns[:, 1:]
        return cls(
            plan,
            scales,
            windows.naive_error(series.target[:training], plan.season),
            windows.channels(series, target, covariates, plan, scales),
            target,
            series.target,
        )

    def part(self, span: Span, stride: int, evaluated: bool) -> _Part:
        """Its windows whose targets lie in a span. Evaluated ones know what was filled in."""
        plan = self.plan
        origins = plan.origins(*span, stride)
        values = windows.inputs(self.channels, origins, plan)
        seasonal = windows.naive_forecasts(self.target, origins, plan.horizon, plan.season)
        filled = windows.targets(self.target, origins, plan)
        # What is missing was dropped, if it wasn't filled in.
        whole = np.isfinite(values).all(axis=(1, 2)) & np.isfinite(seasonal + filled).all(axis=1)
        origins, values, seasonal, filled = (
            array[whole] for array in (origins, values, seasonal, filled)
        )
        truth = windows.targets(self.observed, origins, plan) if evaluated else filled
        count = len(origins)
        st = np.stack([windows.naive_forecasts(self.target, origins, plan.horizon, plan.season, b) for b in range(plan.seasons)]) if plan.seasons else seasonal[None]
        med = np.median(st, axis=0) if OFF == "median" else seasonal
        offset = med if DIFF else np.full_like(seasonal, self.scales.mean)
        scale = self.scales.deviation
        if DIFF and SCALE == "residual":
            scale = float(np.nanstd(truth - offset)) if not evaluated else RES[0]
            RES[0] = scale
        units = Units(
            offset=torch.from_numpy(offset),
            scale=torch.full((count, 1), scale, dtype=torch.float64),
            naive=torch.full((count, 1), self.naive, dtype=torch.float64),
        )
        split = Split(
            values=torch.from_numpy(values),
            lengths=torch.full((count,), plan.window),
            targets=units.scaled(torch.from_numpy(truth)).float(),
            units=units,
        )
        last = windows.naive_forecasts(self.target, origins, plan.horizon, season=1)
        return _Part(split, torch.from_numpy(seasonal), torch.from_numpy(last), plan.season)


def _part(
    prepared: Sequence[_Prepared], spans: Sequence[Span], stride: int, evaluated: bool = True
) -> _Part:
    """One part of all series, one series after another."""
    parts = [one.part(span, stride, evaluated) for one, span in zip(prepared, spans, strict=True)]
    splits = [part.split for part in parts]
    units = [split.units for split in splits if split.units is not None]
    naive = [one.naive for one in units if one.naive is not None]
    return _Part(
        Split(
            values=torch.cat([split.values for split in splits]),
            lengths=torch.cat([split.lengths for split in splits]),
            targets=torch.cat([split.targets for split in splits]),
            units=Units(
                offset=torch.cat([one.offset for one in units]),
                scale=torch.cat([one.scale for one in units]),
                naive=torch.cat(naive),
            ),
        ),
        seasonal=torch.cat([part.seasonal for part in parts]),
        last=torch.cat([part.last for part in parts]),
        season=parts[0].season,
    )


def _count(part: float | str | None, steps: int) -> int:
    """How many steps a number or a fraction of them means."""
    assert not isinstance(part, str), "the study file's check refuses files of later rows"
    if part is None:
        return 0
    return part if isinstance(part, int) else round(part * steps)


def _plan(series: list[Series], cuts: list[Cuts], frequency: Frequency, data: Data) -> Plan:
    assert data.horizon is not None
    longest = max(cut.train[1] for cut in cuts)
    return Plan(
        window=data.window or 2 * data.horizon,
        horizon=data.horizon,
        season=data.season or _season(series, cuts, frequency, data.horizon),
        seasons=K,
        calendar=frequency.calendar(longest) if data.calendar else (),
        frequency=frequency,
    )


def _season(series: list[Series], cuts: list[Cuts], frequency: Frequency, horizon: int) -> int:
    """The season whose naive forecast errs least on the training rows; 1 if that is the last
    value's."""
    shortest = min(cut.train[1] for cut in cuts)
    candidates = [1, *(m for m in frequency.seasons() if _SEASONS_SEEN * m <= shortest)]
    ahead = np.arange(1, horizon + 1)

    def error(season: int) -> float:
        lags, counts = np.unique(season * -(-ahead // season), return_counts=True)
        errors = [
            np.average([windows.naive_error(seen, lag) for lag in lags], weights=counts)
            / np.nanstd(seen)
            for seen in (one.target[: cut.train[1]] for one, cut in zip(series, cuts, strict=True))
            if np.nanstd(seen) > 0
        ]
        return float(np.mean(errors)) if errors else math.inf

    errors = {season: error(season) for season in candidates}
    return min(candidates, key=lambda season: (not math.isfinite(errors[season]), errors[season]))


def _scales(series: list[Series], cuts: list[Cuts]) -> list[Scales]:
    """Of each series: the target's own level, and all series' of the covariates, whose level
    may be what tells two series apart."""
    seen = [one.target[: cut.train[1]] for one, cut in zip(series, cuts, strict=True)]
    covariates = np.concatenate(
        [
            np.column_stack([one.past, one.known])[: cut.train[1]]
            for one, cut in zip(series, cuts, strict=True)
        ]
    )
    means, deviations = np.nanmean(covariates, axis=0), np.nanstd(covariates, axis=0)
    return [
        Scales(
            mean=float(np.nanmean(target)),
            deviation=float(np.nanstd(target)) or 1.0,  # one that never changes stays at zero
            means=means,
            deviations=np.where(deviations > 0, deviations, 1.0),
        )
        for target in seen
    ]


def _stride(cuts: list[Cuts], plan: Plan) -> int:
    """Steps from one training window to the next."""
    steps = sum(cut.train[1] for cut in cuts)
    stride = max(1, math.ceil(steps / TRAINING_WINDOWS))
    # Windows that all begin at midnight would know nothing of noon.
    while math.gcd(stride, plan.season) > 1:
        stride += 1
    return stride


def _check_columns(series: list[Series], cuts: list[Cuts], data: Data, source: str) -> None:
    names = [data.target, *data.covariates, *data.known]
    for one, cut in zip(series, cuts, strict=True):
        columns = np.column_stack([one.target, one.past, one.known])[: cut.train[1]]
        empty = np.isnan(columns).all(axis=0)
        if empty.any():
            raise DataError(
                f'{source}: column "{names[int(empty.argmax())]}" has no value in the '
                f"{cut.train[1]} training rows{_of(one)}. Name another column, or smaller parts "
                f"for validation and test."
            )


def _check_lengths(series: list[Series], cuts: list[Cuts], plan: Plan, source: str) -> None:
    for one, cut in zip(series, cuts, strict=True):
        for name, span in (("validation", cut.validation), ("test", cut.test)):
            if span is not None and span[1] - span[0] < plan.horizon:
                raise DataError(
                    f"{source}: horizon = {plan.horizon} is longer than the {name} part"
                    f"{_of(one)}, {span[1] - span[0]} of {len(one)} rows. Shorten the horizon, "
                    f"or make {name} larger under [data]."
                )
        needed = plan.first_origin + 1 + plan.horizon
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


def _preprocessing(
    series: list[Series], scales: list[Scales], plan: Plan, data: Data
) -> dict[str, Any]:
    return {
        "kind": "series",
        "columns": {
            key: getattr(data, key) for key in ("time", "target", "series", "covariates", "known")
        },
        "frequency": {"count": plan.frequency.count, "unit": plan.frequency.unit},
        "window": plan.window,
        "horizon": plan.horizon,
        "season": plan.season,
        "calendar": list(plan.calendar),
        "missing": data.missing,
        "series": {
            one.name: {"mean": scale.mean, "deviation": scale.deviation}
            for one, scale in zip(series, scales, strict=True)
        },
        "covariates": {
            "means": scales[0].means.tolist(),
            "deviations": scales[0].deviations.tolist(),
        },
    }

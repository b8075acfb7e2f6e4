"""What the training rows decide: where parts end, season, scales, stride and categories.

Letters: S steps of a series, N windows, O the horizon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.series import windows
from gru_optuna.data.series.categories import Categories
from gru_optuna.data.series.reference_values import ForecastUnits, yearly_curve
from gru_optuna.data.series.windows import Scales, WindowPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gru_optuna.data.series.frequency import Frequency
    from gru_optuna.data.series.series import Series, Span
    from gru_optuna.data.views import View
    from gru_optuna.study_file import Data


TRAINING_WINDOWS = 4096
"""The most windows, unless the study file gives a stride: neighbours are nearly equal."""

MOST_SEASONS = 4
"""The most past seasons to use, as far as the training rows reach: four weeks, for example."""

_SEASONS_SEEN = 3  # the training rows must span as many, to tell a season from chance


@dataclass(frozen=True)
class SeriesSplit:
    """The steps of one series whose values are the targets of each part."""

    train: Span
    validation: Span
    test: Span | None

    @classmethod
    def of(cls, files: Sequence[Span], data: Data, fold: int | None = None) -> SeriesSplit:
        """Splits a series; the last part is for the test.

        The parts of folds follow each other, and the last one ends before the test: the first fold
        trains on what is before its part, and each later fold trains on one part more. They have
        ``data.validation`` steps if that is a number of steps, and share out all steps otherwise.
        (Rolling origins: Tashman 2000; `sklearn.model_selection.TimeSeriesSplit`.)

        Parameters
        ----------
        files
            The steps of the training file, then those of the files that ``data.validation`` and
            ``data.test`` name, if any. Steps between two files are in no part.
        data
            The parts.
        fold
            The fold of ``data.folds`` to validate on; None: the part of ``data.validation``.
        """
        (_, steps), *later = files
        by_file = iter(later)
        validation = next(by_file) if isinstance(data.validation, str) else None
        test = next(by_file) if isinstance(data.test, str) else None
        if isinstance(data.test, int | float):
            test = (steps - min(_count(data.test, steps), steps), steps)
        end = validation[1] if validation is not None else steps
        if test is not None:
            end = max(min(end, test[0] - data.gap), 0)
        if fold is not None and data.folds is not None:
            given = isinstance(data.validation, int)
            part = int(data.validation) if given else end // (data.folds + 1)
            begin, end = end - (data.folds - fold) * part, end - (data.folds - fold - 1) * part
            begin, end = max(begin, 0), max(end, 0)
        elif isinstance(data.validation, str):
            assert validation is not None
            begin = validation[0]
        else:
            begin = max(end - _count(data.validation, end), 0)
        return cls(
            train=(0, max(min(begin - data.gap, steps), 0)),
            validation=(begin, max(begin, end)),
            test=test,
        )

    def refitting(self) -> SeriesSplit:
        """Adds all later steps to the training steps: a forecast needs the newest most."""
        return replace(self, train=(0, (self.test or self.validation)[1]))


def _count(part: float, steps: int) -> int:
    """The number of steps that a number or a fraction means."""
    return part if isinstance(part, int) else round(part * steps)


def make_plan(
    series: list[Series], splits: list[SeriesSplit], frequency: Frequency, data: Data
) -> WindowPlan:
    """What all windows share; the training rows decide what the study file leaves out."""
    assert data.horizon is not None
    training = [split.train[1] for split in splits]
    season = data.season or _season(series, training, frequency, data.horizon)
    # No more than a quarter of the rows: the first windows need them all as past values.
    seasons = min(training) // 4 // season
    return WindowPlan(
        window=data.window or 2 * data.horizon,
        horizon=data.horizon,
        season=season,
        seasons=1 if season == 1 else max(1, min(seasons, MOST_SEASONS)),
        calendar=frequency.calendar(max(training)) if data.calendar else (),
        frequency=frequency,
    )


def _season(series: list[Series], training: list[int], frequency: Frequency, horizon: int) -> int:
    """The season whose naive forecast errs least on the training rows; 1: repeat the last value."""
    seen = [each.target[:rows] for each, rows in zip(series, training, strict=True)]
    seen = [target for target in seen if np.nanstd(target) > 0]

    def error(season: int) -> float:
        errors = [windows.naive_error_ahead(target, season, horizon) for target in seen]
        mean = float(np.mean(errors)) if errors else math.inf
        return mean if math.isfinite(mean) else math.inf

    known = [steps for steps in frequency.seasons() if _SEASONS_SEEN * steps <= min(training)]
    return min([1, *known], key=error)


def measure_scales(
    series: list[Series], splits: list[SeriesSplit], plan: WindowPlan, stride: int, view: View
) -> list[Scales]:
    """Measures the scales of each series: its target's own, and the covariates' of all series.

    The level of a covariate may be what distinguishes two series.
    """
    training = [split.train[1] for split in splits]
    covariates = np.concatenate(
        [
            np.column_stack([each.past, each.known])[:rows]
            for each, rows in zip(series, training, strict=True)
        ]
    )
    means, deviations = np.nanmean(covariates, axis=0), np.nanstd(covariates, axis=0)
    found: list[Scales] = []
    for each, rows in zip(series, training, strict=True):
        target = np.log(each.target[:rows]) if view.log else each.target[:rows]
        # A constant series is 0 once centred, whatever it is divided by.
        deviation = float(np.nanstd(target)) or 1.0
        curve: tuple[float, ...] = ()
        if view.residual == "yearly":
            curve = yearly_curve(plan.frequency.times(each.first, rows), target)
        scales = Scales(
            mean=float(np.nanmean(target)),
            deviation=deviation,
            error=1.0,
            naive=windows.naive_error(each.target[:rows], plan.season),
            means=means,
            deviations=np.where(deviations > 0, deviations, 1.0),
            changes=_changes(target, view.differences),
            curve=curve,
        )
        origins = plan.origins(0, rows, stride)
        reference = ForecastUnits(plan, scales, view, each.first, target)
        errors = windows.targets(target, origins, plan) - reference.offsets(origins)
        spreads = reference.spreads(origins)
        usual_error = windows.robust_deviation(errors / spreads[:, None])
        found.append(replace(scales, error=usual_error or (1.0 if view.by_row else deviation)))
    return found


def _changes(target: NDArray[np.float64], order: int) -> tuple[float, ...]:
    """The deviation of each order of differences of a series (S,); 1 where nothing changes."""
    differences = [np.diff(target, number) for number in range(1, order + 1)]
    return tuple(float(np.nanstd(each)) or 1.0 for each in differences)


def choose_stride(splits: list[SeriesSplit], plan: WindowPlan) -> int:
    """The number of steps from one training window to the next."""
    steps = sum(split.train[1] for split in splits)
    stride = max(1, math.ceil(steps / TRAINING_WINDOWS))
    # Windows that all begin at midnight would know nothing of noon.
    while math.gcd(stride, plan.season) > 1:
        stride += 1
    return stride


def choose_categories(
    series: Sequence[Series], splits: Sequence[SeriesSplit]
) -> dict[str, Categories]:
    """The categories of each categorical column in the training rows of all series."""
    return {
        name: Categories.of(
            category
            for each, split in zip(series, splits, strict=True)
            for category in each.categories[name][: split.train[1]]
        )
        for name in series[0].categories
    }

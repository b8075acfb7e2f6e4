"""What the training rows of series decide: where parts end, the season, the scales, the stride.

Letters: S steps of a series, N windows, O the horizon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.series import windows
from gru_optuna.data.series.categories import Categories
from gru_optuna.data.series.windows import Scales, WindowPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.data.series.frequency import Frequency
    from gru_optuna.data.series.series import Series, Span
    from gru_optuna.study_file import Data


TRAINING_WINDOWS = 4096
"""So many at most, unless the study file gives a stride: neighbours tell nearly the same."""

MOST_SEASONS = 4
"""Looked back on, as far as the training rows reach: of a week, a month."""

_SEASONS_SEEN = 3  # in the training rows, before a season is taken for one


@dataclass(frozen=True)
class SeriesSplit:
    """Steps of one series whose values are the targets of each part: begin and end."""

    train: Span
    validation: Span
    test: Span | None

    @classmethod
    def of(cls, files: Sequence[Span], data: Data, fold: int | None = None) -> SeriesSplit:
        """The parts of a series, the last one for the test.

        Folds share out what isn't for the test: the first one trains on the earliest part and
        validates the next, and each other one trains on one part more.

        Parameters
        ----------
        files
            The steps of the training file, then those of the files of ``data.validation`` and
            ``data.test``, as far as these name any. Steps between two files are in no part.
        data
            What the parts are.
        fold
            Which fold of ``data.folds`` validates; None: ``data.validation`` says what.
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
            part = end // (data.folds + 1)
            begin, end = end - (data.folds - fold) * part, end - (data.folds - fold - 1) * part
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
        """With the validation steps among the training steps too."""
        return replace(self, train=(0, self.validation[1]))


def _count(part: float, steps: int) -> int:
    """How many steps a number or a fraction of them means."""
    return part if isinstance(part, int) else round(part * steps)


def make_plan(
    series: list[Series], cuts: list[SeriesSplit], frequency: Frequency, data: Data
) -> WindowPlan:
    """What all windows have in common; what the study file leaves out comes from training rows."""
    assert data.horizon is not None
    training = [cut.train[1] for cut in cuts]
    season = data.season or _season(series, training, frequency, data.horizon)
    # A quarter of the rows may be spent on looking back, for which they train nothing.
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
    """The season whose naive forecast errs least on the training rows; 1: the last value's."""
    ahead = np.arange(1, horizon + 1)
    seen = [one.target[:rows] for one, rows in zip(series, training, strict=True)]
    seen = [target for target in seen if np.nanstd(target) > 0]

    def error(season: int) -> float:
        lags, counts = np.unique(season * -(-ahead // season), return_counts=True)
        errors = [
            np.average([windows.naive_error(target, lag) for lag in lags], weights=counts)
            / np.nanstd(target)
            for target in seen
        ]
        mean = float(np.mean(errors)) if errors else math.inf
        return mean if math.isfinite(mean) else math.inf

    known = [steps for steps in frequency.seasons() if _SEASONS_SEEN * steps <= min(training)]
    return min([1, *known], key=error)


def measure_scales(
    series: list[Series], cuts: list[SeriesSplit], plan: WindowPlan, stride: int
) -> list[Scales]:
    """Of each series: the target's own level, and all series' of the covariates, whose level
    may be what tells two series apart."""
    training = [cut.train[1] for cut in cuts]
    covariates = np.concatenate(
        [
            np.column_stack([one.past, one.known])[:rows]
            for one, rows in zip(series, training, strict=True)
        ]
    )
    means, deviations = np.nanmean(covariates, axis=0), np.nanstd(covariates, axis=0)
    found: list[Scales] = []
    for one, rows in zip(series, training, strict=True):
        target = one.target[:rows]
        origins = plan.origins(0, rows, stride)
        errors = windows.targets(target, origins, plan) - windows.usual(target, origins, plan)
        # A series that never changes stays where it is, whatever it is divided by.
        deviation = float(np.nanstd(target)) or 1.0
        found.append(
            Scales(
                mean=float(np.nanmean(target)),
                deviation=deviation,
                error=windows.robust_deviation(errors) or deviation,
                naive=windows.naive_error(target, plan.season),
                means=means,
                deviations=np.where(deviations > 0, deviations, 1.0),
            )
        )
    return found


def choose_stride(cuts: list[SeriesSplit], plan: WindowPlan) -> int:
    """Steps from one training window to the next."""
    steps = sum(cut.train[1] for cut in cuts)
    stride = max(1, math.ceil(steps / TRAINING_WINDOWS))
    # Windows that all begin at midnight would know nothing of noon.
    while math.gcd(stride, plan.season) > 1:
        stride += 1
    return stride


def choose_categories(
    series: Sequence[Series], cuts: Sequence[SeriesSplit]
) -> dict[str, Categories]:
    """Of each column of words, what all series' training rows say."""
    return {
        name: Categories.of(
            word
            for one, cut in zip(series, cuts, strict=True)
            for word in one.words[name][: cut.train[1]]
        )
        for name in series[0].words
    }

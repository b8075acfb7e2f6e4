"""One series as windows: what a forecast looks back on, and what it is to tell.

A window ends at its *origin*, the present: its inputs are the T steps up to there, its targets
the O steps behind. What is known of those ahead of time (the calendar, known covariates, the
values one season earlier) is given O steps early, so the last O steps of a window carry it.

Letters: S steps of a series, N windows, T steps of a window, C channels, O the horizon, P
past-only and K known covariates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.series.frequency import calendar_channels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gru_optuna.data.series.frequency import Frequency

_NORMAL_90 = 1.6449  # nine of ten normal numbers lie within so many deviations


@dataclass(frozen=True)
class WindowPlan:
    """What every window of a study has in common."""

    window: int  # T
    horizon: int  # O
    season: int  # steps; 1: none
    seasons: int  # how many of the last ones are looked back on
    calendar: tuple[str, ...]
    frequency: Frequency

    @property
    def lags(self) -> list[int]:
        """How far behind a target its likenesses of earlier seasons lie, those that are known
        a whole horizon ahead."""
        if self.season == 1:
            return []
        first = -(-self.horizon // self.season)
        return [self.season * (first + back) for back in range(self.seasons)]

    @property
    def first_origin(self) -> int:
        """The first present with a whole window behind it."""
        return self.window - 1 + max([0, *(lag - self.horizon for lag in self.lags)])

    def origins(self, begin: int, end: int, stride: int) -> NDArray[np.int64]:
        """The presents (N,) whose targets lie within steps `begin` to `end` (not included)."""
        return np.arange(max(begin - 1, self.first_origin), end - self.horizon, stride)


@dataclass(frozen=True)
class Scales:
    """What the training rows say of level and spread."""

    mean: float  # of the target
    deviation: float
    error: float  # usual distance of the target from its usual value, `usual`
    naive: float  # mean error of the seasonal-naive forecast: MASE's divisor
    means: NDArray[np.float64]  # (P + K,) of the covariates that are numbers
    deviations: NDArray[np.float64]


def fill(columns: NDArray[np.float64], training: int) -> NDArray[np.float64]:
    """Replaces what is missing in (S, X), of which `training` steps are for training.

    Gaps among those are filled on the line between their neighbours. Later gaps repeat the last
    value: a forecast doesn't know the next one, and training must know nothing of later rows.
    """
    filled = columns.copy()
    for column in filled.T:
        known = np.flatnonzero(~np.isnan(column[:training]))
        if len(known):
            column[:training] = np.interp(np.arange(training), known, column[known])
        places = np.where(np.isnan(column), 0, np.arange(len(column)))
        column[:] = column[np.maximum.accumulate(places)]
    return filled


def channels(
    first: np.datetime64,
    target: NDArray[np.float64],
    past: NDArray[np.float64],
    known: NDArray[np.float64],
    plan: WindowPlan,
) -> NDArray[np.float32]:
    """What each step of a series gives to the network (S, C).

    Parameters
    ----------
    first
        Its first time.
    target, past, known
        (S,), (S, ·) and (S, ·): the target and covariates, scaled; filled, or with NaN where
        values are missing.

    Returns
    -------
    NDArray
        The target, last season's target, past-only covariates, known ones, the calendar. NaN
        where a channel reaches beyond the series.
    """
    scaled = target[:, None]
    times = plan.frequency.times(first, len(target) + plan.horizon)
    columns = [
        scaled,
        *(_moved(scaled, plan.horizon - lag) for lag in plan.lags),
        past,
        _moved(known, plan.horizon),
        calendar_channels(times, plan.calendar)[plan.horizon :],
    ]
    return np.concatenate(columns, axis=1).astype(np.float32)


def are_whole(
    channels: NDArray[np.float32], origins: NDArray[np.int64], plan: WindowPlan
) -> NDArray[np.bool_]:
    """Whether the windows that end at `origins` (N,), of channels (S, C), have no gap."""
    gaps = np.concatenate([[0], np.cumsum(~np.isfinite(channels).all(axis=1))])
    whole: NDArray[np.bool_] = gaps[origins + 1] == gaps[origins + 1 - plan.window]
    return whole


def targets(
    target: NDArray[np.float64], origins: NDArray[np.int64], plan: WindowPlan
) -> NDArray[np.float64]:
    """The values (N, O) behind `origins` (N,)."""
    return _at(target, origins[:, None] + np.arange(1, plan.horizon + 1))


def naive_forecasts(
    target: NDArray[np.float64], origins: NDArray[np.int64], horizon: int, season: int
) -> NDArray[np.float64]:
    """Forecasts (N, O) made at `origins` (N,): every step as one season before.

    Of a step that lies further ahead than a season, the latest season that is known. A season
    of 1 repeats the last value.
    """
    ahead = np.arange(1, horizon + 1)
    return _at(target, origins[:, None] + ahead - season * -(-ahead // season))


def usual(
    target: NDArray[np.float64], origins: NDArray[np.int64], plan: WindowPlan
) -> NDArray[np.float64]:
    """The median (N, O) of the last seasons at each step: a holiday a week ago moves it little."""
    reach = plan.season * np.arange(plan.seasons)
    forecasts = [
        naive_forecasts(target, origins - back, plan.horizon, plan.season) for back in reach
    ]
    return np.median(forecasts, axis=0)


def naive_error(target: NDArray[np.float64], season: int) -> float:
    """The mean error of last season's value one step on, NaN if there are no two seasons."""
    errors = np.abs(target[season:] - target[:-season])
    return float(np.nanmean(errors)) if np.isfinite(errors).any() else float("nan")


def robust_deviation(values: NDArray[np.float64]) -> float:
    """Of numbers about 0, as if they were normal: by what nine of ten keep to.

    The tenth may be holidays and broken sensors. 0 if there are none, or nine of ten are 0.
    """
    sizes = np.abs(values[np.isfinite(values)])
    return float(np.quantile(sizes, 0.9)) / _NORMAL_90 if len(sizes) else 0.0


def _at(target: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = target[places]
    return values


def _moved(columns: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """(S, X) with each step's values from `steps` later; NaN where there are none."""
    moved = np.full_like(columns, np.nan)
    source = np.arange(len(columns)) + steps
    there = (source >= 0) & (source < len(columns))
    moved[there] = columns[source[there]]
    return moved

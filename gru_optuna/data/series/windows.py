"""One series as windows: the steps that a forecast reads, and those that it predicts.

A window ends at its *origin*, the present: its inputs are the T steps up to there, its targets
the next O steps. What is known about those in advance (the calendar, known covariates, the values
one season earlier) is moved O steps ahead, so the last O steps of a window carry it.

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

_NORMAL_90 = 1.6449  # nine of ten normal numbers lie within this many deviations


@dataclass(frozen=True)
class WindowPlan:
    """What all windows of a study share."""

    window: int  # T
    horizon: int  # O
    season: int  # steps; 1: none
    seasons: int  # number of past seasons that are used
    calendar: tuple[str, ...]
    frequency: Frequency

    @property
    def lags(self) -> list[int]:
        """How many steps before a target its values one or more seasons earlier lie.

        Only seasons that are known for the whole horizon count.
        """
        if self.season == 1:
            return []
        first = -(-self.horizon // self.season)
        return [self.season * (first + back) for back in range(self.seasons)]

    @property
    def first_origin(self) -> int:
        """The first origin with a whole window up to it."""
        return self.window - 1 + max([0, *(lag - self.horizon for lag in self.lags)])

    def origins(self, begin: int, end: int, stride: int) -> NDArray[np.int64]:
        """The origins (N,) whose targets all lie in steps `begin` to `end`, excluding `end`."""
        return np.arange(max(begin - 1, self.first_origin), end - self.horizon, stride)


@dataclass(frozen=True)
class Scales:
    """Level and spread of one series, measured on the training rows."""

    mean: float  # of the target
    deviation: float
    error: float  # usual distance of the target from what forecasts are measured from
    naive: float  # mean error of the seasonal-naive forecast: MASE's divisor
    means: NDArray[np.float64]  # (P + K,) of the numeric covariates
    deviations: NDArray[np.float64]
    changes: tuple[float, ...] = ()  # deviations of the target's differences that a view adds
    curve: tuple[float, ...] = ()  # of the year (`reference_values.yearly_curve`)


def fill(columns: NDArray[np.float64], training: int) -> NDArray[np.float64]:
    """Fills missing values of columns (S, X), the first `training` steps of which are for training.

    Gaps in training are filled on the line between their neighbours. Later gaps repeat the last
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
    """The channels (S, C) that the network reads at each step of a series.

    Parameters
    ----------
    first
        The first time.
    target, past, known
        The scaled target (S,) and covariates (S, ·), either filled or with NaN where a value is
        missing.

    Returns
    -------
    NDArray
        The target, the target of past seasons, past-only covariates, known ones, the calendar;
        NaN where a channel reaches beyond the series.
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
    return np.concatenate(columns, axis=1, dtype=np.float32)


def are_whole(
    channels: NDArray[np.float32], origins: NDArray[np.int64], plan: WindowPlan
) -> NDArray[np.bool_]:
    """Whether each window of channels (S, C) that ends at `origins` (N,) is without a gap."""
    gaps = np.concatenate([[0], np.cumsum(~np.isfinite(channels).all(axis=1))])
    whole: NDArray[np.bool_] = gaps[origins + 1] == gaps[origins + 1 - plan.window]
    return whole


def targets(
    target: NDArray[np.float64], origins: NDArray[np.int64], plan: WindowPlan
) -> NDArray[np.float64]:
    """The values (N, O) of the steps after `origins` (N,)."""
    found: NDArray[np.float64] = target[origins[:, None] + np.arange(1, plan.horizon + 1)]
    return found


def naive_forecasts(
    target: NDArray[np.float64], origins: NDArray[np.int64], horizon: int, season: int
) -> NDArray[np.float64]:
    """Forecasts (N, O) made at `origins` (N,) that repeat the values one season before.

    A step further ahead than a season takes its value from the latest season that is known. A
    season of 1 repeats the last value.
    """
    ahead = np.arange(1, horizon + 1)
    found: NDArray[np.float64] = target[origins[:, None] + ahead - season * -(-ahead // season)]
    return found


def naive_error(target: NDArray[np.float64], season: int) -> float:
    """The mean absolute error of the value one season before; NaN without two seasons."""
    errors = np.abs(target[season:] - target[:-season])
    return float(np.nanmean(errors)) if np.isfinite(errors).any() else float("nan")


def naive_error_ahead(target: NDArray[np.float64], season: int, horizon: int) -> float:
    """The mean error of `naive_forecasts` over a horizon, in deviations of the target; or NaN."""
    lags, counts = np.unique(season * -(-np.arange(1, horizon + 1) // season), return_counts=True)
    errors = [naive_error(target, lag) for lag in lags]
    return float(np.average(errors, weights=counts) / np.nanstd(target))


def robust_deviation(values: NDArray[np.float64]) -> float:
    """The deviation of numbers around 0, from the 0.9 quantile of their sizes, as if normal.

    So holidays and broken sensors, up to a tenth of the rows, don't count. 0 if there are no
    values, or if nine of ten are 0.
    """
    sizes = np.abs(values[np.isfinite(values)])
    return float(np.quantile(sizes, 0.9)) / _NORMAL_90 if len(sizes) else 0.0


def _moved(columns: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Columns (S, X) with the values from `steps` later at each step; NaN where there are none."""
    moved = np.full_like(columns, np.nan)
    source = np.arange(len(columns)) + steps
    there = (source >= 0) & (source < len(columns))
    moved[there] = columns[source[there]]
    return moved

"""What forecasts are measured from: a network predicts how far each step will be from there.

With z the target, o the last step of a window, i = 1 … O the steps ahead and s the season:

    none     the mean of the training rows; of the window, where windows are scaled by themselves
    last     z[o]
    season   the median over past seasons of z[o + i - s], z[o + i - 2 s], …
    level    season, and the difference between the mean of the last s steps and that of the same
             stretches of those seasons
    drift    z[o + i - s] + z[o] - z[o - s]; without a season, the line through the window's ends
    yearly   a curve of two harmonics of the day of the year, fitted on the training rows

A step further ahead than a season takes whole seasons off, and adds the drift once for each.
Whatever a window can't reach back to is left out. Where nothing is left, or a value is missing,
season stands in.

Letters: S steps of a series, N windows, T steps of a window, O the horizon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from gru_optuna.data.dataset import Units
from gru_optuna.data.series.frequency import calendar_channels
from gru_optuna.data.series.windows import naive_forecasts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gru_optuna.data.series.frequency import Times
    from gru_optuna.data.series.windows import Scales, WindowPlan
    from gru_optuna.data.views import View

_CHUNK = 2**20  # numbers of the stretches whose means are taken together
_LEAST_SPREAD = 0.05  # of a window, in deviations of the training rows: a standstill isn't scaled
_RIDGE = 1e-3  # of the number of rows: it only keeps a short year from bending the curve


def usual(
    target: NDArray[np.float64], origins: NDArray[np.int64], plan: WindowPlan
) -> NDArray[np.float64]:
    """The median (N, O) of the past seasons at each step; one holiday hardly moves it."""
    reach = plan.season * np.arange(plan.seasons)
    forecasts = [
        naive_forecasts(target, origins - back, plan.horizon, plan.season) for back in reach
    ]
    return np.median(forecasts, axis=0)


@dataclass(frozen=True)
class ForecastUnits:
    """What the forecasts of one series are measured from, and in."""

    plan: WindowPlan
    scales: Scales
    view: View
    first: np.datetime64  # the time of the first step
    target: NDArray[np.float64]  # (S,); its logarithms, where the view has them

    def of(self, origins: NDArray[np.int64]) -> Units:
        """The units of scaled forecasts (N, O) made at `origins` (N,)."""
        scale = torch.from_numpy(self.scales.error * self.spreads(origins)).unsqueeze(1)
        naive = self.scales.naive * torch.ones(len(origins), 1, dtype=torch.float64)
        return Units(torch.from_numpy(self.offsets(origins)), scale, naive, self.view.log)

    def spreads(self, origins: NDArray[np.int64]) -> NDArray[np.float64]:
        """The deviation (N,) of the target in each window; 1 unless windows are scaled by it."""
        if not self.view.by_row:
            return np.ones(len(origins))
        found = [part.std(axis=1) for part in stretches(self.target, origins, self.plan.window)]
        least = _LEAST_SPREAD * self.scales.deviation
        spreads: NDArray[np.float64] = np.maximum(np.concatenate([np.zeros(0), *found]), least)
        return spreads

    def levels(self, origins: NDArray[np.int64]) -> NDArray[np.float64]:
        """The mean (N,) of the target in each window, or in training."""
        if not self.view.by_row:
            return np.full(len(origins), self.scales.mean)
        return stretch_means(self.target, origins, self.plan.window)

    def offsets(self, origins: NDArray[np.int64]) -> NDArray[np.float64]:
        """What the forecasts (N, O) made at `origins` (N,) are measured from."""
        target, plan, residual = self.target, self.plan, self.view.residual
        season = usual(target, origins, plan)
        ahead = np.arange(1, plan.horizon + 1)
        match residual:
            case "season":
                return season
            case "none":
                values = np.broadcast_to(self.levels(origins)[:, None], season.shape)
            case "last":
                values = np.broadcast_to(target[origins, None], season.shape)
            case "level":
                values = season + _change_of_level(target, origins, plan)[:, None]
            case "drift" if plan.season == 1:
                slope = target[origins] - target[origins - plan.window + 1]
                slope = slope / max(1, plan.window - 1)
                values = target[origins, None] + slope[:, None] * ahead
            case "drift":
                before = np.maximum(origins - plan.season, 0)
                change = (target[origins] - target[before])[:, None] * -(-ahead // plan.season)
                values = naive_forecasts(target, origins, plan.horizon, plan.season) + change
            case "yearly":
                times = plan.frequency.times(self.first, len(target) + plan.horizon)
                values = on_curve(times, self.scales.curve)[origins[:, None] + ahead]
        return np.where(np.isfinite(values), values, season)


def _change_of_level(
    target: NDArray[np.float64], origins: NDArray[np.int64], plan: WindowPlan
) -> NDArray[np.float64]:
    """How much higher (N,) the last season is than the same stretches of those before it."""
    if plan.season == 1:
        return np.zeros(len(origins))
    present = stretch_means(target, origins, plan.season)
    earlier = np.full((plan.seasons, len(origins)), np.nan)
    for back in range(plan.seasons):
        ends = origins - plan.season * (back + 1)
        reached = ends - plan.season + 1 >= 0
        earlier[back, reached] = stretch_means(target, ends[reached], plan.season)
    count = np.isfinite(earlier).sum(axis=0)
    mean = np.nansum(earlier, axis=0) / np.maximum(count, 1)
    change: NDArray[np.float64] = np.where(count > 0, present - mean, 0.0)
    return change


def stretches(
    target: NDArray[np.float64], ends: NDArray[np.int64], steps: int
) -> Iterator[NDArray[np.float64]]:
    """The last `steps` steps up to each of `ends` (N,), (n, steps) for n of them at a time."""
    size = max(1, _CHUNK // steps)
    for first in range(0, len(ends), size):
        yield target[ends[first : first + size, None] + np.arange(1 - steps, 1)]


def stretch_means(
    target: NDArray[np.float64], ends: NDArray[np.int64], steps: int
) -> NDArray[np.float64]:
    """The mean (N,) of each stretch; each is added up by itself, so that it rounds alike."""
    means = [stretch.mean(axis=1) for stretch in stretches(target, ends, steps)]
    return np.concatenate([np.zeros(0), *means])


def yearly_curve(times: Times, target: NDArray[np.float64]) -> tuple[float, ...]:
    """The coefficients of the curve that fits the training rows (S,) best, by ridge regression."""
    there = np.isfinite(target)
    waves, values = _waves(times[there]), target[there]
    mean = float(values.mean())
    centred = waves - waves.mean(axis=0)
    ridge = _RIDGE * len(values) * np.eye(waves.shape[1])
    weights = np.linalg.solve(centred.T @ centred + ridge, centred.T @ (values - mean))
    return (mean - float(waves.mean(axis=0) @ weights), *weights.tolist())


def on_curve(times: Times, coefficients: tuple[float, ...]) -> NDArray[np.float64]:
    """The values of a curve of `yearly_curve` at these times (S,)."""
    first, *weights = coefficients
    # Added one after another: a product of matrices may round differently with their size.
    values = np.full(len(times), first)
    for wave, weight in zip(_waves(times).T, weights, strict=True):
        values += weight * wave
    return values


def _waves(times: Times) -> NDArray[np.float64]:
    """Sine and cosine (S, 4) of the year and of half a year."""
    sine, cosine = calendar_channels(times, ("day of year",)).T
    return np.stack([sine, cosine, 2 * sine * cosine, cosine**2 - sine**2], axis=1)

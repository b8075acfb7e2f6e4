"""How far a metric would move if other rows, or other seeds, had been drawn: 95% intervals.

Torch, scipy.stats and scikit-learn are imported where something is computed: `status` and `best`
read decisions that hold intervals, and must start fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.study_file.tasks import MAXIMIZED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from gru_optuna.data.metrics import Predictions
    from gru_optuna.study_file import Metric

LEVEL = 0.95
"""The share of samples whose interval holds the true value."""

RESAMPLES = 1_000
FEWEST_RESAMPLES = 200
RESAMPLED_ROWS = 5_000_000
"""Rows that all resamples of an interval measure together, which takes a second or two."""


def metric_interval(
    metric: Metric, trainings: Sequence[Predictions], block: int | None = None, seed: int = 0
) -> list[float] | None:
    """The interval of a metric's mean over trainings.

    The accuracy of one network on independent rows has Wilson's interval; everything else is
    resampled.

    Parameters
    ----------
    metric
        As in the study file.
    trainings
        The predictions of each.
    block
        How many neighbouring windows of a series are drawn together; None: the rows are not
        windows.
    seed
        Decides what is drawn.

    Returns
    -------
    list of float or None
        Low and high; None where they can't be known: the metric is undefined in most resamples,
        or the same in all of them.
    """
    from gru_optuna.data.metrics import measure

    outputs, split = trainings[0][0]
    one_network = len(trainings) == 1 and len(trainings[0]) == 1
    if metric == "accuracy" and one_network and block is None and split.groups is None:
        return wilson_interval(round(measure(metric, outputs, split) * len(split)), len(split))
    return bootstrap_interval(metric, trainings, block, seed)


def bootstrap_interval(
    metric: Metric, trainings: Sequence[Predictions], block: int | None, seed: int
) -> list[float] | None:
    """The percentile bootstrap (Efron 1979) of `metric_interval`.

    Rows that belong together are drawn together: a whole group, or a stretch of neighbouring
    windows of a series, whose forecasts share steps (circular block bootstrap, Politis & Romano
    1992). The trainings are a sample too, of all seeds, and are drawn as well.
    """
    import torch

    from gru_optuna.data.metrics import measure

    drawn = np.random.default_rng(seed)
    outputs, split = trainings[0][0]
    rows = len(split)
    parts = _parts(rows, split.groups, block)
    measured = rows * sum(map(len, trainings))
    values = []
    for _ in range(min(RESAMPLES, max(FEWEST_RESAMPLES, RESAMPLED_ROWS // measured))):
        index = torch.from_numpy(_draw(rows, parts, block, drawn)).to(outputs.device)
        chosen = drawn.integers(0, len(trainings), len(trainings)).tolist()
        means = {
            training: fmean(
                measure(metric, o[index], s.rows(index)) for o, s in trainings[training]
            )
            for training in set(chosen)
        }
        values.append(fmean(means[training] for training in chosen))
    known = np.array(values)[np.isfinite(values)]
    if len(known) < len(values) / 2:
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # Resamples of rows that are all right agree, and yet the next row may be wrong.
    return [float(low), float(high)] if low < high else None


FEWEST_UNITS = 6
"""Independent rows, groups or stretches of a series that show a difference, at least: even if one
model is better on every one of fewer, the sign test has p > 0.05."""


@dataclass(frozen=True)
class Gain:
    """How much better one model predicts than another one, on the same rows."""

    value: float  # the share of the error that is saved; the difference of a maximized metric
    interval: list[float] | None  # 95%; None: it can't be known
    units: int  # independent rows, groups or stretches of series

    @property
    def shown(self) -> bool:
        """Whether a difference is shown, in either direction."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def paired_gain(
    metric: Metric,
    trainings: Sequence[Predictions],
    other: Predictions,
    horizon: int | None = None,
    seed: int = 0,
) -> Gain:
    """What a model gains over another one that predicts the same rows.

    Each resample measures both models on the same rows (the paired bootstrap), so whatever makes
    rows easy or hard for both cancels out. Rows are drawn as in `bootstrap_interval`. The ends of
    the interval are widened for few units, as Student's are (Hesterberg 2015, "What Teachers
    Should Know About the Bootstrap", section 5.3).

    Parameters
    ----------
    metric
        As in the study file.
    trainings
        Predictions of each training of the model.
    other
        Those of the other model: one pair for each fold.
    horizon
        The horizon, if the rows are windows of series. Errors of windows that share steps go
        together, so stretches of twice the horizon are drawn. If a series has too few of them,
        whole series are drawn instead.
    seed
        Decides what is drawn.
    """
    import torch

    from gru_optuna.data.metrics import measure

    def mean(predictions: Predictions, index: Tensor | None = None) -> float:
        return fmean(
            measure(metric, o, s) if index is None else measure(metric, o[index], s.rows(index))
            for o, s in predictions
        )

    def gain(ours: float, theirs: float) -> float:
        if metric in MAXIMIZED:
            return ours - theirs
        return 1 - ours / theirs if theirs > 0 else (0.0 if ours == theirs else nan)

    split = trainings[0][0][1]
    rows, drawn = len(split), np.random.default_rng(seed)
    parts, block, units = _independent(rows, split.groups, horizon)
    value = gain(fmean(map(mean, trainings)), mean(other))
    if units < FEWEST_UNITS:
        return Gain(value, None, units)
    gains: list[float] = []
    measured = rows * (sum(map(len, trainings)) + len(other))
    outside = _outside(units)
    # Ends that lie far out need more resamples to be found.
    most = min(round(RESAMPLES * (1 - LEVEL) / 2 / outside), 4 * RESAMPLES)
    for _ in range(min(most, max(FEWEST_RESAMPLES, RESAMPLED_ROWS // measured))):
        index = torch.from_numpy(_draw(rows, parts, block, drawn))
        chosen = drawn.integers(0, len(trainings), len(trainings)).tolist()
        means = {number: mean(trainings[number], index) for number in set(chosen)}
        gains.append(gain(fmean(means[number] for number in chosen), mean(other, index)))
    known = np.array(gains)[np.isfinite(gains)]
    if len(known) < len(gains) / 2 or not isfinite(value):
        return Gain(value, None, units)
    low, high = np.quantile(known, [outside, 1 - outside])
    return Gain(value, [float(low), float(high)], units)


def _independent(
    rows: int, groups: Tensor | None, horizon: int | None
) -> tuple[list[NDArray[np.int64]] | None, int | None, int]:
    """What is drawn: parts and the length of stretches as of `_draw`, and how many there are."""
    parts = _parts(rows, groups, horizon)
    if horizon is None or parts is None:
        return parts, None, rows if parts is None else len(parts)
    longest = max(map(len, parts))
    for block in (2 * horizon, horizon):
        # Series at the same time may be alike, so only the stretches of one are counted.
        if (units := longest // block) >= FEWEST_UNITS:
            return parts, block, units
    if len(parts) >= FEWEST_UNITS:
        return parts, None, len(parts)
    return parts, horizon, units


def _outside(units: int) -> float:
    """The share of resamples beyond each end of an interval; less than 2.5% for few units."""
    from scipy.stats import norm, t

    reach = sqrt(units / (units - 1)) * float(t.ppf((1 + LEVEL) / 2, units - 1))
    return float(norm.cdf(-reach))


def wilson_interval(hits: int, rows: int) -> list[float]:
    """The interval of a share of independent rows (Wilson 1927)."""
    from scipy.stats import binomtest

    found = binomtest(hits, rows).proportion_ci(LEVEL, method="wilson")
    return [float(found.low), float(found.high)]


def student_interval(values: Sequence[float], metric: Metric) -> list[float] | None:
    """The interval of the mean of normal values of unknown spread; None for fewer than two.

    It ends where the metric does: no accuracy exceeds 1.
    """
    if len(values) < 2:
        return None
    from scipy.stats import t

    mean, error = fmean(values), stdev(values) / sqrt(len(values))
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    best = 1.0 if metric in MAXIMIZED else inf
    worst = -inf if metric == "r2" else 0.0
    return [max(mean - half, worst), min(mean + half, best)]


def _parts(rows: int, groups: Tensor | None, block: int | None) -> list[NDArray[np.int64]] | None:
    """The rows of each group or series; None where every row stands for itself."""
    if groups is None:
        return None if block is None else [np.arange(rows)]
    numbers = groups.cpu().numpy()
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _draw(
    rows: int,
    parts: list[NDArray[np.int64]] | None,
    block: int | None,
    drawn: np.random.Generator,
) -> NDArray[np.int64]:
    if parts is None:
        return drawn.integers(0, rows, rows)
    if block is None:
        return np.concatenate([parts[place] for place in drawn.integers(0, len(parts), len(parts))])
    return np.concatenate([_stretches(part, block, drawn) for part in parts])


def _stretches(
    part: NDArray[np.int64], block: int, drawn: np.random.Generator
) -> NDArray[np.int64]:
    """Draws as many rows as the part has, in stretches of neighbours that begin anywhere."""
    length = min(block, len(part))
    starts = drawn.integers(0, len(part), -(-len(part) // length))
    places = (starts[:, None] + np.arange(length)).ravel()[: len(part)] % len(part)
    chosen: NDArray[np.int64] = part[places]
    return chosen

"""How far a metric would move if other rows, or other seeds, had been drawn: 95% intervals.

Torch, scipy.stats and scikit-learn are imported where something is computed: `status` and `best`
read decisions that hold intervals, and must start fast.
"""

from __future__ import annotations

from math import inf, sqrt
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
    """As many rows as the part has, in stretches of neighbours that begin anywhere."""
    length = min(block, len(part))
    starts = drawn.integers(0, len(part), -(-len(part) // length))
    places = (starts[:, None] + np.arange(length)).ravel()[: len(part)] % len(part)
    chosen: NDArray[np.int64] = part[places]
    return chosen

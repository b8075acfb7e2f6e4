"""How far a metric of some rows would move if other rows of the same kind had been drawn.

Percentile bootstrap (Efron 1979). Rows that hang together are drawn together: all of a group, or
of a series a stretch of neighbouring windows, whose forecasts share hours (circular block
bootstrap, Politis & Romano 1992). The networks are a sample too, of all seeds, and drawn as well.
"""

from __future__ import annotations

import math
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from gru_optuna.data.metrics import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from gru_optuna.data.dataset import Split
    from gru_optuna.study_file import Metric


RESAMPLES = 1_000
RESAMPLED_ROWS = 2_000_000
"""Rows measured for an interval, in all its resamples together: half a second or so."""
LEVEL = 0.95


DRAWS = 1000

Told: TypeAlias = "list[tuple[Tensor, Split]]"
"""What one training tells of the rows: a network's outputs and the rows as it reads them; of a
cross-validation, those of each fold."""


def bootstrap_interval(
    metric: Metric, told: Sequence[Told], seed: int, block: int | None, level: float
) -> list[float] | None:
    """The interval of the metric's mean over trainings.

    Parameters
    ----------
    metric
        As in the study file.
    told
        Of each training.
    seed
        Decides what is drawn.
    block
        Windows of a series that are drawn together; None: rows are no windows.
    level
        The share of draws within.

    Returns
    -------
    list of float or None
        Low and high; None where no draw has a defined metric.
    """
    drawn = np.random.default_rng(seed)
    groups = told[0][0][1].groups
    rows = len(told[0][0][1])
    values = []
    for _ in range(DRAWS):
        index = torch.from_numpy(_draw(rows, groups, block, drawn))
        chosen = drawn.integers(0, len(told), len(told))
        means = {
            one: fmean(measure(metric, o[index], split.rows(index)) for o, split in told[one])
            for one in set(chosen.tolist())
        }
        values.append(fmean(means[one] for one in chosen.tolist()))
    finite = np.array([value for value in values if np.isfinite(value)])
    if not len(finite):
        return None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def mean_metric(metric: Metric, told: Sequence[Told]) -> float:
    """The metric's mean over trainings; of each, over its folds."""
    return fmean(fmean(measure(metric, o, split) for o, split in one) for one in told)


def ensemble(told: Sequence[Told]) -> Told:
    """What all networks say together: the mean of their probabilities, or of their numbers."""
    pairs = [pair for one in told for pair in one]
    split = pairs[0][1]
    if not split.targets.is_floating_point():
        shares = torch.stack([outputs.double().softmax(dim=1) for outputs, _ in pairs])
        return [(shares.mean(dim=0).log(), split)]
    numbers = []
    for outputs, rows in pairs:
        assert rows.units is not None
        numbers.append(rows.units.restore(outputs))
    assert split.units is not None
    return [(split.units.scaled(torch.stack(numbers).mean(dim=0)), split)]


def _draw(
    rows: int, groups: Tensor | None, block: int | None, drawn: np.random.Generator
) -> NDArray[np.int64]:
    if groups is None:
        return drawn.integers(0, rows, rows)
    places = groups.cpu().numpy()
    order = np.argsort(places, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(places[order])) + 1)
    if block is None:
        return np.concatenate([parts[one] for one in drawn.integers(0, len(parts), len(parts))])
    return np.concatenate([_stretches(part, block, drawn) for part in parts])


def _stretches(
    part: NDArray[np.int64], block: int, drawn: np.random.Generator
) -> NDArray[np.int64]:
    """As many rows as there are, in stretches of neighbours that begin anywhere."""
    length = min(block, len(part))
    starts = drawn.integers(0, len(part), -(-len(part) // length))
    places = (starts[:, None] + np.arange(length)).ravel()[: len(part)] % len(part)
    chosen: NDArray[np.int64] = part[places]
    return chosen


def _interval(
    metric: Metric, predicted: Sequence[tuple[Tensor, Split]], block: int
) -> list[float] | None:
    """Percentile bootstrap over rows (Efron 1979), or over blocks of rows (Künsch 1989).

    A share of rows has an interval of its own, Wilson's (1927): where every row is right, all
    resamples are alike, and yet the next row may be wrong.
    """
    import torch

    from gru_optuna.data.metrics import measure

    count = len(predicted[0][1])
    if metric == "accuracy" and len(predicted) == 1:
        return _wilson(measure(metric, *predicted[0]), count)
    block = min(block, count)
    drawn = np.random.default_rng(0)
    values = []
    for _ in range(min(RESAMPLES, max(200, RESAMPLED_ROWS // count))):
        starts = drawn.integers(count, size=-(-count // block))
        rows = (starts[:, None] + np.arange(block)).ravel()[:count] % count
        index = torch.from_numpy(rows).to(predicted[0][0].device)
        values.append(fmean(measure(metric, o[index], s.rows(index)) for o, s in predicted))
    known = np.array(values)[np.isfinite(values)]
    if len(known) < len(values) / 2:
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)] if low < high else None


def _wilson(share: float, count: int) -> list[float]:
    z2 = NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    reach = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * count)) / count) / (1 + z2 / count)
    return [max(0.0, centre - reach), min(1.0, centre + reach)]

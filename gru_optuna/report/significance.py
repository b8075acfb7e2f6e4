"""When a pattern among trials is more than chance: exact tests on counts.

Each test looks at many splits or parameters and reports the most striking one, so its p-value is
multiplied by how many it looked at (Bonferroni). A pattern whose p-value isn't below `SURE` then
is not reported.

Trials aren't samples of one distribution: a sampler that learns tries more values where earlier
ones were good. So every test is conditional on the values that were tried, and asks only whether
the outcomes could have been assigned to them in any order.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.report.trials import is_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gru_optuna.hyperparameters import Value

SURE = 0.01
"""At most one study in a hundred shows such a pattern by chance."""

FEWEST = 3
"""A pattern needs at least this many cases."""

MOST_CUTS = 200
"""How many thresholds of a parameter are tried; among thousands of trials, more add nothing."""


@dataclass(frozen=True)
class Side:
    """Values of a parameter for which something happened more often than for the others."""

    name: str
    side: str  # "above" or "up to" a number, "=" a choice
    at: Value
    hits: int  # trials on this side to which it happened
    trials: int
    other_hits: int
    other_trials: int
    p: float  # corrected


@dataclass(frozen=True)
class Narrow:
    """A range of a parameter that contains all of the best trials, and few of the others."""

    name: str
    low: float
    high: float
    best: int  # how many trials are the best
    inside: int  # how many of all trials it contains
    trials: int
    p: float


def where_it_happens(
    params: Sequence[Mapping[str, Value]], happened: Sequence[bool], shares: float = 0.5
) -> Side | None:
    """The side of a parameter on which something happened, if that isn't chance.

    Parameters
    ----------
    params
        The parameters of each trial; one that only some trials have is left out.
    happened
        Whether it happened to each trial.
    shares
        The share of that side's trials to which it must have happened.
    """
    hits, trials = sum(happened), len(params)
    if hits < FEWEST or hits == trials:
        return None
    names = [name for name in params[0] if all(name in chosen for chosen in params)]
    sides = [
        (name, side, at, mask)
        for name in names
        for side, at, mask in _sides([chosen[name] for chosen in params])
    ]
    if not sides:
        return None
    inside = np.array([mask.sum() for _, _, _, mask in sides])
    both = np.array([(mask & np.array(happened)).sum() for _, _, _, mask in sides])
    p = _at_least(both, trials, hits, inside) * len(sides)
    p[(both < FEWEST) | (both < shares * inside)] = 1.0
    found = int(p.argmin())
    if p[found] >= SURE:
        return None
    name, side, at, _ = sides[found]
    here, there = int(inside[found]), trials - int(inside[found])
    count = int(both[found])
    return Side(name, side, at, count, here, hits - count, there, float(p[found]))


def where_the_best_lie(params: Sequence[Mapping[str, Value]], best: int) -> list[Narrow]:
    """Parameters whose values in the first `best` trials lie closer together than chance allows.

    Parameters
    ----------
    params
        The parameters of each trial, the best trial first.
    best
        How many trials are the best.
    """
    names = [
        name
        for name in params[0]
        if all(name in chosen and is_number(chosen[name]) for chosen in params)
    ]
    found = []
    for name in names:
        values = [float(chosen[name]) for chosen in params]
        low, high = min(values[:best]), max(values[:best])
        inside = sum(low <= value <= high for value in values)
        p = _span_at_most(inside, len(values), best) * len(names)
        if p < SURE and len(set(values)) > 2 * best:
            found.append(Narrow(name, low, high, best, inside, len(values), p))
    return sorted(found, key=lambda narrow: (narrow.p, narrow.name))


def round_between(low: float, high: float) -> float:
    """The number with the fewest digits in [low, high), so that `high` is above it."""
    for digits in range(1, 17):
        size = 10.0 ** (math.floor(math.log10(max(abs(low), abs(high)))) - digits + 1)
        candidate = float(f"{math.floor(high / size) * size:.{digits}g}")
        if candidate >= high:
            candidate = float(f"{candidate - size:.{digits}g}")
        if low <= candidate < high:
            return candidate
    return low


def _sides(values: Sequence[Value]) -> list[tuple[str, Value, NDArray[np.bool_]]]:
    """The ways to split a parameter in two: each choice, or both sides of many thresholds."""
    distinct = sorted(set(values), key=lambda value: (str(type(value)), value))
    if len(distinct) < 2:
        return []
    if not all(is_number(value) for value in distinct):
        return [
            ("=", choice, np.array([value == choice for value in values])) for choice in distinct
        ]
    sides: list[tuple[str, Value, NDArray[np.bool_]]] = []
    numbers = np.array(values, dtype=float)
    stride = -(-(len(distinct) - 1) // MOST_CUTS)
    for low, high in list(itertools.pairwise(distinct))[::stride]:
        at = round_between(float(low), float(high))
        above = numbers > at
        sides += [("above", at, above), ("up to", at, ~above)]
    return sides


def _at_least(
    both: NDArray[np.int64], trials: int, hits: int, inside: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Fisher's exact test, one-sided: the chance of as many hits inside, or more."""
    from scipy.stats import hypergeom

    return np.asarray(hypergeom.sf(both - 1, trials, hits, inside), dtype=np.float64)


def _span_at_most(span: int, trials: int, drawn: int) -> float:
    """The chance that `drawn` of a row of `trials` lie within `span` neighbours."""
    from scipy.special import gammaln, logsumexp

    if drawn < 2:
        return 1.0

    def log_choose(n: NDArray[np.float64] | float, k: float) -> NDArray[np.float64]:
        return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0))

    # A window of width w has trials - w + 1 places; both its ends are drawn, the rest in between.
    widths = np.arange(drawn, span + 1, dtype=np.float64)
    ways = np.log(trials - widths + 1) + log_choose(widths - 2, drawn - 2)
    return float(np.exp(logsumexp(ways) - log_choose(float(trials), drawn)))

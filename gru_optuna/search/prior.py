"""A prior over configurations: near those that a person, or a draft, says to try first.

Half of the trials with which a study starts are drawn from it, the others uniformly from the whole
space. The prior itself is uniform with a probability of 0.2, so a wrong one can't keep the search
from any configuration: replayed with its values mirrored, it did little harm.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from gru_optuna import seeds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.distributions import BaseDistribution

SHARE = 0.5
"""The share of the start-up trials that are drawn from the prior."""

FLOOR = 0.2
"""The probability with which the prior is uniform."""

SPREAD = 0.15
"""Standard deviation of a number around its usual value; its whole range, or that of its logarithm,
is 1."""

SAME_CHOICE = 0.5
"""The probability of a usual choice; otherwise all choices are equally likely."""


class Prior:
    """Draws the values of start-up trials.

    Parameters
    ----------
    usual
        Configurations that are usually good; each names some hyperparameters.
    study_seed
        The study's seed.
    """

    def __init__(self, usual: Sequence[Mapping[str, Any]], study_seed: int) -> None:
        self._usual = usual
        self._study_seed = study_seed

    def draw(self, number: int, name: str, distribution: BaseDistribution) -> Any:
        """A value of one hyperparameter of a trial; None if it should be drawn uniformly.

        Parameters
        ----------
        number
            The trial's.
        name, distribution
            The hyperparameter.
        """
        rng = np.random.default_rng(seeds.seed_for(self._study_seed, "prior", number))
        if not self._usual or rng.random() >= SHARE * (1 - FLOOR):
            return None
        # All values of a trial are near the same configuration.
        usual = self._usual[int(rng.integers(len(self._usual)))]
        if name not in usual:
            return None
        # By name, not in turn: a trial whose worker died between two gets the same values.
        rng = np.random.default_rng([int(rng.integers(2**32)), zlib.crc32(name.encode())])
        return _near(usual[name], distribution, rng)


def _near(usual: Any, distribution: BaseDistribution, rng: np.random.Generator) -> Any:
    match distribution:
        case CategoricalDistribution(choices=choices):
            if usual in choices and rng.random() < SAME_CHOICE:
                return choices[choices.index(usual)]
            return choices[rng.integers(len(choices))]
        case IntDistribution(low=low, high=high, log=log, step=step):
            # A whole number has the width of its step, as in Optuna's own samplers.
            value = _normal(usual, low - step / 2, high + step / 2, log, rng)
            return int(np.clip(low + step * round((value - low) / step), low, high))
        case FloatDistribution(low=low, high=high, log=log, step=step):
            value = _normal(usual, low, high, log, rng)
            if step is not None:
                value = low + step * round((value - low) / step)
            return float(np.clip(value, low, high))
    raise AssertionError(distribution)


def _normal(usual: float, low: float, high: float, log: bool, rng: np.random.Generator) -> float:
    """A normal deviate around the usual value, within the range."""
    if log:
        return math.exp(
            _normal(math.log(max(usual, low)), math.log(low), math.log(high), False, rng)
        )
    center = min(max(usual, low), high)
    while True:  # more than a third of the deviates are within the range, wherever its center is
        value = rng.normal(center, SPREAD * (high - low))
        if low <= value <= high:
            return float(value)

"""Two parameters at a time: where good trials lie, and what a model of them says lies between.

The surface is the partial dependence (Friedman 2001) of a random forest that was fitted to the
complete trials. How much two parameters act together, and not each for itself, is Friedman's H²
(Friedman & Popescu 2008, eq. 44) on that surface: 0 where their effects add up, 1 where there is
nothing but their combination.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.report.numbers.trials import complete, value_of
from gru_optuna.report.scales import Scale, parameter_scale
from gru_optuna.search import space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from optuna import Study
    from sklearn.ensemble import RandomForestRegressor

    from gru_optuna.spec import Specification

PARAMETERS = 3
"""So many of the most important are paired: three pairs fill a row."""

MODEL_TRIALS = 20
"""Among fewer a model would draw what it makes up."""

GRID = 18
"""Steps of a surface along a number."""

FITTED = 1_000
AVERAGED = 60
"""Trials that a forest is fitted to, and that a surface is averaged over; an even selection."""


@dataclass(frozen=True)
class Surface:
    """What the model expects of the metric, on a grid."""

    x: list[float]  # positions on the scales
    y: list[float]
    z: list[list[float]]  # [y][x]
    together: float  # Friedman's H²


@dataclass(frozen=True)
class Pair:
    """Two parameters, and every complete trial that has both."""

    x: Scale
    y: Scale
    numbers: list[int]
    x_positions: list[float]
    y_positions: list[float]
    metric: list[float]
    surface: Surface | None  # None: too few trials


def interactions(study: Study, spec: Specification, ranking: Sequence[str]) -> list[Pair]:
    """Pairs of the first parameters of a ranking that all complete trials have."""
    trials, distributions = complete(study), space.searched(spec)
    everywhere = [
        name
        for name in ranking
        if name in distributions and all(name in trial.params for trial in trials)
    ]
    everywhere += [
        name
        for name in distributions
        if name not in everywhere and trials and all(name in trial.params for trial in trials)
    ]
    scales = {name: parameter_scale(name, distributions[name]) for name in everywhere}
    scales = {name: scale for name, scale in scales.items() if len(scale.ticks) > 1}
    if len(scales) < 2 or len({trial.value for trial in trials}) < 2:
        return []
    places = {
        name: [scale.position(trial.params[name]) for trial in trials]
        for name, scale in scales.items()
    }
    metric = [value_of(trial) for trial in trials]
    X, y = np.array(list(places.values())).T, np.array(metric)
    forest = _fit(X, y) if len(trials) >= MODEL_TRIALS else None
    order = list(scales)
    return [
        Pair(
            x=scales[one],
            y=scales[other],
            numbers=[trial.number for trial in trials],
            x_positions=places[one],
            y_positions=places[other],
            metric=metric,
            surface=forest
            and _surface(
                forest, X, order.index(one), order.index(other), scales[one], scales[other]
            ),
        )
        for one, other in combinations(order[:PARAMETERS], 2)
    ]


def _fit(inputs: NDArray[np.float64], y: NDArray[np.float64]) -> RandomForestRegressor:
    from sklearn.ensemble import RandomForestRegressor

    stride = -(-len(inputs) // FITTED)
    forest = RandomForestRegressor(n_estimators=64, min_samples_leaf=2, random_state=0)
    return forest.fit(inputs[::stride], y[::stride])


def _surface(
    forest: RandomForestRegressor,
    inputs: NDArray[np.float64],
    i: int,
    j: int,
    x: Scale,
    y: Scale,
) -> Surface:
    xs, ys = _grid(x), _grid(y)
    sample = inputs[:: -(-len(inputs) // AVERAGED)]
    across, up = (grid.ravel() for grid in np.meshgrid(xs, ys))
    rows = np.repeat(sample[None], len(across), axis=0)  # (grid, sample, parameters)
    rows[:, :, i], rows[:, :, j] = across[:, None], up[:, None]
    predicted = forest.predict(rows.reshape(-1, inputs.shape[1]))
    z = predicted.reshape(len(ys), len(xs), len(sample)).mean(axis=2)
    return Surface(xs.tolist(), ys.tolist(), z.tolist(), _together(z))


def _together(z: NDArray[np.float64]) -> float:
    """The share of a surface's variance that no sum of two curves explains."""
    centred = z - z.mean()
    rest = centred - centred.mean(axis=0)[None] - centred.mean(axis=1)[:, None]
    total = float((centred**2).sum())
    return float((rest**2).sum()) / total if total > 0 else 0.0


def _grid(scale: Scale) -> NDArray[np.float64]:
    if scale.kind == "category":
        return np.array(scale.ticks)
    return np.linspace(scale.low, scale.high, GRID)

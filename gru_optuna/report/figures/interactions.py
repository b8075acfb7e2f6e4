"""Two parameters at a time: the trials, on the surface that a model fits to them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.formatting import format_metric
from gru_optuna.report.axes import Scale, parameter_scale
from gru_optuna.report.figures.base import Panel, canvas, section, spread, thin, ticks
from gru_optuna.report.theme import BEST, FROM_WORST_TO_BEST, PAPER, STYLES
from gru_optuna.report.trials import complete, value_of
from gru_optuna.search import space

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go
    from numpy.typing import NDArray
    from optuna import Study
    from sklearn.ensemble import RandomForestRegressor

    from gru_optuna.report.figures.base import Context, FigureSection
    from gru_optuna.study_file import Specification


PARAMETERS = 3
"""How many of the most important parameters are paired: three pairs fill a row."""
MODEL_TRIALS = 20
"""A model of fewer trials would invent its surface."""
GRID = 18
"""Steps of a surface along a number."""
FITTED = 1_000
"""A forest is fitted to at most this many trials, evenly chosen."""
AVERAGED = 60
"""A surface is averaged over at most this many trials, evenly chosen."""


@dataclass(frozen=True)
class Surface:
    """The metric that the model predicts on a grid."""

    x: list[float]  # positions on the scales
    y: list[float]
    z: list[list[float]]  # [y][x]
    together: float  # Friedman's H²


@dataclass(frozen=True)
class Pair:
    """Two parameters, and every complete trial."""

    x: Scale
    y: Scale
    numbers: list[int]
    x_positions: list[float]
    y_positions: list[float]
    metric: list[float]
    surface: Surface | None  # None: too few trials for a model


def pair_parameters(study: Study, spec: Specification, ranking: Sequence[str]) -> list[Pair]:
    """Pairs of the most important parameters that all complete trials have.

    Parameters
    ----------
    study, spec
        The study.
    ranking
        Parameters by importance; the others follow in the order of the study file.
    """
    trials, distributions = complete(study), space.searched(spec)
    in_all = set(distributions).intersection(*(trial.params for trial in trials))
    everywhere = [name for name in dict.fromkeys((*ranking, *distributions)) if name in in_all]
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


POINTS = 250
"""More trials than this are thinned, so that the surface stays visible between them."""


def draw_pair(pair: Pair, spec: Specification, best: int | None) -> go.Figure:
    """Better is darker on a light page and brighter on a dark one; the winner is a diamond."""
    figure = canvas(330, showlegend=False, margin={"l": 56, "r": 8, "t": 8, "b": 52})
    low, high = min(pair.metric), max(pair.metric)
    better_low = spec.direction == "minimize"
    colours = {"colorscale": FROM_WORST_TO_BEST, "reversescale": better_low}
    if pair.surface:
        cells = [value for row in pair.surface.z for value in row]
        figure.add_heatmap(
            x=pair.surface.x,
            y=pair.surface.y,
            z=[[float(f"{value:.5g}") for value in row] for row in pair.surface.z],
            zmin=min(cells),
            zmax=max(cells),
            zsmooth="best" if "category" not in (pair.x.kind, pair.y.kind) else False,
            **STYLES["surface"],
            **colours,
        )
    shown = thin(pair.numbers, POINTS, best)
    # By rank: a single bad outlier would give all other trials the same colour.
    ranks = {value: rank for rank, value in enumerate(sorted(set(pair.metric)))}
    for winner in (False, True):
        group = [n for n in shown if (pair.numbers[n] == best) == winner]
        figure.add_scatter(
            x=[_place(pair.x, pair.x_positions[n], pair.numbers[n]) for n in group],
            y=[_place(pair.y, pair.y_positions[n], pair.numbers[n] + 7) for n in group],
            text=[f"trial {pair.numbers[n]}: {format_metric(pair.metric[n])}" for n in group],
            mode="markers",
            marker={
                "size": 13 if winner else 8,
                "symbol": "diamond" if winner else "circle",
                "line": {"width": 1.2, "color": PAPER},
                **(
                    {"color": BEST}
                    if winner
                    else {
                        "color": [ranks[pair.metric[n]] for n in group],
                        "cmin": 0,
                        "cmax": max(1, len(ranks) - 1),
                        **colours,
                    }
                ),
            },
            hovertemplate="%{text}<extra></extra>",
        )
    if low == high:
        figure.update_traces(marker={"color": BEST})
    figure.update_xaxes(title=pair.x.name, tickfont={"size": 11}, **ticks(pair.x))
    figure.update_yaxes(
        title={"text": pair.y.name, "standoff": 6}, tickfont={"size": 11}, **ticks(pair.y)
    )
    return figure


def _place(scale: Scale, position: float, number: int) -> float:
    return round(position + spread(number) if scale.kind == "category" else position, 6)


def interactions_section(context: Context, ranking: Sequence[str]) -> FigureSection:
    """Pairs of the most important parameters."""
    pairs = pair_parameters(context.study, context.spec, ranking)
    panels = [
        Panel(
            draw_pair(pair, context.spec, context.best),
            f"{pair.x.name} and {pair.y.name}, {len(pair.numbers)} trials.",
            f"{pair.x.name} × {pair.y.name}"
            + (f", together {pair.surface.together:.0%}" if pair.surface else ""),
        )
        for pair in pairs
    ]
    modelled = any(pair.surface for pair in pairs)
    return section("interactions", pairs, panels, {"caption": True, "model": modelled})

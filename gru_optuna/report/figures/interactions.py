"""Two parameters at a time: the trials on the surface that a model draws through them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gru_optuna.report.figures.base import canvas, spread, ticks
from gru_optuna.report.scales import label
from gru_optuna.report.theme import BEST, FROM_WORST_TO_BEST, PAPER

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from gru_optuna.report.numbers.interactions import Pair
    from gru_optuna.report.scales import Scale
    from gru_optuna.spec import Specification

POINTS = 250
"""More trials than this are thinned, so that the surface shows between them."""


def draw_pair(pair: Pair, spec: Specification, best: int | None) -> go.Figure:
    """Better is darker on a light page, brighter on a dark one; the best trial is a diamond."""
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
            showscale=False,
            opacity=0.55,
            hoverinfo="skip",
            **colours,
        )
    stride = math.ceil(len(pair.numbers) / POINTS)
    shown = [n for n in range(len(pair.numbers)) if n % stride == 0 or pair.numbers[n] == best]
    # By rank: one trial that went astray would leave all others one colour.
    ranks = {value: rank for rank, value in enumerate(sorted(set(pair.metric)))}
    for winner in (False, True):
        group = [n for n in shown if (pair.numbers[n] == best) == winner]
        figure.add_scatter(
            x=[_place(pair.x, pair.x_positions[n], pair.numbers[n]) for n in group],
            y=[_place(pair.y, pair.y_positions[n], pair.numbers[n] + 7) for n in group],
            text=[f"trial {pair.numbers[n]}: {label(pair.metric[n])}" for n in group],
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

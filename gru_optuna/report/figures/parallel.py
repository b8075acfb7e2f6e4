"""Parallel coordinates and slices: the complete trials over all parameters, and over each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from gru_optuna.report.figures.base import canvas, opacity, spread, ticks
from gru_optuna.report.scales import label
from gru_optuna.report.theme import BEST, COMPLETE, FROM_WORST_TO_BEST, GRID, INK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.report.numbers.parallel import ParallelCoordinates, Slice
    from gru_optuna.report.scales import Scale
    from gru_optuna.spec import Specification

AXIS_WIDTH = 61
"""Pixels one axis of the parallel coordinates needs; a page's width holds all 17 there can be."""

LINES = 1_000
"""More trials than this would be one dark surface: an even selection is drawn."""

SLICE_POINTS = 1_000
"""More trials than this aren't drawn in a slice, but thinned."""


def draw_parallel_coordinates(
    numbers: ParallelCoordinates, spec: Specification, best: int | None
) -> go.Figure:
    """One line for a trial, one axis for a parameter; axes can be brushed and moved."""
    metric = numbers.columns[-1]
    stride = math.ceil(len(numbers.numbers) / LINES)
    shown = [n for n, one in enumerate(numbers.numbers) if n % stride == 0 or one == best]
    # By rank: values crowd near the best, and one that went astray would leave all one colour.
    places = sorted({metric.positions[n] for n in shown})
    rank = {place: index / max(1, len(places) - 1) for index, place in enumerate(places)}

    def packed(values: Sequence[float]) -> Any:
        return np.array([values[n] for n in shown], dtype=np.float32)

    figure = canvas(460, margin={"l": 40, "r": 44, "t": 96, "b": 24})
    figure.add_trace(
        go.Parcoords(
            dimensions=[
                {
                    "label": column.scale.name,
                    "range": [column.scale.low, column.scale.high],
                    "tickvals": column.scale.ticks,
                    "ticktext": column.scale.labels,
                    "values": packed(column.positions),
                }
                for column in numbers.columns
            ],
            line={
                "color": packed([rank.get(place, 0.0) for place in metric.positions]),
                "colorscale": FROM_WORST_TO_BEST,
                "cmin": 0,
                "cmax": 1,
                "reversescale": spec.direction == "minimize",
            },
            # What the form below the figure tells of those that pass.
            meta={
                "numbers": [numbers.numbers[n] for n in shown],
                "metric": [f"{spec.metric} {label(metric.values[n] or 0.0)}" for n in shown],
                "maximize": spec.direction == "maximize",
            },
            labelangle=-35,
            labelside="top",
            labelfont={"size": 12.5, "color": INK},
            tickfont={"size": 10.5, "color": INK},
            # The range's two ends are ticks already, and on log axes they would be exponents.
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
            unselected={"line": {"color": GRID, "opacity": 0.25}},
        )
    )
    return figure


def draw_slice(numbers: Slice, metric: Scale, best: int | None) -> go.Figure:
    """One parameter against the metric, on an axis shared by all; the best trial stands out."""
    scale = numbers.scale
    stride = math.ceil(len(numbers.numbers) / SLICE_POINTS)
    shown = [
        index
        for index, number in enumerate(numbers.numbers)
        if index % stride == 0 or number == best
    ]
    groups: tuple[tuple[list[int], dict[str, Any]], ...] = (
        (
            [index for index in shown if numbers.numbers[index] != best],
            {"color": COMPLETE, "size": 6, "opacity": opacity(len(shown))},
        ),
        (
            [index for index in shown if numbers.numbers[index] == best],
            {"color": BEST, "size": 11, "symbol": "diamond"},
        ),
    )
    figure = canvas(216, margin={"l": 48, "r": 8, "t": 8, "b": 28}, showlegend=False)
    for group, marker in groups:
        figure.add_scatter(
            x=[round(_place(scale, numbers, index, best), 6) for index in group],
            y=[round(metric.position(numbers.metric[index]), 6) for index in group],
            text=[
                f"{numbers.numbers[index]}: {label(numbers.values[index])}, "
                f"{label(numbers.metric[index])}"
                for index in group
            ],
            mode="markers",
            marker=marker,
            hovertemplate="trial %{text}<extra></extra>",
        )
    figure.update_xaxes(tickfont={"size": 11}, **ticks(scale))
    if scale.kind == "category" and sum(map(len, scale.labels)) > 32:
        # Turned this way no name is cut off at the panel's right end.
        figure.update_xaxes(tickangle=-35)
    figure.update_yaxes(tickfont={"size": 11}, **ticks(metric))
    return figure


def _place(scale: Scale, numbers: Slice, index: int, best: int | None) -> float:
    place = scale.position(numbers.values[index])
    if scale.kind != "category" or numbers.numbers[index] == best:
        return place
    return place + spread(numbers.numbers[index])

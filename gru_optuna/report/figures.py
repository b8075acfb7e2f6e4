"""Plain numbers drawn with plotly: every function takes what ``numbers`` made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from gru_optuna.report.scales import label, metric_scale
from gru_optuna.report.theme import BEST, COMPLETE, FAILED, FROM_WORST_TO_BEST, PRUNED, TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.report.numbers import (
        Curve,
        HistoryPoint,
        Importance,
        ParallelCoordinates,
        Slice,
    )
    from gru_optuna.report.scales import Scale
    from gru_optuna.spec import Specification

AXIS_WIDTH = 61
"""Pixels one axis of the parallel coordinates needs; a page's width holds all 17 there can be."""

SVG_POINTS = 3_000
"""More points than this are drawn by WebGL: as SVG they would hold the browser up."""

SLICE_POINTS = 1_000
"""More trials than this aren't drawn in a slice, but thinned."""


def draw_importance(numbers: Importance) -> go.Figure:
    """Bars, the most important parameter on top."""
    shares = numbers.shares
    figure = _figure(height=76 + 26 * len(shares), margin={"t": 32})
    figure.add_bar(
        x=list(shares.values()),
        y=list(shares),
        orientation="h",
        marker={"color": COMPLETE},
        text=[f"{share:.0%}" if share >= 0.01 else "< 1%" for share in shares.values()],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.2%}<extra></extra>",
    )
    room = 1.12 * max(shares.values())
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", range=[0, room])
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False, ticklabelstandoff=6)
    figure.update_layout(bargap=0.35)
    return figure


def draw_parallel_coordinates(numbers: ParallelCoordinates, spec: Specification) -> go.Figure:
    """One line for a trial, one axis for a parameter; axes can be brushed and moved."""
    metric = numbers.columns[-1]
    figure = _figure(height=460, margin={"l": 40, "r": 44, "t": 96, "b": 24})
    figure.add_trace(
        go.Parcoords(
            dimensions=[
                {
                    "label": column.scale.name,
                    "range": [column.scale.low, column.scale.high],
                    "tickvals": column.scale.ticks,
                    "ticktext": column.scale.labels,
                    "values": column.positions,
                }
                for column in numbers.columns
            ],
            line={
                "color": metric.positions,
                "colorscale": FROM_WORST_TO_BEST,
                "cmin": metric.scale.low,
                "cmax": metric.scale.high,
                "reversescale": spec.direction == "minimize",
            },
            labelangle=-35,
            labelside="top",
            labelfont={"size": 12.5, "color": "var(--ink)"},
            tickfont={"size": 10.5, "color": "var(--ink)"},
            # The range's two ends are ticks already, and on log axes they would be exponents.
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
            unselected={"line": {"color": "var(--grid)", "opacity": 0.25}},
        )
    )
    return figure


def draw_history(points: Sequence[HistoryPoint], spec: Specification) -> go.Figure:
    """Every trial's value, the best so far, and failed trials in a strip of their own."""
    figure = _figure(height=400, margin={"t": 44})
    scatter = _scatter(len(points))
    groups: tuple[tuple[str, dict[str, Any]], ...] = (
        ("pruned", {"color": PRUNED, "symbol": "x-thin", "line": {"color": PRUNED, "width": 1.5}}),
        ("complete", {"color": COMPLETE, "symbol": "circle"}),
    )
    for state, marker in groups:
        group = [point for point in points if point.state == state and point.value is not None]
        if group:
            figure.add_trace(
                scatter(
                    x=[point.number for point in group],
                    y=[point.value for point in group],
                    name=state,
                    mode="markers",
                    marker={"size": 7, "opacity": _opacity(len(group)), **marker},
                    hovertemplate=f"trial %{{x}}: %{{y:.4g}} ({state})<extra></extra>",
                )
            )
    running = [point for point in points if point.best is not None]
    if running:
        figure.add_trace(
            scatter(
                x=[point.number for point in running],
                y=[point.best for point in running],
                name="best so far",
                mode="lines",
                line={"color": BEST, "width": 2.5, "shape": "hv"},
                hovertemplate="best up to trial %{x}: %{y:.4g}<extra></extra>",
            )
        )
    failed = [point.number for point in points if point.state == "failed"]
    if failed:
        figure.add_trace(
            scatter(
                x=failed,
                y=[0.0] * len(failed),
                yaxis="y2",
                name="failed",
                mode="markers",
                marker={"size": 8, "color": FAILED, "symbol": "triangle-up"},
                hovertemplate="trial %{x} failed<extra></extra>",
            )
        )
        figure.update_layout(
            yaxis={"domain": [0.12, 1]},
            yaxis2={
                "domain": [0, 0.07],
                "range": [-1, 1],
                "fixedrange": True,
                "tickvals": [0],
                "ticktext": ["failed"],
                "gridcolor": "var(--grid)",
                "automargin": True,
            },
            xaxis={"anchor": "y2"},
        )
    _metric_axis(figure, spec, [point.value for point in points])
    last = points[-1].number
    room = 0.5 + 0.01 * last
    figure.update_xaxes(title="trial", range=[-room, last + room], **_whole(last))
    return figure


def draw_curves(curves: Sequence[Curve], spec: Specification) -> go.Figure:
    """The metric by epoch: one trace for all complete trials, one for pruned, one for the best."""
    figure = _figure(height=440, margin={"t": 44})
    scatter = _scatter(sum(len(curve.epochs) for curve in curves) // 5)
    groups = (
        ("pruned", PRUNED, [c for c in curves if c.state in ("pruned", "failed", "running")]),
        ("complete", COMPLETE, [c for c in curves if c.state == "complete" and not c.best]),
        ("best", BEST, [c for c in curves if c.best]),
    )
    for name, colour, group in groups:
        if not group:
            continue
        states = sorted({curve.state for curve in group}, reverse=name == "pruned")
        best = name == "best"
        figure.add_trace(
            scatter(
                **_joined(group),
                name=f"best (trial {group[0].number})" if best else ", ".join(states),
                mode="lines+markers" if best else "lines",
                line={"color": colour, "width": 3 if best else 1.2},
                marker={"size": 5},
                opacity=1.0 if best else max(0.25, _opacity(2 * len(group))),
                legendgroup=name,
                hovertemplate="trial %{customdata}, epoch %{x}: %{y:.4g}<extra></extra>",
            )
        )
        if name == "pruned":
            last = [curve for curve in group if curve.values[-1] is not None]
            figure.add_trace(
                scatter(
                    x=[curve.epochs[-1] for curve in last],
                    y=[curve.values[-1] for curve in last],
                    customdata=[curve.number for curve in last],
                    mode="markers",
                    marker={
                        "symbol": "x-thin",
                        "size": 6,
                        "line": {"color": colour, "width": 1.5},
                        "opacity": _opacity(len(last)),
                    },
                    legendgroup=name,
                    showlegend=False,
                    hovertemplate="trial %{customdata} ended after epoch %{x}: "
                    "%{y:.4g}<extra></extra>",
                )
            )
    _metric_axis(figure, spec, [value for curve in curves for value in curve.values])
    longest = max(curve.epochs[-1] for curve in curves)
    figure.update_xaxes(title="epoch", **_whole(longest))
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
            {"color": COMPLETE, "size": 6, "opacity": _opacity(len(shown))},
        ),
        (
            [index for index in shown if numbers.numbers[index] == best],
            {"color": BEST, "size": 11, "symbol": "diamond"},
        ),
    )
    figure = _figure(height=230, margin={"l": 48, "r": 8, "t": 8, "b": 40}, showlegend=False)
    for group, marker in groups:
        figure.add_scatter(
            x=[_slice_place(scale, numbers, index, best) for index in group],
            y=[metric.position(numbers.metric[index]) for index in group],
            text=[
                f"trial {numbers.numbers[index]}: {label(numbers.values[index])}, "
                f"{label(numbers.metric[index])}"
                for index in group
            ],
            mode="markers",
            marker=marker,
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_xaxes(
        title=scale.name,
        tickfont={"size": 11},
        showgrid=scale.kind != "category",
        **_ticks(scale),
    )
    if scale.kind == "category" and sum(map(len, scale.labels)) > 32:
        # Turned this way no name is cut off at the panel's right end.
        figure.update_xaxes(tickangle=-35)
    figure.update_yaxes(tickfont={"size": 11}, **_ticks(metric))
    return figure


def _figure(height: int, **layout: Any) -> go.Figure:
    return go.Figure(layout={"template": TEMPLATE, "height": height, **layout})


def _scatter(points: int) -> Any:
    return go.Scattergl if points > SVG_POINTS else go.Scatter


def _opacity(marks: int) -> float:
    """Full for a few, faint for thousands, so that where many lie stays visible."""
    return min(0.9, max(0.15, 12 / math.sqrt(max(marks, 1)) / 2))


def _joined(curves: Sequence[Curve]) -> dict[str, Any]:
    """Many curves as one line with gaps. Typed arrays keep the page small."""
    x: list[int] = []
    y: list[float] = []
    number: list[int] = []
    for curve in curves:
        x += [*curve.epochs, curve.epochs[-1]]
        y += [math.nan if value is None else value for value in curve.values] + [math.nan]
        number += [curve.number] * (len(curve.epochs) + 1)
    return {
        "x": np.array(x, dtype=np.int32),
        "y": np.array(y, dtype=np.float32),
        "customdata": np.array(number, dtype=np.int32),
    }


def _metric_axis(figure: go.Figure, spec: Specification, values: Sequence[float | None]) -> None:
    kind = metric_scale(spec, values).kind
    figure.update_layout(yaxis={"type": kind, "tickformat": "~g"})
    figure.update_layout(yaxis={"title": {"text": f"validation {spec.metric}"}})


def _ticks(scale: Scale) -> dict[str, Any]:
    margin = 0.5 if scale.kind == "category" else 0.06 * (scale.high - scale.low)
    return {
        "range": [scale.low - margin, scale.high + margin],
        "tickvals": scale.ticks,
        "ticktext": scale.labels,
    }


def _slice_place(scale: Scale, numbers: Slice, index: int, best: int | None) -> float:
    place = scale.position(numbers.values[index])
    if scale.kind != "category" or numbers.numbers[index] == best:
        return place
    # Spread over the category's width, evenly and the same at every rendering.
    golden = (math.sqrt(5) - 1) / 2
    return place + 0.5 * ((numbers.numbers[index] * golden) % 1 - 0.5)


def _whole(largest: int) -> dict[str, Any]:
    """No tick at epoch 2.5."""
    return {"dtick": 1} if largest <= 12 else {"tickformat": "d"}

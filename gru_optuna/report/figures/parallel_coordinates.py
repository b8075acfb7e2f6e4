"""Parallel coordinates and slices: the complete trials over all parameters at once, and each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gru_optuna.formatting import format_metric, format_value
from gru_optuna.report.axes import Scale, metric_scale, parameter_scale, size_scale
from gru_optuna.report.figures.base import (
    Panel,
    canvas,
    opacity,
    section,
    spread,
    thin,
    ticks,
)
from gru_optuna.report.theme import BEST, COMPLETE, FROM_WORST_TO_BEST, STYLES
from gru_optuna.report.trials import comparable, value_of
from gru_optuna.search import space
from gru_optuna.study.trial_attributes import TrialAttributes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go
    from optuna import Study

    from gru_optuna.hyperparameters import Value
    from gru_optuna.report.figures.base import Context, FigureSection
    from gru_optuna.study_file import Specification


ABSENT = "none"
"""The tick for trials that lack a conditional parameter."""


@dataclass(frozen=True)
class ParallelAxis:
    """One axis of the parallel coordinates, with every complete trial's position on it."""

    scale: Scale
    values: list[Value | None]  # None: the trial doesn't have this parameter
    positions: list[float]  # an absent value lies below the axis, at the tick "none"


@dataclass(frozen=True)
class ParallelCoordinates:
    """All comparable trials over all searched parameters; the metric is the last axis."""

    numbers: list[int]
    columns: list[ParallelAxis]
    epoch: int | None = None  # after which trials are compared; None: complete ones


@dataclass(frozen=True)
class Slice:
    """One parameter against the metric, over the comparable trials that have it."""

    scale: Scale
    numbers: list[int]
    values: list[Value]
    metric: list[float]


def place_trials(study: Study, spec: Specification) -> ParallelCoordinates:
    """An axis for every searched parameter that some trial has, then those of the goals.

    The metric's is the last one.
    """
    trials, epoch = comparable(study)
    axes = []
    for name, distribution in space.searched(spec).items():
        values = [trial.params.get(name) for trial in trials]
        if any(value is not None for value in values):
            axes.append(_axis(parameter_scale(name, distribution), values))
    if spec.two_goals:
        sizes = [TrialAttributes.read(trial).network_parameters for trial in trials]
        axes.append(_axis(size_scale(sizes), sizes))
    metric = [value_of(trial) for trial in trials]
    axes.append(_axis(metric_scale(spec, metric), metric))
    return ParallelCoordinates([trial.number for trial in trials], axes, epoch)


def cut_slices(study: Study, spec: Specification) -> list[Slice]:
    """A slice for every searched parameter that some trial has."""
    panels = []
    for name, distribution in space.searched(spec).items():
        having = [trial for trial in comparable(study)[0] if name in trial.params]
        if having:
            panels.append(
                Slice(
                    scale=parameter_scale(name, distribution),
                    numbers=[trial.number for trial in having],
                    values=[trial.params[name] for trial in having],
                    metric=[value_of(trial) for trial in having],
                )
            )
    return panels


def _axis(scale: Scale, values: Sequence[Value | None]) -> ParallelAxis:
    if None in values:
        scale = scale.with_absent(ABSENT)
    return ParallelAxis(
        scale=scale,
        values=list(values),
        positions=[scale.ticks[0] if v is None else scale.position(v) for v in values],
    )


AXIS_WIDTH = 61
"""Pixels that an axis of the parallel coordinates needs; the page is wide enough for all 17."""

LINES = 1_000
"""More trials than this would merge into one dark area, so they are thinned evenly."""

SLICE_POINTS = 1_000
"""A slice of more trials than this is thinned evenly."""


def draw_parallel_coordinates(
    numbers: ParallelCoordinates, spec: Specification, best: int | None
) -> go.Figure:
    """One line for each trial, one axis for each parameter; axes can be brushed and moved."""
    import plotly.graph_objects as go

    metric = numbers.columns[-1]
    shown = thin(numbers.numbers, LINES, best)
    # By rank: values crowd near the best, and a bad outlier would give all others one colour.
    places = sorted({metric.positions[n] for n in shown})
    rank = {place: index / max(1, len(places) - 1) for index, place in enumerate(places)}

    def packed(values: Sequence[float]) -> Any:
        return np.array([values[n] for n in shown], dtype=np.float32)

    figure = canvas(460, margin={"l": 40, "r": 44, "t": 96, "b": 24})
    figure.add_trace(
        go.Parcoords(
            dimensions=[
                {
                    "label": axis.scale.name,
                    "range": [axis.scale.low, axis.scale.high],
                    "tickvals": axis.scale.ticks,
                    "ticktext": axis.scale.labels,
                    "values": packed(axis.positions),
                }
                for axis in numbers.columns
            ],
            line={
                "color": packed([rank.get(place, 0.0) for place in metric.positions]),
                "colorscale": FROM_WORST_TO_BEST,
                "cmin": 0,
                "cmax": 1,
                "reversescale": spec.direction == "minimize",
            },
            # The form below the figure describes the trials that pass with these.
            meta={
                "numbers": [numbers.numbers[n] for n in shown],
                "metric": [
                    f"{spec.metric} {format_metric(float(metric.values[n] or 0.0))}" for n in shown
                ],
                "maximize": spec.direction == "maximize",
            },
            **STYLES["parallel_coordinates"],
        )
    )
    return figure


def draw_slice(numbers: Slice, metric: Scale, best: int | None) -> go.Figure:
    """One parameter against the metric, whose axis all slices share; the winner stands out."""
    scale = numbers.scale
    shown = thin(numbers.numbers, SLICE_POINTS, best)
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
                f"{numbers.numbers[index]}: {format_value(numbers.values[index])}, "
                f"{format_metric(numbers.metric[index])}"
                for index in group
            ],
            mode="markers",
            marker=marker,
            hovertemplate="trial %{text}<extra></extra>",
        )
    figure.update_xaxes(tickfont={"size": 11}, **ticks(scale))
    if scale.kind == "category" and sum(map(len, scale.labels)) > 32:
        # Turned this way, no name is cut off at the right edge of the panel.
        figure.update_xaxes(tickangle=-35)
    figure.update_yaxes(tickfont={"size": 11}, **ticks(metric))
    return figure


def _place(scale: Scale, numbers: Slice, index: int, best: int | None) -> float:
    place = scale.position(numbers.values[index])
    if scale.kind != "category" or numbers.numbers[index] == best:
        return place
    return place + spread(numbers.numbers[index])


def parallel_section(context: Context) -> FigureSection:
    """All comparable trials at once."""
    lines = place_trials(context.study, context.spec)
    missing = _nothing_compared(len(lines.numbers), len(lines.columns) - 1)
    panels = []
    if not missing:
        alt = f"{len(lines.numbers)} trials over {len(lines.columns) - 1} parameters."
        width = AXIS_WIDTH * len(lines.columns)
        figure = draw_parallel_coordinates(lines, context.spec, context.best)
        panels = [Panel(figure, alt, min_width=width)]
    return section(
        "parallel_coordinates",
        lines,
        panels,
        {
            "caption": True,
            "common_epoch": lines.epoch is not None,
            "fewer": len(lines.numbers) > LINES,
        },
        missing=missing,
        most=LINES,
        absent=ABSENT,
        **context.words,
    )


def slices_section(context: Context) -> FigureSection:
    """Each parameter by itself."""
    cuts = cut_slices(context.study, context.spec)
    lines = place_trials(context.study, context.spec)
    missing = _nothing_compared(len(lines.numbers), len(cuts))
    metric = lines.columns[-1].scale
    panels = [
        Panel(
            draw_slice(cut, metric, context.best),
            f"{cut.scale.name} against {context.spec.metric}, {len(cut.numbers)} trials.",
            cut.scale.name,
        )
        for cut in ([] if missing else cuts)
    ]
    return section(
        "slices",
        cuts,
        panels,
        {
            "caption": True,
            "common_epoch": lines.epoch is not None,
            "fewer": len(lines.numbers) > SLICE_POINTS,
        },
        missing=missing,
        most=SLICE_POINTS,
        epoch=lines.epoch,
        **context.words,
    )


def _nothing_compared(trials: int, searched: int) -> str | None:
    if not trials:
        return "No trial has trained an epoch yet."
    return None if searched else "Nothing was searched: every hyperparameter is fixed."

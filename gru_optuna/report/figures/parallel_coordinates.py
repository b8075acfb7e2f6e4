"""Parallel coordinates and slices: the complete trials over all parameters, and over each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gru_optuna.report.axes import Scale, label, metric_scale, parameter_scale
from gru_optuna.report.figures.base import Panel, Section, canvas, opacity, spread, ticks
from gru_optuna.report.theme import BEST, COMPLETE, FROM_WORST_TO_BEST, GRID, INK
from gru_optuna.report.trials import complete, value_of
from gru_optuna.search import space

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go
    from optuna import Study

    from gru_optuna.hyperparameters import Value
    from gru_optuna.report.axes import Scale
    from gru_optuna.report.figures.base import Context
    from gru_optuna.study_file import Specification


ABSENT = "none"
"""Where a trial stands that doesn't have a conditional parameter."""


@dataclass(frozen=True)
class Column:
    """One axis of the parallel coordinates, with every complete trial's place on it."""

    scale: Scale
    values: list[Value | None]  # None: the trial doesn't have this parameter
    positions: list[float]  # an absent value stands below the axis, at the tick "none"


@dataclass(frozen=True)
class ParallelCoordinates:
    """All complete trials over all searched parameters; the metric is the last column."""

    numbers: list[int]
    columns: list[Column]


@dataclass(frozen=True)
class Slice:
    """One parameter against the metric, over the complete trials that have it."""

    scale: Scale
    numbers: list[int]
    values: list[Value]
    metric: list[float]


def parallel_coordinates(study: Study, spec: Specification) -> ParallelCoordinates:
    """Columns for every searched parameter that some complete trial has, then the metric."""
    trials = complete(study)
    columns = []
    for name, distribution in space.searched(spec).items():
        values = [trial.params.get(name) for trial in trials]
        if any(value is not None for value in values):
            columns.append(_column(parameter_scale(name, distribution), values))
    metric = [value_of(trial) for trial in trials]
    columns.append(_column(metric_scale(spec, metric), metric))
    return ParallelCoordinates([trial.number for trial in trials], columns)


def slices(study: Study, spec: Specification) -> list[Slice]:
    """One for every searched parameter that some complete trial has."""
    panels = []
    for name, distribution in space.searched(spec).items():
        having = [trial for trial in complete(study) if name in trial.params]
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


def _column(scale: Scale, values: Sequence[Value | None]) -> Column:
    if None in values:
        scale = scale.with_absent(ABSENT)
    return Column(
        scale=scale,
        values=list(values),
        positions=[scale.ticks[0] if v is None else scale.position(v) for v in values],
    )


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
    import plotly.graph_objects as go

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


def parallel_section(context: Context) -> Section:
    """All complete trials at once."""
    lines = parallel_coordinates(context.study, context.spec)
    missing = _nothing_complete(len(lines.numbers), len(lines.columns) - 1)
    thinned = (
        f" Of more than {LINES:,} trials, an even selection is drawn."
        if len(lines.numbers) > LINES
        else ""
    )
    caption = (
        f"Each line is a complete trial; the darker it is on a light page, the brighter on a dark "
        f"one, the better its rank by {context.spec.metric}. Drag along an axis to keep only the "
        f"trials that pass there, click the axis to let go, drag a name to move its axis. A line "
        f"through “{ABSENT}” has no such parameter: its decay is another one.{thinned}"
    )
    panels = []
    if not missing:
        alt = f"{len(lines.numbers)} trials over {len(lines.columns) - 1} parameters."
        width = AXIS_WIDTH * len(lines.columns)
        figure = draw_parallel_coordinates(lines, context.spec, context.best)
        panels = [Panel(figure, alt, min_width=width)]
    return Section(
        "parallel_coordinates",
        "Parallel coordinates",
        "Parallel",
        "What matters",
        caption,
        lines,
        panels,
        missing,
    )


def slices_section(context: Context) -> Section:
    """Each parameter alone."""
    cuts = slices(context.study, context.spec)
    lines = parallel_coordinates(context.study, context.spec)
    missing = _nothing_complete(len(lines.numbers), len(cuts))
    thinned = (
        f" Of more than {SLICE_POINTS:,} trials, an even selection is drawn."
        if len(lines.numbers) > SLICE_POINTS
        else ""
    )
    caption = (
        f"Each panel sets one parameter against the validation {context.spec.metric} of the "
        f"complete trials; the diamond is the winner. Trials of one category are spread "
        f"sideways, to be seen. A slope or a hill says that the parameter matters, a good value at "
        f"the edge that the range may be too narrow.{thinned}"
    )
    metric = lines.columns[-1].scale
    panels = [
        Panel(
            draw_slice(cut, metric, context.best),
            f"{cut.scale.name} against {context.spec.metric}, {len(cut.numbers)} trials.",
            cut.scale.name,
        )
        for cut in ([] if missing else cuts)
    ]
    return Section(
        "slices",
        "One at a time",
        "Slices",
        "What matters",
        caption,
        cuts,
        panels,
        missing,
        small=True,
    )


def _nothing_complete(complete: int, searched: int) -> str | None:
    if not complete:
        return "No trial is complete yet."
    return None if searched else "Nothing was searched: every hyperparameter is fixed."

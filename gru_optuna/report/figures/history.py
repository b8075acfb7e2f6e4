"""The search in order: every trial's value, and the best so far, by trial and by time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna.formatting import format_duration, format_metric
from gru_optuna.report.axes import duration_ticks
from gru_optuna.report.figures.base import (
    Panel,
    canvas,
    metric_axis,
    opacity,
    scatter,
    section,
    whole,
)
from gru_optuna.report.figures.timeline import StudyClock
from gru_optuna.report.theme import BEST, QUIET, STYLES
from gru_optuna.report.trials import ENDED, State, last_value, state_of, trials_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go
    from optuna import Study

    from gru_optuna.report.figures.base import Context, FigureSection
    from gru_optuna.study_file import Specification


@dataclass(frozen=True)
class HistoryPoint:
    """One ended trial."""

    number: int
    state: State
    value: float | None  # a pruned trial has the value of its last epoch
    best: float | None  # the best value of all complete trials up to this one


@dataclass(frozen=True)
class BestByTime:
    """A moment when the best value improved, or the end of the search."""

    seconds: float  # since the first trial started, without pauses
    number: int
    best: float


def list_history(study: Study) -> list[HistoryPoint]:
    """Every trial that has ended, by number."""
    better = max if study.directions[0].name == "MAXIMIZE" else min
    best: float | None = None
    points = []
    for trial in trials_in(study, *ENDED):
        value = last_value(trial)
        if trial.state == TrialState.COMPLETE and value is not None:
            best = value if best is None else better(best, value)
        points.append(HistoryPoint(trial.number, state_of(trial), value, best))
    return points


def list_improvements(study: Study) -> list[BestByTime]:
    """The moments when the best value improved, in the order in which trials ended."""
    clock = StudyClock.of(study)
    better = max if study.directions[0].name == "MAXIMIZE" else min
    steps: list[BestByTime] = []
    over = [t for t in trials_in(study, *ENDED) if t.datetime_start and t.datetime_complete]
    over.sort(key=lambda trial: (trial.datetime_complete, trial.number))
    for trial in over:
        value = last_value(trial)
        if trial.state != TrialState.COMPLETE or value is None or trial.datetime_complete is None:
            continue
        if not steps or (value != steps[-1].best and better(value, steps[-1].best) == value):
            steps.append(BestByTime(clock.seconds(trial.datetime_complete), trial.number, value))
    if steps and over[-1].datetime_complete is not None:
        end = clock.seconds(over[-1].datetime_complete)
        if end > steps[-1].seconds:
            steps.append(BestByTime(end, steps[-1].number, steps[-1].best))
    return steps


def draw_history(points: Sequence[HistoryPoint], spec: Specification) -> go.Figure:
    """Every trial's value, the best so far, and failed trials in a separate strip."""
    figure = canvas(400, f"validation {spec.metric}")
    trace = scatter(len(points))
    for state in ("pruned", "complete"):
        group = [point for point in points if point.state == state and point.value is not None]
        if group:
            marks = trace(
                x=[point.number for point in group],
                y=[point.value for point in group],
                name=state,
                hovertemplate=f"trial %{{x}}: %{{y:.4g}} ({state})<extra></extra>",
                **STYLES[f"{state}_trials"],
            )
            figure.add_trace(marks.update(marker_opacity=opacity(len(group))))
    running = [point for point in points if point.best is not None]
    if running:
        figure.add_trace(
            trace(
                x=[point.number for point in running],
                y=[point.best for point in running],
                name="best so far",
                hovertemplate="best up to trial %{x}: %{y:.4g}<extra></extra>",
                **STYLES["best_so_far"],
            )
        )
    failed = [point.number for point in points if point.state == "failed"]
    if failed:
        figure.add_trace(trace(x=failed, y=[0.0] * len(failed), **STYLES["failed_trials"]))
    metric_axis(figure, spec, [point.value for point in points])
    if failed:
        figure.update_layout(STYLES["failed_strip"])
    last = points[-1].number
    room = 0.5 + 0.01 * last
    figure.update_xaxes(title="trial", range=[-room, last + room], **whole(last))
    return figure


def draw_best_by_time(steps: Sequence[BestByTime], spec: Specification) -> go.Figure:
    """The best value so far against the time worked."""
    figure = canvas(260, f"best validation {spec.metric} so far", showlegend=False)
    figure.add_scatter(
        x=[step.seconds for step in steps],
        y=[step.best for step in steps],
        text=[
            f"trial {step.number} after {format_duration(step.seconds)}: {format_metric(step.best)}"
            for step in steps
        ],
        mode="lines+markers",
        line={"color": BEST, "width": 2.5, "shape": "hv"},
        # The last step only shows how long the search went on.
        marker={"size": [7] * (len(steps) - 1) + [0 if len(steps) > 1 else 7]},
        hovertemplate="%{text}<extra></extra>",
    )
    metric_axis(figure, spec, [step.best for step in steps])
    end = steps[-1].seconds
    places, names = duration_ticks(end)
    figure.update_xaxes(
        title={"text": "time worked", "font": {"color": QUIET}},
        range=[-0.01 * end, 1.01 * end] if end else None,
        tickvals=places,
        ticktext=names,
    )
    return figure


def history_section(context: Context) -> FigureSection:
    """Values by trial, and the best value by time."""
    points, steps = list_history(context.study), list_improvements(context.study)
    panels = []
    if points:
        best = points[-1].best
        reached = f"; the best is {format_metric(best)}" if best is not None else ""
        panels = [Panel(draw_history(points, context.spec), f"{len(points)} trials{reached}.")]
    if steps:
        worked = format_duration(steps[-1].seconds)
        alt = f"The best value after {worked}: {format_metric(steps[-1].best)}."
        panels.append(Panel(draw_best_by_time(steps, context.spec), alt))
    numbers = {"trials": points, "by_time": steps}
    return section("optimization_history", numbers, panels, None, **context.words)

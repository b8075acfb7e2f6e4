"""Training health: how trials ended, when they diverged, whether they overfit, how they clip."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from optuna.trial import TrialState

from gru_optuna.attributes import BASELINES
from gru_optuna.formatting import format_metric, format_value
from gru_optuna.report.figures.base import (
    Panel,
    add_diagonal,
    canvas,
    opacity,
    scatter,
    section,
    whole,
)
from gru_optuna.report.theme import (
    BEST,
    COMPLETE,
    FAILED,
    FROM_WORST_TO_BEST,
    PAPER,
    PAUSED,
    PRUNED,
    RUNNING,
    STATE_COLOURS,
    STYLES,
)
from gru_optuna.report.trials import (
    STATES,
    State,
    diverged,
    finite,
    outcome,
    state_of,
    trials_in,
)
from gru_optuna.storage.paused_trials import is_paused
from gru_optuna.study.trial_attributes import TrialAttributes, best_reached, epochs_trained

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.report.figures.base import Context, FigureSection
    from gru_optuna.study_file import Specification


Ending: TypeAlias = Literal[
    "trained to the end",
    "stopped early",
    "pruned",
    "diverged",
    "failed otherwise",
    "running",
    "paused",
]
CHANCE = ("majority class", "mean")
"""Baselines that use only the training labels; forecasting has none."""
PATIENT_EPOCHS = 3
"""A trial that trained for fewer epochs may simply not have had the time to learn."""


@dataclass(frozen=True)
class Gap:
    """Training and validation loss of one trial at its best epoch."""

    number: int
    state: State
    train_loss: float
    validation_loss: float


@dataclass(frozen=True)
class Clipping:
    """How often one trial's gradient was clipped."""

    number: int
    clip_norm: float | None  # None: off
    share: float  # of its updates
    value: float  # the metric of its best epoch


@dataclass(frozen=True)
class Health:
    """How all trials ended, and the signs of unhealthy training."""

    endings: dict[Ending, int]  # only those that occurred
    diverged: list[int]  # numbers of the trials
    diverged_in: dict[int, int]  # how many trials, by epoch
    chance: tuple[str, float] | None  # the baseline that knows only the labels, and its value
    at_chance: list[int]  # numbers of trials that trained for a while without beating it
    gaps: list[Gap] = field(default_factory=list)  # of complete and pruned trials
    clipping: list[Clipping] = field(default_factory=list)


def measure_health(study: Study, spec: Specification) -> Health:
    """Examines every trial that has started."""
    trials = trials_in(study, *STATES)
    endings = [_ending(trial) for trial in trials]
    lost = [trial for trial in trials if diverged(trial)]
    epochs = [int(found[1]) for t in lost if (found := re.search(r"in epoch (\d+)", outcome(t)))]
    baselines = dict(study.user_attrs.get(BASELINES, {}))
    chance = next(((name, float(baselines[name])) for name in CHANCE if name in baselines), None)
    return Health(
        endings={ending: endings.count(ending) for ending in _COLOURS if ending in endings},
        diverged=[trial.number for trial in lost],
        diverged_in={epoch: epochs.count(epoch) for epoch in sorted(set(epochs))},
        chance=chance,
        at_chance=[t.number for t in trials if chance and _at_chance(t, chance[1], spec)],
        gaps=[gap for trial in trials if (gap := _gap(trial))],
        clipping=[clip for trial in trials if (clip := _clipping(trial, spec))],
    )


def _ending(trial: FrozenTrial) -> Ending:
    match trial.state:
        case TrialState.COMPLETE:
            return "stopped early" if "stopped early" in outcome(trial) else "trained to the end"
        case TrialState.PRUNED:
            return "pruned"
        case TrialState.FAIL:
            return "diverged" if diverged(trial) else "failed otherwise"
    return "paused" if is_paused(trial) else "running"


def _at_chance(trial: FrozenTrial, chance: float, spec: Specification) -> bool:
    best = best_reached(trial, spec)
    patient = trial.state != TrialState.FAIL and epochs_trained(trial) >= PATIENT_EPOCHS
    return patient and best is not None and spec.as_loss(best) >= spec.as_loss(chance)


def _gap(trial: FrozenTrial) -> Gap | None:
    attributes = TrialAttributes.read(trial)
    at, losses = attributes.best_epoch - 1, (attributes.train_loss, attributes.validation_loss)
    if at < 0 or any(len(curve) <= at or finite(curve[at]) is None for curve in losses):
        return None
    if trial.state == TrialState.FAIL:
        return None
    return Gap(trial.number, state_of(trial), float(losses[0][at]), float(losses[1][at]))


def _clipping(trial: FrozenTrial, spec: Specification) -> Clipping | None:
    shares = TrialAttributes.read(trial).clipped
    value = best_reached(trial, spec)
    if not shares or value is None:
        return None
    norm = trial.params.get("clip_norm", spec.search.clip_norm)
    number = float(norm) if isinstance(norm, int | float) else None
    return Clipping(trial.number, number, fmean(shares), value)


_COLOURS: dict[Ending, str] = {
    "trained to the end": COMPLETE,
    "stopped early": "var(--scale-2)",
    "pruned": PRUNED,
    "diverged": FAILED,
    "failed otherwise": BEST,
    "running": RUNNING,
    "paused": PAUSED,
}


def draw_endings(numbers: Health) -> go.Figure:
    """One bar for all trials, divided by how they ended."""
    figure = canvas(150, barmode="stack", margin={"l": 8, "r": 8, "t": 48, "b": 28})
    for ending, count in numbers.endings.items():
        figure.add_bar(
            x=[count],
            name=ending,
            text=[f"{count:,}"],
            marker={"color": _COLOURS[ending], "line": {"width": 1.5, "color": PAPER}},
            hovertemplate=f"{ending}: %{{x:,}} trials<extra></extra>",
            **STYLES["endings"],
        )
    figure.update_xaxes(range=[0, sum(numbers.endings.values())], tickformat="d")
    figure.update_yaxes(visible=False)
    return figure.update_layout(legend={"x": 0, "xanchor": "left", "traceorder": "normal"})


def draw_diverged(numbers: Health) -> go.Figure:
    """The number of trials that diverged in each epoch."""
    figure = canvas(260, "trials that diverged", showlegend=False, bargap=0.3)
    figure.add_bar(
        x=list(numbers.diverged_in),
        y=list(numbers.diverged_in.values()),
        marker={"color": FAILED},
        hovertemplate="epoch %{x}: %{y} diverged<extra></extra>",
    )
    last = max(numbers.diverged_in)
    figure.update_xaxes(title="epoch", range=[0.4, max(last, 5) + 0.6], **whole(last))
    most = max(numbers.diverged_in.values())
    return figure.update_yaxes(**whole(most), rangemode="tozero")


def draw_gap(numbers: Health) -> go.Figure:
    """Training loss against validation loss, each trial at its best epoch."""
    figure = canvas(300, "validation loss")
    gaps = [gap for gap in numbers.gaps if gap.train_loss > 0 and gap.validation_loss > 0]
    for state in ("pruned", "complete"):
        group = [gap for gap in gaps if gap.state == state]
        if group:
            figure.add_trace(
                scatter(len(group))(
                    x=[gap.train_loss for gap in group],
                    y=[gap.validation_loss for gap in group],
                    customdata=[gap.number for gap in group],
                    name=state,
                    mode="markers",
                    marker={
                        "color": STATE_COLOURS[state],
                        "size": 7,
                        "opacity": opacity(len(group)),
                    },
                    hovertemplate="trial %{customdata}: training %{x:.3g}, validation %{y:.3g}"
                    "<extra></extra>",
                )
            )
    both = [loss for gap in gaps for loss in (gap.train_loss, gap.validation_loss)]
    low, high = min(both), max(both)
    add_diagonal(figure, low, high, name="equal")
    kind = "log" if high > 30 * low else "linear"
    axis = {"type": kind, "tickformat": "~g", **_log_ticks(kind, low, high)}
    figure.update_xaxes(title="training loss", **axis)
    return figure.update_yaxes(**axis)


def draw_clipping(numbers: Health, spec: Specification) -> go.Figure:
    """The share of clipped updates against the norm at which they were clipped."""
    figure = canvas(300, "share of updates that were clipped", showlegend=False)
    clipped = [clip for clip in numbers.clipping if clip.clip_norm is not None]
    worst_first = sorted(clipped, key=lambda clip: clip.value, reverse=spec.direction == "minimize")
    figure.add_trace(
        scatter(len(clipped))(
            x=[clip.clip_norm for clip in worst_first],
            y=[clip.share for clip in worst_first],
            # By rank: a single bad outlier would give all other trials the same colour.
            marker={
                "color": list(range(len(worst_first))),
                "colorscale": FROM_WORST_TO_BEST,
                "size": 8,
                "opacity": max(0.5, opacity(len(clipped))),
            },
            text=[
                f"trial {clip.number}: {clip.share:.0%} at clip_norm "
                f"{format_value(clip.clip_norm)}, {spec.metric} {format_metric(clip.value)}"
                for clip in worst_first
            ],
            mode="markers",
            hovertemplate="%{text}<extra></extra>",
        )
    )
    norms = [clip.clip_norm for clip in clipped if clip.clip_norm]
    low, high = min(norms), max(norms)
    kind = "log" if high > 5 * low else "linear"
    figure.update_xaxes(
        title="clip_norm", type=kind, tickformat="~g", **_log_ticks(kind, low, high)
    )
    return figure.update_yaxes(range=[-0.04, 1.04], tickformat=".0%")


def _log_ticks(kind: str, low: float, high: float) -> dict[str, Any]:
    """Powers of ten on a long axis, with 2 and 5 between them on a short one."""
    return {"dtick": 1 if high > 300 * low else "D2"} if kind == "log" else {}


def health_section(context: Context, health: Health) -> FigureSection:
    """Endings, divergence, overfitting and clipping."""
    counts = ", ".join(f"{count:,} {ending}" for ending, count in health.endings.items())
    panels = [Panel(draw_endings(health), counts, "How trials ended")] if counts else []
    if health.diverged_in:
        alt = f"{len(health.diverged)} trials diverged."
        panels.append(Panel(draw_diverged(health), alt, "When trials diverged"))
    if any(gap.train_loss > 0 < gap.validation_loss for gap in health.gaps):
        alt = f"Training and validation loss of {len(health.gaps)} trials at their best epochs."
        panels.append(Panel(draw_gap(health), alt, "Training against validation"))
    if any(clip.clip_norm for clip in health.clipping):
        alt = "Share of clipped updates by clip norm."
        panels.append(Panel(draw_clipping(health, context.spec), alt, "Clipping"))
    name, value = health.chance or ("", None)
    return section(
        "health",
        health,
        panels,
        {"counts": True, "chance": health.chance is not None, "caption": True},
        counts=counts,
        at_chance=len(health.at_chance),
        epochs=PATIENT_EPOCHS,
        name=name,
        value=value,
    )

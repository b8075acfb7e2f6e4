"""How training itself went: what diverged, never learned, overfitted, or was clipped."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from optuna.trial import TrialState

from gru_optuna.report.numbers.trials import (
    STATES,
    State,
    best_reached,
    diverged,
    epochs_of,
    finite,
    is_better,
    outcome,
    trials_in,
)
from gru_optuna.search.study import BASELINES

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.spec import Specification

Ending: TypeAlias = Literal[
    "trained to the end", "stopped early", "pruned", "diverged", "failed otherwise", "running"
]
ENDINGS: tuple[Ending, ...] = (
    "trained to the end",
    "stopped early",
    "pruned",
    "diverged",
    "failed otherwise",
    "running",
)

CHANCE = ("majority class", "mean")
"""Predictions that know the training labels alone; forecasts have none."""

PATIENT_EPOCHS = 3
"""A trial that trained for fewer may just not have had the time."""


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
    """All trials' endings, and what is worth a look in them."""

    endings: dict[Ending, int]  # none that didn't occur
    diverged: list[int]  # numbers
    diverged_in: dict[int, int]  # how many in which epoch
    chance: tuple[str, float] | None  # the prediction without learning that trials are held to
    at_chance: list[int]  # numbers of trials that trained a while and never were better
    gaps: list[Gap] = field(default_factory=list)  # of complete and pruned trials
    clipping: list[Clipping] = field(default_factory=list)


def health(study: Study, spec: Specification) -> Health:
    """Counts every trial that has begun."""
    trials = trials_in(study, *STATES)
    endings = [_ending(trial) for trial in trials]
    lost = [trial for trial in trials if diverged(trial)]
    epochs = [int(found[1]) for t in lost if (found := re.search(r"in epoch (\d+)", outcome(t)))]
    known = dict(study.user_attrs.get(BASELINES, {}))
    chance = next(((name, float(known[name])) for name in CHANCE if name in known), None)
    return Health(
        endings={ending: endings.count(ending) for ending in ENDINGS if ending in endings},
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
    return "running"


def _at_chance(trial: FrozenTrial, chance: float, spec: Specification) -> bool:
    best = best_reached(trial, spec)
    patient = trial.state != TrialState.FAIL and epochs_of(trial) >= PATIENT_EPOCHS
    return patient and best is not None and not is_better(best, chance, spec)


def _gap(trial: FrozenTrial) -> Gap | None:
    attributes: dict[str, Any] = trial.user_attrs
    at = int(attributes.get("best_epoch", 0)) - 1
    losses = attributes.get("train_loss", ()), attributes.get("validation_loss", ())
    if at < 0 or any(len(curve) <= at or finite(curve[at]) is None for curve in losses):
        return None
    if trial.state == TrialState.FAIL:
        return None
    return Gap(trial.number, STATES[trial.state], float(losses[0][at]), float(losses[1][at]))


def _clipping(trial: FrozenTrial, spec: Specification) -> Clipping | None:
    shares = trial.user_attrs.get("clipped")
    value = best_reached(trial, spec)
    if not shares or value is None:
        return None
    norm = trial.params.get("clip_norm", spec.search.clip_norm)
    number = float(norm) if isinstance(norm, int | float) else None
    return Clipping(trial.number, number, fmean(shares), value)

"""What a trial of ours records about its training, and how it ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from optuna.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Trial
    from optuna.trial import FrozenTrial

    from gru_optuna.study_file import Specification
    from gru_optuna.training.slot import Slot


@dataclass(frozen=True)
class TrialAttributes:
    """A trial's user attributes, each under its field's name; Optuna holds the metric itself.

    A default means that the trial has no such attribute: it hasn't ended, it failed before its
    first epoch, or another program made it. Existing databases hold these names, so none of
    them may change.
    """

    seconds: float | None = None
    network_parameters: int = 0
    best_epoch: int = 0  # counted from 1
    best_validation_loss: float = math.inf
    train_loss: Sequence[float] = ()
    validation_loss: Sequence[float] = ()
    clipped: Sequence[float] = ()  # share of each epoch's updates whose gradient was clipped
    worker: str = ""  # its host and process
    outcome: str = ""  # how the trial ended, in the worker's words
    rung_losses: Sequence[float] = ()  # the validation loss at each rung, if trials are paused
    paused: int = 0  # the epoch after which it waits to be continued
    until: int = 0  # the last epoch that it may train, if the study's epochs are limited
    epochs: int | None = None

    @classmethod
    def of(
        cls,
        slot: Slot,
        seconds: float,
        *,
        worker: str = "",
        outcome: str = "",
        epochs: int | None = None,
    ) -> TrialAttributes:
        """The attributes of a trial in its slot."""
        attributes = cls(
            round(seconds, 3), slot.network.size(), worker=worker, outcome=outcome, epochs=epochs
        )
        if not (curve := slot.progress.curve):
            return attributes
        return replace(
            attributes,
            best_epoch=slot.progress.best_epoch,
            best_validation_loss=slot.progress.best.validation_loss,
            train_loss=[round(result.train_loss, 6) for result in curve],
            validation_loss=[round(result.validation_loss, 6) for result in curve],
            clipped=[round(result.clipped, 4) for result in curve],
        )

    @classmethod
    def read(cls, trial: FrozenTrial) -> TrialAttributes:
        """What a trial holds; another program's attributes are passed over."""
        return cls(**{key: v for key, v in trial.user_attrs.items() if key in _DEFAULTS})

    def write(self, trial: Trial) -> None:
        """Sets the attributes that have a value."""
        for key, default in _DEFAULTS.items():
            if (value := getattr(self, key)) != default:
                trial.set_user_attr(key, value)


BEST_EPOCH = "best_epoch"
"""The attribute of every trial that one of our workers has trained for an epoch."""

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)
"""The states of trials that may win: one that has trained an epoch has a network to export."""

CURVES = ("train_loss", "validation_loss", "clipped")
"""The attributes with a number for each epoch, which reports alone read."""

_DEFAULTS = {field.name: field.default for field in fields(TrialAttributes)}


def seconds_trained(trial: FrozenTrial) -> float:
    """How long a trial trained.

    Without the other attributes: a budget of hours asks for all trials after every epoch.
    """
    return float(trial.user_attrs.get("seconds", 0.0))


def epochs_trained(trial: FrozenTrial) -> int:
    """How many epochs a trial was trained; without the other attributes, as `seconds_trained`."""
    epochs = trial.user_attrs.get("epochs")
    return int((trial.last_step or 0) if epochs is None else epochs)


def best_reached(trial: FrozenTrial, spec: Specification) -> float | None:
    """The metric of the best epoch, however the trial ended; None if no epoch's is finite."""
    if trial.state == TrialState.COMPLETE and trial.values:
        return value if math.isfinite(value := trial.values[0]) else None
    if not (values := trial.intermediate_values.values()):
        return None
    better = min if spec.direction == "minimize" else max
    # In one call, for thousands of trials. A NaN first is the best of all to `min` and `max`, and
    # a later one never is.
    if math.isfinite(best := better(values)):
        return best
    return better(filter(math.isfinite, values), default=None)


def goals_reached(trial: FrozenTrial, spec: Specification) -> tuple[float, int]:
    """The best that a trial has reached in each of two goals; lower is better."""
    value = best_reached(trial, spec)
    loss = math.inf if value is None else spec.as_loss(value)
    return loss, TrialAttributes.read(trial).network_parameters


def best_epoch(trial: FrozenTrial, value: float) -> int:
    """The epoch after which a trial of ours had its best value."""
    # Of several such epochs, the attribute names the one with the lowest validation loss. It is
    # written when a trial pauses or ends, and there may be better epochs since.
    noted = TrialAttributes.read(trial).best_epoch
    reports = trial.intermediate_values
    if trial.state == TrialState.COMPLETE or reports.get(noted) == value:
        return noted
    return next(epoch for epoch, reported in reports.items() if reported == value)


def pruned_outcome(epochs: int) -> str:
    """The outcome of a trial that the pruner ended."""
    return f"pruned after epoch {epochs}"


def paused_outcome(epochs: int) -> str:
    """The outcome of a trial that was paused and never continued."""
    return f"paused after epoch {epochs}"


def epochs_over(epochs: int) -> str:
    """The outcome of a trial for which the budget has no further epoch."""
    return f"{pruned_outcome(epochs)}: the study's epochs are spent"


def hours_over(epochs: int) -> str:
    """The outcome of a trial that the budget ended."""
    return f"{pruned_outcome(epochs)}: the study's hours are spent"

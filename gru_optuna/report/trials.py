"""What the report reads of a trial: its state, its values, how it ended."""

from __future__ import annotations

import copy
import math
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from optuna.trial import TrialState

from gru_optuna.storage.paused_trials import is_paused
from gru_optuna.study.trial_attributes import TrialAttributes, paused_outcome

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

State: TypeAlias = Literal["complete", "pruned", "failed", "running", "paused"]

STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}

_ENOUGH_COMPLETE = 20
"""This many complete trials say more about the parameters than all trials after a few epochs."""

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def trials_in(study: Study, *states: TrialState) -> list[FrozenTrial]:
    """The trials in these states, by number."""
    return study.get_trials(deepcopy=False, states=states)


def state_of(trial: FrozenTrial) -> State:
    """A trial's state; to Optuna, a paused one is running."""
    return "paused" if is_paused(trial) else STATES[trial.state]


def complete(study: Study) -> list[FrozenTrial]:
    """The complete trials whose value is finite: to Optuna, an infinite loss is a value too.

    Where a study has two goals, the trials returned carry only the first one's value.
    """
    finite_ones = [t for t in trials_in(study, TrialState.COMPLETE) if last_value(t) is not None]
    return [t if len(t.values) == 1 else _with_value(t, value_of(t)) for t in finite_ones]


def _with_value(trial: FrozenTrial, value: float) -> FrozenTrial:
    """A trial as if it were complete with this value; Optuna asks when such a one ended."""
    seen = copy.copy(trial)
    seen.state, seen.values = TrialState.COMPLETE, [value]
    seen.datetime_complete = trial.datetime_complete or trial.datetime_start
    return seen


def comparable(study: Study) -> tuple[list[FrozenTrial], int | None]:
    """Trials whose values can be compared, each with its value, and the epoch of those values.

    They are the complete trials and their best epochs (None). Where few are complete, because most
    were pruned or paused, they are the trials that reached an epoch which at least half of all have
    reached, with their values then.
    """
    ended = complete(study)
    trained = [t for t in trials_in(study, *STATES) if t.intermediate_values]
    if len(ended) >= min(_ENOUGH_COMPLETE, len(trained) / 2):
        return ended, None
    last = sorted((max(t.intermediate_values) for t in trained), reverse=True)
    epoch = last[(len(last) - 1) // 2]
    reached = [
        _with_value(trial, value)
        for trial in trained
        if (value := finite(trial.intermediate_values.get(epoch))) is not None
    ]
    return reached, epoch


def value_of(trial: FrozenTrial) -> float:
    """A complete trial's value; of two goals, the first."""
    return float(trial.values[0])


def last_value(trial: FrozenTrial) -> float | None:
    """A trial's value, or the value of the last epoch that it reported."""
    if trial.state == TrialState.COMPLETE:
        return finite(value_of(trial))
    if trial.last_step is None:
        return None
    return finite(trial.intermediate_values[trial.last_step])


def diverged(trial: FrozenTrial) -> bool:
    """Whether a trial failed because its loss or gradient stopped being finite."""
    return trial.state == TrialState.FAIL and "diverged in epoch" in outcome(trial)


def outcome(trial: FrozenTrial) -> str:
    """How a trial ended, in a sentence that the worker wrote, or after which epoch it waits."""
    if is_paused(trial):
        return paused_outcome(TrialAttributes.read(trial).paused)
    return TrialAttributes.read(trial).outcome


def is_number(value: Any) -> bool:
    """Whether a hyperparameter's value is a number; booleans are choices."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def finite(value: float | None) -> float | None:
    """The value, or None where it is infinite or not a number."""
    return value if value is not None and math.isfinite(value) else None


def as_json(numbers: Any) -> Any:
    """Dataclasses as dictionaries, and null for what JSON lacks (NaN, infinity)."""
    if is_dataclass(numbers):
        return {field.name: as_json(getattr(numbers, field.name)) for field in fields(numbers)}
    if isinstance(numbers, dict):
        return {key: as_json(value) for key, value in numbers.items()}
    if isinstance(numbers, list | tuple):
        return [as_json(value) for value in numbers]
    return finite(numbers) if isinstance(numbers, float) else numbers

"""Trials that wait for their turn: running to Optuna, which can't continue one that has ended.

A paused trial has a lease that nobody holds, a checkpoint, and an attribute that says so. It is
continued under its own number, by whichever worker chooses it first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import and_, exists, update

from gru_optuna.storage.database.tables import trials

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from optuna.trial import FrozenTrial, Trial
    from sqlalchemy import ColumnElement, Connection

PAUSED = "paused"
"""A trial's attribute: the epoch after which it was paused; 0 once it was continued, and `ENDING`
once it was decided that it won't be."""

ENDING = -1
"""Committed with the claim, so that whoever comes after a worker that dies then ends the trial."""

RUNG_LOSSES = "rung_losses"
"""A trial's attribute: the validation loss at each rung that it has reached."""

UNTIL = "until"
"""A trial's attribute, in a study whose epochs are limited: the last epoch that it may train."""

_attrs: Any = models.TrialUserAttributeModel.__table__.c


def is_paused(trial: FrozenTrial) -> bool:
    """Whether a trial waits to be continued."""
    return trial.state == TrialState.RUNNING and (trial.user_attrs.get(PAUSED) or 0) > 0


def is_ending(trial: FrozenTrial | Trial) -> bool:
    """Whether a trial was paused, and is to be ended by whoever holds it."""
    return bool(trial.user_attrs.get(PAUSED) == ENDING)


def epochs_granted(trials: Iterable[FrozenTrial]) -> int:
    """How many epochs these trials have trained, or may train in their slots."""
    return sum(
        max(trial.user_attrs.get(UNTIL, 0), len(trial.intermediate_values))
        if trial.state == TrialState.RUNNING and not is_paused(trial)
        else len(trial.intermediate_values)
        for trial in trials
    )


def row_is_paused() -> ColumnElement[bool]:
    """Whether a row of Optuna's table of trials is a paused trial's."""
    marked = (_attrs.trial_id == trials.c.trial_id) & (_attrs.key == PAUSED)
    return and_(
        trials.c.state == TrialState.RUNNING,
        exists().where(marked, _attrs.value_json.not_in(("0", str(ENDING)))),
    )


def unmark(connection: Connection, trial_ids: Collection[int], value: int = 0) -> None:
    """Notes that these trials are paused no more: they continue, or they are `ENDING`."""
    connection.execute(
        update(models.TrialUserAttributeModel.__table__)
        .where(_attrs.trial_id.in_(trial_ids), _attrs.key == PAUSED)
        .values(value_json=str(value))
    )

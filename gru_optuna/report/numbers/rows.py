"""The trial table: one row for each trial."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna.report.numbers.trials import (
    STATES,
    State,
    epochs_of,
    last_value,
    outcome,
    trials_in,
)
from gru_optuna.report.summary import find_winner

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.hyperparameters import Value
    from gru_optuna.spec import Specification


@dataclass(frozen=True)
class Row:
    """One line of the trial table."""

    number: int
    state: State
    value: float | None
    epochs: int
    seconds: float | None
    params: dict[str, Value]
    outcome: str
    best: bool


def rows(study: Study, spec: Specification) -> list[Row]:
    """Every trial, best first: complete ones, pruned, running, failed."""
    order = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)
    winner = find_winner(study, spec)
    sign = 1 if spec.direction == "minimize" else -1

    def rank(trial: FrozenTrial) -> tuple[bool, int, float, float, int]:
        value = last_value(trial)
        return (
            winner is None or trial.number != winner.number,
            order.index(trial.state),
            math.inf if value is None else sign * value,
            # The same tie-break as the winner's.
            float(trial.user_attrs.get("best_validation_loss", math.inf)),
            trial.number,
        )

    return [
        Row(
            number=trial.number,
            state=STATES[trial.state],
            value=last_value(trial),
            epochs=epochs_of(trial),
            seconds=trial.user_attrs.get("seconds"),
            params=dict(trial.params),
            outcome=outcome(trial),
            best=winner is not None and trial.number == winner.number,
        )
        for trial in sorted(trials_in(study, *order), key=rank)
    ]

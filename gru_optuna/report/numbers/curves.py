"""The metric of every trial, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gru_optuna.report.numbers.trials import STATES, State, finite, trials_in
from gru_optuna.report.summary import find_winner

if TYPE_CHECKING:
    from optuna import Study

    from gru_optuna.spec import Specification


@dataclass(frozen=True)
class Curve:
    """The metric of one trial."""

    number: int
    state: State
    epochs: list[int]
    values: list[float | None]
    best: bool  # the winner's


def curves(study: Study, spec: Specification) -> list[Curve]:
    """Every trial that reported an epoch."""
    winner = find_winner(study, spec)
    return [
        Curve(
            number=trial.number,
            state=STATES[trial.state],
            epochs=sorted(trial.intermediate_values),
            values=[finite(value) for _, value in sorted(trial.intermediate_values.items())],
            best=winner is not None and trial.number == winner.number,
        )
        for trial in trials_in(study, *STATES)
        if trial.intermediate_values
    ]

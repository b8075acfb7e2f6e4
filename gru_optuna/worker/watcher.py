"""Tells what workers do, wherever they are, from what they commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna.storage.mirror.mirror import Mirror
from gru_optuna.storage.optuna_private import study_id
from gru_optuna.storage.workers.status import read_tokens
from gru_optuna.study.trial_attributes import TrialAttributes
from gru_optuna.worker.events import EpochTrained, TrialEnded, TrialStarted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study
    from optuna.trial import FrozenTrial
    from sqlalchemy import Engine

    from gru_optuna.worker.events import WorkerEvent


@dataclass
class _Told:
    """What was told of a trial that isn't over."""

    token: int
    epochs: int
    begun: bool


class Watcher:
    """Turns what is new in a study into the events that its workers were told.

    Parameters
    ----------
    study
        The study in the database.
    engine
        The database's.
    """

    def __init__(self, study: Study, engine: Engine) -> None:
        self._engine = engine
        self._study_id = study_id(study)
        tokens = read_tokens(engine, self._study_id)
        self._mirror = Mirror(study, engine)
        # What was over before is no news, and who was left running begins when somebody goes on.
        self._over = {trial.number for trial in self._trials() if trial.state.is_finished()}
        self._told = {
            trial.number: _Told(tokens.get(trial.number, 1), len(trial.intermediate_values), False)
            for trial in self._trials()
            if trial.state == TrialState.RUNNING
        }

    def poll(self) -> Iterator[WorkerEvent]:
        """What happened since the last look, by trial."""
        # First: what is newer in a trial than its token is told with the next look.
        tokens = read_tokens(self._engine, self._study_id)
        self._mirror.pull()
        for trial in self._trials():
            if trial.number not in self._over and trial.state != TrialState.WAITING:
                # Plain Optuna takes no lease, and a worker's first one is 1.
                yield from self._news(trial, max(1, tokens.get(trial.number, 1)))

    def _news(self, trial: FrozenTrial, token: int) -> Iterator[WorkerEvent]:
        number, values = trial.number, list(trial.intermediate_values.values())
        told = self._told.get(number)
        if told is None:
            told = self._told[number] = _Told(token, 0, True)
            yield TrialStarted(number, adopted=token > 1)
        elif token > told.token or (not told.begun and len(values) > told.epochs):
            known = tuple(values[: told.epochs])
            yield TrialStarted(number, token > told.token, told.epochs, known)
            told.token, told.begun = max(token, told.token), True
        for value in values[told.epochs :]:
            told.epochs += 1
            yield EpochTrained(number, told.epochs, value)
        if trial.state.is_finished():
            self._over.add(number)
            del self._told[number]
            outcome = TrialAttributes.read(trial).outcome
            # A pruned trial's value is Optuna's: the last one reported.
            reached = trial.value if trial.state == TrialState.COMPLETE else None
            yield TrialEnded(number, trial.state, reached, outcome, len(values))

    def _trials(self) -> list[FrozenTrial]:
        return self._mirror.study.get_trials(deepcopy=False)

"""Follows what workers do, on any machine, by what they commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna.attributes import BUDGET, CONFIRMATION_LEASES, CONFIRMATION_RUNS
from gru_optuna.storage.mirror.mirror import Mirror
from gru_optuna.storage.optuna_private import study_id
from gru_optuna.storage.paused_trials import PAUSED, is_paused
from gru_optuna.storage.workers.status import read_tokens
from gru_optuna.study.budget import larger
from gru_optuna.study.confirmation import RunPlan, finalists, runs_from_json
from gru_optuna.study.study import stored_specification
from gru_optuna.study.trial_attributes import CURVES, TrialAttributes
from gru_optuna.study_file import Budget
from gru_optuna.worker.events import (
    BudgetChanged,
    Confirming,
    EpochTrained,
    TrialEnded,
    TrialPaused,
    TrialStarted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study
    from optuna.trial import FrozenTrial
    from sqlalchemy import Engine

    from gru_optuna.storage.workers.run_leases import FinishedRuns
    from gru_optuna.study_file import Confirmation, Specification
    from gru_optuna.worker.events import WorkerEvent


@dataclass
class _Seen:
    """What has been reported of a trial that isn't over."""

    token: int
    epochs: int
    begun: bool  # whether its start was reported
    paused: bool = False


class Watcher:
    """Turns what is new in a study into the events that its workers have had.

    Parameters
    ----------
    study
        The study in the database.
    engine
        The database's.
    budget
        Of the command that watches: a smaller one in the study doesn't come into force. None: the
        study's.
    confirmation
        How the workers confirm the winner; None: they don't.
    """

    def __init__(
        self,
        study: Study,
        engine: Engine,
        budget: Budget | None = None,
        confirmation: Confirmation | None = None,
    ) -> None:
        self._engine = engine
        self._budget = budget
        self._to_confirm: Specification | None = None
        if confirmation is not None:
            spec = stored_specification(study)
            self._to_confirm = spec.model_copy(update={"confirmation": confirmation})
        self._confirmed: FinishedRuns | None = None  # the runs that were reported
        self._study_id = study_id(study)
        tokens = read_tokens(engine, self._study_id)
        self._mirror = Mirror(study, engine, without=CURVES)
        # Trials that are over already aren't news; running ones start when a worker continues them.
        self._over = {trial.number for trial in self._trials() if trial.state.is_finished()}
        self._seen = {
            trial.number: _Seen(tokens.get(trial.number, 1), len(trial.intermediate_values), False)
            for trial in self._trials()
            if trial.state == TrialState.RUNNING
        }

    def poll(self) -> Iterator[WorkerEvent]:
        """The events since the last look, by trial."""
        # Tokens before trials: news that a newer token brings is then left for the next look.
        tokens = read_tokens(self._engine, self._study_id)
        before = self._budget_in_force()
        self._mirror.pull()
        if (now := self._budget_in_force()) != before and now:
            yield BudgetChanged(now.trials, now.hours, now.epochs)
        for trial in self._trials():
            if trial.number not in self._over and trial.state != TrialState.WAITING:
                # Plain Optuna takes no lease; a worker's first token is 1.
                yield from self._news(trial, max(1, tokens.get(trial.number, 1)))
        yield from self._confirming()

    def _confirming(self) -> Iterator[Confirming]:
        """How many runs of the confirmation are done, once a worker has begun one."""
        attrs, spec = self._mirror.user_attrs, self._to_confirm
        runs: FinishedRuns = attrs.get(CONFIRMATION_RUNS, {})
        begins = self._confirmed is None
        if spec is None or runs == self._confirmed:
            return
        if begins and not attrs.get(CONFIRMATION_LEASES):
            return
        self._confirmed = runs
        numbers = [trial.number for trial, _ in finalists(self._mirror.study, spec)]
        plan = RunPlan(numbers, spec, runs_from_json(runs))
        asked, seeds = len(plan.asked), spec.confirmation.seeds
        yield Confirming(asked - len(plan.left), asked, len(numbers), seeds, begins)

    def _news(self, trial: FrozenTrial, token: int) -> Iterator[WorkerEvent]:
        number, values = trial.number, list(trial.intermediate_values.values())
        seen = self._seen.get(number)
        # Between two looks a trial may have paused and been continued, and its token says no more
        # than that somebody took it.
        was_paused = PAUSED in trial.user_attrs
        if seen is None:
            seen = self._seen[number] = _Seen(token, 0, True)
            yield TrialStarted(number, adopted=token > 1 and not was_paused)
        elif token > seen.token or (not seen.begun and len(values) > seen.epochs):
            known = tuple(values[: seen.epochs])
            adopted = token > seen.token and not was_paused
            yield TrialStarted(number, adopted, seen.epochs, known, seen.paused)
            seen.token, seen.begun, seen.paused = max(token, seen.token), True, False
        for value in values[seen.epochs :]:
            seen.epochs += 1
            yield EpochTrained(number, seen.epochs, value)
        if is_paused(trial) and not seen.paused:
            seen.paused = True
            yield TrialPaused(number, seen.epochs)
        if trial.state.is_finished():
            self._over.add(number)
            del self._seen[number]
            outcome = TrialAttributes.read(trial).outcome
            # A pruned trial's value is the last one reported, which Optuna sets.
            reached = trial.values[0] if trial.state == TrialState.COMPLETE else None
            yield TrialEnded(number, trial.state, reached, outcome, len(values))

    def _budget_in_force(self) -> Budget | None:
        if not (stored := self._mirror.user_attrs.get(BUDGET)):
            return None
        given = Budget.model_validate(stored)
        return given if self._budget is None else larger(self._budget, given)

    def _trials(self) -> list[FrozenTrial]:
        return self._mirror.study.get_trials(deepcopy=False)

"""The storage in memory that samplers and pruners work on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.storages import InMemoryStorage

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class Memory(InMemoryStorage):
    """Optuna's storage in memory, which also takes trials of other workers as they are."""

    def put(self, study_id: int, trial: FrozenTrial) -> None:
        """Adds the next trial, or replaces one that changed elsewhere."""
        # Through the private parts of InMemoryStorage: its public ones refuse to touch a trial
        # that is over, and would need a call for each parameter, report and attribute.
        with self._lock:
            known: list[FrozenTrial] = self._studies[study_id].trials
            if trial.number == len(known):
                # As it is: nobody changes a trial in place, so no copy is needed.
                self._max_trial_id += 1
                trial._trial_id = self._max_trial_id
                self._trial_id_to_study_id_and_number[trial._trial_id] = (study_id, trial.number)
                known.append(trial)
            else:
                assert trial.number < len(known), "trials are numbered without gaps"
                trial._trial_id = known[trial.number]._trial_id
                known[trial.number] = trial
            self._update_cache(trial._trial_id, study_id)

    def id_of(self, study_id: int, number: int) -> int:
        """The id that a trial has in memory."""
        return self.get_trial_id_from_study_id_trial_number(study_id, number)

    def trial(self, study_id: int, number: int) -> FrozenTrial:
        """A trial as it is now."""
        return self.get_trial(self.id_of(study_id, number))

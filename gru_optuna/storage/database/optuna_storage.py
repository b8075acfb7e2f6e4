"""Optuna's storage, which reads a study's trials in bulk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.storages import RDBStorage
from sqlalchemy import select

from gru_optuna.storage.database.tables import studies, trials
from gru_optuna.storage.mirror.optuna_rows import read_trials

if TYPE_CHECKING:
    from collections.abc import Container

    from optuna.trial import FrozenTrial, TrialState


class BulkStorage(RDBStorage):
    """Optuna's storage in a database, whose `get_all_trials` is about eight times as fast.

    Optuna makes an object of its ORM for each row, some forty for a trial.
    """

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        with self.engine.connect() as connection:
            if not connection.scalar(select(studies.c.study_id).filter_by(study_id=study_id)):
                raise KeyError(f"No study with study_id {study_id} exists.")
            new = connection.scalars(
                select(trials.c.trial_id).where(
                    trials.c.study_id == study_id, trials.c.trial_id > trial_id_greater_than
                )
            ).all()
            known = [of for of in included_trial_ids if of <= trial_id_greater_than]
            found = read_trials(connection, [*known, *new])
        return [trial for trial in found if states is None or trial.state in states]

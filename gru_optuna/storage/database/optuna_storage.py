"""Optuna's storage, which reads and deletes a study's trials in bulk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from sqlalchemy import delete, select

from gru_optuna.storage.database.tables import studies, trials
from gru_optuna.storage.mirror.optuna_rows import read_trials

if TYPE_CHECKING:
    from collections.abc import Container

    from optuna.trial import FrozenTrial, TrialState


class BulkStorage(RDBStorage):
    """Optuna's storage in a database, whose `get_all_trials` is about eight times as fast.

    Optuna makes an object of its ORM for each row, some forty for a trial.
    """

    def delete_study(self, study_id: int) -> None:
        """Deletes a study, also while workers write to it.

        Optuna's own method rolls back without a word if a worker has inserted a row meanwhile, and
        a deadlock with it is possible.
        """
        trial_ids = select(trials.c.trial_id).where(trials.c.study_id == study_id)
        with self.engine.begin() as connection:
            # Workers lock this row first, too: those in a transaction are waited for, and the next
            # transaction finds no study. SQLite, with one writer at a time, needs no lock.
            study = select(studies.c.study_id).where(studies.c.study_id == study_id)
            if connection.scalar(study.with_for_update()) is None:
                raise KeyError(f"No study with study_id {study_id} exists.")
            for table in reversed(models.BaseModel.metadata.sorted_tables):
                if "study_id" in table.c:
                    connection.execute(delete(table).where(table.c.study_id == study_id))
                elif "trial_id" in table.c:
                    connection.execute(delete(table).where(table.c.trial_id.in_(trial_ids)))

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

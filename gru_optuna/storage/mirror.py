"""A study in memory, written to the database an epoch of the whole pool at a time.

Through Optuna's own storage, a trial of 7 parameters and 20 epochs is 30 write transactions and
hundreds of reads, which costs more than training a small GRU. Here samplers and pruners work on
a copy in memory, and `Mirror.flush` writes what has changed since the last one, of all trials,
in one transaction. A process that dies loses what was not flushed: at most an epoch.

The caller holds the study's lock; nobody else adds trials to the study meanwhile.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import InMemoryStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import Update, func, insert, select, update

from gru_optuna.errors import StudyError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial
    from sqlalchemy import Connection, Engine


@dataclass
class _Written:
    """What the database holds of a trial: copies, for Optuna changes its objects in place."""

    trial_id: int | None = None  # None: nothing yet
    state: TrialState = TrialState.RUNNING
    params: set[str] = field(default_factory=set)
    reports: dict[int, float] = field(default_factory=dict)
    user_attrs: dict[str, Any] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)

    def now_holds(self, trial: FrozenTrial, trial_id: int) -> None:
        self.trial_id = trial_id
        self.state = trial.state
        self.params = set(trial.params)
        self.reports = dict(trial.intermediate_values)
        self.user_attrs = dict(trial.user_attrs)
        self.system_attrs = dict(trial.system_attrs)

    def differs_from(self, trial: FrozenTrial) -> bool:
        return (
            self.trial_id is None
            or self.state != trial.state
            or self.params != trial.params.keys()
            or self.reports != trial.intermediate_values
            or self.user_attrs != trial.user_attrs
            or self.system_attrs != trial.system_attrs
        )


class Mirror:
    """A study in memory beside the same study in the database.

    Parameters
    ----------
    study
        The study in the database, with its sampler and pruner.
    engine
        The database's.

    Attributes
    ----------
    study : optuna.Study
        The copy in memory: ask, report and tell here.
    transactions : int
        How many were committed.
    """

    def __init__(self, study: Study, engine: Engine) -> None:
        self._engine = engine
        self._study_id = study._study_id  # in the database
        self._memory = InMemoryStorage()
        self._id = self._memory.create_new_study(study.directions, study.study_name)
        for key, value in study.user_attrs.items():
            self._memory.set_study_user_attr(self._id, key, value)
        for key, value in study._storage.get_study_system_attrs(self._study_id).items():
            self._memory.set_study_system_attr(self._id, key, value)
        # Only unfinished trials can change.
        self._unfinished: dict[int, _Written] = {}
        trials = study.get_trials(deepcopy=False)
        for trial in trials:
            self._memory.create_new_trial(self._id, template_trial=trial)
            if not trial.state.is_finished():
                written = self._unfinished[trial.number] = _Written()
                written.now_holds(trial, trial._trial_id)
        self._known = len(trials)
        self._user_attrs, self._system_attrs = self._study_attrs()
        self.transactions = 0
        self.study = optuna.load_study(
            study_name=study.study_name,
            storage=self._memory,
            sampler=study.sampler,
            pruner=study.pruner,
        )

    def flush(self) -> None:
        """Writes all that has changed, in one transaction; does nothing if nothing has.

        Raises
        ------
        StudyError
            If another program added trials to this study. Nothing is written then.
        """
        trials = self._memory.get_all_trials(self._id, deepcopy=False)
        for number in range(self._known, len(trials)):
            self._unfinished.setdefault(number, _Written())
        changed = [
            (trials[number], written)
            for number, written in self._unfinished.items()
            if written.differs_from(trials[number])
        ]
        user_attrs, system_attrs = self._study_attrs()
        if not changed and (user_attrs, system_attrs) == (self._user_attrs, self._system_attrs):
            return
        with self._engine.begin() as connection:
            # The write lock comes before the look at what is there.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            self._refuse_strangers(connection)
            ids = self._write_trials(connection, changed)
            owner = {"study_id": self._study_id}
            rows = _Rows()
            rows.attrs(models.StudyUserAttributeModel, owner, self._user_attrs, user_attrs)
            rows.attrs(models.StudySystemAttributeModel, owner, self._system_attrs, system_attrs)
            rows.write(connection)
        # Only now, that it is committed: a flush that failed is tried whole again.
        self.transactions += 1
        self._known = len(trials)
        self._user_attrs, self._system_attrs = user_attrs, system_attrs
        for (trial, written), trial_id in zip(changed, ids, strict=True):
            written.now_holds(trial, trial_id)
            if trial.state.is_finished():
                del self._unfinished[trial.number]

    def _study_attrs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return (
            dict(self._memory.get_study_user_attrs(self._id)),
            dict(self._memory.get_study_system_attrs(self._id)),
        )

    def _refuse_strangers(self, connection: Connection) -> None:
        trials = models.TrialModel.__table__
        mine = trials.c.study_id == self._study_id
        count = connection.scalar(select(func.count()).select_from(trials).where(mine))
        if count != self._known:
            raise StudyError(
                f'study "{self.study.study_name}": another program changed its trials meanwhile '
                f"({self._known} known here, {count} in the database). "
                f"Stop it, and run the same command again."
            )

    def _write_trials(
        self, connection: Connection, changed: list[tuple[FrozenTrial, _Written]]
    ) -> list[int]:
        """Writes each trial's changes and returns their ids in the database."""
        table = models.TrialModel.__table__
        new = [
            {
                "number": trial.number,
                "study_id": self._study_id,
                "state": TrialState.RUNNING,
                "datetime_start": _utc(trial.datetime_start),
            }
            for trial, written in changed
            if written.trial_id is None
        ]
        made: dict[int, int] = {}
        if new:
            inserted = connection.execute(
                insert(table).returning(table.c.number, table.c.trial_id), new
            )
            made = {row.number: row.trial_id for row in inserted}
        ids = [written.trial_id or made[trial.number] for trial, written in changed]
        rows = _Rows()
        for (trial, written), trial_id in zip(changed, ids, strict=True):
            rows.trial(trial, written, trial_id)
        rows.write(connection)
        return ids


class _Rows:
    """What a flush inserts, gathered by table, and the few rows that it changes."""

    def __init__(self) -> None:
        self._inserts: dict[Any, list[dict[str, Any]]] = {}
        self._updates: list[Update] = []

    def write(self, connection: Connection) -> None:
        for model, rows in self._inserts.items():
            connection.execute(insert(model.__table__), rows)
        for change in self._updates:
            connection.execute(change)

    def add(self, model: Any, **row: Any) -> None:
        self._inserts.setdefault(model, []).append(row)

    def trial(self, trial: FrozenTrial, written: _Written, trial_id: int) -> None:
        for name in trial.params.keys() - written.params:
            distribution = trial.distributions[name]
            self.add(
                models.TrialParamModel,
                trial_id=trial_id,
                param_name=name,
                param_value=distribution.to_internal_repr(trial.params[name]),
                distribution_json=distribution_to_json(distribution),
            )
        reports = models.TrialIntermediateValueModel
        for step in trial.intermediate_values.keys() - written.reports.keys():
            value, kind = reports.intermediate_value_to_stored_repr(trial.intermediate_values[step])
            self.add(
                reports,
                trial_id=trial_id,
                step=step,
                intermediate_value=value,
                intermediate_value_type=kind,
            )
        owner = {"trial_id": trial_id}
        self.attrs(models.TrialUserAttributeModel, owner, written.user_attrs, trial.user_attrs)
        self.attrs(
            models.TrialSystemAttributeModel, owner, written.system_attrs, trial.system_attrs
        )
        if trial.state.is_finished():
            self._ending(trial, trial_id)

    def attrs(
        self, model: Any, owner: dict[str, int], before: dict[str, Any], now: dict[str, Any]
    ) -> None:
        for key, value in now.items():
            if key not in before:
                self.add(model, **owner, key=key, value_json=json.dumps(value))
            elif before[key] != value:
                change = update(model).filter_by(**owner, key=key)
                self._updates.append(change.values(value_json=json.dumps(value)))

    def _ending(self, trial: FrozenTrial, trial_id: int) -> None:
        table = models.TrialModel.__table__
        self._updates.append(
            update(table)
            .where(table.c.trial_id == trial_id)
            .values(state=trial.state, datetime_complete=_utc(trial.datetime_complete))
        )
        for objective, value in enumerate(trial.values or ()):
            stored, kind = models.TrialValueModel.value_to_stored_repr(value)
            self.add(
                models.TrialValueModel,
                trial_id=trial_id,
                objective=objective,
                value=stored,
                value_type=kind,
            )


def _utc(local: datetime | None) -> datetime | None:
    """As Optuna's tables hold times: without a zone, in UTC."""
    return local.astimezone(UTC).replace(tzinfo=None) if local else None

"""Which worker trains which run of a confirmation: leases with fencing tokens, as trials have.

A run is a candidate's number and the index of a fresh seed. Whoever trains one is a worker of the
study (``leases.py``), which beats and is found dead as one that trains trials. The finished runs
and the leases of the others are attributes of the study, read and written in one transaction that
holds its lock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import delete, insert, select

from gru_optuna.attributes import (
    CONFIRMATION_LEASES,
    CONFIRMATION_RUNS,
    CONFIRMATION_SECONDS,
    WORKED_SECONDS,
)
from gru_optuna.checkpoints.checkpoint import Saved
from gru_optuna.errors import StudyError
from gru_optuna.storage.database.open import lock_study
from gru_optuna.storage.database.tables import checkpoints, trials, workers
from gru_optuna.storage.mirror.optuna_rows import read_study_attrs
from gru_optuna.storage.mirror.study_attributes import StudyAttrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection, Engine

    from gru_optuna.storage.workers.leases import Registration

RunKey: TypeAlias = "tuple[int, int]"
"""The number of the candidate's trial, and the index of the fresh seed."""

FinishedRuns: TypeAlias = "dict[str, list[Any]]"
"""The content of the attribute with the finished runs: the fields of each one, by its name."""


def run_key(name: str) -> RunKey:
    """The run that the attributes call by this name."""
    number, _, index = name.partition("/")
    return int(number), int(index)


def run_name(key: RunKey) -> str:
    """What the attributes call a run."""
    number, index = key
    return f"{number}/{index}"


@dataclass(frozen=True)
class EndedRun:
    """A run that this worker has finished."""

    fields: list[Any]  # of the attribute
    weights: Saved | None = None  # for whoever decides


@dataclass(frozen=True)
class SyncedRuns:
    """What `RunLeases.sync` found out."""

    finished: FinishedRuns
    claimed: tuple[RunKey, ...]
    elsewhere: int  # runs that other living workers train
    free: int  # runs that nobody trains


class RunLeases:
    """The runs that one worker holds.

    Parameters
    ----------
    engine
        The database's.
    registration
        This worker, as the others see it.

    Attributes
    ----------
    held : dict
        The fencing tokens of the runs that it holds, as of the last look.
    """

    def __init__(self, engine: Engine, registration: Registration) -> None:
        self.engine = engine
        self.beat_seconds = registration.beat_seconds
        self.held: dict[RunKey, int] = {}
        self._registration = registration
        self._counted_at: float | None = None
        self._synced_at = time.monotonic()

    def seconds_since_sync(self) -> float:
        """Time that isn't yet counted in the database."""
        return time.monotonic() - self._synced_at

    def sync(
        self,
        ended: Mapping[RunKey, EndedRun],
        wanted: int,
        asked: Callable[[FinishedRuns], Sequence[RunKey]],
    ) -> SyncedRuns:
        """Writes the runs that have ended, and claims others, in one transaction.

        A run that another worker has taken over is neither written nor held any more.

        Parameters
        ----------
        ended
            Runs of this worker, which it holds no longer afterwards.
        wanted
            How many runs to claim; fewer, so that each living worker has its share of them.
        asked
            The runs that the finished ones leave to do, in the order in which they begin.

        Raises
        ------
        StudyError
            If the study was deleted.
        sqlalchemy.exc.SQLAlchemyError
            If the database fails. Then the call can be repeated.
        """
        at, study_id = time.monotonic(), self._registration.study_id
        with self.engine.begin() as connection:
            if not lock_study(connection, study_id):
                raise StudyError("the study was deleted by someone else.")
            self._registration.beat(connection)
            if self._registration.is_time_to_watch(at, 1):
                self._registration.claim(connection, 0, 0, at)  # finds the dead, and claims nothing
            alive = set(
                connection.scalars(
                    select(workers.c.worker_id).where(workers.c.study_id == study_id)
                )
            )
            user, system = read_study_attrs(connection, study_id)
            finished: FinishedRuns = {**user.get(CONFIRMATION_RUNS, {})}
            leases: dict[str, list[int]] = {**user.get(CONFIRMATION_LEASES, {})}
            held = {
                key: token
                for key, token in self.held.items()
                if leases.get(run_name(key)) == [self._me, token]
            }
            for key in ended.keys() & held.keys():
                finished[run_name(key)] = ended[key].fields
                del leases[run_name(key)], held[key]
                self._store(connection, key, ended[key].weights)
            todo = list(asked(finished))
            for key in held.keys() - set(todo):  # its candidate can't win any more
                del leases[run_name(key)], held[key]
            # Also what this worker once got in a transaction whose answer was lost.
            free = [
                key
                for key in todo
                if key not in held
                and (
                    (holder := leases.get(run_name(key), [None])[0]) not in alive
                    or holder == self._me
                )
            ]
            share = max(1, ceil(len(todo) / max(1, len(alive))))
            claimed = free[: max(0, min(wanted, share - len(held)))]
            for key in claimed:
                token = leases.get(run_name(key), [0, 0])[1] + 1
                leases[run_name(key)] = [self._me, token]
                held[key] = token
            attrs = StudyAttrs(study_id, user, system, self._counted_at)
            written = {CONFIRMATION_RUNS: finished, CONFIRMATION_LEASES: leases}
            attrs.write(
                connection, user | written, system, at, (WORKED_SECONDS, CONFIRMATION_SECONDS)
            )
        self.held = held
        self._counted_at = self._synced_at = at
        elsewhere = len(todo) - len(held) - (len(free) - len(claimed))
        return SyncedRuns(finished, tuple(claimed), elsewhere, len(free) - len(claimed))

    @property
    def _me(self) -> int:
        return self._registration.worker_id

    def _store(self, connection: Connection, key: RunKey, weights: Saved | None) -> None:
        if weights is None:
            return
        number, _ = key
        trial = (trials.c.study_id == self._registration.study_id) & (trials.c.number == number)
        row = {
            "trial_id": connection.scalars(select(trials.c.trial_id).where(trial)).one(),
            "epoch": weights.epoch,
            "name": weights.name,
            "sha256": weights.sha256,
            "content": weights.content,
        }
        # Of an earlier confirmation, perhaps, whose decision never came.
        same = (checkpoints.c.trial_id == row["trial_id"]) & (checkpoints.c.epoch == row["epoch"])
        connection.execute(delete(checkpoints).where(same))
        connection.execute(insert(checkpoints).values(row))


def stored_weights(engine: Engine, study_id: int, key: RunKey) -> Saved | None:
    """The row of the weights of a finished run; None if there is none."""
    number, index = key
    query = select(checkpoints).join(trials).where(
        trials.c.study_id == study_id, trials.c.number == number, checkpoints.c.epoch == -1 - index
    )  # fmt: skip
    with engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else Saved(row.epoch, row.name, row.sha256, row.content)


def remove_weights(engine: Engine, study_id: int) -> None:
    """Removes the rows of the weights of all runs."""
    mine = select(trials.c.trial_id).where(trials.c.study_id == study_id)
    with engine.begin() as connection:
        connection.execute(
            delete(checkpoints).where(checkpoints.c.trial_id.in_(mine), checkpoints.c.epoch < 0)
        )

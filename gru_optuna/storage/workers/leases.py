"""Which worker trains which trial: registrations, leases, fencing tokens.

A worker holds a trial by a lease with a token. When another worker takes the trial over, the
token rises, and a worker that comes back with an older one has lost the lease and writes nothing
more. Silence alone can't prove a death (the worker may be suspended, or cut off), so it is the
token that keeps two workers from writing to one trial, never the heartbeat.
"""

from __future__ import annotations

import math
import os
import platform
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from gru_optuna.checkpoints.checkpoint import Saved
from gru_optuna.errors import GRUOptunaError
from gru_optuna.storage.database.open import clock, now
from gru_optuna.storage.database.tables import checkpoints, leases, trials, workers
from gru_optuna.storage.paused_trials import ENDING, row_is_paused, unmark
from gru_optuna.storage.workers.heartbeats import (
    LEASE_SECONDS,
    HeartbeatMonitor,
    has_died,
    life_lock,
    remove_lock,
)
from gru_optuna.workspace import JOB_VARIABLE, NODE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import datetime

    from filelock import FileLock
    from sqlalchemy import Connection, Engine

SUSPICIOUS_DEATHS = 2
"""After this many workers in a row have died holding a trial before its next epoch, the next one
trains it alone for an epoch: otherwise the trials that were held with it would be blamed, too."""

FEW_WORKERS = 8
"""Up to so many others, a worker looks at them whenever it claims trials, and knows of a death on
its machine at once. Among more it looks once a heartbeat: each look reads all workers."""

MOST_DEATHS = 5
"""After this many deaths in a row, the trial is to blame, and fails."""


@dataclass(frozen=True)
class Host:
    """Where a worker runs, as `status` shows it."""

    name: str
    process: int
    device: str
    slots: int

    @classmethod
    def here(cls, device: str, slots: int) -> Host:
        """This process; with the job of a cluster that placed it, which says so by variables."""
        node, job = os.environ.get(NODE_VARIABLE) or platform.node(), os.environ.get(JOB_VARIABLE)
        name = f"{node} ({job})" if job else node
        return cls(name[:255], os.getpid(), device[:64], slots)


@dataclass(frozen=True)
class Claim:
    """A trial that this worker now holds."""

    trial_id: int
    token: int
    adopted: bool
    deaths: int = 0
    checkpoints: tuple[Saved, ...] = ()  # newest first
    continued: bool = False  # it was paused
    # Number and beginning (UTC) of a trial that is new: nothing of it needs to be read.
    created: tuple[int, datetime] | None = None

    @property
    def taken_over(self) -> bool:
        """Whether its worker stopped or died."""
        return self.adopted and not self.continued

    @property
    def suspect(self) -> bool:
        """Whether the trial may have killed its workers."""
        return self.deaths >= SUSPICIOUS_DEATHS


@dataclass(frozen=True)
class _Abandoned:
    """A running trial that no living worker holds."""

    trial_id: int
    token: int  # 0: begun by a program that knows no leases
    deaths: int


class Registration:
    """One worker in the table of workers, and its leases.

    Parameters
    ----------
    engine
        The database's.
    study_id
        The study that the worker trains.
    host
        Where the worker runs.
    lease_seconds
        How long the worker may be silent before others take over its trials.
    """

    def __init__(
        self, engine: Engine, study_id: int, host: Host, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self.study_id = study_id
        self.host = host
        self.lease_seconds = lease_seconds
        self._engine = engine
        self._workers = HeartbeatMonitor(lease_seconds)
        self.beat_seconds = self._workers.beat_seconds
        # Trials of plain Optuna, which has no heartbeat: their rows are counted instead.
        self._strangers = HeartbeatMonitor(lease_seconds)
        self._left = False
        self._died: set[int] = set()  # at the last look, certainly and on this machine
        self._watched_at, self._others = -math.inf, 0
        self._life: FileLock | None = None
        try:
            with engine.begin() as connection:
                inserted = connection.execute(insert(workers).values(self._row(connection)))
                assert inserted.inserted_primary_key is not None
                self.worker_id = int(inserted.inserted_primary_key[0])
                # Before others see the row: a worker without this file counts as dead.
                self._life = life_lock(engine, self.worker_id)
                self._hold_life()
        except BaseException:
            # The next attempt may get the same number.
            if self._life is not None:
                self._life.release(force=True)
            raise

    def beat(self, connection: Connection, epochs_per_second: float | None = None) -> None:
        """Shows that this worker lives, and how fast it trains."""
        speed = {} if epochs_per_second is None else {"epochs_per_second": epochs_per_second}
        beaten = connection.execute(
            update(workers)
            .where(workers.c.worker_id == self.worker_id)
            .values(beats=workers.c.beats + 1, beaten_at=clock(connection), **speed)
        )
        if not beaten.rowcount and not self._left:
            # Another worker took this one for dead, after a long pause, and removed its row.
            self._hold_life()
            row = self._row(connection) | {"worker_id": self.worker_id, "beats": 1}
            connection.execute(insert(workers).values(row))

    def beat_alone(self) -> None:
        """Shows in a separate transaction that this worker lives, while an epoch takes long."""
        with self._engine.begin() as connection:
            self.beat(connection)

    @contextmanager
    def beating(self, seconds_since_commit: Callable[[], float]) -> Iterator[None]:
        """Beats from a thread of its own whenever the last commit is too long ago."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self.beat_seconds):
                if seconds_since_commit() > self.beat_seconds:
                    # Not retried here: if the database fails, the next commit waits for it.
                    with suppress(SQLAlchemyError, OSError, GRUOptunaError):
                        self.beat_alone()

        threading.Thread(target=beat, name="beat", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def is_time_to_watch(self, at: float, wanted: int) -> bool:
        """Whether to look which workers are silent, at a time (monotonic, seconds).

        Even a worker that wants no trials looks now and then: silence is only known after
        watching for a while.
        """
        if wanted > 0 and self._others <= FEW_WORKERS:
            return True
        return at - self._watched_at >= self.beat_seconds

    def held(self, connection: Connection) -> dict[int, int]:
        """The tokens of the trials that this worker still holds, by the trials' ids."""
        found = connection.execute(
            select(leases.c.trial_id, leases.c.token)
            .join(trials, trials.c.trial_id == leases.c.trial_id)
            .where(leases.c.worker_id == self.worker_id, trials.c.state == TrialState.RUNNING)
            # Not every commit locks the study. Who takes a trial over waits here for this one.
            .with_for_update(of=leases)
        )
        return {row.trial_id: row.token for row in found}

    def claim(
        self,
        connection: Connection,
        wanted: int,
        limit: int | None,
        at: float,
        *,
        watches: bool = True,
        paused: Sequence[int] = (),
        over: Sequence[int] = (),
        most_to_train: int | None = None,
    ) -> list[Claim]:
        """Claims up to `wanted` trials: abandoned, waiting, paused, and at last new ones.

        Abandoned ones come first, even if no new trial may start: what was started must be ended.

        Parameters
        ----------
        connection
            In a transaction that holds the study's lock.
        wanted
            How many trials to claim; 0 only looks who is silent.
        limit
            How many trials the study may ever begin; None: no limit.
        at
            Monotonic time, seconds.
        watches
            Whether to look which workers are silent.
        paused
            Ids of the paused trials that may be continued, in this order.
        over
            Ids of the paused trials that are to be ended; they are claimed besides.
        most_to_train
            How many trials may begin or continue, abandoned ones apart; None: no limit.
        """
        dead = self._watch(connection, at) if watches else set()
        abandoned = self._abandoned(connection, dead, at)
        chosen = self._choose(connection, abandoned, wanted)
        adopted = (self._adopt(connection, trial) for trial in chosen)
        claims = [claim for claim in adopted if claim]
        if most_to_train is not None:
            wanted = min(wanted, len(claims) + most_to_train)
        if len(claims) < wanted:
            mine = trials.c.study_id == self.study_id
            waits = mine & (trials.c.state == TrialState.WAITING)
            last = select(func.max(trials.c.number)).where(mine).scalar_subquery()
            count = select(func.count()).where(waits).scalar_subquery()
            newest, waiters = connection.execute(select(last, count)).one()
            known = 0 if newest is None else newest + 1
            room = wanted - len(claims)
            if limit is not None:
                room = min(room, max(0, limit - known + waiters))
            queued = select(trials.c.trial_id).where(waits).order_by(trials.c.number).limit(room)
            waiting = connection.scalars(queued).all() if waiters else []
            begins = [self._begin(connection, trial_id) for trial_id in waiting]
            claims += [claim for claim in begins if claim]
            claims += self._continue(connection, paused[: wanted - len(claims)])
            room = min(room - len(waiting), wanted - len(claims))
            claims += self._create(connection, known, room)
        return claims + self._continue(connection, over, ENDING)

    def give_back(self, connection: Connection, trial_ids: Collection[int]) -> None:
        """Releases the leases of these trials, so that another worker can continue them."""
        connection.execute(
            update(leases)
            .where(leases.c.worker_id == self.worker_id, leases.c.trial_id.in_(trial_ids))
            .values(worker_id=None)
        )

    def leave(self) -> None:
        """Releases all leases and removes the worker's row."""
        self._left = True  # before the row goes, or a beat on its way would write it again
        with self._engine.begin() as connection:
            # In the order of all transactions, or two might wait for each other: workers, leases.
            connection.execute(delete(workers).where(workers.c.worker_id == self.worker_id))
            connection.execute(
                update(leases).where(leases.c.worker_id == self.worker_id).values(worker_id=None)
            )
            self._tidy(connection)
        if self._life is not None:
            self._life.release()
            remove_lock(self._life)

    def _tidy(self, connection: Connection) -> None:
        """Removes rows of trials that another program ended, and of workers that died."""
        mine = trials.c.study_id == self.study_id
        running = select(trials.c.trial_id).where(mine, trials.c.state == TrialState.RUNNING)
        over = connection.scalars(
            select(leases.c.trial_id).where(
                leases.c.study_id == self.study_id, leases.c.trial_id.not_in(running)
            )
        ).all()
        if over:
            end_leases(connection, over)
        # By timestamps, here alone: a worker that lives after all writes its row again.
        silent = now(connection) - timedelta(seconds=self.lease_seconds)
        holders = select(leases.c.worker_id).where(leases.c.worker_id.is_not(None))
        connection.execute(
            delete(workers).where(
                workers.c.study_id == self.study_id,
                workers.c.beaten_at < silent,
                workers.c.worker_id.not_in(holders),
            )
        )

    def _hold_life(self) -> None:
        if self._life is not None:
            # A worker that took this one for dead has removed the file: hold the new one.
            self._life.release(force=True)
            # Another worker may hold the lock for a moment, to see whether this one lives.
            self._life.acquire(timeout=self.lease_seconds)

    def _row(self, connection: Connection) -> dict[str, object]:
        at = now(connection)
        return {
            "study_id": self.study_id,
            "host": self.host.name,
            "process": self.host.process,
            "device": self.host.device,
            "slots": self.host.slots,
            "started_at": at,
            "beaten_at": at,
        }

    def _watch(self, connection: Connection, at: float) -> set[int]:
        """Workers that are dead, by their beats or, on this machine, by their file locks."""
        others = {
            row.worker_id: row.beats
            for row in connection.execute(
                select(workers.c.worker_id, workers.c.beats).where(
                    workers.c.study_id == self.study_id, workers.c.worker_id != self.worker_id
                )
            )
        }
        self._watched_at, self._others = at, len(others)
        died = {worker for worker in others if has_died(self._engine, worker)}
        self._died = died
        return self._workers.look(others, at) | died

    def _abandoned(self, connection: Connection, dead: set[int], at: float) -> list[_Abandoned]:
        """Running trials that no living worker holds, by number."""
        holder = workers.c.worker_id
        found: Sequence[Any] = connection.execute(
            select(trials.c.trial_id, leases.c.worker_id, leases.c.token, leases.c.deaths)
            .outerjoin(leases, leases.c.trial_id == trials.c.trial_id)
            .outerjoin(
                workers,
                (holder == leases.c.worker_id) & (workers.c.study_id == self.study_id),
            )
            .where(trials.c.study_id == self.study_id, trials.c.state == TrialState.RUNNING)
            .where(holder.is_(None) | holder.in_(dead), ~row_is_paused())
            .order_by(trials.c.number)
        ).all()
        alive = self._strangers_alive(
            [row.trial_id for row in found if not row.token], connection, at
        )
        found = [row for row in found if row.trial_id not in alive]
        # A worker that held a suspect trained nothing else, so its death is no other trial's fault.
        held_suspects = {row.worker_id for row in found if (row.deaths or 0) >= SUSPICIOUS_DEATHS}
        blamed = {
            row.trial_id
            for row in found
            if row.worker_id is not None
            and (row.deaths >= SUSPICIOUS_DEATHS or row.worker_id not in held_suspects)
        }
        if dead:
            self._bury(connection, dead, blamed)
            # Of the certainly dead alone: a silent worker may be suspended, and hold its lock.
            for worker in self._died & dead:
                remove_lock(life_lock(self._engine, worker))
        return [
            _Abandoned(row.trial_id, row.token or 0, (row.deaths or 0) + (row.trial_id in blamed))
            for row in found
        ]

    def _strangers_alive(self, trial_ids: list[int], connection: Connection, at: float) -> set[int]:
        """Trials that a program without leases still trains: parameters or reports were added."""
        progress = dict.fromkeys(trial_ids, 0)
        parts = (models.TrialParamModel, models.TrialIntermediateValueModel) if trial_ids else ()
        for part in parts:
            table = part.__table__
            rows = connection.execute(
                select(table.c.trial_id, func.count())
                .where(table.c.trial_id.in_(trial_ids))
                .group_by(table.c.trial_id)
            )
            for trial_id, count in rows:
                progress[trial_id] += count
        return set(trial_ids) - self._strangers.look(progress, at)

    def _bury(self, connection: Connection, dead: set[int], blamed: set[int]) -> None:
        """Removes workers that died, frees their trials, and counts the death of those to blame."""
        # Workers before leases, as in every transaction: one that lives after all may be writing.
        connection.execute(delete(workers).where(workers.c.worker_id.in_(dead)))
        mine = leases.c.worker_id.in_(dead)
        connection.execute(
            update(leases)
            .where(mine, leases.c.trial_id.in_(blamed))
            .values(deaths=leases.c.deaths + 1)
        )
        connection.execute(update(leases).where(mine).values(worker_id=None))

    def _choose(
        self, connection: Connection, abandoned: list[_Abandoned], wanted: int
    ) -> list[_Abandoned]:
        """Up to `wanted` trials with one suspect at most: if this worker dies, it was that one."""
        suspects = {trial.trial_id for trial in abandoned if trial.deaths >= SUSPICIOUS_DEATHS}
        if suspects:
            mine = leases.c.worker_id == self.worker_id
            suspected = mine & (leases.c.deaths >= SUSPICIOUS_DEATHS)
            holds_one = connection.scalar(select(func.count()).where(suspected))
            suspects -= {min(suspects)} if not holds_one else set()
        return [trial for trial in abandoned if trial.trial_id not in suspects][:wanted]

    def _adopt(self, connection: Connection, trial: _Abandoned) -> Claim | None:
        token = trial.token + 1
        taken = {"worker_id": self.worker_id, "token": token, "deaths": trial.deaths}
        mine = leases.c.trial_id == trial.trial_id
        if trial.token:
            # A worker that was silent, and lives after all, may just have ended the trial.
            same = mine & (leases.c.token == trial.token)
            if not connection.execute(update(leases).where(same).values(taken)).rowcount:
                return None
        else:
            row = {"trial_id": trial.trial_id, "study_id": self.study_id, **taken}
            connection.execute(insert(leases).values(row))
        rows = connection.execute(
            select(checkpoints)
            .where(checkpoints.c.trial_id == trial.trial_id)
            .order_by(checkpoints.c.epoch.desc())
        )
        saved = tuple(Saved(row.epoch, row.name, row.sha256, row.content) for row in rows)
        return Claim(trial.trial_id, token, adopted=True, deaths=trial.deaths, checkpoints=saved)

    def _continue(
        self, connection: Connection, trial_ids: Sequence[int], mark: int = 0
    ) -> list[Claim]:
        """Takes paused trials, which the caller has just seen to be so under the study's lock."""
        if not trial_ids:
            return []
        rows = connection.execute(
            select(leases.c.trial_id, leases.c.token).where(leases.c.trial_id.in_(trial_ids))
        )
        tokens = {row.trial_id: row.token for row in rows}  # a copied study has no leases
        adopted = (
            self._adopt(connection, _Abandoned(trial_id, tokens.get(trial_id, 0), 0))
            for trial_id in trial_ids
        )
        claims = [replace(claim, continued=True) for claim in adopted if claim]
        unmark(connection, [claim.trial_id for claim in claims], mark)
        return claims

    def _begin(self, connection: Connection, trial_id: int) -> Claim | None:
        begun = connection.execute(
            update(trials)
            # Plain Optuna takes waiting trials without the study's lock: only one update succeeds.
            .where(trials.c.trial_id == trial_id, trials.c.state == TrialState.WAITING)
            .values(state=TrialState.RUNNING, datetime_start=clock(connection))
        )
        if not begun.rowcount:
            return None
        self._lease(connection, [trial_id])
        return Claim(trial_id, 1, adopted=False)

    def _create(self, connection: Connection, known: int, count: int) -> list[Claim]:
        if count <= 0:
            return []
        at = now(connection)
        rows = [
            {
                "number": number,
                "study_id": self.study_id,
                "state": TrialState.RUNNING,
                "datetime_start": at,
            }
            for number in range(known, known + count)
        ]
        made = connection.execute(
            insert(trials).returning(trials.c.trial_id, trials.c.number), rows
        ).all()
        numbers = {row.trial_id: row.number for row in made}
        ids = sorted(numbers, key=numbers.__getitem__)
        self._lease(connection, ids)
        return [Claim(of, 1, adopted=False, created=(numbers[of], at)) for of in ids]

    def _lease(self, connection: Connection, trial_ids: list[int]) -> None:
        if connection.dialect.name == "sqlite":
            # It reuses the id of a deleted trial, whose rows must not pass to the new one.
            end_leases(connection, trial_ids)
        connection.execute(
            insert(leases),
            [
                {
                    "trial_id": trial_id,
                    "study_id": self.study_id,
                    "worker_id": self.worker_id,
                    "token": 1,
                    "deaths": 0,
                }
                for trial_id in trial_ids
            ],
        )


def end_leases(connection: Connection, trial_ids: Collection[int]) -> None:
    """Deletes the leases and checkpoints of trials that are over."""
    for table in (leases, checkpoints):
        connection.execute(delete(table).where(table.c.trial_id.in_(trial_ids)))

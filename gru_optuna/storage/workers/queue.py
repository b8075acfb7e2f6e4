"""Workers of the queue as the others see them: heartbeats, the present study, deaths.

A worker of the queue moves from study to study. While it trains, it is also a worker of that study
(``leases.py``). Here it says which study that is, before it has read the data, so that two idle
workers don't choose the same one; and it holds its job.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from gru_optuna.storage.database.open import begin_queue_change, now
from gru_optuna.storage.database.tables import queue_workers, workers
from gru_optuna.storage.jobs import release
from gru_optuna.storage.workers.heartbeats import (
    HeartbeatMonitor,
    has_died,
    life_lock,
    remove_lock,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from gru_optuna.storage.workers.leases import Host

_KIND = "queue"


class QueueRegistration:
    """One worker in the table of the queue's workers.

    Parameters
    ----------
    engine
        The database's.
    host
        Where the worker runs.
    lease_seconds
        How long a worker may be silent before others take over its job.
    """

    def __init__(self, engine: Engine, host: Host, lease_seconds: float) -> None:
        self.host = host
        self._engine = engine
        self._monitor = HeartbeatMonitor(lease_seconds)
        self.beat_seconds = self._monitor.beat_seconds
        self._study: str | None = None
        with engine.begin() as connection:
            begin_queue_change(connection)
            made = insert(queue_workers).values(self._row(connection)).returning(queue_workers)
            self.worker_id: int = connection.execute(made).one().worker_id
            # Before others see the row: a worker without this file counts as dead.
            self._life = life_lock(engine, self.worker_id, _KIND)
            if self._life is not None:
                self._life.acquire(timeout=lease_seconds)

    def move(self, connection: Connection, study: str | None) -> None:
        """Says which study this worker works on from now on; None: none."""
        self._study = study
        connection.execute(
            update(queue_workers)
            .where(queue_workers.c.worker_id == self.worker_id)
            .values(study=study)
        )

    def rest(self) -> None:
        """Says that this worker works on no study."""
        if self._study is not None:
            with self._engine.begin() as connection:
                self.move(connection, None)

    def beat(self) -> None:
        """Shows that this worker lives, and takes over from those that don't."""
        others_query = select(queue_workers.c.worker_id, queue_workers.c.beats)
        with self._engine.begin() as connection:
            begin_queue_change(connection)
            beaten = connection.execute(
                update(queue_workers)
                .where(queue_workers.c.worker_id == self.worker_id)
                .values(beats=queue_workers.c.beats + 1, beaten_at=now(connection))
            )
            if not beaten.rowcount:
                # Another worker took this one for dead, after a long pause. Its job is lost.
                row = self._row(connection) | {"worker_id": self.worker_id}
                connection.execute(insert(queue_workers).values(row))
            others = {
                row.worker_id: row.beats
                for row in connection.execute(others_query)
                if row.worker_id != self.worker_id
            }
            died = {worker for worker in others if has_died(self._engine, worker, _KIND)}
            dead = died | self._monitor.look(others, time.monotonic())
            if dead:
                _bury(connection, dead)
        for worker in died:
            remove_lock(life_lock(self._engine, worker, _KIND))

    def leave(self) -> None:
        """Removes the worker's row."""
        with self._engine.begin() as connection:
            begin_queue_change(connection)
            mine = queue_workers.c.worker_id == self.worker_id
            connection.execute(queue_workers.delete().where(mine))
        if self._life is not None:
            self._life.release()
            remove_lock(self._life)

    def _row(self, connection: Connection) -> dict[str, object]:
        at = now(connection)
        return {
            "host": self.host.name,
            "process": self.host.process,
            "device": self.host.device,
            "study": self._study,
            "started_at": at,
            "beaten_at": at,
        }


def _bury(connection: Connection, dead: set[int]) -> None:
    """Removes workers that died, and lets others have their trials and jobs."""
    found = select(queue_workers).where(queue_workers.c.worker_id.in_(dead))
    for row in connection.execute(found).all():
        # As workers of a study, they would seem to live until their lease ends. Not those that
        # began after its last beat: a container that is started again has the same process ids.
        ended = row.beaten_at + timedelta(seconds=1)
        connection.execute(
            workers.delete().where(
                workers.c.host == row.host,
                workers.c.process == row.process,
                workers.c.started_at >= row.started_at,
                workers.c.started_at <= ended,
            )
        )
    connection.execute(queue_workers.delete().where(queue_workers.c.worker_id.in_(dead)))
    release(connection, dead)

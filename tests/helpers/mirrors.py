"""Studies in a database, and workers on them that train nothing."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import optuna

from gru_optuna.storage.database.open import open_engine, open_storage
from gru_optuna.storage.database.retry import with_retries
from gru_optuna.storage.mirror.mirror import Mirror
from gru_optuna.storage.workers.heartbeats import BEATS_A_LEASE, LEASE_SECONDS, HeartbeatMonitor
from gru_optuna.storage.workers.leases import Host, Registration

if TYPE_CHECKING:
    from optuna import Study, Trial
    from sqlalchemy import Engine


def make(url: str, name: str = "x") -> Study:
    """The study of this name, created if there is none."""
    return optuna.create_study(
        storage=open_storage(url, create=True),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
    )


def claim(mirror: Mirror, count: int = 1, limit: int | None = None) -> list[Trial]:
    """Claims trials and returns handles on them."""
    return [mirror.trial(number) for number, _ in mirror.sync(count, limit).claims]


class Worker:
    """Uses mirror and registration as the loop does, without training."""

    def __init__(
        self, url: str, lease_seconds: float = LEASE_SECONDS, study_name: str = "x"
    ) -> None:
        study = make(url, study_name)
        self.engine: Engine = open_engine(url)
        host = Host.here("cpu", 8)
        self.registration = Registration(self.engine, study._study_id, host, lease_seconds)
        self.mirror = Mirror(study, self.engine, self.registration)

    def claim(self, count: int, limit: int | None = None) -> dict[int, bool]:
        """Numbers of the trials it got, and whether they were adopted."""
        # With retries: many that write at once may wait long for their turn.
        synced = with_retries(
            lambda: self.mirror.sync(count, limit), threading.Event(), lambda *_: None
        )
        return {n: claim.adopted for n, claim in synced.claims}

    def die(self) -> None:
        """Does what the system does after a process: the file lock is freed, nothing else."""
        if self.registration._life is not None:
            self.registration._life.release()


def silence(worker: Worker, other: Worker) -> None:
    """Lets `other` have seen for two leases that `worker` doesn't beat."""
    lease = other.registration.lease_seconds
    other.registration._workers = HeartbeatMonitor(lease)
    began = time.monotonic() - 2 * lease
    for beat in range(2 * BEATS_A_LEASE):
        with other.engine.begin() as connection:
            other.registration.claim(connection, 0, 0, began + beat * lease / BEATS_A_LEASE)

"""The workers of a study and the trials that they hold, for commands that only read."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState
from sqlalchemy import select

from gru_optuna.storage.database.open import locate, now
from gru_optuna.storage.database.tables import leases, queue_workers, studies, trials, workers
from gru_optuna.storage.workers.heartbeats import LEASE_SECONDS

if TYPE_CHECKING:
    from sqlalchemy import Engine


@dataclass(frozen=True)
class WorkerStatus:
    """A worker at one moment."""

    host: str
    process: int
    device: str
    slots: int
    last_beat_seconds: float  # before now, by the database's clock, which also wrote it
    epochs_per_second: float
    trials: tuple[int, ...]  # numbers of the trials that it holds

    @property
    def silent(self) -> bool:
        """Whether its lease has ended, so that others may take over its trials."""
        return self.last_beat_seconds > LEASE_SECONDS

    def as_json(self) -> dict[str, Any]:
        """As ``status --json`` prints it."""
        return asdict(self) | {
            "last_beat_seconds": round(self.last_beat_seconds, 1),
            "epochs_per_second": round(self.epochs_per_second, 2),
            "trials": list(self.trials),
        }


def read_workers(url: str, study_id: int) -> list[WorkerStatus]:
    """The workers of a study, in the order in which they came.

    Parameters
    ----------
    url
        The database's.
    study_id
        The study's id there.

    Raises
    ------
    StorageError
        If the database fails.
    """
    database = locate(url)
    held: dict[int, list[int]] = defaultdict(list)
    with database.plain_errors(), database.passing_engine().connect() as connection:
        rows = connection.execute(
            select(workers).where(workers.c.study_id == study_id).order_by(workers.c.worker_id)
        ).all()
        for row in connection.execute(
            select(leases.c.worker_id, trials.c.number)
            .join(trials, trials.c.trial_id == leases.c.trial_id)
            .where(leases.c.study_id == study_id, trials.c.state == TrialState.RUNNING)
            .order_by(trials.c.number)
        ):
            held[row.worker_id].append(row.number)
        # Last, so that no beat that was read is later.
        at = now(connection)
    return [
        WorkerStatus(
            row.host,
            row.process,
            row.device,
            row.slots,
            # If the clock was set back, beats may still seem later.
            max(0.0, (at - row.beaten_at).total_seconds()),
            row.epochs_per_second,
            tuple(held[row.worker_id]),
        )
        for row in rows
    ]


@dataclass(frozen=True)
class PresentWorker:
    """A worker of the database, whatever it does, at one moment."""

    host: str
    process: int
    device: str
    study: str | None  # its name; None: it is idle, or does a job
    last_beat_seconds: float

    @property
    def silent(self) -> bool:
        """Whether its lease has ended, so that others may take over its work."""
        return self.last_beat_seconds > LEASE_SECONDS


def list_workers(engine: Engine) -> list[PresentWorker]:
    """The workers of all studies, those of the queue first, in the order in which they came."""
    of_studies = (
        select(workers, studies.c.study_name.label("study"))
        .join(studies, studies.c.study_id == workers.c.study_id)
        .order_by(workers.c.worker_id)
    )
    with engine.connect() as connection:
        rows: list[Any] = list(
            connection.execute(select(queue_workers).order_by(queue_workers.c.worker_id))
        )
        # A worker of the queue that trains is in both tables.
        known = {(row.host, row.process) for row in rows}
        named = connection.execute(of_studies)
        rows += [row for row in named if (row.host, row.process) not in known]
        at = now(connection)
    return [
        PresentWorker(
            row.host,
            row.process,
            row.device,
            row.study,
            max(0.0, (at - row.beaten_at).total_seconds()),
        )
        for row in rows
    ]


def read_tokens(engine: Engine, study_id: int) -> dict[int, int]:
    """The fencing tokens of running trials, by number; a token that rose was adopted."""
    with engine.connect() as connection:
        rows = connection.execute(
            select(trials.c.number, leases.c.token)
            .join(leases, leases.c.trial_id == trials.c.trial_id)
            .where(trials.c.study_id == study_id, trials.c.state == TrialState.RUNNING)
        )
        return {row.number: row.token for row in rows}

"""Jobs: work besides the search that one worker of the queue does at a time.

A job is a row: what is wanted (`kind`, `request`), how far it is (`state`), and in the end a
`result`, a file (`sha256`, see ``uploads.py``) or an `error`. `create`, `get` and `list_all` are
for who wants one; a worker takes the oldest with `claim`, whose token fences it: once another
worker has taken the job over, `finish` and `fail` of the first write nothing.

kind      request                                         result and file
confirm   ``{"ended": N}``: trials that have ended        ``{"report": true}``: the report, a zip of
                                                          ``index.html`` and its figures; none if
                                                          no trial has ended
export    ``{"refit": bool or null, "single": bool}``     a zip of the bundle's folder
predict   ``{"bundle": JOB_ID, "data": SHA256}``          a CSV file, as ``gru-optuna predict``
                                                          prints it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import insert, select, update

from gru_optuna.errors import StorageError
from gru_optuna.storage.database.open import begin_queue_change, now
from gru_optuna.storage.database.tables import jobs, submissions
from gru_optuna.storage.uploads import remove_contents, remove_unused

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    from gru_optuna.storage.upload_places import StoredContent

Kind: TypeAlias = Literal["confirm", "export", "predict"]

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"

MOST_DEATHS = 5
"""After so many deaths of its workers, as of a trial's, a job fails: it would kill the next one."""


@dataclass(frozen=True)
class Job:
    """A job as it stands."""

    job_id: int
    study: str  # its name
    kind: Kind
    request: dict[str, Any]
    state: str  # waiting, running, done, failed
    worker_id: int | None
    token: int
    deaths: int
    result: dict[str, Any] | None
    sha256: str | None
    error: str | None
    created_at: datetime  # UTC
    ended_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in (DONE, FAILED)


def create(engine: Engine, study: str, kind: Kind, request: dict[str, Any]) -> Job:
    """Adds a job, or returns one that does the same and hasn't failed.

    So two who want the same bundle get the same one. Of ``confirm`` a failed one is returned, too:
    as long as the study has no further trial, it would fail again.
    """
    with engine.begin() as connection:
        begin_queue_change(connection)
        same = (jobs.c.study == study) & (jobs.c.kind == kind)
        for row in connection.execute(select(jobs).where(same).order_by(jobs.c.job_id.desc())):
            if row.request == request and (row.state != FAILED or kind == "confirm"):
                return Job(**row._mapping)
        values = {
            "study": study,
            "kind": kind,
            "request": request,
            "state": WAITING,
            "created_at": now(connection),
        }
        made = connection.execute(insert(jobs).values(values).returning(jobs)).one()
        return Job(**made._mapping)


def get(engine: Engine, job_id: int) -> Job:
    """A job by its id.

    Raises
    ------
    StorageError
        If there is none.
    """
    with engine.connect() as connection:
        row = connection.execute(select(jobs).where(jobs.c.job_id == job_id)).one_or_none()
    if row is None:
        raise StorageError(f"there is no job {job_id}.")
    return Job(**row._mapping)


def list_all(engine: Engine, study: str | None = None, kind: Kind | None = None) -> list[Job]:
    """The jobs, of one study or one kind if it is named, the oldest first."""
    query = select(jobs).order_by(jobs.c.job_id)
    if study is not None:
        query = query.where(jobs.c.study == study)
    if kind is not None:
        query = query.where(jobs.c.kind == kind)
    with engine.connect() as connection:
        return [Job(**row._mapping) for row in connection.execute(query)]


def claim(engine: Engine, worker_id: int, besides: Collection[str] = ()) -> Job | None:
    """Gives the oldest waiting job to a worker of the queue; None if there is none.

    A study that is suspended or cancelled isn't confirmed, but exported all the same.

    Parameters
    ----------
    engine
        The database's.
    worker_id
        The worker's.
    besides
        Names of the studies that the worker can't work on.
    """
    idle = select(submissions.c.name).where(submissions.c.state != "queued")
    waiting = (
        select(jobs)
        .where(jobs.c.state == WAITING, jobs.c.study.not_in(besides))
        .where((jobs.c.kind != "confirm") | jobs.c.study.not_in(idle))
        .order_by(jobs.c.job_id)
        .limit(1)
    )
    with engine.begin() as connection:
        begin_queue_change(connection)
        row = connection.execute(waiting).one_or_none()
        if row is None:
            return None
        taken = {"state": RUNNING, "worker_id": worker_id, "token": row.token + 1}
        connection.execute(update(jobs).where(jobs.c.job_id == row.job_id).values(taken))
        return Job(**{**row._mapping, **taken})


def finish(
    engine: Engine, job: Job, result: dict[str, Any] | None = None, sha256: str | None = None
) -> bool:
    """Ends a job with its result; returns False if the worker has lost it.

    A confirmation replaces the earlier ones of its study, and their reports.
    """
    if not _end(engine, job, {"state": DONE, "result": result, "sha256": sha256}):
        return False
    if job.kind == "confirm":
        with engine.begin() as connection:
            begin_queue_change(connection)
            same = (jobs.c.study == job.study) & (jobs.c.kind == job.kind)
            before = select(jobs.c.job_id).where(same, jobs.c.job_id < job.job_id)
            contents = remove(connection, connection.scalars(before).all())
        remove_contents(engine, contents)
    return True


def fail(engine: Engine, job: Job, error: str) -> bool:
    """Ends a job with the reason for which it failed; returns False if the worker has lost it."""
    return _end(engine, job, {"state": FAILED, "error": error})


def give_back(engine: Engine, job: Job) -> bool:
    """Lets another worker do a job from its beginning; returns False if this one has lost it."""
    return _end(engine, job, {"state": WAITING, "worker_id": None, "ended_at": None})


def release(connection: Connection, dead: Collection[int]) -> None:
    """Lets others do the jobs of workers that have died; one that killed several fails."""
    mine = (jobs.c.state == RUNNING) & jobs.c.worker_id.in_(dead)
    for row in connection.execute(select(jobs).where(mine)).all():
        deaths = row.deaths + 1
        values = {"deaths": deaths, "state": WAITING, "worker_id": None}
        if deaths >= MOST_DEATHS:
            error = f"{deaths} workers in a row died at it, for want of memory perhaps."
            values |= {"state": FAILED, "error": error, "ended_at": now(connection)}
        connection.execute(update(jobs).where(jobs.c.job_id == row.job_id).values(values))


def remove(connection: Connection, ids: Collection[int]) -> list[StoredContent]:
    """Removes jobs, and the files that they made, unless something else uses those.

    Returns what `uploads.remove_contents` has to remove after this transaction.
    """
    made = set(connection.scalars(select(jobs.c.sha256).where(jobs.c.job_id.in_(ids))))
    connection.execute(jobs.delete().where(jobs.c.job_id.in_(ids)))
    return [content for sha256 in made - {None} for content in remove_unused(connection, sha256)]


def _end(engine: Engine, job: Job, values: dict[str, Any]) -> bool:
    with engine.begin() as connection:
        begin_queue_change(connection)
        mine = (jobs.c.job_id == job.job_id) & (jobs.c.token == job.token)
        ended = connection.execute(
            update(jobs)
            .where(mine, jobs.c.state == RUNNING)
            .values({"ended_at": now(connection), **values})
        )
        return bool(ended.rowcount)

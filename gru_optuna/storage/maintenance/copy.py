"""Copies whole studies from one database to another, of either kind.

A copy has all of Optuna's rows, the checkpoints of running trials and the data of submitted
studies, with their contents, wherever those lie. It has no workers and no leases, so a worker there
can adopt the running trials. Ids and the places of new files are the target's own.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import Table, insert, inspect, select, update

from gru_optuna.attributes import CHECKPOINTS
from gru_optuna.checkpoints.checkpoint import DamagedCheckpoint, digest
from gru_optuna.errors import StorageError, StudyError, did_you_mean
from gru_optuna.storage.database.open import locate, open_storage
from gru_optuna.storage.database.sqlite import SQLite, is_writable
from gru_optuna.storage.database.tables import (
    checkpoints,
    jobs,
    studies,
    submissions,
    tokens,
    trials,
    upload_parts,
    uploads,
)
from gru_optuna.storage.maintenance.checkpoint_stores import study_stores
from gru_optuna.storage.upload_places import list_contents
from gru_optuna.storage.uploads import bring_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Connection, Select

    from gru_optuna.storage.database.backend import Database

BATCH = 1000
"""Rows that are read and written at once."""

CONTENTS = 8
"""Checkpoints that are read at once; each may have megabytes."""

_BELONGINGS = [
    table
    for table in models.BaseModel.metadata.sorted_tables
    if table not in (studies, trials) and {"study_id", "trial_id"} & set(table.c.keys())
]

# optuna-dashboard keeps notes and artifacts of trials in their study's attributes, by id.
_TRIALS_KEY = re.compile(r"(dashboard:(?:artifacts:)?)(\d+)(:.*)")


@dataclass(frozen=True)
class Copied:
    """A study that was copied."""

    study: str
    trials: int
    checkpoints: int
    lost: int
    """Checkpoints that couldn't be read: their trials continue from an earlier one."""


@dataclass(frozen=True)
class Snapshot:
    """A database as it was at one moment, whatever is written afterwards."""

    database: Database
    connection: Connection
    contents: Mapping[str, bytes]
    """Contents of the intact checkpoints whose rows hold none, by name."""

    def read(self, query: Select[Any], batch: int = BATCH) -> Iterator[list[dict[str, Any]]]:
        """The rows of a query, a batch at a time."""
        with self.database.plain_errors():
            options = {"yield_per": batch}
            result = self.connection.execute(query, execution_options=options).mappings()
            batches = result.partitions()
        while True:
            with self.database.plain_errors():
                rows = next(batches, None)
            if rows is None:
                return
            yield [dict(row) for row in rows]

    def has(self, table: Table) -> bool:
        """Whether it has this table of ours; an older version's may not."""
        return inspect(self.connection).has_table(table.name)


def copy_studies(
    source: str, target: str, names: Sequence[str] = ()
) -> tuple[list[Copied], list[str]]:
    """Copies studies in one transaction, so that all of them arrive, or none.

    Parameters
    ----------
    source, target
        Storage URLs. The target is created if there is none.
    names
        The studies' names; without any, all studies.

    Returns
    -------
    tuple
        The studies, and the names of the uploads whose contents couldn't be read.

    Raises
    ------
    StudyError
        If the source lacks one of these studies, or the target has one already.
    StorageError
        If one of them can't be opened, read or written, or both are the same.
    """
    if locate(source).identity == locate(target).identity:
        raise StorageError(f"{locate(source)} is both source and target. Name another target.")
    open_storage(source)
    with snapshot(locate(source)) as before:
        wanted = studies_in(before, names)
        open_storage(target, create=True)
        return copy_snapshot(before, locate(target), wanted, queue=_queue_of(before, names))


@contextmanager
def snapshot(database: Database) -> Iterator[Snapshot]:
    """Keeps the present state of a database readable until the block ends."""
    with ExitStack() as held:
        with database.plain_errors():
            engine = database.passing_engine()
            connection = held.enter_context(engine.connect())
            with engine.connect() as writer:
                # Nobody writes while the contents are read: a worker would replace checkpoints and
                # remove their files.
                if engine.dialect.name == "sqlite":
                    # A database that may only be read can't be locked.
                    can_lock = isinstance(database, SQLite) and is_writable(database.path)
                    writer.exec_driver_sql("BEGIN IMMEDIATE" if can_lock else "BEGIN")
                    connection.exec_driver_sql("BEGIN")
                else:
                    writer.execute(select(studies.c.study_id).with_for_update())
                    connection.execution_options(
                        isolation_level="REPEATABLE READ", postgresql_readonly=True
                    )
                contents = read_contents(connection, database.checkpoint_folder)
        yield Snapshot(database, connection, contents)


def copy_snapshot(
    before: Snapshot,
    target: Database,
    wanted: Mapping[str, int],
    queue: Mapping[Table, Select[Any]],
) -> tuple[list[Copied], list[str]]:
    """Copies studies, given by their names and ids, and rows of the queue.

    The target has all tables. Returns as `copy_studies` does.

    Raises
    ------
    StudyError
        If the target already has one of the studies. Nothing is copied then.
    StorageError
        If a database can't be read or written.
    """
    with target.plain_errors(), target.passing_engine().begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        coming = {*wanted, *_submitted(before, queue)}
        present = (select(studies.c.study_name), select(submissions.c.name))
        taken = {name for query in present for name in connection.scalars(query)} & coming
        if taken:
            raise StudyError(
                f'{target} already has a study "{min(taken)}". Nothing was copied. Choose other '
                f"studies with --study, or another target."
            )
        lost = _copy_queue(before, connection, queue)
        return [_copy_study(before, connection, *study) for study in wanted.items()], lost


def whole_queue(before: Snapshot) -> dict[Table, Select[Any]]:
    """All rows of the queue but its workers', by table, in an order in which they may be written.

    An older version's database has none.
    """
    if not before.has(submissions):
        return {}
    return {table: select(table) for table in (uploads, upload_parts, submissions, jobs, tokens)}


def _queue_of(before: Snapshot, names: Sequence[str]) -> dict[Table, Select[Any]]:
    """The submissions of the studies with these names, or of all studies, and their data."""
    queue = whole_queue(before)
    if not queue:
        return {}
    chosen = queue[submissions]
    if names:
        chosen = chosen.where(submissions.c.name.in_(names))
    used = {sha256 for row in _all(before, chosen) for sha256 in row["data"].values()}
    return {
        uploads: select(uploads).where(uploads.c.sha256.in_(used)),
        upload_parts: select(upload_parts).where(upload_parts.c.sha256.in_(used)),
        submissions: chosen,
    }


def _submitted(before: Snapshot, queue: Mapping[Table, Select[Any]]) -> list[str]:
    return [row["name"] for row in _all(before, queue[submissions])] if queue else []


def _all(before: Snapshot, query: Select[Any]) -> list[dict[str, Any]]:
    return [row for rows in before.read(query) for row in rows]


def _copy_queue(
    before: Snapshot, target: Connection, queue: Mapping[Table, Select[Any]]
) -> list[str]:
    """Returns the names of uploads whose contents couldn't be read."""
    there = set(target.scalars(select(uploads.c.sha256)))  # the same content
    for table, query in queue.items():
        for rows in before.read(query, CONTENTS if table is upload_parts else BATCH):
            is_content = table in (uploads, upload_parts)
            new = [row for row in rows if not (is_content and row["sha256"] in there)]
            if new:
                target.execute(insert(table), new)
    # Workers of the copy do them from their beginning.
    running = update(jobs).where(jobs.c.state == "running")
    target.execute(running.values(state="waiting", worker_id=None))
    elsewhere = list_contents(before.connection)
    return bring_in(target, {sha256: elsewhere[sha256] for sha256 in elsewhere.keys() - there})


def studies_in(before: Snapshot, names: Sequence[str] = ()) -> dict[str, int]:
    """The ids of the studies with these names, or of all studies.

    Raises
    ------
    StudyError
        If there is no study of one of the names.
    """
    query = select(studies.c.study_name, studies.c.study_id).order_by(studies.c.study_id)
    known = {row["study_name"]: row["study_id"] for rows in before.read(query) for row in rows}
    for name in names:
        if name not in known:
            raise StudyError(f'no study "{name}" in {before.database}. {did_you_mean(name, known)}')
    return {name: known[name] for name in dict.fromkeys(names or known)}


def read_contents(connection: Connection, default: Path | None) -> dict[str, bytes]:
    """The contents of the intact checkpoints whose rows hold none, by name."""
    contents: dict[str, bytes] = {}
    if not inspect(connection).has_table(checkpoints.name):
        return contents
    query = (
        select(checkpoints.c.name, checkpoints.c.sha256, trials.c.study_id)
        .join(trials, trials.c.trial_id == checkpoints.c.trial_id)
        .where(checkpoints.c.content.is_(None))
    )
    stores = study_stores(connection, default)
    for name, sha256, study_id in connection.execute(query):
        store = stores.get(study_id)
        with suppress(DamagedCheckpoint):
            if store is not None and digest(content := store.read(name)) == sha256:
                contents[name] = content
    return contents


def _copy_study(before: Snapshot, target: Connection, name: str, old_id: int) -> Copied:
    new = insert(studies).values(study_name=name).returning(studies.c.study_id)
    study_id = target.scalars(new).one()
    trial_ids: dict[int, int] = {}
    for rows in before.read(
        select(trials).where(trials.c.study_id == old_id).order_by(trials.c.trial_id)
    ):
        old_ids = [row.pop("trial_id") for row in rows]
        inserted = insert(trials).returning(trials.c.trial_id, sort_by_parameter_order=True)
        new_ids = target.scalars(inserted, [row | {"study_id": study_id} for row in rows])
        trial_ids.update(zip(old_ids, new_ids, strict=True))
    for table in _BELONGINGS:
        query = select(table)
        if "trial_id" in table.c:
            query = query.join(trials)
        of = table if "study_id" in table.c else trials
        if table is models.StudyUserAttributeModel.__table__:
            # Two databases must not share a place for checkpoints: their ids collide.
            query = query.where(table.c.key != CHECKPOINTS)
        for rows in before.read(query.where(of.c.study_id == old_id)):
            target.execute(insert(table), [_moved(table, row, study_id, trial_ids) for row in rows])
    return Copied(
        name, len(trial_ids), *_copy_checkpoints(before, target, old_id, study_id, trial_ids)
    )


def _moved(
    table: Table, row: dict[str, Any], study_id: int, trial_ids: Mapping[int, int]
) -> dict[str, Any]:
    """A row with the target's ids; the target's database assigns its own key."""
    moved = {key: value for key, value in row.items() if key not in table.primary_key.c}
    if "study_id" in moved:
        moved["study_id"] = study_id
    if "trial_id" in moved:
        moved["trial_id"] = trial_ids[moved["trial_id"]]
    if key := _TRIALS_KEY.fullmatch(moved.get("key", "")):
        start, trial_id, end = key.groups()
        moved["key"] = f"{start}{trial_ids.get(int(trial_id), trial_id)}{end}"
    return moved


def _copy_checkpoints(
    before: Snapshot, target: Connection, old_id: int, study_id: int, trial_ids: Mapping[int, int]
) -> tuple[int, int]:
    """How many were copied, and how many couldn't be read."""
    copied = lost = 0
    if not before.has(checkpoints):
        return copied, lost
    query = (
        select(checkpoints)
        .join(trials)
        .where(trials.c.study_id == old_id, trials.c.state == TrialState.RUNNING)
    )
    for rows in before.read(query, CONTENTS):
        for row in rows:
            content = row["content"]
            if content is None:
                content = before.contents.get(row["name"])
            if content is None:
                lost += 1
                continue
            copied += 1
            own = {
                "trial_id": trial_ids[row["trial_id"]],
                "name": f"{study_id}/{row['name'].rpartition('/')[2]}",
                "content": content,
            }
            target.execute(insert(checkpoints), [row | own])
    return copied, lost

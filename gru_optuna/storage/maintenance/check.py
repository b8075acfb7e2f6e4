"""Checks that a database holds what it should, while workers keep using it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState
from sqlalchemy import ColumnElement, Table, case, delete, func, select
from sqlalchemy.exc import DatabaseError

from gru_optuna.checkpoints.checkpoint import DamagedCheckpoint, digest
from gru_optuna.checkpoints.names import UPLOADS, is_checkpoint
from gru_optuna.checkpoints.stores import Folder, open_store
from gru_optuna.errors import StorageError
from gru_optuna.storage.database import schema
from gru_optuna.storage.database.open import existing
from gru_optuna.storage.database.tables import (
    checkpoints,
    jobs,
    leases,
    metadata,
    studies,
    submissions,
    trials,
    upload_files,
    upload_parts,
    uploads,
    workers,
)
from gru_optuna.storage.database.triggers import missing_triggers
from gru_optuna.storage.maintenance.checkpoint_stores import study_stores
from gru_optuna.storage.paused_trials import row_is_paused
from gru_optuna.storage.upload_places import list_contents, list_places
from gru_optuna.storage.uploads import missing_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Row

    from gru_optuna.checkpoints.stores import ContentStore
    from gru_optuna.storage.database.backend import Database
    from gru_optuna.storage.upload_places import StoredContent

ORPHANED_SECONDS = 60.0
"""A worker writes a checkpoint's file before its row, so a younger file may still get one."""

STALE_SECONDS = 3600.0
"""No write takes this long, so the process that began it is dead."""

_SHOWN = 5
"""Problems of one kind that are listed; the others are counted."""

_OVER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_FINISHED = select(trials.c.trial_id).where(trials.c.state.in_(_OVER))
_ROWS_OF_FINISHED: dict[Table, ColumnElement[bool]] = {
    leases: leases.c.trial_id.in_(_FINISHED),
    # The weights of a confirmation's runs, whose epochs are negative, are wanted while it goes on.
    checkpoints: checkpoints.c.trial_id.in_(_FINISHED)
    & (
        (checkpoints.c.epoch >= 0)
        | checkpoints.c.trial_id.not_in(
            select(trials.c.trial_id).where(trials.c.study_id.in_(select(workers.c.study_id)))
        )
    ),
}
# Left by a program that deleted a study without knowing our tables.
_ROWS_OF_NOBODY: dict[Table, ColumnElement[bool]] = {
    leases: leases.c.trial_id.not_in(select(trials.c.trial_id)),
    checkpoints: checkpoints.c.trial_id.not_in(select(trials.c.trial_id)),
    workers: workers.c.study_id.not_in(select(studies.c.study_id)),
    jobs: jobs.c.study.not_in(select(submissions.c.name))
    & jobs.c.study.not_in(select(studies.c.study_name)),
    upload_parts: upload_parts.c.sha256.not_in(select(uploads.c.sha256)),
    upload_files: upload_files.c.sha256.not_in(select(uploads.c.sha256)),
}


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check."""

    subject: str
    problems: tuple[str, ...]
    summary: str
    """What holds, in a few words, if there is no problem."""
    removable: bool = False
    """Whether `clean` removes what the problems name."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def detail(self) -> str:
        """The outcome in one line."""
        if self.ok:
            return self.summary
        more = len(self.problems) - _SHOWN
        shown = [*self.problems[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        return "; ".join(shown)


@dataclass(frozen=True)
class Removed:
    """What `clean` removed."""

    rows: int
    files: int


@dataclass(frozen=True)
class _Files:
    """Files in one place of checkpoints or uploads."""

    store: ContentStore
    sizes: Mapping[str, int]
    old: tuple[str, ...]
    """The names of files too old to be still in progress."""
    refused: StorageError | None = None
    """Why the place isn't touched."""


def check(url: str) -> list[CheckResult]:
    """Makes all checks, and changes nothing.

    Raises
    ------
    StorageError
        If there is no database of ours.
    """
    database = existing(url)
    with database.plain_errors(), database.passing_engine().connect() as connection:
        return list(_findings(database, connection))


def clean(url: str) -> Removed:
    """Removes our own rows and files that no trial and no study needs, and nothing else.

    Raises
    ------
    StorageError
        If there is no database of ours in its newest form, it can't be written, or checkpoints are
        kept in a place that isn't known to be ours. Then nothing is removed.
    """
    database = existing(url)
    rows = 0
    with database.plain_errors(), database.passing_engine().begin() as connection:
        schema.refuse_other_revisions(str(database), connection)
        stores = study_stores(connection, database.checkpoint_folder, database.owner())
        files = [*_files(database, stores), *_upload_files(database, connection).values()]
        for table, orphaned in [*_ROWS_OF_NOBODY.items(), *_ROWS_OF_FINISHED.items()]:
            rows += connection.execute(delete(table).where(orphaned)).rowcount
        for lying in files:
            if lying.refused is not None:
                raise lying.refused
        orphans = [(lying.store, name) for lying in files for name in _in_no_row(connection, lying)]
    for store, name in orphans:
        store.remove(name)
    return Removed(rows, len(orphans))


def _findings(database: Database, connection: Connection) -> Iterator[CheckResult]:
    if connection.dialect.name == "sqlite":
        integrity = _integrity(connection)
        yield integrity
        if not integrity.ok:
            return  # a damaged file can't be trusted with the other checks
        yield _references(connection)
    found, wanted = schema.stored(connection), schema.newest()
    yield _revisions(connection, found, wanted)
    if found.optuna != wanted.optuna:
        return
    yield _trial_numbers(connection)
    if found.ours != wanted.ours:
        return
    yield _running(connection)
    yield _rows(connection, "rows of finished trials", _ROWS_OF_FINISHED)
    yield _rows(connection, "orphaned rows", _ROWS_OF_NOBODY)
    # Before the rows are read, so that a file that gets its row meanwhile isn't an orphan.
    stores = study_stores(connection, database.checkpoint_folder, database.owner())
    files = _files(database, stores)
    yield _contents(connection, stores)
    kept = _upload_files(database, connection)
    yield _orphans(connection, [*files, *kept.values()])
    yield _uploads(connection, kept)


def _uploads(connection: Connection, kept: Mapping[str, _Files]) -> CheckResult:
    count = connection.scalar(select(func.count()).select_from(uploads))
    problems = [f"{name} lacks a part of its content" for name in missing_parts(connection)]
    contents = list_contents(connection)
    for upload in connection.execute(select(uploads).order_by(uploads.c.name)):
        content = contents.get(upload.sha256)
        if content is not None:
            files = kept.get(content.where)
            if files is None or files.refused is not None:
                problems.append(f"{upload.name} can't be read in {content.where}")
            elif files.sizes.get(content.name) != upload.bytes and _still_lacks(
                connection, files.store, content, upload
            ):
                problems.append(f"{upload.name} lacks its content in {content.where}")
    return CheckResult("uploads", tuple(problems), f"{count}, all complete")


def _still_lacks(
    connection: Connection, store: ContentStore, content: StoredContent, upload: Row[Any]
) -> bool:
    """Whether a content is missing at a second look; others may have stored or removed it."""
    file = store.files(content.name).get(content.name)
    if file is not None and file.bytes == upload.bytes:
        return False
    return list_contents(connection, upload.sha256).get(upload.sha256) == content


def _upload_files(database: Database, connection: Connection) -> dict[str, _Files]:
    """The uploads that lie in each place."""
    return {
        where: _lying_in(open_store(where, database.owner()), uploads=True)
        for where in list_places(connection)
    }


def _integrity(connection: Connection) -> CheckResult:
    try:
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    except DatabaseError as error:  # too damaged to be looked at
        found = [str(error.orig)]
    problems = () if found == ["ok"] else tuple(" ".join(str(line).split()) for line in found)
    return CheckResult("file", problems, "whole")


def _references(connection: Connection) -> CheckResult:
    broken = Counter(
        (table, parent)
        for table, _, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check")
        if table not in metadata.tables  # `_rows` checks ours
    )
    problems = [
        f"{count} in {table} without a row in {parent}" for (table, parent), count in broken.items()
    ]
    return CheckResult("references", tuple(problems), "every row of Optuna's tables has its owner")


def _revisions(
    connection: Connection, found: schema.Revisions, wanted: schema.Revisions
) -> CheckResult:
    problems = []
    if found == wanted and (missing := missing_triggers(connection)):
        problems = [
            f"workers don't notice all changes of {', '.join(missing)}: triggers are missing. Run "
            f"gru-optuna storage upgrade."
        ]
    if found != wanted:
        problems = [f"{found}, while this version uses {wanted}. Run gru-optuna storage upgrade."]
    return CheckResult("tables", tuple(problems), str(found))


def _trial_numbers(connection: Connection) -> CheckResult:
    number = trials.c.number
    numbered = connection.execute(
        select(
            studies.c.study_name,
            func.count().label("trials"),
            func.count(number.distinct()).label("different"),
            func.min(number).label("first"),
            func.max(number).label("last"),
        )
        .join(trials, trials.c.study_id == studies.c.study_id)
        .group_by(studies.c.study_name)
        .order_by(studies.c.study_name)
    ).all()
    problems = [
        f"{row.study_name} has {row.trials} trials, with {row.different} different numbers "
        f"from {row.first} to {row.last}"
        for row in numbered
        if (row.first, row.last, row.different) != (0, row.trials - 1, row.trials)
    ]
    total = sum(row.trials for row in numbered)
    return CheckResult("trial numbers", tuple(problems), f"without gaps, {total} in all")


def _running(connection: Connection) -> CheckResult:
    running = connection.execute(
        select(
            func.count(),
            func.count(workers.c.worker_id),
            func.coalesce(func.sum(case((row_is_paused(), 1), else_=0)), 0),
        )
        .select_from(trials)
        .outerjoin(leases, leases.c.trial_id == trials.c.trial_id)
        .outerjoin(workers, workers.c.worker_id == leases.c.worker_id)
        .where(trials.c.state == TrialState.RUNNING)
    ).one()
    total, held, paused = running
    parts = [f"{held} held by workers", f"{total - held - paused} to be adopted"]
    parts += [f"{paused} paused"] if paused else []
    summary = f"{total}: {', '.join(parts)}" if total else "none"
    return CheckResult("running trials", (), summary)


def _rows(
    connection: Connection, subject: str, conditions: Mapping[Table, ColumnElement[bool]]
) -> CheckResult:
    problems = []
    for table, orphaned in conditions.items():
        count = connection.scalar(select(func.count()).select_from(table).where(orphaned))
        if count:
            problems.append(f"{count} in {table.name}")
    return CheckResult(subject, tuple(problems), "none", removable=True)


def _contents(connection: Connection, stores: Mapping[int, ContentStore | None]) -> CheckResult:
    query = (
        select(
            checkpoints.c.trial_id,
            checkpoints.c.epoch,
            studies.c.study_id,
            studies.c.study_name,
            trials.c.number,
        )
        .join(trials, trials.c.trial_id == checkpoints.c.trial_id)
        .join(studies, studies.c.study_id == trials.c.study_id)
        .where(trials.c.state.not_in(_OVER))
        .order_by(studies.c.study_name, trials.c.number, checkpoints.c.epoch)
    )
    found = connection.execute(query).all()
    problems = []
    refused: Counter[str] = Counter()  # all checkpoints of a place have the same reason
    for row in found:
        try:
            wrong = _wrong(connection, stores[row.study_id], row.trial_id, row.epoch)
        except StorageError as error:
            refused[str(error)] += 1
        else:
            if wrong:
                problems.append(f"{row.study_name}, trial {row.number}, epoch {row.epoch}: {wrong}")
    unread = [f"{count} can't be read: {reason}" for reason, count in refused.items()]
    return CheckResult("checkpoints", (*unread, *problems), f"{len(found)}, all intact")


def _wrong(connection: Connection, store: ContentStore | None, trial_id: int, epoch: int) -> str:
    """The fault of a checkpoint; empty if there is none, or its worker has just replaced it.

    Raises
    ------
    StorageError
        If its place can't be read.
    """
    same = (checkpoints.c.trial_id == trial_id) & (checkpoints.c.epoch == epoch)
    row = connection.execute(select(checkpoints).where(same)).one_or_none()
    if row is None:
        return ""
    try:
        content = row.content
        if content is None and store is not None:
            content = store.read(row.name)
        if content is None:
            wrong = "its content is missing"
        else:
            wrong = "" if digest(content) == row.sha256 else "its content has changed"
    except DamagedCheckpoint:
        wrong = f"{row.name} is missing"
    if not wrong:
        return ""
    again = connection.execute(select(checkpoints.c.name).where(same)).scalar_one_or_none()
    return wrong if again == row.name else ""


def _files(database: Database, stores: Mapping[int, ContentStore | None]) -> list[_Files]:
    """The files in all folders; whether an object in S3 is still being written is unknown."""
    folders = {store.folder: store for store in stores.values() if isinstance(store, Folder)}
    if (default := database.checkpoint_folder) is not None:
        folders[default] = Folder(default, default=True, owner=database.owner())
    return [_lying_in(store) for _, store in sorted(folders.items())]


def _lying_in(store: ContentStore, *, uploads: bool = False) -> _Files:
    try:
        store.refuse_others()
        found = {
            name: file
            for name, file in store.files(unfinished=True).items()
            if name.startswith(UPLOADS) == uploads
        }
    except StorageError as error:
        return _Files(store, {}, (), error)
    now = time.time()
    old = sorted(
        name
        for name, file in found.items()
        if now - file.modified > (ORPHANED_SECONDS if is_checkpoint(name) else STALE_SECONDS)
    )
    return _Files(store, {name: file.bytes for name, file in found.items()}, tuple(old))


def _orphans(connection: Connection, files: Sequence[_Files]) -> CheckResult:
    refused = [str(lying.refused) for lying in files if lying.refused is not None]
    orphans = [name for lying in files for name in _in_no_row(connection, lying)]
    return CheckResult("orphaned files", (*refused, *orphans), "none", removable=bool(orphans))


def _in_no_row(connection: Connection, files: _Files) -> list[str]:
    known = set(connection.scalars(select(checkpoints.c.name)))
    known |= {content.name for content in list_contents(connection).values()}
    return [name for name in files.old if name not in known]

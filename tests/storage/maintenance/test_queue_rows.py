"""The queue's rows in backups, copies and checks."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from helpers.storage_rows import checked

from gru_optuna.errors import StudyError
from gru_optuna.storage import jobs, uploads
from gru_optuna.storage.database.open import locate, open_engine, open_storage
from gru_optuna.storage.maintenance.backup import backup
from gru_optuna.storage.maintenance.check import clean
from gru_optuna.storage.maintenance.copy import copy_studies
from gru_optuna.study import submissions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

ROWS = b"text,label\ngood,1\nbad,0\n"
TOML = 'name = "{}"\n[data]\ntrain = "{}"\ntext = "text"\nlabel = "label"\n'


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database of each kind with two submissions, their data, another file and a running job."""
    engine = open_engine(database_url)
    path = uploads.put(engine, "reviews.csv", io.BytesIO(ROWS)).path
    uploads.put(engine, "unused.csv", io.BytesIO(b"unused"))
    for name in ("first", "second"):
        submissions.submit(engine, TOML.format(name, path), by="ann")
    jobs.create(engine, "first", "export", {})
    jobs.claim(engine, 7)
    yield engine
    engine.dispose()


def content(url: str) -> tuple[list[str], list[str], list[str]]:
    """The names of submissions and uploads, and the states of jobs, with their contents read."""
    engine = open_engine(url)
    try:
        for upload in uploads.list_all(engine):
            assert len(b"".join(uploads.read(engine, upload.sha256))) == upload.bytes
        return (
            [study.name for study in submissions.list_all(engine)],
            sorted(upload.name for upload in uploads.list_all(engine)),
            [job.state for job in jobs.list_all(engine)],
        )
    finally:
        engine.dispose()


def test_a_backup_holds_the_queue(engine: Engine, database_url: str, tmp_path: Path) -> None:
    backup(database_url, tmp_path / "backup.db")
    found = content(f"sqlite:///{tmp_path / 'backup.db'}")
    # Nobody does the job in the copy, so its workers do it from the beginning.
    assert found == (["first", "second"], ["reviews.csv", "unused.csv"], ["waiting"])


def test_a_copy_holds_submissions_and_their_data(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    target = f"sqlite:///{tmp_path / 'copy.db'}"
    copy_studies(database_url, target)
    assert content(target) == (["first", "second"], ["reviews.csv"], [])
    with pytest.raises(StudyError, match='already has a study "first"'):
        copy_studies(database_url, target)


def test_a_check_finds_what_is_incomplete_and_what_nobody_needs(
    engine: Engine, database_url: str
) -> None:
    assert checked(database_url, code=0) == {}
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM gru_optuna_submissions WHERE name = 'first'")
        connection.exec_driver_sql("UPDATE gru_optuna_uploads SET bytes = 7 WHERE name LIKE 'un%%'")
    assert checked(database_url) == {
        "orphaned rows": "1 in gru_optuna_jobs",
        "uploads": "unused.csv lacks a part of its content",
    }
    clean(database_url)
    assert checked(database_url).keys() == {"uploads"}


def test_a_database_without_a_queue_is_backed_up(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    open_storage(url, create=True)
    with closing(sqlite3.connect(locate(url).path)) as connection:  # type: ignore[union-attr]
        for name in (
            "upload_files", "upload_places", "upload_parts", "uploads", "submissions", "jobs",
            "queue_workers", "tokens",
        ):  # fmt: skip
            connection.execute(f"DROP TABLE gru_optuna_{name}")
        connection.execute("UPDATE gru_optuna_alembic_version SET version_num = '0002'")
        connection.commit()
    assert backup(url, tmp_path / "backup.db") == (0, [])
    open_storage(f"sqlite:///{tmp_path / 'backup.db'}", create=True)
    assert content(f"sqlite:///{tmp_path / 'backup.db'}") == ([], [], [])

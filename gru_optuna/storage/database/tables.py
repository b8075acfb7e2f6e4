"""Our own tables in Optuna's database: what training needs, and what the queue needs.

Optuna's tables stay as Optuna and optuna-dashboard know them; these hold what they have no place
for: workers, leases, checkpoints and changes of studies that are trained; uploads, submissions,
jobs, tokens and workers of the queue, which ``study/submissions.py`` describes. ``migrations/``
creates and changes them, and a test compares its result with this file.
"""

from __future__ import annotations

from optuna.storages._rdb import models
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from gru_optuna.errors import StorageError

studies = models.StudyModel.__table__
trials = models.TrialModel.__table__
study_attributes = models.StudyUserAttributeModel.__table__
reports = models.TrialIntermediateValueModel.__table__

metadata = MetaData()

workers = Table(
    "gru_optuna_workers",
    metadata,
    Column("worker_id", Integer, primary_key=True),
    Column(
        "study_id",
        ForeignKey(studies.c.study_id, ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("host", String(255), nullable=False),
    Column("process", Integer, nullable=False),
    Column("device", String(64), nullable=False),
    Column("slots", Integer, nullable=False),
    Column("epochs_per_second", Float, nullable=False, default=0.0),
    # While this number changes, the worker lives: the others compare no clocks.
    Column("beats", Integer, nullable=False, default=0),
    Column("started_at", DateTime, nullable=False),  # UTC, for people
    Column("beaten_at", DateTime, nullable=False),  # UTC, for people
    # Never reuse an id: a dead worker's lease would seem to belong to a living one.
    sqlite_autoincrement=True,
)
"""The workers of each study, until they leave or are found dead."""

leases = Table(
    "gru_optuna_leases",
    metadata,
    Column(
        "trial_id",
        ForeignKey(trials.c.trial_id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column(
        "study_id",
        ForeignKey(studies.c.study_id, ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    # No foreign key: the id of a worker that was removed stays, and says that the holder is dead.
    Column("worker_id", Integer),  # null: released
    # A fencing token: it rises with every new holder, and only the newest holder may write.
    Column("token", Integer, nullable=False),
    # Holders that died in a row without finishing an epoch: a trial can kill its process.
    Column("deaths", Integer, nullable=False, default=0),
)
"""Which worker trains each running trial."""

checkpoints = Table(
    "gru_optuna_checkpoints",
    metadata,
    Column(
        "trial_id",
        ForeignKey(trials.c.trial_id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("epoch", Integer, primary_key=True, autoincrement=False),  # epochs trained
    Column("name", String(255), nullable=False),  # in the store
    Column("sha256", String(64), nullable=False),  # of the content, in hexadecimal
    Column("content", LargeBinary),  # null: the store has it
)
"""What running trials continue from. A file in a store counts only if a row names it."""

changes = Table(
    "gru_optuna_changes",
    metadata,
    # SQLite: a trial that changes gets a new row, and numbers are never used again.
    Column("change", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column(
        "trial_id",
        ForeignKey(trials.c.trial_id, ondelete="CASCADE"),
        nullable=False,
        unique=True,
    ),
    Column("study_id", ForeignKey(studies.c.study_id, ondelete="CASCADE"), nullable=False),
    # PostgreSQL: the transaction that changed the trial last.
    Column("xid", BigInteger),
    Index("ix_gru_optuna_changes_study_id", "study_id", "xid"),
    sqlite_autoincrement=True,
)
"""Which trials have changed, and when, in the order of transactions. ``triggers.py`` fills it. A
trial that hasn't changed since version 0.1 has no row."""

uploads = Table(
    "gru_optuna_uploads",
    metadata,
    Column("sha256", String(64), primary_key=True),  # of the content, in hexadecimal
    Column("name", String(255), nullable=False),  # of the file, without a folder
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", DateTime, nullable=False),  # UTC, as all times here
)
"""Files that studies read and files that jobs made, by their content."""

upload_parts = Table(
    "gru_optuna_upload_parts",
    metadata,
    Column("sha256", ForeignKey(uploads.c.sha256, ondelete="CASCADE"), primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),  # from 0
    Column("content", LargeBinary, nullable=False),
)
"""The contents of uploads, in pieces: no process ever holds a whole file in memory."""

upload_places = Table(
    "gru_optuna_upload_places",
    metadata,
    Column("place_id", Integer, primary_key=True),
    Column("place", Text),  # a folder or s3://BUCKET/PREFIX; null: `upload_parts`
    sqlite_autoincrement=True,
)
"""Where contents have been kept. New ones go to the newest place, or to `upload_parts`."""

upload_files = Table(
    "gru_optuna_upload_files",
    metadata,
    Column("sha256", ForeignKey(uploads.c.sha256, ondelete="CASCADE"), primary_key=True),
    Column("place_id", ForeignKey(upload_places.c.place_id), nullable=False),
    # Part of the file's name, so that a late removal never hits the same content stored again.
    Column("token", String(8), nullable=False),
)
"""Uploads whose contents lie in a place, and not in `upload_parts`."""

submissions = Table(
    "gru_optuna_submissions",
    metadata,
    # Not the id of Optuna's study, which a worker creates once it has read the data.
    Column("name", String(512), primary_key=True),
    Column("toml", Text, nullable=False),  # the study file
    Column("data", JSON, nullable=False),  # the sha256 of the upload, by the file's path there
    Column("state", String(16), nullable=False),  # what is wanted: queued, suspended, cancelled
    Column("budget", JSON(none_as_null=True)),  # null: the study file's
    Column("error", Text),  # why it failed
    Column("submitted_at", DateTime, nullable=False),
    Column("submitted_by", String(255)),
    Column("idempotency_key", String(255), unique=True),
    Column("body_sha256", String(64), nullable=False),  # of what was submitted under the key
    Column("version", Integer, nullable=False),  # rises with every change
)
"""Studies that were submitted to the queue, and what is wanted of them."""

queue_workers = Table(
    "gru_optuna_queue_workers",
    metadata,
    Column("worker_id", Integer, primary_key=True),
    Column("host", String(255), nullable=False),
    Column("process", Integer, nullable=False),
    Column("device", String(64), nullable=False),
    Column("study", String(512)),  # its name; null: idle, or at a job
    Column("beats", Integer, nullable=False, default=0),  # as of `workers`
    Column("started_at", DateTime, nullable=False),
    Column("beaten_at", DateTime, nullable=False),
    sqlite_autoincrement=True,  # as of `workers`
)
"""The workers that work on every study, and on which one each of them works now."""

jobs = Table(
    "gru_optuna_jobs",
    metadata,
    Column("job_id", Integer, primary_key=True),
    Column("study", String(512), nullable=False, index=True),  # its name
    Column("kind", String(16), nullable=False),  # confirm, export, predict
    Column("request", JSON, nullable=False),
    Column("state", String(16), nullable=False),  # waiting, running, done, failed
    Column("worker_id", Integer),  # of `queue_workers`; null: nobody
    Column("token", Integer, nullable=False, default=0),  # a fencing token, as of `leases`
    Column("deaths", Integer, nullable=False, default=0),  # workers that died at it
    Column("result", JSON(none_as_null=True)),
    Column("sha256", String(64)),  # of the upload that holds the file that it made
    Column("error", Text),
    Column("created_at", DateTime, nullable=False),
    Column("ended_at", DateTime),
    sqlite_autoincrement=True,
)
"""Work besides the search, which one worker does at a time."""

tokens = Table(
    "gru_optuna_tokens",
    metadata,
    Column("token_id", Integer, primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("role", String(16), nullable=False),  # viewer, editor, administrator
    Column("sha256", String(64), nullable=False, unique=True),  # of the token, which isn't stored
    Column("created_at", DateTime, nullable=False),
    Column("expires_at", DateTime),  # null: never
    Column("last_used_at", DateTime),
    sqlite_autoincrement=True,
)
"""Who may use the service."""

VERSION_TABLE = "gru_optuna_alembic_version"
OPTUNAS_VERSION_TABLE = "alembic_version"
_OPTUNAS_TABLES = {*models.BaseModel.metadata.tables, OPTUNAS_VERSION_TABLE}
_OUR_TABLES = {*metadata.tables, VERSION_TABLE}


def refuse_strangers(where: str, names: set[str]) -> None:
    """Refuses a file that holds tables of another program.

    Raises
    ------
    StorageError
        If it does.
    """
    if not names <= _OPTUNAS_TABLES | _OUR_TABLES:
        raise _another_program(where, names)


def refuse_collisions(where: str, names: set[str]) -> None:
    """Refuses a database where another program's tables have the names of Optuna's.

    Other tables are no obstacle: a database on a server is often shared, and its extensions have
    tables of their own.

    Raises
    ------
    StorageError
        If there are such tables.
    """
    if names & _OPTUNAS_TABLES and not {"studies", "trials", "version_info"} <= names:
        raise _another_program(where, names)


def _another_program(where: str, names: set[str]) -> StorageError:
    listed = ", ".join(sorted(names)[:4])
    return StorageError(
        f"{where}: a database of another program (with the tables {listed}). Name another one."
    )

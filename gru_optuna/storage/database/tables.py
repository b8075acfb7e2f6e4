"""Our own tables in Optuna's database: workers, leases, checkpoints and changes.

Optuna's tables stay as Optuna and optuna-dashboard know them; these four hold what they have no
place for. ``migrations/`` creates and changes them, and a test compares its result with this
file.
"""

from __future__ import annotations

from optuna.storages._rdb import models
from sqlalchemy import (
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
)

from gru_optuna.errors import StorageError

studies = models.StudyModel.__table__
trials = models.TrialModel.__table__

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

VERSION_TABLE = "gru_optuna_alembic_version"
OPTUNAS_VERSION_TABLE = "alembic_version"
_OPTUNAS_TABLES = {*models.BaseModel.metadata.tables, OPTUNAS_VERSION_TABLE}
_OUR_TABLES = {*metadata.tables, VERSION_TABLE}


def refuse_strangers(where: str, names: set[str]) -> None:
    """Refuses a file that holds tables of another program."""
    if not names <= _OPTUNAS_TABLES | _OUR_TABLES:
        raise _another_program(where, names)


def refuse_collisions(where: str, names: set[str]) -> None:
    """Refuses a database where another program's tables have the names of Optuna's.

    Other tables are no obstacle: a database on a server is often shared, and its extensions have
    tables of their own.
    """
    if names & _OPTUNAS_TABLES and not {"studies", "trials", "version_info"} <= names:
        raise _another_program(where, names)


def _another_program(where: str, names: set[str]) -> StorageError:
    listed = ", ".join(sorted(names)[:4])
    return StorageError(
        f"{where}: a database of another program (with the tables {listed}). Name another one."
    )

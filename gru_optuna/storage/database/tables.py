"""Our own tables beside Optuna's, in the same database: who works, who holds what, how far.

Optuna's tables stay as Optuna and optuna-dashboard know them. What they have no place for
stands here: workers, leases, checkpoints. ``migrations/`` makes and changes these tables; a test
compares what it makes with what stands here.
"""

from __future__ import annotations

from optuna.storages._rdb import models
from sqlalchemy import (
    Column,
    DateTime,
    Float,
    ForeignKey,
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
    # Others watch this number: while it changes, the worker lives. No clock is compared.
    Column("beats", Integer, nullable=False, default=0),
    Column("started_at", DateTime, nullable=False),  # UTC, for people
    Column("beaten_at", DateTime, nullable=False),  # UTC, for people
    # A worker's number is never given again, or a lease of a dead one could seem alive.
    sqlite_autoincrement=True,
)
"""The workers of a study, from their first moment to their last, or until they are found dead."""

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
    # No foreign key: a holder that died and was removed is a holder that is not alive.
    Column("worker_id", Integer),  # null: given back
    # Fencing: one more with every new holder, and only the newest may write.
    Column("token", Integer, nullable=False),
    # Holders in a row that died before they came an epoch further: a trial can kill a process.
    Column("deaths", Integer, nullable=False, default=0),
)
"""Who trains a running trial."""

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
    Column("sha256", String(64), nullable=False),  # of the whole content, in hexadecimal
    Column("content", LargeBinary),  # null: the store has it
)
"""What a running trial goes on from. A file in the store that stands in no row counts nothing."""

VERSION_TABLE = "gru_optuna_alembic_version"
_OPTUNAS_VERSION_TABLE = "alembic_version"
_OPTUNAS_TABLES = {*models.BaseModel.metadata.tables, _OPTUNAS_VERSION_TABLE}
_OUR_TABLES = {*metadata.tables, VERSION_TABLE}


def refuse_strangers(where: str, names: set[str]) -> None:
    """Refuses a file that holds any tables of another program."""
    if not names <= _OPTUNAS_TABLES | _OUR_TABLES:
        raise _something_else(where, names)


def refuse_collisions(where: str, names: set[str]) -> None:
    """Refuses a database where another program's tables have the names of Optuna's.

    Others may stand beside ours: a server's database is often shared, and its extensions make
    tables of their own.
    """
    if names & _OPTUNAS_TABLES and not {"studies", "trials", "version_info"} <= names:
        raise _something_else(where, names)


def _something_else(where: str, names: set[str]) -> StorageError:
    listed = ", ".join(sorted(names)[:4])
    return StorageError(
        f"{where}: a database of something else (it has the tables {listed}). Name another one."
    )

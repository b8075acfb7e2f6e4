"""Which trials have changed, whoever changed them; indexes for what is asked again and again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gru_optuna.storage.database.triggers import create_triggers

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the table, the triggers that fill it, and two indexes on Optuna's trials."""
    op.create_table(
        "gru_optuna_changes",
        sa.Column("change", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column(
            "trial_id",
            sa.Integer,
            sa.ForeignKey("trials.trial_id", ondelete="CASCADE"),
            nullable=False,
            unique=True,
        ),
        sa.Column(
            "study_id",
            sa.Integer,
            sa.ForeignKey("studies.study_id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("xid", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_gru_optuna_changes_study_id", "gru_optuna_changes", ["study_id", "xid"])
    op.create_index("ix_gru_optuna_trials_state", "trials", ["study_id", "state", "number"])
    op.create_index("ix_gru_optuna_trials_number", "trials", ["study_id", "number"])
    create_triggers(op.get_bind())

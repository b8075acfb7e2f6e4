"""Uploads in a folder or in S3: the places, and which contents lie there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes the two tables."""
    op.create_table(
        "gru_optuna_upload_places",
        sa.Column("place_id", sa.Integer, primary_key=True),
        sa.Column("place", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "gru_optuna_upload_files",
        sa.Column(
            "sha256",
            sa.String(64),
            sa.ForeignKey("gru_optuna_uploads.sha256", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column(
            "place_id",
            sa.Integer,
            sa.ForeignKey("gru_optuna_upload_places.place_id"),
            nullable=False,
        ),
        sa.Column("token", sa.String(8), nullable=False),
    )

"""A database of either kind."""

from __future__ import annotations

from typing import TypeAlias

from gru_optuna.storage.database.postgresql import PostgreSQL
from gru_optuna.storage.database.sqlite import SQLite

Database: TypeAlias = SQLite | PostgreSQL

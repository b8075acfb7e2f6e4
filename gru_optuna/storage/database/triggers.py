"""Triggers that record which trials have changed, whichever program changed them.

Plain Optuna and optuna-dashboard write to the same tables and know nothing of ours, so the
database itself takes note. The rest of the table's description is in ``tables.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

_WATCHED = (
    "trials",
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_user_attributes",
    "trial_system_attributes",
)
"""Optuna's tables whose rows make up a trial."""

_SQLITE = """
CREATE TRIGGER IF NOT EXISTS gru_optuna_{table}_{event} AFTER {event} ON {table}
BEGIN
    DELETE FROM gru_optuna_changes WHERE trial_id = NEW.trial_id;
    INSERT INTO gru_optuna_changes (trial_id, study_id)
    SELECT trial_id, study_id FROM trials WHERE trial_id = NEW.trial_id;
END
"""

# One row for each trial, which a transaction changes once, however much it writes.
_FUNCTION = """
CREATE OR REPLACE FUNCTION gru_optuna_note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO gru_optuna_changes (trial_id, study_id, xid)
    SELECT trial_id, study_id, txid_current() FROM trials WHERE trial_id = NEW.trial_id
    ON CONFLICT (trial_id) DO UPDATE SET xid = excluded.xid
    WHERE gru_optuna_changes.xid IS DISTINCT FROM excluded.xid;
    RETURN NULL;
END
$$
"""

_POSTGRESQL = """
CREATE TRIGGER gru_optuna_{table} AFTER INSERT OR UPDATE ON {table}
FOR EACH ROW EXECUTE FUNCTION gru_optuna_note_change()
"""


def create_triggers(connection: Connection) -> None:
    """Creates the triggers that are missing."""
    if connection.dialect.name == "sqlite":
        for table in _WATCHED:
            for event in ("INSERT", "UPDATE"):
                connection.exec_driver_sql(_SQLITE.format(table=table, event=event))
        return
    connection.exec_driver_sql(_FUNCTION)
    for table in _WATCHED:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS gru_optuna_{table} ON {table}")
        connection.exec_driver_sql(_POSTGRESQL.format(table=table))


def missing_triggers(connection: Connection) -> list[str]:
    """Optuna's tables without our triggers; another program may have made them anew."""
    if connection.dialect.name == "sqlite":
        query = "SELECT tbl_name FROM sqlite_master WHERE type = 'trigger' AND name LIKE :ours"
    else:
        query = (
            "SELECT event_object_table FROM information_schema.triggers "
            "WHERE trigger_name LIKE :ours"
        )
    found = connection.scalars(text(query), {"ours": "gru_optuna_%"}).all()
    # On both databases a row for each of the two events.
    return [table for table in _WATCHED if found.count(table) < 2]

"""Which trials have changed since the last look, from the table that triggers fill."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, column, func, select

from gru_optuna.storage.database.tables import changes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection


@dataclass(frozen=True)
class Position:
    """How far the changes of a study have been read.

    Parameters
    ----------
    before
        All changes with a lower number are known. On SQLite, where one transaction writes after
        another, changes are counted. On PostgreSQL a change has the number of its transaction,
        and this is the oldest transaction that was still running: a later one may have ended
        before it.
    known
        Numbers of the last changes that are known all the same, by the trials' ids.
    """

    before: int = 0
    known: Mapping[int, int] = field(default_factory=dict)


def read_position(connection: Connection, study_id: int) -> Position:
    """The position before a study is read: whatever changes meanwhile comes after it."""
    if connection.dialect.name == "postgresql":
        oldest = func.txid_snapshot_xmin(func.txid_current_snapshot())
        return Position(int(connection.scalar(select(oldest)) or 0))
    last = select(func.max(changes.c.change)).where(
        changes.c.study_id == study_id, changes.c.xid.is_(None)
    )
    return Position((connection.scalar(last) or 0) + 1)


def read_changed(
    connection: Connection, study_id: int, since: Position
) -> tuple[list[int], Position]:
    """Ids of the trials that have changed, and the position from which the next look begins.

    The transaction's own changes are among them.
    """
    ours = changes.c.study_id == study_id
    if connection.dialect.name == "postgresql":
        now = select(
            func.txid_snapshot_xmin(column("s", BigInteger)).label("oldest"),
            func.txid_snapshot_xmax(column("s", BigInteger)).label("next"),
        ).select_from(func.txid_current_snapshot().alias("s"))
        limits = now.subquery("limits")
        # A database that was restored on another server holds numbers of that server's
        # transactions, which may be higher than any of this one so far. The transaction's own
        # number, too, is beyond what its snapshot knows.
        own = changes.c.xid == func.txid_current_if_assigned()
        recent = ours & (changes.c.xid >= since.before) & ((changes.c.xid < limits.c.next) | own)
        rows = connection.execute(
            select(limits.c.oldest, changes.c.trial_id, changes.c.xid).select_from(
                limits.outerjoin(changes, recent)
            )
        ).all()
        found = {row.trial_id: row.xid for row in rows if row.trial_id is not None}
        position = Position(int(rows[0].oldest), found)
    else:
        counted = connection.execute(
            select(changes.c.trial_id, changes.c.change).where(
                ours, changes.c.xid.is_(None), changes.c.change >= since.before
            )
        )
        found = {row.trial_id: row.change for row in counted}
        position = Position(max(found.values(), default=since.before - 1) + 1, found)
    return [of for of, number in found.items() if since.known.get(of) != number], position

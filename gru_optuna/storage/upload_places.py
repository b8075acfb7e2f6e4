"""Where the contents of uploads are kept: in the database, in a folder, or in S3.

Every database has one place for new contents, the database itself unless `choose` named another.
Each content says where it lies, so what was stored before a change stays where it is. Places other
than the database are stores with our marker (``checkpoints/stores.py``): one that this machine
doesn't share, that isn't known to be ours, or that belongs to another database, is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import insert, inspect, select

from gru_optuna.checkpoints.locations import own_place
from gru_optuna.checkpoints.names import upload_name
from gru_optuna.checkpoints.stores import Folder, open_store
from gru_optuna.storage.database.open import database_of
from gru_optuna.storage.database.sqlite import SQLite
from gru_optuna.storage.database.tables import upload_files, upload_places

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from gru_optuna.checkpoints.stores import ContentStore

DATABASE = "database"
"""The name of the database itself as a place, for `choose`."""


class UploadPlace(NamedTuple):
    """Where new contents go."""

    place_id: int
    where: str


class StoredContent(NamedTuple):
    """A content outside of the database."""

    where: str
    name: str  # in the place


def choose(engine: Engine, where: str) -> str:
    """Lets new uploads be kept at a place from now on; returns the place.

    Parameters
    ----------
    engine
        The database's.
    where
        A folder or ``s3://BUCKET/PREFIX``, in which this database gets a place of its own, with our
        marker; or `DATABASE`.

    Raises
    ------
    StorageError
        If the place can't be created.
    """
    with engine.connect() as connection:
        before = chosen(connection)
    if where == DATABASE:
        after = None
    else:
        owner = database_of(engine).owner()
        after = own_place(where, "uploads", before.where if before else None, owner)
    if after != (before.where if before else None):
        with engine.begin() as connection:
            connection.execute(insert(upload_places).values(place=after))
    return after or DATABASE


def chosen(connection: Connection) -> UploadPlace | None:
    """Where new contents go; None: into the database."""
    newest = select(upload_places).order_by(upload_places.c.place_id.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return None if row is None or row.place is None else UploadPlace(row.place_id, row.place)


def list_places(connection: Connection) -> list[str]:
    """Every place outside of the database that was ever chosen, with what is kept there."""
    if not inspect(connection).has_table(upload_places.name):  # an older version's database
        return []
    named = select(upload_places.c.place).where(upload_places.c.place.is_not(None))
    return list(connection.scalars(named.distinct().order_by(upload_places.c.place)))


def list_contents(connection: Connection, sha256: str | None = None) -> dict[str, StoredContent]:
    """The contents outside of the database, or one of them, by their SHA-256."""
    if not inspect(connection).has_table(upload_files.name):
        return {}
    query = select(upload_files.c.sha256, upload_files.c.token, upload_places.c.place).join(
        upload_places
    )
    if sha256 is not None:
        query = query.where(upload_files.c.sha256 == sha256)
    return {
        row.sha256: StoredContent(row.place or "", upload_name(row.sha256, row.token))
        for row in connection.execute(query)
    }


def open_to_write(engine: Engine, where: str) -> ContentStore:
    """The store at a place of this database.

    Raises
    ------
    StorageError
        If it can't be used on this machine, isn't known to be ours, or belongs to another database.
    """
    store = open_store(where, database_of(engine).owner())
    store.require_marker()
    return store


def local_folders(engine: Engine) -> list[Path]:
    """The folders of this machine whose disk a new content fills; none for a server's.

    Raises
    ------
    StorageError
        If the place of new contents can't be used.
    """
    with engine.connect() as connection:
        place = chosen(connection)
    if place is None:
        database = database_of(engine)
        return [database.path.parent] if isinstance(database, SQLite) else []
    store = open_to_write(engine, place.where)
    return [store.folder] if isinstance(store, Folder) else []


def require_usable(engine: Engine) -> None:
    """Raises StorageError unless this machine can read and write where new contents go."""
    with engine.connect() as connection:
        place = chosen(connection)
    if place is not None:
        open_to_write(engine, place.where)

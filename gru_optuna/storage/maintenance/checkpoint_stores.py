"""The checkpoint stores of all studies in a database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.storages._rdb import models
from sqlalchemy import select

from gru_optuna.attributes import CHECKPOINTS
from gru_optuna.checkpoints import stores
from gru_optuna.checkpoints.stores import Folder, open_store
from gru_optuna.errors import StorageError
from gru_optuna.storage.database.open import existing
from gru_optuna.storage.mirror.optuna_rows import decoded
from gru_optuna.storage.upload_places import list_places

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from gru_optuna.checkpoints.marker import Owner
    from gru_optuna.checkpoints.stores import ContentStore


def study_stores(
    connection: Connection, default: Path | None, owner: Owner | None = None
) -> Mapping[int, ContentStore | None]:
    """The stores of all studies, by their ids; None: the rows hold the contents.

    Parameters
    ----------
    connection
        To the database.
    default
        Where checkpoints lie of studies without a place of their own.
    owner
        The database; None: to read only.

    Raises
    ------
    StorageError
        If a place can't be used.
    """
    ids = connection.scalars(select(models.StudyModel.study_id)).all()
    places = _places(connection)
    usual = Folder(default, default=True, owner=owner) if default else None
    return {
        study_id: open_store(places[study_id], owner) if study_id in places else usual
        for study_id in ids
    }


def adopt(where: str, url: str, *, required: bool) -> Owner | None:
    """Confirms that a place is ours; returns the database that it belongs to now.

    Parameters
    ----------
    where
        The folder or ``s3://BUCKET/PREFIX``.
    url
        The database that may keep checkpoints or uploads there.
    required
        Whether it has to be this database. Otherwise the place belongs to the first that writes
        there, if this one doesn't name it.

    Raises
    ------
    StorageError
        If there is no such place, or something else lies there; or if this database doesn't name
        it, and `required`.
    """
    place = where.rstrip("/") if "://" in where else str(Path(where).absolute())
    owner = None
    try:
        database = existing(url)
        with database.plain_errors(), database.passing_engine().connect() as connection:
            if place in [*_places(connection).values(), *list_places(connection)]:
                owner = database.owner()
    except StorageError:
        if required:
            raise
    if required and owner is None:
        raise StorageError(f"{existing(url)} keeps nothing in {place}. Check both names.")
    stores.adopt(place, owner)
    return owner


def _places(connection: Connection) -> dict[int, Any]:
    """What the studies with a place of their own name, by their ids; the database isn't trusted."""
    attrs = models.StudyUserAttributeModel
    query = select(attrs.study_id, attrs.value_json).where(attrs.key == CHECKPOINTS)
    rows = connection.execute(query).all()
    values = decoded([row.value_json for row in rows])
    return {row.study_id: value for row, value in zip(rows, values, strict=True)}

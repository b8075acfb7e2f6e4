"""The checkpoint stores of all studies in a database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from optuna.storages._rdb import models
from sqlalchemy import select

from gru_optuna.attributes import CHECKPOINTS
from gru_optuna.checkpoints.stores import Folder, open_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy import Connection

    from gru_optuna.checkpoints.stores import CheckpointStore


def study_stores(
    connection: Connection, default: Path | None
) -> Mapping[int, CheckpointStore | None]:
    """The stores of all studies, by their ids; None: the contents stand in the rows.

    Parameters
    ----------
    connection
        To the database.
    default
        Where checkpoints lie of studies without a place of their own.

    Raises
    ------
    StorageError
        If a place can't be used.
    """
    ids = connection.scalars(select(models.StudyModel.study_id)).all()
    attrs = models.StudyUserAttributeModel
    query = select(attrs.study_id, attrs.value_json).where(attrs.key == CHECKPOINTS)
    places = {row.study_id: json.loads(row.value_json) for row in connection.execute(query)}
    beside = Folder(default, default=True) if default else None
    return {
        study_id: open_store(places[study_id]) if study_id in places else beside for study_id in ids
    }

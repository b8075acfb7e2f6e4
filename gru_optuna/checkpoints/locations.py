"""Where the checkpoints of each study of a database lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from optuna.storages._rdb import models
from sqlalchemy import select

from gru_optuna.checkpoints.stores import Folder, open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from gru_optuna.checkpoints.stores import CheckpointStore

CHECKPOINTS = "checkpoints"
"""User attribute of a study: a folder or ``s3://BUCKET/PREFIX`` of its own. Without it, they lie
beside a SQLite file, or in a PostgreSQL database."""


def own_place(given: str, study: str, before: str | None) -> str:
    """A place below the given one, which no other study and no other database uses.

    Parameters
    ----------
    given
        A folder or ``s3://BUCKET/PREFIX``, which many studies may share.
    study
        The study's name.
    before
        The place that the study has.
    """
    # Workers start in other folders.
    within = given.rstrip("/") if "://" in given else str(Path(given).absolute())
    if before is not None and before.rpartition("/")[0] == within:
        return before
    return f"{within}/{study}-{uuid4().hex[:8]}"


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
    beside = Folder(default) if default else None
    return {
        study_id: open_store(places[study_id]) if study_id in places else beside for study_id in ids
    }

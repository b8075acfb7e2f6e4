"""Where files are kept: below what a user names, in a place for each study, and for uploads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from gru_optuna.checkpoints.stores import open_store

if TYPE_CHECKING:
    from gru_optuna.checkpoints.marker import Owner


def own_place(given: str, name: str, before: str | None, owner: Owner | None = None) -> str:
    """A place below the given one that no other study and no other database uses, and our marker.

    Parameters
    ----------
    given
        A folder or ``s3://BUCKET/PREFIX``; many studies may share it.
    name
        The study's, or what else is kept there.
    before
        The place that is used already; it stays if it lies below the given one, and isn't
        another database's, of which this one is a copy.
    owner
        The database.

    Raises
    ------
    StorageError
        If it can't be created.
    """
    # Absolute, because workers start in other folders.
    within = given.rstrip("/") if "://" in given else str(Path(given).absolute())
    if (
        before is not None
        and before.rpartition("/")[0] == within
        and open_store(before, owner).others() is None
    ):
        return before
    place = f"{within}/{name}-{uuid4().hex[:8]}"
    open_store(place, owner).mark()
    return place

"""Where checkpoints are kept: what a user names, and a place of its own for each study."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from gru_optuna.checkpoints.stores import open_store


def own_place(given: str, study: str, before: str | None) -> str:
    """A place below the given one that no other study and no other database uses, and our marker.

    Parameters
    ----------
    given
        A folder or ``s3://BUCKET/PREFIX``; many studies may share it.
    study
        The study's name.
    before
        The place that the study already has; it stays if it lies below the given one.

    Raises
    ------
    StorageError
        If it can't be created.
    """
    # Absolute, because workers start in other folders.
    within = given.rstrip("/") if "://" in given else str(Path(given).absolute())
    if before is not None and before.rpartition("/")[0] == within:
        return before
    place = f"{within}/{study}-{uuid4().hex[:8]}"
    open_store(place).mark()
    return place

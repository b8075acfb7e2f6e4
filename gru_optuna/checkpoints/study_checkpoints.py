"""The checkpoints of one study, in a store or in rows of the database."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from gru_optuna.checkpoints.checkpoint import Checkpoint, DamagedCheckpoint, Saved, digest
from gru_optuna.checkpoints.names import (
    checkpoint_name,
    is_checkpoint,
    is_run,
    is_unfinished,
    trial_number,
    weights_name,
)
from gru_optuna.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Collection

    from gru_optuna.checkpoints.stores import ContentStore


class StudyCheckpoints:
    """Writes, reads and removes the checkpoints of one study.

    A checkpoint counts from the moment its row is committed, and the row says what its content
    must be. So a store needs no order of its own: what a dead or late worker left there belongs
    to no row, and is removed when its trial ends.

    Parameters
    ----------
    study_id
        The study's id in the database.
    store
        Keeps the contents. None: the rows do, which suits several hosts and small networks.
    """

    def __init__(self, study_id: int, store: ContentStore | None) -> None:
        self._study_id = study_id
        self._store = store

    def put(self, number: int, token: int, checkpoint: Checkpoint) -> Saved:
        """Writes a trial's checkpoint and returns its row, for the caller to commit."""
        epoch = len(checkpoint.state["curve"])
        # With the token: two workers that both think they hold the trial never share a file.
        name = checkpoint_name(self._study_id, number, epoch, token)
        return self._put(epoch, name, checkpoint)

    def put_run(self, number: int, index: int, token: int, weights: Checkpoint) -> Saved:
        """Writes the weights of a confirmation's run and returns their row.

        Its epoch is negative, since the trial of that number is over.
        """
        name = weights_name(self._study_id, number, index, token)
        return self._put(-1 - index, name, weights)

    def _put(self, epoch: int, name: str, checkpoint: Checkpoint) -> Saved:
        content = checkpoint.to_bytes()
        if self._store is None:
            return Saved(epoch, name, digest(content), content)
        self._store.write(name, content)
        return Saved(epoch, name, digest(content))

    def take(self, saved: Saved) -> Checkpoint:
        """Reads a checkpoint back.

        Raises
        ------
        DamagedCheckpoint
            If it is missing, or isn't what was written.
        """
        content = saved.content
        if content is None:
            if self._store is None:
                raise DamagedCheckpoint(f"{saved.name}: its content is not in the database")
            content = self._store.read(saved.name)
        if digest(content) != saved.sha256:
            raise DamagedCheckpoint(f"{saved.name}: its content has changed since it was written")
        return Checkpoint.from_bytes(content)

    def remove(self, names: Collection[str]) -> None:
        """Removes checkpoints of this study that no row names any more."""
        if self._store is None:
            return
        # A file that stays does no harm, and the next sweep removes it.
        with suppress(StorageError):
            for name in names:
                # The names are read from the database, where another program may have changed them.
                if name.startswith(f"{self._study_id}/") and (
                    is_checkpoint(name) or is_unfinished(name)
                ):
                    self._store.remove(name)

    def clear(self, number: int) -> None:
        """Removes all checkpoints of a trial that is over, also those that no row ever named."""
        self.remove(self._names(f"{self._study_id}/{number}-"))

    def sweep(self, over: Collection[int]) -> None:
        """Removes what is left of these finished trials, whose workers died while ending them."""
        names = self._names(f"{self._study_id}/")
        self.remove([name for name in names if trial_number(name) in over and not is_run(name)])

    def sweep_runs(self) -> None:
        """Removes the weights of all runs, once the winner is known."""
        self.remove([name for name in self._names(f"{self._study_id}/") if is_run(name)])

    def _names(self, prefix: str) -> list[str]:
        if self._store is None:
            return []
        with suppress(StorageError):
            return self._store.names(prefix, unfinished=True)
        return []

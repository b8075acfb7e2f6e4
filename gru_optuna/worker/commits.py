"""What a worker commits, and when: reports, endings, checkpoints, claims, heartbeats."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from gru_optuna.attributes import WORKED_SECONDS
from gru_optuna.checkpoints.checkpoint import DamagedCheckpoint
from gru_optuna.errors import GRUOptunaError
from gru_optuna.storage.database.retry import with_retries
from gru_optuna.storage.mirror.mirror import Synced
from gru_optuna.worker.events import CheckpointDamaged, StorageAway, StorageBack

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from contextlib import AbstractContextManager
    from threading import Event

    from gru_optuna.checkpoints.checkpoint import Checkpoint
    from gru_optuna.checkpoints.study_checkpoints import StudyCheckpoints
    from gru_optuna.storage.mirror.mirror import EpochLimit, Mirror, PausedChoice
    from gru_optuna.storage.workers.leases import Claim, Registration
    from gru_optuna.worker.events import WorkerEvent

COMMIT_SHARE = 0.05
"""Share of a worker's time that commits with checkpoints may take. Epochs of milliseconds share a
commit; a longer epoch has its own, so that a worker that dies loses only the epoch in flight."""

COMMIT_SECONDS = 1.0
"""The longest time between two of these commits, whatever they cost: what a worker that dies may
lose."""

STANDBY_SECONDS = 0.5
"""Between two looks at the other workers, when there is nothing else to do."""

LEAVE_SECONDS = 2.0
"""How long a worker that should stop waits for the epoch in flight."""

Result = TypeVar("Result")


class Commits:
    """Writes one worker's progress to the database and to the checkpoint store.

    Parameters
    ----------
    mirror
        The study.
    registration
        The worker, as the others see it.
    study_checkpoints
        The study's checkpoints.
    stop
        Once set, the worker no longer waits for a storage that fails.
    on_event
        Called when the storage fails or works again, and for each damaged checkpoint.

    Attributes
    ----------
    last : Synced
        What the last commit found out.
    """

    def __init__(
        self,
        mirror: Mirror,
        registration: Registration,
        study_checkpoints: StudyCheckpoints,
        stop: Event,
        on_event: Callable[[WorkerEvent], None],
    ) -> None:
        self.mirror = mirror
        worked = float(mirror.user_attrs.get(WORKED_SECONDS, 0.0))
        self.last = Synced(worked_seconds=worked)
        self._registration = registration
        self._checkpoints = study_checkpoints
        self._stop = stop
        self._on_event = on_event
        self._committed_at = self._saved_at = time.monotonic()
        self._cost = 0.0  # of the last commit with checkpoints, seconds

    def commit(
        self,
        *,
        wanted: int,
        limit: int | None,
        checkpoints: Mapping[int, Checkpoint],
        unsaved: Collection[int] = (),
        ended: Collection[int],
        give_back: Collection[int],
        epochs_per_second: float,
        leaving: bool = False,
        choose_paused: PausedChoice | None = None,
        epochs: EpochLimit | None = None,
    ) -> Synced:
        """Writes everything that is new, and claims up to `wanted` trials.

        Parameters
        ----------
        checkpoints
            New checkpoints, by trial number.
        ended
            Numbers of trials that have ended since the last commit.
        wanted, limit, unsaved, give_back, epochs_per_second, leaving, choose_paused, epochs
            As in `Mirror.sync`.

        Raises
        ------
        StorageError
            If the database or the disk fails for too long.
        """
        began = time.monotonic()
        # Contents before rows: a row that is committed must never name a file that isn't there.
        saved = {
            number: self._with_retries(
                lambda number=number, checkpoint=checkpoint: self._checkpoints.put(  # type: ignore[misc]
                    number, self.mirror.token(number), checkpoint
                )
            )
            for number, checkpoint in checkpoints.items()
        }
        synced = self.last = self._with_retries(
            lambda: self.mirror.sync(
                wanted,
                limit,
                saved,
                give_back,
                epochs_per_second,
                unsaved,
                leaving=leaving,
                choose_paused=choose_paused,
                epochs=epochs,
            )
        )
        # Files go after the commit that dropped their rows, or a crash between the two would leave
        # rows without files.
        self._checkpoints.remove(synced.superseded)
        for number in set(ended) - set(synced.lost):
            self._checkpoints.clear(number)
        self._committed_at = time.monotonic()
        if checkpoints:
            self._saved_at, self._cost = self._committed_at, self._committed_at - began
        return synced

    def is_time_to_save(self) -> bool:
        """Whether the last commit with checkpoints is long enough ago for its cost."""
        pause = min(self._cost / COMMIT_SHARE, COMMIT_SECONDS)
        return time.monotonic() - self._saved_at >= pause

    def seconds_since_commit(self) -> float:
        """Time that isn't yet counted in the database."""
        return time.monotonic() - self._committed_at

    def checkpoints(self, number: int, claim: Claim) -> Iterator[Checkpoint]:
        """A trial's intact checkpoints, newest first; damaged ones are reported and left out."""
        for saved in claim.checkpoints:
            try:
                yield self._checkpoints.take(saved)
            except (DamagedCheckpoint, OSError) as error:
                self._on_event(CheckpointDamaged(number, saved.epoch, str(error)))

    def beating(self) -> AbstractContextManager[None]:
        """Shows, from a thread of its own, that this worker lives, however long an epoch takes."""
        return self._registration.beating(self.seconds_since_commit)

    def leave(self) -> None:
        """Releases all trials, and removes the checkpoints that dead workers left."""
        # If this can't be written, the others find out when the lease ends.
        with suppress(SQLAlchemyError, OSError, GRUOptunaError):
            self._registration.leave()
            self._checkpoints.sweep(self.mirror.over())

    def _with_retries(self, action: Callable[[], Result]) -> Result:
        return with_retries(action, self._stop, storage_events(self._on_event))


def storage_events(
    on_event: Callable[[WorkerEvent], None],
) -> Callable[[str | None, float], None]:
    """The `on_failure` of `with_retries` that reports events."""
    return lambda reason, seconds: on_event(
        StorageBack(seconds) if reason is None else StorageAway(reason)
    )

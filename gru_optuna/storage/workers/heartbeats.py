"""Which workers live: observed, never computed from timestamps.

A worker raises its number of ``beats`` again and again, and the others watch that number on
their own monotonic clocks. No two clocks are compared, so a clock that is wrong, set back or
stopped never makes a living worker look dead. On one machine a death is known at once: the
worker held a file lock, which the system frees with the process.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine

LEASE_SECONDS = 30.0
"""How long a worker may be silent before others take over its trials."""

BEATS_A_LEASE = 6
"""Beats within one lease, so that a few may be late or get lost."""


class HeartbeatMonitor:
    """Finds silent workers, by this process's own clock.

    Time in which this process didn't look hardly counts: after the database was away for a
    minute, or this process was asleep, no other worker looks dead.

    Parameters
    ----------
    lease_seconds
        Silence that ends a lease.

    Attributes
    ----------
    beat_seconds : float
        Time between two beats of a worker, and between two looks at the others.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease = lease_seconds
        self.beat_seconds = lease_seconds / BEATS_A_LEASE
        # Two beats: a longer gap was this process's own, during which beats went unseen.
        self._longest_look = 2 * self.beat_seconds
        self._looked: float | None = None
        self._silent: dict[int, tuple[int, float]] = {}  # worker: its beats, seconds of silence

    def look(self, beats: Mapping[int, int], at: float) -> set[int]:
        """Notes all workers' beats at a time (monotonic, seconds); returns the silent workers."""
        since = 0.0 if self._looked is None else at - self._looked
        since = min(since, self._longest_look)
        self._looked = at
        before, self._silent = self._silent, {}
        for worker, count in beats.items():
            # A worker seen for the first time starts at 0, whatever its silence was before.
            last, silence = before.get(worker, (count, -since))
            self._silent[worker] = (count, silence + since if count == last else 0.0)
        return {w for w, (_, silence) in self._silent.items() if silence > self._lease}


def life_lock(engine: Engine, worker_id: int, kind: str = "worker") -> FileLock | None:
    """The lock that a worker holds while it lives; None on PostgreSQL, whose workers may run on
    other machines.

    Workers of each `kind`, of one study or of the queue, are numbered separately.
    """
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return None
    path = Path(engine.url.database)
    folder = path.with_name(f"{path.name}.locks")
    folder.mkdir(exist_ok=True)
    # Not per thread: the loop takes the lock, and the heartbeat's thread may have to renew it.
    return FileLock(folder / f"{kind}-{worker_id}.lock", thread_local=False)


def has_died(engine: Engine, worker_id: int, kind: str = "worker") -> bool:
    """Whether a worker's process is certainly gone; False where that can't be known."""
    lock = life_lock(engine, worker_id, kind)
    if lock is None:
        return False
    if not Path(lock.lock_file).exists():
        # A worker makes its file before others see its row. Somebody else removed the file, and
        # died before the row went, too.
        return True
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


def remove_lock(lock: FileLock | None) -> None:
    """Removes the lock file of a worker that is gone."""
    if lock is not None:
        Path(lock.lock_file).unlink(missing_ok=True)

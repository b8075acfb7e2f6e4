"""Who lives: seen, not reckoned.

A worker raises its ``beats`` again and again, and the others watch that number on their own
monotonic clocks. No two clocks are compared, so none that is wrong, set back or stopped makes a
living worker look dead. On one machine a dead one is known at once: it held a file lock, which
the system frees with the process.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine

LEASE_SECONDS = 30.0
"""How long a worker may be silent before its trials are taken over."""

BEATS_A_LEASE = 6
"""Beats in that time: a few may be late or get lost."""


class HeartbeatMonitor:
    """Tells silent workers from living ones, on this process's own clock.

    Time in which nobody looked hardly counts: a database that was away for a minute, or this
    process itself asleep, makes nobody else dead.

    Parameters
    ----------
    lease_seconds
        Silence that ends a lease.

    Attributes
    ----------
    beat_seconds : float
        Between two beats of a worker, and two looks at the others.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease = lease_seconds
        self.beat_seconds = lease_seconds / BEATS_A_LEASE
        self._longest_look = 2 * self.beat_seconds
        self._looked: float | None = None
        self._silent: dict[int, tuple[int, float]] = {}  # worker: its beats, seconds of silence

    def look(self, beats: Mapping[int, int], at: float) -> set[int]:
        """Takes note of all workers' beats at a time (monotonic, seconds); returns the silent."""
        since = 0.0 if self._looked is None else at - self._looked
        since = min(since, self._longest_look)
        self._looked = at
        before, self._silent = self._silent, {}
        for worker, count in beats.items():
            last, silence = before.get(worker, (count, -since))
            self._silent[worker] = (count, silence + since if count == last else 0.0)
        return {w for w, (_, silence) in self._silent.items() if silence > self._lease}


def life_lock(engine: Engine, worker_id: int) -> FileLock | None:
    """Held while a worker lives; only where all workers are on the machine of the file."""
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return None
    path = Path(engine.url.database)
    folder = path.with_name(f"{path.name}.locks")
    folder.mkdir(exist_ok=True)
    return FileLock(folder / f"worker-{worker_id}.lock", thread_local=False)


def has_died(engine: Engine, worker_id: int, beats: int) -> bool:
    """Whether a worker's process is gone for certain; false where that can't be known."""
    lock = life_lock(engine, worker_id)
    if lock is None:
        return False
    if not Path(lock.lock_file).exists():
        return beats > 0  # before its first beat it may be about to make the file
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


def remove_lock(lock: FileLock | None) -> None:
    """Removes the file of a worker that is gone."""
    if lock is not None:
        Path(lock.lock_file).unlink(missing_ok=True)

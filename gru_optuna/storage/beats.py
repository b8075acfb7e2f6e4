"""Who lives: seen, not reckoned.

A worker raises its ``beats`` again and again, and the others watch that number on their own
monotonic clocks. No two clocks are compared, so none that is wrong, set back or stopped makes a
living worker look dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LEASE_SECONDS = 30.0
"""How long a worker may be silent before its trials are taken over."""

BEATS_A_LEASE = 6
"""Beats in that time: a few may be late or get lost."""


class Watch:
    """Tells silent workers from living ones, on this process's own clock.

    Time in which nobody looked hardly counts: a database that was away for a minute, or this
    process itself asleep, makes nobody else dead.

    Parameters
    ----------
    lease_seconds
        Silence that ends a lease.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease = lease_seconds
        self._longest_look = 2 * lease_seconds / BEATS_A_LEASE
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

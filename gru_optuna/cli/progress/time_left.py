"""The rate of a study, and how long it will still take.

The first trials to end are the short ones: pruned trials end while the long ones still train. An
estimate from the trials that end per minute would be too low at first, then too high. So the length
of a trial is estimated like a lifetime, from trials of which some have not ended: Kaplan and Meier,
"Nonparametric estimation from incomplete observations", 1958.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW_SECONDS = 30.0
"""How far back a rate looks, or further where so little happened that it would jump."""

_ENOUGH = 20
"""Events that make a rate."""


class Rate:
    """How often something has lately happened per second.

    Parameters
    ----------
    began
        When it could first happen, in seconds of any clock.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._seconds: deque[tuple[int, int]] = deque(maxlen=3600)  # whole second, how often

    def happened(self, now: float) -> None:
        """Counts one event."""
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = second, self._seconds[-1][1] + 1
        else:
            self._seconds.append((second, 1))

    def per_second(self, now: float) -> float | None:
        """The rate; None in the first second."""
        if now - self._began < 1:
            return None
        count, since = 0, self._began
        for second, times in reversed(self._seconds):
            if now - second > WINDOW_SECONDS and count >= _ENOUGH:
                # What counts has happened since the end of this second.
                since = max(since, second + 1.0)
                break
            count += times
        return count / max(now - since, 1.0)


def survival(ended: Sequence[int], running: Sequence[int], most: int) -> list[float]:
    """The share of trials that continue after epoch 0, 1, … `most` - 1.

    Parameters
    ----------
    ended
        Epochs of trials that have ended.
    running
        Epochs so far of trials that still train.
    most
        Epochs that no trial exceeds.

    >>> survival([1, 2], [1], 3)
    [1.0, 0.6666666666666667, 0.0]
    """
    shares, share = [], 1.0
    for epoch in range(most):
        ends = sum(n == epoch for n in ended)
        reached = sum(n >= epoch for n in ended) + sum(n >= epoch for n in running)
        share *= 1 - ends / reached if reached else 1.0
        shares.append(share)
    return shares


def epochs_left(ended: Sequence[int], running: Sequence[int], unbegun: int, most: int) -> float:
    """How many epochs are expected until all trials have ended.

    Parameters
    ----------
    ended, running, most
        As in `survival`.
    unbegun
        Trials that haven't started.

    >>> round(epochs_left([1, 3], [1], 2, 3), 3)
    6.667
    """
    shares = survival(ended, running, most)
    left = unbegun * sum(shares)
    for epochs in running:
        rest = shares[epochs:]
        # No trial that trained this long continued, so this one is expected to use all its epochs.
        left += sum(rest) / rest[0] if rest and rest[0] > 0 else len(rest)
    return left

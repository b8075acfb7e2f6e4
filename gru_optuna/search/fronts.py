"""Orders trials by two goals at once: by non-dominated fronts, each of them covered evenly.

A trial dominates another one if it is no worse in both goals and better in one. The first front
consists of the trials that none dominates, the second of those that only the first dominates, and
so on (Deb et al. 2002). Within a front every trial is a different compromise, and only some of them
may be chosen. So its order begins with the best value of the first goal, and continues with the
trial that is farthest from all before it, as Schmucker et al. 2021 promote trials.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def fronts(points: Sequence[tuple[float, float]]) -> list[list[int]]:
    """Indices of points by non-dominated front, the best front first; lower is better.

    Within a front, by the first goal; equal points are in the same front, in the given order. An
    infinite first goal is worse than any other one, whatever the second: the smallest network is
    no compromise if it diverged.

    >>> fronts([(0.1, 9), (0.3, 9), (0.3, 2), (0.1, 9)])
    [[0, 3, 2], [1]]
    """
    indices = sorted(range(len(points)), key=lambda i: points[i])
    infinite = bisect_left(indices, math.inf, key=lambda i: points[i][0])
    return _fronts(points, indices[:infinite]) + _fronts(points, indices[infinite:])


def _fronts(points: Sequence[tuple[float, float]], indices: Sequence[int]) -> list[list[int]]:
    """The fronts of the points with these indices, which are in the order of the points."""
    found: list[list[int]] = []
    lowest: list[float] = []  # second goal of each front's last point, ascending
    for index in indices:
        second = points[index][1]
        # All points before this one are no worse in the first goal. So a front dominates it if the
        # front's lowest second goal is no higher, unless that is an equal point's.
        front = bisect_right(lowest, second)
        if front and points[found[front - 1][-1]] == points[index]:
            front -= 1
        if front == len(found):
            found.append([])
            lowest.append(second)
        found[front].append(index)
        lowest[front] = second
    return found


def order(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of points, front by front, each front as the module describes it.

    >>> order([(0.1, 90), (0.2, 80), (0.3, 2), (0.3, 90)])
    [0, 2, 1, 3]
    """
    return [index for front in fronts(points) for index in _spread(points, front)]


def _spread(points: Sequence[tuple[float, float]], front: Sequence[int]) -> list[int]:
    """The members of a front, by the first goal, in an order in which the first ones cover it."""
    # By rank, not by distance: one value that is far off would make all others look alike.
    places = {point: n for n, point in enumerate(dict.fromkeys(points[i] for i in front))}
    most = max(1, len(places) - 1)
    left = dict.fromkeys(places, math.inf)
    chosen: list[tuple[float, float]] = []
    while left:
        point = max(left, key=lambda p: left[p])
        chosen.append(point)
        del left[point]
        for other in left:
            left[other] = min(left[other], abs(places[other] - places[point]) / most)
    rank = {point: n for n, point in enumerate(chosen)}
    return sorted(front, key=lambda i: rank[points[i]])

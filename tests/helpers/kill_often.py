"""Kills workers again and again, at random moments and at the very points where it hurts."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.processes import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from helpers.processes import Lab, Process

ANYWHERE = "anywhere"

# Points of `faulty`, and how often a worker comes by at most before it dies there. Slots pass
# "epoch" and the checkpoints one by one; trials end, and are cleared, now and then.
AIMED = {
    "epoch": 16,
    "checkpoint half": 12,
    "checkpoint": 12,
    "written": 6,
    "claim": 6,
    "commit": 6,
    "committed": 6,
    "clear": 2,
}


@dataclass
class Victim:
    """A worker, and where it is to die; an empty point: nowhere."""

    process: Process
    point: str
    moment: float  # for ANYWHERE: epochs that it trains, and a part of the next


def kill_often(
    lab: Lab,
    kills: int,
    workers: int = 3,
    seed: int = 0,
    points: Sequence[str] = (ANYWHERE, *AIMED),
    slots: tuple[int, int] = (2, 4),
    *,
    known: bool = False,
) -> Counter[str]:
    """Lets workers train and die until there were enough deaths; then lets them finish the study.

    If every death is `known` at once, the next worker finds the dead one's trials abandoned, as on
    SQLite, and not only after a lease.

    Returns how many died where.
    """
    draw = random.Random(seed)
    if lab.url.startswith("postgresql"):  # where checkpoints are rows
        points = [point for point in points if point != "checkpoint half"]
    deaths: Counter[str] = Counter()
    victims: list[Victim | None] = [None] * workers
    end = time.monotonic() + DEADLINE + 15 * kills  # on a machine that is busy with other work
    finished: set[int] = set()
    while len(finished) < workers:
        assert time.monotonic() < end, f"deaths at {dict(deaths)}, and the study isn't done"
        for place, victim in enumerate(victims):
            if place in finished:
                continue
            if victim is not None and victim.process.code is None:
                if victim.point == ANYWHERE and _came(lab, victim):
                    victim.process.signal(signal.SIGKILL)
                continue
            if victim is not None:
                if victim.process.code == 0:
                    finished.add(place)
                    continue
                assert victim.process.code == -signal.SIGKILL, victim.process.said
                deaths[victim.point] += 1
                if known:
                    lab.forget(victim.process)
            doomed = sum(v is not None and bool(v.point) and v is not victim for v in victims)
            more = deaths.total() + doomed < kills
            victims[place] = _start(lab, draw, draw.choice(points) if more else "", slots)
        time.sleep(0.01)
    return deaths


def _start(lab: Lab, draw: random.Random, point: str, slots: tuple[int, int]) -> Victim:
    # Of so many deaths, five in a row may strike the same trial by chance: a busy machine takes
    # long to commit the epoch that would clear it.
    faults: dict[str, Any] = {"blameless": {}}
    if point in AIMED:
        faults["strike"] = {"at": point, "occurrence": draw.randint(1, AIMED[point])}
    if draw.random() < 0.5:
        faults["eager"] = {}
    process = lab.worker(slots=draw.randint(*slots), **faults)
    return Victim(process, point, draw.uniform(1, 12))


def _came(lab: Lab, victim: Victim) -> bool:
    trained = sum(pid == victim.process.pid for what, *_, pid in lab.entries() if what == "trained")
    if trained < int(victim.moment):
        return False
    time.sleep(victim.moment % 1 / 20)
    return True

"""Who trained which trial when: a lane for each slot of each worker, pauses of the study cut out.

The database holds when a trial began and ended and which worker ended it, not its slot. Trials of
one worker that overlap lie in different lanes, as few of them as there can be.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna.report.numbers.trials import STATES, State, trials_in

if TYPE_CHECKING:
    from datetime import datetime

    from optuna import Study
    from optuna.trial import FrozenTrial

UNKNOWN_WORKER = "workers"
"""Of trials that were tuned before workers put their names to them."""

PAUSE_SHARE = 0.05
"""A time without trials is a pause if it is longer than this share of the time with trials, …"""

PAUSE_SECONDS = 10.0
"""… and than this."""


@dataclass(frozen=True)
class Pause:
    """A time in which nobody trained."""

    at: float  # seconds on the clock, where it was cut out
    seconds: float


@dataclass(frozen=True)
class Clock:
    """Time since the first trial began, without the pauses."""

    first: datetime | None  # None: no trial has begun
    pauses: list[Pause]
    starts: list[float]  # of the pauses, in seconds since the first trial began
    total: float  # seconds with trials

    @classmethod
    def of(cls, study: Study) -> Clock:
        """From when trials ran: a study that slept for a night shows no night."""
        trials = _timed(study)
        if not trials:
            return cls(None, [], [], 0.0)
        first = trials[0][0]
        spans = sorted(
            ((start - first).total_seconds(), (end - first).total_seconds())
            for start, end, _ in trials
        )
        gaps, reached, busy = [], 0.0, 0.0
        for start, end in spans:
            if start > reached:
                gaps.append((reached, start - reached))
            busy += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        long = [gap for gap in gaps if gap[1] > max(PAUSE_SECONDS, PAUSE_SHARE * busy)]
        pauses, before = [], 0.0
        for start, seconds in long:
            pauses.append(Pause(start - before, seconds))
            before += seconds
        return cls(first, pauses, [start for start, _ in long], reached - before)

    def seconds(self, moment: datetime) -> float:
        """Where a moment stands."""
        assert self.first is not None, "a study without trials has no time"
        since = (moment - self.first).total_seconds()
        passed = bisect_right(self.starts, since - 1e-9)
        paused = sum(pause.seconds for pause in self.pauses[:passed])
        if passed:
            # Within a pause the clock stands still.
            start, pause = self.starts[passed - 1], self.pauses[passed - 1]
            paused -= max(0.0, start + pause.seconds - since)
        return since - paused


@dataclass(frozen=True)
class Bar:
    """One trial in its lane."""

    number: int
    state: State
    worker: str
    lane: int  # from 0, of all workers together
    start: float  # seconds on the study's clock
    end: float


@dataclass(frozen=True)
class Timeline:
    """All trials that have begun."""

    bars: list[Bar]
    workers: dict[str, int]  # lanes of each, in the order in which they came
    seconds: float
    pauses: list[Pause]

    @property
    def occupied(self) -> float:
        """The share of the lanes' time in which a trial was there."""
        room = self.seconds * sum(self.workers.values())
        return sum(bar.end - bar.start for bar in self.bars) / room if room else 0.0


def timeline(study: Study) -> Timeline:
    """Bars in lanes, worker by worker. A running trial reaches to the last moment known."""
    clock = Clock.of(study)
    by_worker: dict[str, list[tuple[float, float, FrozenTrial]]] = {}
    for start, end, trial in _timed(study):
        worker = str(trial.user_attrs.get("worker", UNKNOWN_WORKER))
        span = (clock.seconds(start), clock.seconds(end), trial)
        by_worker.setdefault(worker, []).append(span)
    bars: list[Bar] = []
    workers: dict[str, int] = {}
    first = 0
    for worker, spans in by_worker.items():
        free: list[int] = []  # lanes, lowest first
        busy: list[tuple[float, int]] = []  # (end, lane)
        lanes = 0
        for begun, over, trial in spans:
            while busy and busy[0][0] <= begun:
                heapq.heappush(free, heapq.heappop(busy)[1])
            if free:
                lane = heapq.heappop(free)
            else:
                lane, lanes = lanes, lanes + 1
            heapq.heappush(busy, (over, lane))
            bars.append(Bar(trial.number, STATES[trial.state], worker, first + lane, begun, over))
        workers[worker] = lanes
        first += lanes
    return Timeline(bars, workers, clock.total, clock.pauses)


def _timed(study: Study) -> list[tuple[datetime, datetime, FrozenTrial]]:
    """Start, end and trial of all that have begun, in the order in which they began."""
    trials = trials_in(study, *STATES)
    moments = [
        moment
        for trial in trials
        for moment in (trial.datetime_start, trial.datetime_complete)
        if moment is not None
    ]
    if not moments:
        return []
    now = max(moments)
    timed = []
    for trial in trials:
        running = trial.state == TrialState.RUNNING
        end = now if running else trial.datetime_complete
        if trial.datetime_start is not None and end is not None:
            timed.append((trial.datetime_start, max(end, trial.datetime_start), trial))
    return sorted(timed, key=lambda one: (one[0], one[2].number))

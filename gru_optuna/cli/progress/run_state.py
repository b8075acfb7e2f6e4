"""What has happened in a run, counted from its events; both views read it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gru_optuna.cli.progress.time_left import Rate, epochs_left
from gru_optuna.report.trials import STATES
from gru_optuna.worker.events import (
    BudgetChanged,
    EngineReady,
    EpochTrained,
    LeaseLost,
    TrialEnded,
    TrialPaused,
    TrialStarted,
    WorkerDied,
    WorkerStarted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gru_optuna.training.sizing import Size
    from gru_optuna.tuning.tune import RunStart
    from gru_optuna.worker.events import WorkerEvent

_LAST_ENDED = 40
"""Ended trials that are remembered: enough to estimate how long the next ones will train."""

_ENOUGH_ENDED = 5
"""Trials that must have ended before the time left is estimated."""


@dataclass
class Trial:
    """A trial of this run."""

    number: int
    curve: list[float] = field(default_factory=list)  # the metric after each epoch
    ended: TrialEnded | None = None

    @property
    def epochs(self) -> int:
        """Epochs trained so far, or in total once it has ended."""
        return self.ended.epochs if self.ended else len(self.curve)

    @property
    def value(self) -> float | None:
        """The metric: of the best epoch if the trial is complete, else of the last one."""
        if self.ended and self.ended.value is not None:
            return self.ended.value
        return self.curve[-1] if self.curve else None


class RunState:
    """Counts events; knows nothing of terminals.

    Parameters
    ----------
    now
        A clock in seconds.

    Attributes
    ----------
    slots : list
        The trials in training, each in the place where it began; None is a free place.
    over : deque
        The last trials that ended.
    best : tuple or None
        Value and number of the best complete trial.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.opening: RunStart | None = None
        self.engine: Size | None = None
        self.slots: list[Trial | None] = []
        self.over: deque[Trial] = deque(maxlen=_LAST_ENDED)
        self.best: tuple[float, int] | None = None
        self.began: float | None = None  # when the first trial started
        self.workers: set[int] = set()  # those that this command started and that still run
        self._counts = dict.fromkeys(("complete", "pruned", "failed"), 0)
        self._ended_here = 0
        self._epochs: Rate | None = None
        self._trials: Rate | None = None
        self._budget: BudgetChanged | None = None

    def opened(self, opening: RunStart) -> None:
        """Starts from what earlier runs of the study have reached."""
        self.opening = opening
        self._counts = {state: opening.before.trials[state] for state in self._counts}
        if (winner := opening.before.best) is not None:
            self.best = winner.value, winner.number

    def happened(self, event: WorkerEvent) -> None:
        """Counts one event."""
        match event:
            case EngineReady():
                self.engine = event.size
            case TrialStarted():
                self._start(event)
            case EpochTrained():
                if self._epochs is not None:
                    self._epochs.happened(self.now())
                if (trial := self._running(event.number)) is not None:
                    trial.curve.append(event.value)
            case TrialEnded():
                self._end(event)
            case LeaseLost() | TrialPaused():
                self._free(event.number)
            case BudgetChanged():
                self._budget = event
            case WorkerStarted():
                self.workers.add(event.index)
            case WorkerDied():
                self.workers.discard(event.index)

    @property
    def running(self) -> list[Trial]:
        """The trials in training, by their places."""
        return [trial for trial in self.slots if trial is not None]

    @property
    def ended(self) -> int:
        """Trials of the study that have ended, in earlier runs too."""
        return sum(self._counts.values())

    @property
    def pruned(self) -> int:
        """How many of these were pruned."""
        return self._counts["pruned"]

    @property
    def failed(self) -> int:
        """How many of these failed."""
        return self._counts["failed"]

    @property
    def limit(self) -> int | None:
        """The budget of trials; None if only hours limit the study, or it isn't known."""
        if self._budget is not None:
            return self._budget.trials
        return self.opening.before.budget["trials"] if self.opening else None

    def elapsed(self) -> float:
        """Seconds since the first trial of this run."""
        return self.now() - self.began if self.began is not None else 0.0

    def epochs_per_second(self) -> float | None:
        """The recent rate; None until it can be measured."""
        return self._epochs.per_second(self.now()) if self._epochs else None

    def trials_per_minute(self) -> float | None:
        """The recent rate; None until it can be measured."""
        if self._trials is None or not self._ended_here:
            return None
        rate = self._trials.per_second(self.now())
        return None if rate is None else 60 * rate

    def share(self) -> float | None:
        """How much of the budget is used, from 0 to 1; of two limits, the nearer one's."""
        shares = []
        if self.limit:
            shares.append(self.ended / self.limit)
        if (hours := self._hours()) is not None:
            shares.append(self._worked() / (3600 * hours))
        return min(1.0, max(shares)) if shares else None

    def seconds_left(self) -> float | None:
        """Seconds until the budget is spent; None until they can be estimated."""
        by_trials, hours = self._seconds_of_trials(), self._hours()
        if hours is None:
            return by_trials
        by_hours = max(0.0, 3600 * hours - self._worked())
        if self.limit and by_trials is None:
            return None  # the trials may all end long before the hours
        return by_hours if by_trials is None else min(by_trials, by_hours)

    def _seconds_of_trials(self) -> float | None:
        rate = self.epochs_per_second()
        if self.opening is None or not self.limit or not rate or self._ended_here < _ENOUGH_ENDED:
            return None
        unbegun = max(0, self.limit - self.ended - len(self.running))
        ended = [trial.epochs for trial in self.over]
        running = [trial.epochs for trial in self.running]
        return epochs_left(ended, running, unbegun, self.opening.spec.training.epochs) / rate

    def _hours(self) -> float | None:
        if self._budget is not None:
            return self._budget.hours
        return self.opening.spec.budget.hours if self.opening else None

    def _worked(self) -> float:
        assert self.opening is not None
        return self.opening.worked_seconds + self.elapsed()

    def _start(self, event: TrialStarted) -> None:
        if self.began is None:
            self.began = self.now()
            self._epochs, self._trials = Rate(self.began), Rate(self.began)
        self._free(event.number)  # a trial adopted again starts at the epoch that it resumes from
        trial = Trial(event.number, list(event.curve))
        if None in self.slots:
            self.slots[self.slots.index(None)] = trial
        else:
            self.slots.append(trial)

    def _end(self, event: TrialEnded) -> None:
        trial = self._free(event.number) or Trial(event.number)
        trial.ended = event
        self.over.append(trial)
        self._counts[STATES[event.state]] += 1
        self._ended_here += 1
        if self._trials is not None:
            self._trials.happened(self.now())
        if event.value is not None and self._is_better(event.value):
            self.best = event.value, event.number

    def _is_better(self, value: float) -> bool:
        if self.best is None or self.opening is None:
            return self.best is None
        return self.opening.spec.as_loss(value) < self.opening.spec.as_loss(self.best[0])

    def _running(self, number: int) -> Trial | None:
        return next((trial for trial in self.running if trial.number == number), None)

    def _free(self, number: int) -> Trial | None:
        """Takes a trial out of its place."""
        trial = self._running(number)
        if trial is not None:
            self.slots[self.slots.index(trial)] = None
        return trial

"""What happens while a study is tuned, as progress displays receive it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import TrialState

    from gru_optuna.training.sizing import Size


class WorkerEvent:
    """One of the events below."""


@dataclass(frozen=True)
class EngineReady(WorkerEvent):
    """The engine is compiled, and the number of slots chosen."""

    size: Size


@dataclass(frozen=True)
class TrialStarted(WorkerEvent):
    """A trial was claimed, continued after a pause, or adopted from a worker that stopped."""

    number: int
    adopted: bool
    epochs: int = 0  # that need not be trained again
    curve: tuple[float, ...] = ()  # the metric of the epochs that were reported before
    continued: bool = False  # it was paused


@dataclass(frozen=True)
class CheckpointDamaged(WorkerEvent):
    """A checkpoint can't be used; the trial continues from an earlier one, or starts again."""

    number: int
    epoch: int
    reason: str


@dataclass(frozen=True)
class EpochTrained(WorkerEvent):
    """A trial finished an epoch, counted from 1."""

    number: int
    epoch: int
    value: float


@dataclass(frozen=True)
class TrialPaused(WorkerEvent):
    """A trial waits at a rung; it may be continued later, by any worker."""

    number: int
    epochs: int


@dataclass(frozen=True)
class TrialEnded(WorkerEvent):
    """A trial has ended."""

    number: int
    state: TrialState
    value: float | None
    outcome: str
    epochs: int


@dataclass(frozen=True)
class LeaseLost(WorkerEvent):
    """Another worker has taken over a trial, so this one drops it."""

    number: int


@dataclass(frozen=True)
class FewerSlots(WorkerEvent):
    """Memory ran out: fewer trials train together from now on."""

    slots: int
    reason: str


@dataclass(frozen=True)
class BudgetChanged(WorkerEvent):
    """Another process gave the study another budget; this one is in force."""

    trials: int | None
    hours: float | None
    epochs: int | None = None


@dataclass(frozen=True)
class StorageAway(WorkerEvent):
    """The database or the disk fails; the worker waits until it works again."""

    reason: str


@dataclass(frozen=True)
class StorageBack(WorkerEvent):
    """The storage works again, after some seconds."""

    seconds: float


@dataclass(frozen=True)
class StandingBy(WorkerEvent):
    """No trial is left to start, but other workers still train theirs, and may die."""

    trials: int


@dataclass(frozen=True)
class WorkerStarted(WorkerEvent):
    """A worker has started."""

    index: int
    place: str  # "process 4711", or the cluster's job and the node


@dataclass(frozen=True)
class LauncherNote(WorkerEvent):
    """What the launcher of the workers says of them, such as where their logs are."""

    words: str


@dataclass(frozen=True)
class WorkersWaiting(WorkerEvent):
    """The cluster has no room yet for some workers."""

    workers: int
    reason: str  # in the cluster's words


@dataclass(frozen=True)
class WorkerDied(WorkerEvent):
    """A worker ended before its work was done."""

    index: int
    reason: str
    restarts: bool


@dataclass(frozen=True)
class Confirming(WorkerEvent):
    """The best trials are trained again on fresh seeds; `done` runs of `of` have finished."""

    done: int
    of: int
    candidates: int
    seeds: int
    begins: bool = False  # the first such event; some runs may have finished earlier
    expected: tuple[float, float] | None = None  # as it begins: seconds, and their share of all


@dataclass(frozen=True)
class TrainingOtherTrials(WorkerEvent):
    """The best trials after the confirmed ones are trained again, as members of the ensemble."""

    trials: int


@dataclass(frozen=True)
class ConfirmingElsewhere(WorkerEvent):
    """Another process confirms the best trials; this one waits for it."""


@dataclass(frozen=True)
class WaitingForBaselines(WorkerEvent):
    """The winner is ready, and the simple models to compare it with are not yet."""

    seconds: float  # the longest time to wait

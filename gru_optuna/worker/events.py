"""What happens while a study is tuned, as those who watch it are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from optuna.trial import TrialState

    from gru_optuna.training.sizing import Size


@dataclass(frozen=True)
class EngineReady:
    """Everything is compiled and sized."""

    size: Size


@dataclass(frozen=True)
class TrialStarted:
    """A trial was claimed, or adopted from a worker that stopped."""

    number: int
    adopted: bool
    epochs: int = 0  # that need not be trained again
    curve: tuple[float, ...] = ()  # the metric of those that were reported before


@dataclass(frozen=True)
class CheckpointDamaged:
    """A checkpoint can't be used; the trial goes on from an earlier one, or from its start."""

    number: int
    epoch: int
    reason: str


@dataclass(frozen=True)
class EpochTrained:
    """A trial finished an epoch, counted from 1."""

    number: int
    epoch: int
    value: float


@dataclass(frozen=True)
class TrialEnded:
    """A trial is over."""

    number: int
    state: TrialState
    value: float | None
    outcome: str
    epochs: int


@dataclass(frozen=True)
class LeaseLost:
    """Another worker has taken a trial over; this one lets go of it."""

    number: int


@dataclass(frozen=True)
class FewerSlots:
    """Memory didn't suffice; so many trials train together from now on."""

    slots: int
    reason: str


@dataclass(frozen=True)
class StorageAway:
    """The database or the disk fails; the worker waits for it."""

    reason: str


@dataclass(frozen=True)
class StorageBack:
    """It works again."""

    seconds: float


@dataclass(frozen=True)
class StandingBy:
    """Nothing is left to begin, but others still train: their trials are adopted if they die."""

    trials: int


@dataclass(frozen=True)
class WorkerStarted:
    """A worker's process runs."""

    index: int
    process: int


@dataclass(frozen=True)
class WorkerDied:
    """A worker's process is gone before its work was."""

    index: int
    reason: str
    restarts: bool


@dataclass(frozen=True)
class Confirming:
    """The best trials are trained again on fresh seeds: so many runs are done."""

    done: int
    of: int
    candidates: int
    seeds: int
    begins: bool = False  # the first word of it; some runs may be done from before


@dataclass(frozen=True)
class ConfirmingElsewhere:
    """Another process does that; this one waits for it."""


WorkerEvent: TypeAlias = (
    EngineReady
    | TrialStarted
    | CheckpointDamaged
    | EpochTrained
    | TrialEnded
    | LeaseLost
    | FewerSlots
    | StorageAway
    | StorageBack
    | StandingBy
    | WorkerStarted
    | WorkerDied
    | Confirming
    | ConfirmingElsewhere
)

"""A finished run once more, for its weights: each run is a function of what it is made of."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from gru_optuna import seeds
from gru_optuna.errors import StudyFailed, TrialFailed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event

    from torch import Tensor

    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.training.slot import Slot

logger = logging.getLogger(__name__)

Networks: TypeAlias = "list[dict[str, Tensor]]"
"""The weights of one run; with folds, one network's for each fold."""


@dataclass(frozen=True)
class PlannedRun:
    """A configuration and the seed to train it with."""

    number: int  # of the trial
    index: int  # of the fresh seed; 0 where the seed is the trial's own
    hyperparameters: Hyperparameters
    seed: int

    @classmethod
    def of(
        cls, spec: Specification, number: int, index: int, hyperparameters: Hyperparameters
    ) -> PlannedRun:
        """A trial's configuration on the fresh seed of this index."""
        seed = seeds.confirmation_seed(spec.seed, number, index)
        return cls(number, index, hyperparameters, seed)

    @property
    def key(self) -> tuple[int, int]:
        """What identifies the run in its study."""
        return self.number, self.index


@dataclass(frozen=True)
class FinishedRun:
    """A run that was trained before, or whose best epoch is known from others."""

    run: PlannedRun
    epochs: int  # after which it was best
    value: float | None = None  # the metric then; None: there is nothing to compare with


class Abandoned(Exception):  # noqa: N818 (as `TrialFailed`)
    """The epoch in flight takes too long to wait for; a thread goes on training it."""


def train_again(
    pool: TrialPool, finished: Sequence[FinishedRun], slots: int, stop: Event
) -> list[tuple[Networks, float]]:
    """The networks of each run after its epochs, and the metric on the validation rows then.

    A run is a function of its configuration and seed, so these are the weights that it had. A
    value that differs from the one before is logged. Other slots of the pool pause.

    Raises
    ------
    StudyFailed
        If a run fails, although it didn't the first time.
    Abandoned
        If `stop` was set.
    """
    trained: dict[int, tuple[Networks, float]] = {}
    waiting = deque(enumerate(finished))
    running: dict[Slot, tuple[int, FinishedRun]] = {}
    while waiting or running:
        while waiting and len(running) < slots:
            place, before = waiting.popleft()
            slot = pool.admit(before.run.hyperparameters, before.run.seed)
            running[slot] = place, before
        for slot, result in pool.train_epoch(list(running)):
            place, before = running[slot]
            if isinstance(result, TrialFailed):
                raise StudyFailed(f"trial {before.run.number}, trained again, failed: {result}")
            if slot.progress.epoch >= before.epochs:
                _warn_if_different(pool.spec, before, result.value)
                trained[place] = pool.networks(slot), result.value
                pool.release(slot)
                del running[slot]
        if stop.is_set():
            raise Abandoned
    return [trained[place] for place in range(len(finished))]


def _warn_if_different(spec: Specification, before: FinishedRun, value: float) -> None:
    """Logs that a run reached another value than before, which isn't an error."""
    if before.value is not None and value != before.value:
        logger.warning(
            "trial %d on fresh seed %d reached %s %.6f before and %.6f when trained again here: "
            "another processor or device rounds differently",
            before.run.number,
            before.run.index,
            spec.metric,
            before.value,
            value,
        )

"""Trials and runs on fresh seeds, once more: each is a function of what it is made of."""

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
"""Of one run: its weights; of folds, those of each."""


@dataclass(frozen=True)
class Training:
    """One run to be trained."""

    number: int  # of the trial
    index: int  # of the fresh seed; 0 where it is the trial's own
    hyperparameters: Hyperparameters
    seed: int

    @classmethod
    def of(
        cls, spec: Specification, number: int, index: int, hyperparameters: Hyperparameters
    ) -> Training:
        """With the seed that belongs to it."""
        seed = seeds.confirmation_seed(spec.seed, number, index)
        return cls(number, index, hyperparameters, seed)

    @property
    def key(self) -> tuple[int, int]:
        """Its place in the study."""
        return self.number, self.index


class Abandoned(Exception):  # noqa: N818 (as `TrialFailed`)
    """An epoch takes too long for one who is to leave; a thread goes on with it."""


def train_again(
    pool: TrialPool,
    trainings: Sequence[tuple[Training, int]],
    slots: int,
    stop: Event,
) -> list[tuple[Networks, float]]:
    """The networks of each run after so many epochs, and the metric on the validation rows then.

    A run is a function of its configuration and seed: these are the weights that it had. Other
    slots of the pool pause.

    Raises
    ------
    StudyFailed
        If a run fails, which it didn't the first time.
    Abandoned
        If `stop` was set.
    """
    made: dict[int, tuple[Networks, float]] = {}
    waiting = deque(enumerate(trainings))
    running: dict[Slot, tuple[int, int]] = {}
    while waiting or running:
        while waiting and len(running) < slots:
            place, (one, epochs) = waiting.popleft()
            slot = pool.admit(one.hyperparameters, one.seed)
            running[slot] = place, epochs
        for slot, result in pool.train_epoch(list(running)):
            place, epochs = running[slot]
            if isinstance(result, TrialFailed):
                number = trainings[place][0].number
                raise StudyFailed(f"trial {number}, trained again, failed: {result}")
            if slot.progress.epoch >= epochs:
                made[place] = pool.networks(slot), result.value
                pool.release(slot)
                del running[slot]
        if stop.is_set():
            raise Abandoned
    return [made[place] for place in range(len(trainings))]


def warn_if_other(spec: Specification, run: Training, before: float | None, now: float) -> None:
    """Says that a run came to another value than before, which is no error."""
    if before is not None and now != before:
        logger.warning(
            "trial %d on fresh seed %d reached %s %.6f before and %.6f when trained again here: "
            "another processor or device rounds differently",
            run.number,
            run.index,
            spec.metric,
            before,
            now,
        )

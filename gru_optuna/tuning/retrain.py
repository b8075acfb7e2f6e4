"""Runs of chosen configurations: on fresh seeds, or once more for their weights."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from gru_optuna import seeds
from gru_optuna.errors import OutOfMemory, StudyFailed, TrialFailed
from gru_optuna.study.ensemble import OWN_SEED
from gru_optuna.worker.loop import await_epoch, short_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Event

    from torch import Tensor

    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.training.slot import EpochResult, Slot

logger = logging.getLogger(__name__)

Networks: TypeAlias = "list[dict[str, Tensor]]"
"""The weights of one run; with folds, one network's for each fold."""


@dataclass(frozen=True)
class PlannedRun:
    """A configuration and the seed to train it with."""

    number: int  # of the trial
    index: int  # of the fresh seed, or `OWN_SEED`
    hyperparameters: Hyperparameters
    seed: int

    @classmethod
    def of(
        cls, spec: Specification, number: int, index: int, hyperparameters: Hyperparameters
    ) -> PlannedRun:
        """A trial's configuration on the fresh seed of this index, or on its own."""
        if index == OWN_SEED:
            return cls(number, index, hyperparameters, seeds.trial_seed(spec.seed, number))
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
    """The epoch in flight takes too long to wait for; a thread is still training it."""


def train_runs(
    pool: TrialPool,
    next_runs: Callable[[int], Sequence[PlannedRun]],
    slots: int,
    stop: Event,
    is_over: Callable[[PlannedRun, Slot, EpochResult | TrialFailed], bool],
) -> None:
    """Trains runs together until there are no more and all of them have ended.

    Other slots of the pool pause. If memory runs out, all runs that train together begin again,
    half as many at a time.

    Parameters
    ----------
    pool, slots
        Where they train, and how many at a time.
    next_runs
        Called before each epoch with the number of slots that are free; returns runs for them.
    stop
        Set it to leave after the epoch in flight.
    is_over
        Called with each run after each of its epochs; returns whether it leaves its slot.

    Raises
    ------
    Abandoned
        If the epoch in flight would take too long.
    """
    waiting: deque[PlannedRun] = deque()  # to begin again
    running: dict[Slot, PlannedRun] = {}

    def release(slot: Slot) -> PlannedRun:
        pool.release(slot)
        return running.pop(slot)

    background = ThreadPoolExecutor(1, "runs")
    try:
        with short_turns():
            while not stop.is_set():
                waiting.extend(next_runs(max(0, slots - len(running) - len(waiting))))
                while waiting and len(running) < slots:
                    run = waiting.popleft()
                    running[pool.admit(run.hyperparameters, run.seed)] = run
                if not running:
                    return
                training = background.submit(pool.train_epoch, list(running))
                outcomes = await_epoch(training, stop)
                if outcomes is None:
                    raise Abandoned
                if len(running) > 1 and any(isinstance(o, OutOfMemory) for _, o in outcomes):
                    # All of them start again: each may well train together with fewer.
                    slots = len(running) // 2
                    waiting.extendleft([release(slot) for slot in list(running)])
                    continue
                for slot, outcome in outcomes:
                    if is_over(running[slot], slot, outcome):
                        release(slot)
    finally:
        background.shutdown(wait=False)
        for slot in list(running):
            release(slot)


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
    before = {known.run.key: known for known in finished}
    trained: dict[tuple[int, int], tuple[Networks, float]] = {}

    def is_over(run: PlannedRun, slot: Slot, outcome: EpochResult | TrialFailed) -> bool:
        if isinstance(outcome, TrialFailed):
            raise StudyFailed(f"trial {run.number}, trained again, failed: {outcome}")
        if slot.progress.epoch < before[run.key].epochs:
            return False
        _warn_if_different(pool.spec, before[run.key], outcome.value)
        trained[run.key] = pool.networks(slot), outcome.value
        return True

    waiting = iter([known.run for known in finished])
    train_runs(pool, lambda free: list(islice(waiting, free)), slots, stop, is_over)
    if stop.is_set():
        raise Abandoned
    return [trained[known.run.key] for known in finished]


def _warn_if_different(spec: Specification, before: FinishedRun, value: float) -> None:
    """Logs that a run reached another value than before, which isn't an error."""
    if before.value is not None and value != before.value:
        logger.warning(
            "trial %d on %s reached %s %.6f before and %.6f when trained again here: "
            "another processor or device rounds differently",
            before.run.number,
            "its own seed" if before.run.index == OWN_SEED else f"fresh seed {before.run.index}",
            spec.metric,
            before.value,
            value,
        )

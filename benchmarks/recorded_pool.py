"""A worker that trains nothing: the product's own loop around a pool of made-up learning curves.

Claims, proposals, reports, pruning, checkpoints, commits and leases are the product's code. Only
the epochs are a formula, so what is left to measure is bookkeeping.

    python benchmarks/recorded_pool.py URL STUDY [EPOCH_SECONDS]

works on a study until its budget is used up, and prints what it did as a line of JSON.
"""

from __future__ import annotations

import gc
import json
import math
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from sqlalchemy import event
from sqlalchemy.engine import Engine

from gru_optuna.search.pruners import make_pruner
from gru_optuna.search.samplers import make_sampler
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.study import load_study
from gru_optuna.training.pool_checkpoints import make_checkpoint, replay
from gru_optuna.training.sizing import Size
from gru_optuna.training.slot import EpochResult, Progress, Slot
from gru_optuna.worker.run import WorkerSettings, work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gru_optuna.checkpoints.checkpoint import Checkpoint
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification

SLOTS = 8
QUALITY = {"optimizer": 0.2, "initializer": 0.1, "pooling": 0.1, "decay": 0.15}


def curve(values: Mapping[str, object], seed: int, epochs: int) -> list[EpochResult]:
    """The curve of a configuration: accuracy that rises to a level and wavers around it."""
    rng = np.random.default_rng(seed % 2**63)
    distance = abs(math.log10(float(values["learning_rate"])) + 2.3)
    distance += abs(math.log10(float(values["clip_norm"] or 10.0))) / 3
    distance += float(values["dropout"])
    for name, weight in QUALITY.items():
        distance += weight * (sum(map(ord, str(values[name]))) % 5) / 4
    level, speed = 0.98 / (1 + distance**2 / 4), 2 + 3 * distance
    results = []
    for epoch in range(1, epochs + 1):
        accuracy = level * (1 - math.exp(-epoch / speed)) + 0.01 * rng.standard_normal()
        value = round(min(1.0, max(0.0, accuracy)) * 54) / 54  # 54 validation rows
        loss = float(2.2 * (1 - accuracy) ** 1.5 + 0.01) if accuracy < 1 else 0.01
        results.append(EpochResult(0.9 * loss, loss, value, float(rng.random() / 4)))
    return results


class _Network:
    def size(self) -> int:
        return 21_000


class RecordedPool:
    """Slots whose epochs are looked up, with the methods of `Pool`.

    Parameters
    ----------
    spec
        The study.
    epoch_seconds
        How long an epoch of all slots takes.
    """

    device = torch.device("cpu")

    def __init__(self, spec: Specification, epoch_seconds: float = 0.0) -> None:
        self._spec = spec
        self._pause = epoch_seconds
        self.slots: list[Slot] = []
        # When the first trial got its slot: joining a large study takes a second by itself.
        self.began: tuple[float, float] | None = None  # by the clock, of the processor

    def admit(
        self, hyperparameters: Hyperparameters, seed: int, checkpoint: Checkpoint | None = None
    ) -> Slot:
        """Gives a trial a slot."""
        if self.began is None:
            self.began = time.perf_counter(), time.process_time()
        state = curve(vars(hyperparameters), seed, self._spec.training.epochs)
        slot = Slot(hyperparameters, seed, None, _Network(), Progress.of(self._spec), state)
        if checkpoint is not None:
            replay(checkpoint.state, slot)
        self.slots.append(slot)
        return slot

    def train_epoch(self, only: Sequence[Slot] | None = None) -> list[tuple[Slot, EpochResult]]:
        """The next point of each slot's curve."""
        time.sleep(self._pause)
        outcomes = []
        for slot in self.slots if only is None else only:
            result = slot.state[slot.progress.epoch]
            slot.progress.record(result)
            outcomes.append((slot, result))
        return outcomes

    def snapshot(self, slot: Slot) -> Checkpoint:
        """A checkpoint with a network of a thousand weights."""
        return make_checkpoint(slot, {"weights/w": torch.zeros(1000)})

    def release(self, slot: Slot) -> None:
        """Takes a trial out."""
        self.slots.remove(slot)


def main(url: str, name: str, epoch_seconds: float = 0.0) -> None:
    """Works, and prints what it cost."""
    study, spec = load_study(open_storage(url), name)
    study.sampler, study.pruner = make_sampler(spec), make_pruner(spec)
    gc.freeze()
    commits: list[float] = []
    _time_transactions(commits)
    counted = {"TrialEnded": 0, "LeaseLost": 0, "EpochTrained": 0}

    def on_event(happened: object) -> None:
        kind = type(happened).__name__
        counted[kind] = counted.get(kind, 0) + 1

    pool = RecordedPool(spec, epoch_seconds)
    work(
        study, url, spec, pool, Size(1, SLOTS, None),
        WorkerSettings(), threading.Event(), on_event,
    )  # fmt: skip
    ended = time.perf_counter(), time.process_time()
    seconds, processor = (
        end - begin for begin, end in zip(pool.began or ended, ended, strict=True)
    )
    print(
        json.dumps(
            {
                "trials": counted["TrialEnded"],
                "epochs": counted["EpochTrained"],
                "lost": counted["LeaseLost"],
                "seconds": seconds,
                "cpu": processor,
                "transactions": len(commits),
                "transaction_ms": {
                    "median": 1000 * statistics.median(commits),
                    "p99": 1000 * sorted(commits)[int(0.99 * len(commits))],
                },
            }
        )
    )


def _time_transactions(seconds: list[float]) -> None:
    """Collects the time of each transaction of this process, from its first statement on."""

    @event.listens_for(Engine, "begin")
    def _begin(connection: object) -> None:
        connection.info["began"] = time.perf_counter()  # type: ignore[attr-defined]

    @event.listens_for(Engine, "commit")
    def _commit(connection: object) -> None:
        seconds.append(time.perf_counter() - connection.info["began"])  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:]))

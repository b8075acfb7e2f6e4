"""How many threads and slots suit this machine and this study: measured briefly, then chosen."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import joblib
import torch

from gru_optuna.errors import UserError
from gru_optuna.hyperparameters import Hyperparameters, Range
from gru_optuna.training.compiled.workspace import workspace_bytes
from gru_optuna.training.cpu import PREDICTED_TOGETHER, CPUEngine
from gru_optuna.training.network import Network
from gru_optuna.training.pool import Pool

if TYPE_CHECKING:
    from gru_optuna.data.dataset import Dataset
    from gru_optuna.hyperparameters import Searchable
    from gru_optuna.spec import Specification

SLOTS_A_THREAD = 4
"""Enough that no thread waits long at an epoch's end, few enough that proposals learn in time."""

MEMORY_SHARE = 0.5
"""Of the memory that is free at the start; more slots than fit are not opened."""

# A measurement is to take a moment, however large the study.
_MEASURED_ROWS = 256
_MEASURED_HIDDEN_SIZE = 64
_FLOAT = 4


@dataclass(frozen=True)
class Size:
    """What a worker on a CPU was given, or chose."""

    threads: int
    slots: int
    memory: int  # bytes at most, for all slots and threads of the study's largest network


def choose_size(
    spec: Specification,
    dataset: Dataset,
    threads: int | None = None,
    slots: int | None = None,
    workers: int = 1,
) -> Size:
    """Threads and slots of a worker, one of so many on this machine; what is given stays.

    Raises
    ------
    UserError
        If even one slot of the study's largest network doesn't fit into the free memory.
    """
    largest = largest_hyperparameters(spec)
    network = Network.of(largest, dataset.channels, len(dataset.classes))
    if threads is None and workers > 1:
        threads = max(1, joblib.cpu_count() // workers)
    elif threads is None:
        threads = _measure_threads(spec, dataset, joblib.cpu_count())
    a_slot = 4 * network.size() * _FLOAT  # weights, two moments, the best epoch's weights
    rows = max(min(largest.batch_size, len(dataset.train)), PREDICTED_TOGETHER)
    a_thread = workspace_bytes(network, rows, dataset.train.values.shape[1])
    # An epoch's dropout masks, twice: as they are drawn, and joined.
    a_thread += 2 * network.layers * len(dataset.train) * network.features * _FLOAT
    room = MEMORY_SHARE * _free_memory() / workers
    if slots is None:
        most = int((room - threads * a_thread) / a_slot)
        slots = min(SLOTS_A_THREAD * threads, most)
        if slots < 1:
            raise UserError(
                f"the largest network of this study (hidden_size = {largest.hidden_size}, "
                f"layers = {largest.layers}) needs {(a_slot + a_thread) / 2**20:.0f} MiB a "
                f"thread, and {room / 2**20:.0f} MiB may be used. Take smaller networks, "
                f"a smaller batch_size, or fewer threads."
            )
    return Size(threads, slots, slots * a_slot + threads * a_thread)


def largest_hyperparameters(spec: Specification) -> Hyperparameters:
    """A trial that needs as much memory as any of this study can."""
    model, search = spec.model, spec.search
    return Hyperparameters(
        hidden_size=_largest(model.hidden_size),
        layers=_largest(model.layers),
        bidirectional=model.bidirectional not in (False, [False]),
        pooling="last",
        learning_rate=1e-3,
        optimizer="adam",
        decay="constant",
        clip_norm=1.0,
        initializer="xavier_uniform",
        l1=0.0,
        l2=0.0,
        dropout=0.1,
        batch_size=_largest(search.batch_size),
    )


def _measure_threads(spec: Specification, dataset: Dataset, cores: int) -> int:
    """How many threads train most epochs a second, on a few rows of the real data."""
    some = torch.arange(min(_MEASURED_ROWS, len(dataset.train)))
    sample = replace(
        dataset, train=dataset.train.rows(some), validation=dataset.train.rows(some[:8])
    )
    largest = largest_hyperparameters(spec)
    hyperparameters = replace(
        largest, hidden_size=min(largest.hidden_size, _MEASURED_HIDDEN_SIZE), layers=1, dropout=0.0
    )
    rates: dict[int, float] = {}
    for threads in sorted({1, max(1, cores // 2), cores}):
        pool = Pool(spec, sample, CPUEngine(spec, sample, threads))
        for number in range(2 * threads):
            pool.admit(hyperparameters, seed=number)
        pool.train_epoch()  # allocates
        began = time.perf_counter()
        pool.train_epoch()
        rates[threads] = 2 * threads / (time.perf_counter() - began)
    # A busy moment must not cost a long study its cores: fewer only if they are clearly faster.
    return max(rates, key=lambda threads: rates[threads] * (1.25 if threads == cores else 1))


def _largest(value: Searchable) -> int:
    if isinstance(value, Range):
        return int(value.high)
    values = value if isinstance(value, list) else [value]
    return max(int(one) for one in values)


def _free_memory() -> int:
    if "SC_AVPHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return 4 * 2**30  # not told on macOS and Windows
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

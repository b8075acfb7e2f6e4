"""Chooses the number of threads and slots for a machine and a study, after a short measurement."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import joblib
import torch

from gru_optuna.errors import UserError
from gru_optuna.hyperparameters import Hyperparameters
from gru_optuna.machine import free_memory
from gru_optuna.study_file.searchable import Range
from gru_optuna.training.draws import STRENGTHS, augments
from gru_optuna.training.engines.compiled.workspace import workspace_bytes
from gru_optuna.training.engines.cpu import PREDICTED_TOGETHER, CPUEngine, stretch_of
from gru_optuna.training.network import Network
from gru_optuna.training.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.study_file import Specification
    from gru_optuna.study_file.searchable import Searchable

SLOTS_A_THREAD = 4
"""Enough that no thread waits long at an epoch's end, few enough that proposals learn in time."""

MEMORY_SHARE = 0.5
"""Share of the memory free at the start that slots and threads may take."""

# Bounds that keep a measurement short, however large the study.
_MEASURED_ROWS = 256
_MEASURED_HIDDEN_SIZE = 64
_FLOAT = 4
_SIZES = ("vocabulary", "embedding_size", "hidden_size", "layers", "batch_size", "max_tokens")


@dataclass(frozen=True)
class Size:
    """The size of a worker's pool, as given or as measured."""

    threads: int
    slots: int
    memory: int | None  # most bytes for all slots and threads; None: unknown


def choose_size(
    spec: Specification,
    datasets: Sequence[Dataset],
    threads: int | None = None,
    slots: int | None = None,
    workers: int = 1,
) -> Size:
    """Chooses threads and slots for one of `workers` processes on this machine.

    The parameters are those of `make_pool`; threads and slots that are given stay.

    Raises
    ------
    UserError
        If even one slot of the study's largest network doesn't fit into the free memory.
    """
    largest = largest_hyperparameters(spec)
    if threads is None and workers > 1:
        threads = max(1, joblib.cpu_count() // workers)
    elif threads is None:
        threads = _measure_threads(spec, datasets[0], joblib.cpu_count())
    folds = [_memory(largest, dataset, spec) for dataset in datasets]
    a_slot = sum(fold.slot for fold in folds)
    # A thread keeps the workspaces of all folds, but trains one fold's epoch at a time.
    a_thread = sum(fold.workspace for fold in folds) + max(fold.epoch for fold in folds)
    room = MEMORY_SHARE * free_memory() / workers
    if slots is None:
        most = int((room - threads * a_thread) / a_slot)
        slots = min(SLOTS_A_THREAD * threads, most)
        if slots < 1:
            raise UserError(
                f"the largest network of this study ({_sizes_of(largest)}) needs "
                f"{(a_slot + a_thread) / 2**20:.0f} MiB per thread, and {room / 2**20:.0f} MiB "
                f"may be used. Use smaller networks, a smaller batch_size, or fewer threads."
            )
    return Size(threads, slots, slots * a_slot + threads * a_thread)


def largest_hyperparameters(spec: Specification) -> Hyperparameters:
    """The hyperparameters of a trial that needs as much memory as any of this study."""
    searched = dict(spec.searchable())
    sizes: dict[str, Any] = {
        name: int(_largest(searched[name])) for name in _SIZES if name in searched
    }
    strengths: dict[str, Any] = {
        name: _largest(searched[name]) for name in STRENGTHS if name in searched
    }
    return Hyperparameters(
        bidirectional=searched["bidirectional"] not in (False, [False]),
        pooling="last",
        learning_rate=1e-3,
        optimizer="adam",
        decay="constant",
        clip_norm=1.0,
        initializer="xavier_uniform",
        l1=0.0,
        l2=0.0,
        dropout=0.1,
        **sizes,
        **strengths,
    )


def refuse_impossible_constraints(spec: Specification, dataset: Dataset) -> None:
    """Refuses constraints that even the smallest network of a study breaks.

    Raises
    ------
    UserError
        If there is no network that keeps to them.
    """
    if (most := spec.most_parameters) is None:
        return
    searched = dict(spec.searchable())
    sizes: dict[str, Any] = {
        name: int(_smallest(searched[name]))
        for name in ("embedding_size", "hidden_size", "layers")
        if name in searched
    }
    smallest = replace(
        largest_hyperparameters(spec),
        bidirectional=searched["bidirectional"] in (True, [True]),
        pooling="mean_max" if searched["pooling"] in ("mean_max", ["mean_max"]) else "last",
        **sizes,
    )
    channels = min(channels for channels, _ in dataset.shapes(spec))
    network = Network.of(smallest, channels, dataset.outputs, dataset.vocabulary)
    if (size := network.size()) > most:
        raise UserError(
            f"the smallest network of this study ({_sizes_of(smallest, tuple(sizes))}) learns "
            f"{size:,} parameters, and its constraints allow {most:,}. Raise the limit, or search "
            f"smaller networks."
        )


class _Memory(NamedTuple):
    """Bytes that the largest network takes in one fold."""

    slot: int
    workspace: int  # for each thread
    epoch: int  # for each thread that trains


def _memory(largest: Hyperparameters, dataset: Dataset, spec: Specification) -> _Memory:
    """The most that any view of the dataset takes."""
    every = [
        _memory_of_view(largest, dataset, channels, longest)
        for channels, longest in dataset.shapes(spec)
    ]
    return _Memory(*(max(bytes_of_views) for bytes_of_views in zip(*every, strict=True)))


def _memory_of_view(
    largest: Hyperparameters, dataset: Dataset, channels: int, longest: int
) -> _Memory:
    network = Network.of(largest, channels, dataset.outputs, dataset.vocabulary)
    train = dataset.train
    rows = max(min(largest.batch_size, len(train)), PREDICTED_TOGETHER)
    # Masks and augmented rows of a stretch count twice: drawn batch by batch, then joined.
    stretch = min(stretch_of(largest.batch_size), len(train))
    epoch = 2 * network.layers * stretch * network.features * _FLOAT
    if augments(largest):
        a_step = channels * _FLOAT or train.steps.itemsize
        epoch += 2 * stretch * longest * a_step
    return _Memory(
        slot=4 * network.size() * _FLOAT,  # weights, two moments, the best epoch's weights
        workspace=workspace_bytes(network, rows, longest),
        epoch=epoch,
    )


def _measure_threads(spec: Specification, dataset: Dataset, cores: int) -> int:
    """The number of threads that trains most epochs per second, on a few rows of the real data."""
    chosen = torch.arange(min(_MEASURED_ROWS, len(dataset.train)))
    sample = dataset.changed(
        lambda view: replace(
            view, train=view.train.rows(chosen), validation=view.train.rows(chosen[:8])
        )
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
        pool.train_epoch()  # allocates the workspaces
        began = time.perf_counter()
        pool.train_epoch()
        rates[threads] = 2 * threads / (time.perf_counter() - began)
    # A busy moment must not cost a long study its cores: fewer only if they are clearly faster.
    return max(rates, key=lambda threads: rates[threads] * (1.25 if threads == cores else 1))


def _largest(value: Searchable) -> float:
    if isinstance(value, Range):
        return value.high
    return max(map(float, value if isinstance(value, list) else [value]))


def _smallest(value: Searchable) -> float:
    if isinstance(value, Range):
        return value.low
    return min(map(float, value if isinstance(value, list) else [value]))


_SIZES_TOLD = ("vocabulary", "embedding_size", "hidden_size", "layers")


def _sizes_of(h: Hyperparameters, names: Sequence[str] = _SIZES_TOLD) -> str:
    sizes = [(name, getattr(h, name)) for name in names]
    return ", ".join(f"{name} = {size}" for name, size in sizes if size is not None)

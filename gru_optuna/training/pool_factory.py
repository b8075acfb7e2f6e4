"""Makes the pool in which a study's trials train: its device, engines and slots."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch

from gru_optuna.errors import UserError
from gru_optuna.training.folded_pool import FoldedPool
from gru_optuna.training.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.study_file import Specification
    from gru_optuna.training.engines.base import Engine
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.training.sizing import Size


Device = Literal["auto", "cpu", "cuda"]
CUDA_SLOTS = 128
"""Trials that train together on a GPU: small GRUs fill it only side by side."""


def make_pool(
    spec: Specification,
    datasets: Sequence[Dataset],
    threads: int | None = None,
    slots: int | None = None,
    workers: int = 1,
) -> tuple[TrialPool, Size]:
    """Makes the pool of one of `workers` processes, on the device that holds the data.

    The first time on a machine the CPU's code is compiled, which takes a quarter of a minute.

    Parameters
    ----------
    spec
        The study.
    datasets
        As `load_folds` returns them: one, or one for each fold.
    threads, slots
        How many threads train, and how many trials they share; None: measured.
    workers
        How many processes share the machine.
    """
    from gru_optuna.training.sizing import Size, choose_size

    if datasets[0].train.device.type == "cpu":
        size = choose_size(spec, datasets, threads, slots, workers)
    else:
        size = Size(1, slots or CUDA_SLOTS, None)
    return pool_of(spec, datasets, make_engines(spec, datasets, size.threads)), size


def size_for_search(
    spec: Specification, size: Size, device: torch.device, workers: int = 1
) -> Size:
    """The size of a pool whose trials are proposed on what earlier ones have shown.

    At most a third of the trials train together, or one for each thread if that is more: what is
    proposed to the first ones is a guess. In a study that pauses trials, it is at most an eighth of
    them, or two for each thread; one that prunes finds as much with 8 slots as with 2 (both
    replayed in ``benchmarks/LOG.md``). A confirmation, which proposes nothing, fills all slots.

    Parameters
    ----------
    spec
        The study.
    size
        As `make_pool` has it.
    device
        The pool's. A GPU is fast only with many slots.
    workers
        How many processes share the trials.
    """
    if spec.budget.trials is None:
        return size
    trials, wanted = spec.budget.trials / workers, size.slots
    if spec.pruner.name == "thaw" and device.type == "cpu":
        wanted = max(2 * size.threads, int(trials / 8))
    most = max(1, size.threads, int(trials / 3))
    return replace(size, slots=min(size.slots, wanted, most))


def make_engines(
    spec: Specification, datasets: Sequence[Dataset], threads: int
) -> Sequence[Engine]:
    """One engine for each dataset, of the kind for the device that holds it.

    On a CPU, `threads` slots train at once, and as many threads may call an engine.
    """
    # Late imports: numba takes a third of a second, and a GPU doesn't need it.
    if datasets[0].train.device.type == "cpu":
        from gru_optuna.training.engines.cpu import CPUEngine

        return [CPUEngine(spec, dataset, threads) for dataset in datasets]
    from gru_optuna.training.engines.batched import BatchedEngine

    return [BatchedEngine(spec, dataset) for dataset in datasets]


def pool_of(
    spec: Specification, datasets: Sequence[Dataset], engines: Sequence[Engine]
) -> TrialPool:
    """A pool without trials over engines, which several pools may share."""
    pools = [Pool(spec, *pair) for pair in zip(datasets, engines, strict=True)]
    return FoldedPool(spec, pools) if spec.data.folds else pools[0]


def choose_device(device: Device) -> torch.device:
    """The device to train on.

    Raises
    ------
    UserError
        If CUDA is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here. Use --device cpu.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)

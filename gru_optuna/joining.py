"""One worker in this process: on a study's data, with an engine, until nothing is left to do."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from sqlalchemy.exc import SQLAlchemyError

from gru_optuna.data.dataset import load_folds
from gru_optuna.digest import describe, describing
from gru_optuna.errors import StudyError, UserError
from gru_optuna.search import study as studies
from gru_optuna.storage.beats import LEASE_SECONDS
from gru_optuna.storage.checkpoints import open_store
from gru_optuna.storage.database import checkpoint_folder, open_engine, open_storage
from gru_optuna.storage.leases import Host, Registration
from gru_optuna.storage.mirror import Mirror
from gru_optuna.storage.patience import patiently
from gru_optuna.storage.shelf import Shelf
from gru_optuna.storage.stores import CHECKPOINTS
from gru_optuna.training.cpu import CPUEngine
from gru_optuna.training.folds import FoldedPool
from gru_optuna.training.pool import Pool
from gru_optuna.training.sizing import choose_size
from gru_optuna.worker import Worker
from gru_optuna.worker.books import tells_of_storage
from gru_optuna.worker.events import EngineReady

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from threading import Event as Flag

    from optuna import Study

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.spec import Specification
    from gru_optuna.training.folds import TrialPool
    from gru_optuna.worker.events import Event

Device = Literal["auto", "cpu", "cuda"]

CUDA_SLOTS = 128
"""Trials that train together on a GPU: small GRUs fill it only side by side."""


@dataclass(frozen=True)
class Settings:
    """What may differ between the workers of one study.

    Parameters
    ----------
    device
        "auto" takes CUDA where there is one.
    threads, slots
        How many threads train, and how many trials they share; None: measured.
    lease_seconds
        How long the worker may be silent before others take its trials over.
    """

    device: Device = "auto"
    threads: int | None = None
    slots: int | None = None
    lease_seconds: float = LEASE_SECONDS


def join(
    name: str,
    url: str,
    folder: Path,
    settings: Settings,
    stop: Flag,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Worker:
    """Works on a study that somebody has begun, here or on another host.

    Parameters
    ----------
    name
        The study's. Its specification comes from the database.
    url
        The database's.
    folder
        What the paths of its data are relative to.
    settings
        Of this worker.
    stop
        Set it to end after the epoch in flight.
    on_event
        Told about every `Event`, in order.

    Raises
    ------
    UserError
        If the study or its data aren't there, or the data differ.
    StudyFailed
        If every trial fails.
    """
    study, spec = studies.load_to_work(open_storage(url), name)
    datasets = load_data(study, spec, folder)
    device = choose_device(settings.device)
    pool, ready = make_pool(spec, [data.to(device) for data in datasets], settings)
    return work(study, url, spec, pool, ready, settings, stop, on_event)


def load_data(study: Study, spec: Specification, folder: Path) -> list[Dataset]:
    """The data of a study that is there, as `load_folds` returns them.

    Raises
    ------
    UserError
        If they aren't there, or differ from those that the study was made with.
    """
    datasets = load_folds(spec, folder)
    if datasets[0].fingerprint != study.user_attrs["fingerprint"]:
        raise StudyError(
            f'study "{spec.name}": the data in {folder} differ from those it was made with '
            f"({spec.data.train}). Copy the same files here, or name their folder with --data."
        )
    return datasets


def work(
    study: Study,
    url: str,
    spec: Specification,
    pool: TrialPool,
    ready: EngineReady,
    settings: Settings,
    stop: Flag,
    on_event: Callable[[Event], None],
) -> Worker:
    """Works on an open study; returns the worker, which is done or was stopped."""
    on_event(ready)
    database = open_engine(url)
    try:
        host = Host.here(str(pool.device), ready.slots)
        registration = patiently(
            lambda: Registration(database, study._study_id, host, settings.lease_seconds),
            stop,
            tells_of_storage(on_event),
        )
        mirror = Mirror(study, database, registration, describing())
        shelf = open_shelf(study, url)
        worker = Worker(mirror, registration, shelf, spec, pool, ready.slots, stop, on_event)
        worker.run()
        # The others may be done before; and what a note says is no reason to fail.
        with suppress(SQLAlchemyError):
            describe(worker.study, database, study._study_id)
    finally:
        database.dispose()
    return worker


def open_shelf(study: Study, url: str) -> Shelf:
    """Where a study's checkpoints are kept, by all its workers."""
    place = study.user_attrs.get(CHECKPOINTS) or checkpoint_folder(url)
    return Shelf(study._study_id, open_store(str(place)) if place else None)


def make_pool(
    spec: Specification, datasets: Sequence[Dataset], settings: Settings, workers: int = 1
) -> tuple[TrialPool, EngineReady]:
    """Where trials train, on the device where the data lie, and how many, in one of `workers`.

    The first time on a machine the CPU's code is compiled, which takes a quarter of a minute.

    Parameters
    ----------
    spec
        The study.
    datasets
        As `load_folds` returns them: one, or one for each fold.
    settings
        Of this worker.
    workers
        How many processes share the machine.
    """
    if datasets[0].train.device.type != "cpu":
        from gru_optuna.training.batched import BatchedEngine

        ready = EngineReady(1, settings.slots or CUDA_SLOTS, None)
        pools = [Pool(spec, data, BatchedEngine(spec, data)) for data in datasets]
    else:
        size = choose_size(spec, datasets, settings.threads, settings.slots, workers)
        ready = EngineReady(size.threads, size.slots, size.memory)
        pools = [Pool(spec, data, CPUEngine(spec, data, size.threads)) for data in datasets]
    return FoldedPool(spec, pools) if spec.data.folds else pools[0], ready


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

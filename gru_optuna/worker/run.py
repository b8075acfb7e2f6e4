"""One worker in this process: on a study's data, with an engine, until nothing is left to do."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from gru_optuna.attributes import CHECKPOINTS, FINGERPRINT
from gru_optuna.checkpoints.stores import Folder, open_store
from gru_optuna.checkpoints.study_checkpoints import StudyCheckpoints
from gru_optuna.data.load import load_folds
from gru_optuna.errors import DatabaseLost, StudyError
from gru_optuna.report.notes import make_note_writer, write_note
from gru_optuna.search.pruners import make_pruner
from gru_optuna.search.samplers import make_sampler
from gru_optuna.storage.database.open import (
    checkpoint_folder,
    open_engine,
    open_storage,
    owner_of,
)
from gru_optuna.storage.database.retry import with_retries
from gru_optuna.storage.maintenance.backup import rescue
from gru_optuna.storage.mirror.mirror import Mirror
from gru_optuna.storage.optuna_private import study_id
from gru_optuna.storage.workers.heartbeats import LEASE_SECONDS
from gru_optuna.storage.workers.leases import Host, Registration
from gru_optuna.study.budget import larger
from gru_optuna.study.data_files import fetch_missing_files
from gru_optuna.study.study import about_formats, load_study, stored_specification
from gru_optuna.study.trial_attributes import CURVES
from gru_optuna.training.pool_factory import Device, choose_device, make_pool, size_for_search
from gru_optuna.worker.commits import storage_events
from gru_optuna.worker.events import EngineReady
from gru_optuna.worker.loop import Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from threading import Event

    from optuna import Study

    from gru_optuna.checkpoints.stores import ContentStore
    from gru_optuna.data.dataset import Dataset
    from gru_optuna.study_file import Budget, Specification
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.training.sizing import Size
    from gru_optuna.worker.events import WorkerEvent


@dataclass(frozen=True)
class WorkerSettings:
    """What may differ between the workers of one study.

    Parameters
    ----------
    device
        "auto" takes CUDA where there is one.
    threads, slots
        How many threads train, and how many trials train together; None: measured.
    lease_seconds
        How long the worker may be silent before others take over its trials.
    budget
        Of the command that starts the worker: another one may have given the study a smaller one
        before the worker joins. None: the study's.
    """

    device: Device = "auto"
    threads: int | None = None
    slots: int | None = None
    lease_seconds: float = LEASE_SECONDS
    budget: Budget | None = None


def join(
    name: str,
    url: str,
    folder: Path,
    settings: WorkerSettings,
    stop: Event,
    on_event: Callable[[WorkerEvent], None] = lambda event: None,
    rescue_folder: Path | None = None,
) -> Worker:
    """Works on a study that exists already, created here or on another host.

    Parameters
    ----------
    name
        The study's name. Its specification comes from the database.
    url
        The database's.
    folder
        What the paths of its data are relative to.
    settings
        This worker's settings.
    stop
        Set it to end after the epoch in flight.
    on_event
        Called with every `WorkerEvent`, in order.
    rescue_folder
        Where everything is saved if the database's file is lost; None: `folder`.

    Raises
    ------
    DatabaseLost
        If the database's file is deleted or replaced.
    UserError
        If the study or its data are missing, the data differ, or the checkpoints' place is refused.
    StudyFailed
        If every trial fails.
    """
    study, spec = load_study(open_storage(url), name)
    if settings.budget is not None:
        in_force = larger(settings.budget, spec.budget)
        spec = spec.model_copy(update={"budget": in_force})
    study.sampler, study.pruner = make_sampler(spec), make_pruner(spec)
    open_study_checkpoints(study, url)  # refused before anything is read or measured
    database = open_engine(url)
    try:
        files = fetch_missing_files(database, study, folder)
    finally:
        database.dispose()
    datasets = load_data(study, spec, files, settings.device)
    pool, size = make_pool(spec, datasets, settings.threads, settings.slots)
    return work(study, url, spec, pool, size, settings, stop, on_event, rescue_folder or folder)


def load_data(study: Study, spec: Specification, folder: Path, device: Device) -> list[Dataset]:
    """The data of an existing study, as `load_folds` returns them, on the device.

    Raises
    ------
    UserError
        If the data are missing, or differ from those that the study was made with.
    """
    where, datasets = choose_device(device), load_folds(spec, folder)
    if datasets[0].fingerprint != study.user_attrs[FINGERPRINT]:
        differently = about_formats(study, datasets[0].preprocessing.get("formats"))
        raise StudyError(
            f'study "{spec.name}": the data in {folder} differ from those it was made with '
            f"({spec.data.train}). {differently}Copy the original files there, or name their "
            f"folder with --data."
        )
    return [data.to(where) for data in datasets]


def work(
    study: Study,
    url: str,
    spec: Specification,
    pool: TrialPool,
    size: Size,
    settings: WorkerSettings,
    stop: Event,
    on_event: Callable[[WorkerEvent], None],
    rescue_folder: Path | None = None,
) -> Worker:
    """Works on an open study until it is done or stopped; returns the worker.

    If the database's file is lost, what it held is saved in `rescue_folder`, where there is one.
    """
    if settings.slots is None:
        size = size_for_search(spec, size, pool.device)
    on_event(EngineReady(size))
    # All workers pause by the same rungs: the study file may leave them to the size of the data.
    spec = spec.model_copy(update={"pruner": stored_specification(study).pruner})
    database = open_engine(url)
    try:
        host = Host.here(str(pool.device), size.slots)
        registration = with_retries(
            lambda: Registration(database, study_id(study), host, settings.lease_seconds),
            stop,
            storage_events(on_event),
        )
        mirror = with_retries(
            lambda: Mirror(study, database, registration, make_note_writer(), CURVES),
            stop,
            storage_events(on_event),
        )
        checkpoints = open_study_checkpoints(study, url)
        worker = Worker(mirror, registration, checkpoints, spec, pool, size.slots, stop, on_event)
        try:
            worker.run()
            # Other workers may have committed since; and a note is no reason to fail, or to stay.
            if not stop.is_set():
                with suppress(SQLAlchemyError):
                    write_note(worker.study, database, study_id(study))
        except DatabaseLost as lost:
            if rescue_folder is None:
                raise
            raise rescue(database, lost, rescue_folder, mirror.study, mirror.save_to) from None
    finally:
        database.dispose()
    return worker


def open_study_checkpoints(study: Study, url: str) -> StudyCheckpoints:
    """A study's checkpoints, in the place that all its workers use.

    Raises
    ------
    StorageError
        If the database names a place without our marker, or with that of another database, or it
        can't be reached.
    """
    store: ContentStore | None = None
    if place := study.user_attrs.get(CHECKPOINTS):
        store = open_store(place, owner_of(study))
    elif folder := checkpoint_folder(url):
        store = Folder(folder, default=True, owner=owner_of(study))
    if store is not None:
        store.require_marker()
    return StudyCheckpoints(study_id(study), store)

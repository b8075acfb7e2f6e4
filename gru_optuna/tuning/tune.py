"""From a study file to a result: reads, creates or resumes, works, confirms, reports."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna import study_file
from gru_optuna.attributes import WORKED_SECONDS
from gru_optuna.data.load import load_folds
from gru_optuna.errors import StorageError
from gru_optuna.launch.local import supervise
from gru_optuna.report.notes import describe_at
from gru_optuna.report.page import render_report
from gru_optuna.storage.database.open import exclusively, open_storage
from gru_optuna.storage.workers.heartbeats import LEASE_SECONDS
from gru_optuna.study import budget, confirmation
from gru_optuna.study.study import create_or_resume, with_stored_defaults
from gru_optuna.study.summary import Summary, Winner, summarize
from gru_optuna.study.warm_start import WarmStart, begin_from, find_source
from gru_optuna.training.engines.cpu import is_compiled
from gru_optuna.training.pool_factory import Device, choose_device, make_pool
from gru_optuna.tuning.confirm import confirm
from gru_optuna.tuning.retrain import Abandoned
from gru_optuna.worker.events import EngineReady
from gru_optuna.worker.run import WorkerSettings, work
from gru_optuna.workspace import Workspace, storage_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna import Study

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.study_file import Specification
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.worker.events import WorkerEvent


@dataclass(frozen=True)
class RunStart:
    """What is known before the first trial."""

    spec: Specification
    storage: str
    device: str
    rows: tuple[int, int, int]  # training, validation, test; of the first fold
    before: Summary
    workers: int  # processes
    compiles: bool  # whether the training code has to be compiled for this machine first
    worked_seconds: float = 0.0  # that anybody has worked on the study before
    warm_start: WarmStart | None = None  # what was taken from another study just now


@dataclass(frozen=True)
class TuningResult:
    """What `tune` leaves."""

    summary: Summary
    report: Path | None  # None: interrupted before any trial was over
    interrupted: bool
    ran: int  # trials that ended meanwhile
    abandoned: bool = False  # left while an epoch was in flight, which a thread goes on with

    @property
    def best(self) -> Winner | None:
        """The winner, chosen on validation rows."""
        return self.summary.best


def tune(
    study: str | Path,
    *,
    trials: int | None = None,
    hours: float | None = None,
    storage: str | None = None,
    device: Device = "auto",
    workers: int = 1,
    threads: int | None = None,
    slots: int | None = None,
    checkpoints: str | None = None,
    from_study: str | None = None,
    lease_seconds: float = LEASE_SECONDS,
    overrides: Sequence[str] = (),
    report: Path | None = None,
    stop: threading.Event | None = None,
    on_open: Callable[[RunStart], None] = lambda opening: None,
    on_event: Callable[[WorkerEvent], None] = lambda event: None,
) -> TuningResult:
    """Creates a study from its file, or goes on with it, until its budget is spent.

    Parameters
    ----------
    study
        The study file (TOML).
    trials, hours
        The budget in all, over every run, instead of the file's.
    storage
        URL of the database; else ``GRU_OPTUNA_STORAGE``, else the workspace's own.
    device
        "auto" takes CUDA where there is one.
    workers
        How many processes work here. One works in this process.
    threads, slots
        How many threads train in each worker, and how many trials they share; else measured.
    checkpoints
        A folder or ``s3://BUCKET/PREFIX`` for all workers of the study, from now on; else as
        before, or beside a SQLite file, or in a PostgreSQL database.
    from_study
        Another study, ``NAME`` or ``URL#NAME``, whose best trials are tried first, once.
    lease_seconds
        How long a worker may be silent before the others take its trials over.
    overrides
        ``section.key=value``, as ``--set``.
    report
        Folder of the report; else ``dashboards/NAME`` in the workspace.
    stop
        Set it to end after the epoch in flight; the same call goes on later.
    on_open, on_event
        Told what is about to begin, and everything that happens.

    Raises
    ------
    UserError
        If file, data, storage or study can't be used; the message says what to do.
    StudyFailed
        If every trial fails.

    Examples
    --------
    >>> tune("studies/japanese-vowels.toml", trials=50).best.value  # doctest: +SKIP
    1.0
    """
    path = Path(study)
    limits = {"budget.trials": trials, "budget.hours": hours}
    given = [f"{key}={value}" for key, value in limits.items() if value is not None]
    spec = study_file.load(path, [*overrides, *given])
    workspace = Workspace.around(path.parent)
    url = storage_url(storage, workspace)
    with suppress(StorageError):  # nothing is made yet, or said when it is opened to write
        spec = with_stored_defaults(spec, open_storage(url))
    settings = WorkerSettings(device, threads, slots, lease_seconds)
    where = choose_device(device)
    datasets = load_folds(spec, path.parent)
    first = datasets[0]
    # Before anything is made: a source that can't be used leaves no study behind.
    source = None if from_study is None else find_source(from_study, url, spec)
    backend = open_storage(url, create=True)
    # Two that begin the same study at once: one makes it, the other one finds it whole.
    with exclusively(url, f"study-{spec.name}"):
        optuna_study = create_or_resume(
            backend,
            spec,
            first.fingerprint,
            checkpoints=checkpoints,
            baselines=_to_beat(datasets),
        )
        before = summarize(optuna_study, spec)
        warm_start = None if source is None else begin_from(optuna_study, spec, source)
    splits = (first.train, first.validation, first.test or ())
    rows = (len(splits[0]), len(splits[1]), len(splits[2]))
    compiles = where.type == "cpu" and not is_compiled()
    worked = float(optuna_study.user_attrs.get(WORKED_SECONDS, 0.0))
    on_open(RunStart(spec, url, str(where), rows, before, workers, compiles, worked, warm_start))
    datasets = [data.to(where) for data in datasets]
    stop = stop or threading.Event()
    abandoned = False
    if _trials_to_train(optuna_study, spec):
        if workers > 1:
            # Sized and compiled once, before all of them do.
            _, size = make_pool(spec, datasets, settings.threads, settings.slots, workers)
            on_event(EngineReady(size))
            each = replace(settings, threads=size.threads, slots=size.slots)
            supervise(optuna_study, url, path.parent, workers, each, stop, on_event)
        else:
            pool, size = make_pool(spec, datasets, settings.threads, settings.slots)
            worker = work(optuna_study, url, spec, pool, size, settings, stop, on_event)
            abandoned = worker.abandoned
            settings = replace(settings, threads=size.threads, slots=size.slots)
    if not stop.is_set() and _to_confirm(optuna_study, spec):
        pool, size = make_pool(spec, datasets, settings.threads, settings.slots)
        try:
            _confirm(optuna_study, url, spec, pool, size.slots, stop, on_event)
        except Abandoned:
            abandoned = True
    describe_at(optuna_study, url)  # with what was confirmed
    summary = summarize(optuna_study, spec)
    ended = _ended(summary)
    folder = report or workspace.report_folder(spec.name)
    page = render_report(optuna_study, spec, folder) if ended else None
    return TuningResult(summary, page, stop.is_set(), ended - _ended(before), abandoned)


def _to_beat(datasets: Sequence[Dataset]) -> dict[str, float]:
    """What predictions that learn nothing reach; of folds, their mean, as the trials' values are.

    Each fold finds its own season, and what not all of them have is no mean.
    """
    first, *others = (data.baselines for data in datasets)
    return {
        name: fmean([value, *(other[name] for other in others)])
        for name, value in first.items()
        if all(name in other for other in others)
    }


def _trials_to_train(study: Study, spec: Specification) -> bool:
    if study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        return True
    worked = float(study.user_attrs.get(WORKED_SECONDS, 0.0))
    return budget.trials_left(study, spec) > 0 and budget.seconds_left(spec, worked) > 0


def _to_confirm(study: Study, spec: Specification) -> bool:
    return bool(confirmation.finalists(study, spec)) and not confirmation.is_current(
        confirmation.read(study), study, spec
    )


def _confirm(
    study: Study,
    url: str,
    spec: Specification,
    pool: TrialPool,
    slots: int,
    stop: threading.Event,
    on_event: Callable[[WorkerEvent], None],
) -> None:
    """Within the study's hours, of which its own time counts."""
    worked, began = float(study.user_attrs.get(WORKED_SECONDS, 0.0)), time.monotonic()

    def seconds() -> float:
        return worked + time.monotonic() - began

    try:
        confirm(
            study, url, spec, pool, slots, stop, on_event,
            out_of_time=lambda: budget.seconds_left(spec, seconds()) <= 0,
        )  # fmt: skip
    finally:
        study.set_user_attr(WORKED_SECONDS, round(seconds(), 3))


def _ended(summary: Summary) -> int:
    return sum(summary.trials[state] for state in ("complete", "pruned", "failed"))

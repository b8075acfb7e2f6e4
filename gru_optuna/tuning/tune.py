"""Tunes a study: reads its file, creates or resumes it, searches, confirms and reports."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from gru_optuna import study_file
from gru_optuna.attributes import CONFIRMATION_SECONDS, WORKED_SECONDS
from gru_optuna.data.load import load_folds
from gru_optuna.data.readers.column_formats import TableFormats
from gru_optuna.data.readers.delimited import notes_on
from gru_optuna.errors import DatabaseLost, GRUOptunaError, StorageError, StudyFailed
from gru_optuna.launch.kubernetes import manifest
from gru_optuna.launch.launchers import run_workers
from gru_optuna.launch.placement import LauncherName, Placement, WorkerRequest
from gru_optuna.report.notes import describe_at
from gru_optuna.storage.database.open import (
    exclusively,
    open_engine,
    open_storage,
    watch_file,
)
from gru_optuna.storage.maintenance.backup import rescue
from gru_optuna.storage.workers.heartbeats import LEASE_SECONDS
from gru_optuna.storage.workers.leases import Host
from gru_optuna.study import budget
from gru_optuna.study.confirmation import finalists, is_current, read_decision
from gru_optuna.study.data_files import fetch_missing_files, store_files
from gru_optuna.study.study import create_or_resume, load_study, with_stored_defaults
from gru_optuna.study.summary import Summary, Winner, summarize_stored
from gru_optuna.study.warm_start import Source, WarmStart, begin_from, begin_from_file, find_source
from gru_optuna.tracking import BackgroundTracker, open_tracker
from gru_optuna.training.engines.cpu import is_compiled
from gru_optuna.training.pool_factory import Device, choose_device, make_pool, size_for_search
from gru_optuna.training.sizing import refuse_impossible_constraints
from gru_optuna.tuning.baselines import BaselineFits
from gru_optuna.tuning.confirm import Place, confirm
from gru_optuna.tuning.confirmation_runs import lease_runs
from gru_optuna.tuning.export import make_winner
from gru_optuna.tuning.retrain import Abandoned
from gru_optuna.worker.events import BudgetChanged, EngineReady
from gru_optuna.worker.run import WorkerSettings, load_data, open_study_checkpoints, work
from gru_optuna.workspace import Workspace, storage_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from optuna import Study

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.storage.workers.run_leases import RunLeases
    from gru_optuna.study_file import Confirmation, Specification
    from gru_optuna.tracking import Tracker
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.training.sizing import Size
    from gru_optuna.tuning.confirm import Role
    from gru_optuna.worker.events import WorkerEvent


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunStart:
    """What is known before the first trial starts."""

    spec: Specification
    storage: str
    device: str
    rows: tuple[int, int, int]  # training, validation, test; of the first fold
    before: Summary
    workers: int  # processes
    compiles: bool  # whether the training code has to be compiled for this machine first
    worked_seconds: float = 0.0  # spent on the study before, by all workers
    warm_starts: tuple[WarmStart, ...] = ()  # what was just taken from the file or other studies
    notes: tuple[str, ...] = ()  # how the files are read, where that isn't plain


@dataclass(frozen=True)
class TuningResult:
    """What `tune` returns."""

    summary: Summary
    report: Path | None  # None: interrupted, or no trial ended
    interrupted: bool
    ran: int  # trials that ended in this run
    abandoned: bool = False  # left while a thread was still training an epoch
    worked_seconds: float = 0.0  # on the study in all, by all workers
    confirmation_seconds: float = 0.0  # of these, what the confirmation took
    manifest: dict[str, Any] | None = None  # of the job, where it was only to be described

    @property
    def best(self) -> Winner | None:
        """The winner, chosen on validation rows."""
        return self.summary.best


def tune(
    study: str | Path,
    *,
    trials: int | None = None,
    hours: float | None = None,
    epochs: int | None = None,
    storage: str | None = None,
    device: Device = "auto",
    workers: int = 1,
    on: LauncherName = "local",
    cpus_per_worker: int | None = None,
    gpus_per_worker: int | None = None,
    image: str | None = None,
    apply: bool = True,
    threads: int | None = None,
    slots: int | None = None,
    checkpoints: str | None = None,
    from_study: str | None = None,
    lease_seconds: float = LEASE_SECONDS,
    overrides: Sequence[str] = (),
    report: Path | None = None,
    track: str | Tracker | None = None,
    stop: threading.Event | None = None,
    on_open: Callable[[RunStart], None] = lambda opening: None,
    on_event: Callable[[WorkerEvent], None] = lambda event: None,
) -> TuningResult:
    """Creates a study from its file, or resumes it, and works on it until its budget is spent.

    Parameters
    ----------
    study
        The study file (TOML).
    trials, hours, epochs
        The budget over all runs of this study together, in place of the file's.
    storage
        URL of the database. None: ``GRU_OPTUNA_STORAGE``, or else the workspace's own.
    device
        "auto" takes CUDA where there is one.
    workers
        How many processes to start. 1 on this machine works in this process.
    on
        Where they run: on this machine, or placed by a cluster.
    cpus_per_worker, gpus_per_worker
        What a cluster gives each of them. None: its default, and no GPU.
        On this machine, a worker trains with this many threads, and on this device.
    image
        Of the containers on Kubernetes; None: that of this version.
    apply
        Whether to create the job on Kubernetes. Otherwise the result only holds its manifest.
    threads, slots
        How many threads each worker trains with, and how many trials they share; None: measured,
        or as many threads as `cpus_per_worker`.
    checkpoints
        A folder or ``s3://BUCKET/PREFIX`` for all workers of the study, from now on. None: where
        they were, which is next to a SQLite file or in a PostgreSQL database at first.
    from_study
        Another study, ``NAME`` or ``URL#NAME``, whose best trials are tried first, once.
    lease_seconds
        How long a worker may be silent before the others take over its trials.
    overrides
        ``section.key=value``, as ``--set``.
    report
        Folder of the report. None: ``dashboards/NAME`` in the workspace.
    track
        An experiment tracker to report to: ``"mlflow"``, ``"module:Class"``, or an object
        with the methods of `gru_optuna.tracking.Tracker`. It never holds up the study.
    stop
        Set it to end after the epoch in flight, without a report; the same call resumes later.
    on_open, on_event
        Called with what is about to begin, and with every event.

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
    workspace = Workspace.around(path.parent)
    url = storage_url(storage, workspace)
    tracker = None
    if track is not None:
        tracker = open_tracker(track) if isinstance(track, str) else BackgroundTracker(track)
    spec = _read(path, url, overrides, trials=trials, hours=hours, epochs=epochs)
    request = WorkerRequest(workers, on, cpus_per_worker, gpus_per_worker, image, apply)
    request.require_sense(url)
    # A login node has none of the devices that the workers train on.
    where = choose_device(device if on == "local" else "cpu")
    datasets = load_folds(spec, path.parent)
    refuse_impossible_constraints(spec, datasets[0])
    # Before anything is created: a source that can't be used leaves no study behind.
    source = None if from_study is None else find_source(from_study, url, spec)
    opened, before, warm_starts = open_or_create(url, spec, datasets, checkpoints, source)
    first = datasets[0]
    on_open(
        RunStart(
            spec,
            url,
            device=str(where) if on == "local" else on,
            rows=(len(first.train), len(first.validation), len(first.test or ())),
            before=before,
            workers=workers,
            compiles=on == "local" and where.type == "cpu" and not is_compiled(),
            worked_seconds=_worked_seconds(opened),
            warm_starts=warm_starts,
            notes=tuple(_notes(spec, path.parent, first)),
        )
    )
    if tracker:
        tracker.begin(opened, spec)
        on_event = _both(on_event, tracker.happened)
    baselines = BaselineFits(opened, url, spec, path.parent)
    run = StudyRun(
        opened,
        url,
        spec,
        [data.to(where) for data in datasets],
        path.parent,
        WorkerSettings(device, threads or cpus_per_worker, slots, lease_seconds),
        stop or threading.Event(),
        on_event,
        report or workspace.report_folder(spec.name),
        baselines,
    )
    if not request.apply:
        return TuningResult(before, None, False, 0, manifest=manifest(run.place(request)))
    with closing(baselines):
        summary = run.spend_budget(request)
    page = run.render_report(summary)
    if tracker:
        run.end_tracking(tracker, summary, page)
    ran = _ended(summary) - _ended(before)
    confirming = float(opened.user_attrs.get(CONFIRMATION_SECONDS, 0.0))
    return TuningResult(
        summary, page, run.stop.is_set(), ran, run.abandoned, _worked_seconds(opened), confirming
    )


def confirm_joined(
    name: str,
    place: Place,
    stop: threading.Event,
    on_event: Callable[[WorkerEvent], None],
    asked: Confirmation,
    role: Role,
) -> bool:
    """Confirms the winner of a study whose search is over, as one of its workers.

    Parameters
    ----------
    name
        The study's name.
    place
        Where the study is, and how this worker trains.
    stop, on_event
        As in `tune`.
    asked
        How many candidates and seeds.
    role
        As in `confirm`.

    Returns
    -------
    bool
        Whether a thread was still training an epoch when it left.

    Raises
    ------
    UserError
        If the study or its data are missing, or the data differ.
    """
    study, spec = load_study(open_storage(place.url), name)
    if place.settings.budget is not None:
        in_force = budget.larger(place.settings.budget, spec.budget)
        spec = spec.model_copy(update={"budget": in_force})
    spec = spec.model_copy(update={"confirmation": asked})
    if not _to_confirm(study, spec):
        return False
    with ExitStack() as held:
        # Before the data are read: the first one to be ready must not take the runs of the others.
        settings = place.settings
        host = Host.here(str(choose_device(settings.device)), settings.slots or 0)
        joining = lease_runs(study, place.url, host, settings.lease_seconds, stop, on_event)
        leases = held.enter_context(joining)
        engine = open_engine(place.url)
        held.callback(engine.dispose)
        folder = fetch_missing_files(engine, study, place.folder)
        datasets = load_data(study, spec, folder, place.settings.device)
        baselines = held.enter_context(closing(BaselineFits(study, place.url, spec, folder)))
        run = StudyRun(
            study, place.url, spec, datasets, folder, place.settings, stop, on_event,
            Path.cwd(), baselines,
        )  # fmt: skip
        run.confirm(role, leases)
        if not stop.is_set() and not _to_confirm(study, spec):
            describe_at(study, place.url)
        return run.abandoned


def _both(
    first: Callable[[WorkerEvent], None], second: Callable[[WorkerEvent], None]
) -> Callable[[WorkerEvent], None]:
    def happened(event: WorkerEvent) -> None:
        first(event)
        second(event)

    return happened


def _notes(spec: Specification, folder: Path, dataset: Dataset) -> Iterator[str]:
    """Sentences about lines of the files that were skipped, and about how columns are written."""
    for part in (spec.data.train, spec.data.validation, spec.data.test):
        if isinstance(part, str) and Path(part).suffix.lower() in (".csv", ".tsv"):
            yield from (f"{folder / part}: {note}" for note in notes_on(folder / part))
    formats = TableFormats.from_json(dataset.preprocessing.get("formats"))
    if formats.columns or formats.missing_values:
        yield f"{folder / spec.data.train}: read with {formats}"


def _read(path: Path, url: str, overrides: Sequence[str], **limits: float | None) -> Specification:
    """The study file; keys that it leaves out mean what they meant when its study was created."""
    given = [f"budget.{key}={value}" for key, value in limits.items() if value is not None]
    spec = study_file.load(path, [*overrides, *given])
    with suppress(StorageError):  # there is no database yet, or creating the study will say so
        return with_stored_defaults(spec, open_storage(url))
    return spec


def open_or_create(
    url: str,
    spec: Specification,
    datasets: Sequence[Dataset],
    checkpoints: str | None = None,
    source: Source | None = None,
) -> tuple[Study, Summary, tuple[WarmStart, ...]]:
    """The study, what it holds, and the configurations just queued as its first trials."""
    storage = open_storage(url, create=True)
    # Two processes that start the same study: one creates it, the other finds it whole.
    with exclusively(url, f"study-{spec.name}"):
        study = create_or_resume(
            storage,
            spec,
            datasets[0].fingerprint,
            checkpoints=checkpoints,
            baselines=_to_beat(datasets),
            formats=datasets[0].preprocessing.get("formats"),
            rows=len(datasets[0].train),
        )
        before = summarize_stored(study, spec)
        starts = [
            begin_from_file(study, spec),
            None if source is None else begin_from(study, spec, source),
        ]
        return study, before, tuple(start for start in starts if start is not None)


@dataclass
class StudyRun:
    """An open study, and what is done with it here until its budget is spent."""

    study: Study
    url: str
    spec: Specification
    datasets: list[Dataset]  # on the device
    folder: Path
    settings: WorkerSettings
    stop: threading.Event
    on_event: Callable[[WorkerEvent], None]
    report_folder: Path  # also of the copy that is rescued if the database is lost
    baselines: BaselineFits
    abandoned: bool = False
    searched: Study | None = None  # in memory, after the search in this process

    def spend_budget(self, request: WorkerRequest) -> Summary:
        """Searches, confirms and writes the notes; rescues what is known if the database is lost.

        Raises
        ------
        DatabaseLost
            Naming the copy that was rescued.
        """
        engine = watch_file(self.study, self.url)
        try:
            self.search(request)
            self.baselines.record()
            # What counts from here on: another process may have given a larger one.
            before, self.spec = self.spec, budget.renewed(self.spec, self.study.user_attrs)
            # A watcher reports it itself.
            if self.spec.budget != before.budget and request.is_here:
                limits = self.spec.budget
                self.on_event(BudgetChanged(limits.trials, limits.hours, limits.epochs))
            self.confirm()
            # A run that was asked to stop draws nothing: the next one does.
            if not self.stop.is_set():
                describe_at(self.study, self.url)  # with what was confirmed
            return summarize_stored(self.study, self.spec)
        except DatabaseLost as lost:
            if lost.saved:
                raise
            raise rescue(engine, lost, self.report_folder, self.searched) from None

    def _report(self, event: WorkerEvent) -> None:
        """Passes an event on, and begins to fit simple models once the engine is ready."""
        # Not before: the engine measures how fast this machine trains.
        if isinstance(event, EngineReady):
            self.baselines.start()
        self.on_event(event)

    def render_report(self, summary: Summary) -> Path | None:
        """Renders the report, unless no trial has ended or the run was asked to stop."""
        if self.stop.is_set() or not _ended(summary):
            return None
        # Imported when there is something to draw: Plotly would hold up the first trial.
        from gru_optuna.report.page import render_report

        return render_report(self.study, self.spec, self.report_folder)

    def end_tracking(self, tracker: BackgroundTracker, summary: Summary, page: Path | None) -> None:
        """Gives the tracker the whole study, and copies of its report and of the winner."""
        with tempfile.TemporaryDirectory() as folder:
            files = {} if page is None else {"report": page.parent}
            if not self.stop.is_set() and summary.best is not None:
                place = Place(self.url, self.folder, self.settings)
                try:
                    bundle = make_winner(self.spec.name, place, self.stop, refit=None)
                    bundle.save(Path(folder) / "bundle")
                    files["bundle"] = Path(folder) / "bundle"
                except (GRUOptunaError, Abandoned) as error:  # the study is complete without it
                    logger.warning("the tracker gets no bundle: %s", error)
            tracker.end(self.study, files, finished=not self.stop.is_set())

    def search(self, request: WorkerRequest) -> None:
        """Trains trials, in this process or in others, until the budget is spent."""
        worked = _worked_seconds(self.study)
        # Workers elsewhere also share the runs of the confirmation.
        confirms = not request.is_here and not budget.is_over(self.spec, worked)
        if not _trials_to_train(self.study, self.spec) and not (
            confirms and _to_confirm(self.study, self.spec)
        ):
            return
        open_study_checkpoints(self.study, self.url)  # refused before anything is measured
        if not request.is_here:
            self._search_elsewhere(request)
            return
        pool, size = self._make_pool()
        worker = work(
            self.study, self.url, self.spec, pool, size, self.settings, self.stop, self._report,
            self.report_folder,
        )  # fmt: skip
        self.abandoned, self.searched = worker.abandoned, worker.study
        self.spec = worker.spec  # with the budget that it last knew of
        self.settings = replace(self.settings, threads=size.threads, slots=size.slots)

    def _search_elsewhere(self, request: WorkerRequest) -> None:
        placement = self.place(request)
        if request.on == "local":
            # Sized and compiled once, before all of them do.
            pool, size = self._make_pool(request.count)
            if self.settings.slots is None:
                size = size_for_search(self.spec, size, pool.device, request.count)
            self._report(EngineReady(size))
            measured = replace(placement.settings, threads=size.threads, slots=size.slots)
            placement = replace(placement, settings=measured)
        run_workers(placement, self.study, self.stop, self._report)
        unfinished = request.on != "local" and _trials_to_train(self.study, self.spec)
        if unfinished and not self.stop.is_set():
            raise StudyFailed(
                f"the workers of {placement.name} have ended before the study was done: somebody "
                f"removed the job. Run the same command to start others."
            )

    def place(self, request: WorkerRequest) -> Placement:
        """What a launcher starts; a cluster that doesn't see the study's files can fetch them."""
        if not request.shares_files:
            engine = open_engine(self.url)
            try:
                store_files(engine, self.study, self.spec, self.folder)
            finally:
                engine.dispose()
        return Placement(
            self.spec.name,
            self.url,
            self.folder if request.shares_files else None,
            replace(self.settings, budget=self.spec.budget),
            request,
            Workspace.around(self.folder).logs,
            confirmation=self.spec.confirmation if self.spec.confirmation.candidates else None,
        )

    def confirm(self, role: Role = "wait", leases: RunLeases | None = None) -> None:
        """Confirms the winner within the study's hours, in which this time counts."""
        if self.stop.is_set() or not _to_confirm(self.study, self.spec):
            return
        clocks = (WORKED_SECONDS, CONFIRMATION_SECONDS)
        before = {key: float(self.study.user_attrs.get(key, 0.0)) for key in clocks}
        worked, began = before[WORKED_SECONDS], time.monotonic()
        if budget.is_over(self.spec, worked):
            return
        pool, size = self._make_pool()
        if role != "share":
            self.baselines.start()

        def seconds() -> float:
            return worked + time.monotonic() - began

        try:
            confirm(
                self.study, self.url, self.spec, pool, size.slots, self.stop, self.on_event,
                seconds_left=lambda: budget.seconds_left(self.spec, seconds())
                - budget.seconds_for_report(self.spec),
                baselines=self.baselines, role=role, leases=leases,
                lease_seconds=self.settings.lease_seconds,
            )  # fmt: skip
        except Abandoned:
            self.abandoned = True
        finally:
            # The runs are counted as they end; what follows from them is counted here.
            took = time.monotonic() - began
            counted = self.study.user_attrs
            for key in clocks if role != "share" else ():
                known = float(counted.get(key, 0.0))
                self.study.set_user_attr(key, round(max(known, before[key] + took), 3))

    def _make_pool(self, workers: int = 1) -> tuple[TrialPool, Size]:
        settings = self.settings
        return make_pool(self.spec, self.datasets, settings.threads, settings.slots, workers)


def _to_beat(datasets: Sequence[Dataset]) -> dict[str, float]:
    """What predictions that learn nothing reach: the mean over folds, as for trials' values.

    Each fold finds its own season; a baseline that some folds lack has no mean and is left out.
    """
    first, *others = (data.baselines for data in datasets)
    return {
        name: fmean([value, *(other[name] for other in others)])
        for name, value in first.items()
        if all(name in other for other in others)
    }


def _trials_to_train(study: Study, spec: Specification) -> bool:
    """Whether trials are running, here or elsewhere, or the budget has room for more."""
    if study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        return True
    worked = _worked_seconds(study)
    return budget.trials_left(study, spec) > 0 and not budget.is_over(spec, worked)


def _to_confirm(study: Study, spec: Specification) -> bool:
    return bool(finalists(study, spec)) and not is_current(read_decision(study), study, spec)


def _worked_seconds(study: Study) -> float:
    return float(study.user_attrs.get(WORKED_SECONDS, 0.0))


def _ended(summary: Summary) -> int:
    return sum(summary.trials[state] for state in ("complete", "pruned", "failed"))

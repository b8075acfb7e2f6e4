"""A worker of the queue: works on every study of the database, and stays until it is stopped.

It takes the study with the fewest workers, then the one that was left alone the longest, and
trains its trials as ``worker NAME`` does. Another thread looks meanwhile whether the study is still
wanted and whether others need a worker more; it then ends the turn after the epoch in flight, and
leases and checkpoints hand the trials over. Confirmations, exports and predictions are jobs
(``storage/jobs.py``), which go before trials; idle workers share the runs of a confirmation.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
import time
import traceback
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from gru_optuna.attributes import BUDGET
from gru_optuna.data.load import check_files, load_folds
from gru_optuna.errors import DatabaseLost, GRUOptunaError, StorageError, UserError
from gru_optuna.launch.placement import WorkerRequest
from gru_optuna.report.notes import describe_at
from gru_optuna.storage import jobs, uploads
from gru_optuna.storage.database.open import (
    begin_queue_change,
    open_engine,
    open_storage,
    watch_file,
)
from gru_optuna.storage.upload_places import require_usable
from gru_optuna.storage.workers.leases import Host
from gru_optuna.storage.workers.queue import QueueRegistration
from gru_optuna.study import submissions
from gru_optuna.study.data_files import Unavailable, below, fetch_files, named_files
from gru_optuna.study.study import load_study
from gru_optuna.study.summary import summarize_stored
from gru_optuna.training.pool_factory import choose_device
from gru_optuna.training.sizing import refuse_impossible_constraints
from gru_optuna.tuning.baselines import BaselineFits
from gru_optuna.tuning.confirm import Place
from gru_optuna.tuning.export import make_winner
from gru_optuna.tuning.retrain import Abandoned
from gru_optuna.tuning.tune import StudyRun, open_or_create
from gru_optuna.urls import masked_url
from gru_optuna.worker.events import EngineReady
from gru_optuna.worker.loop import EndOfTurn
from gru_optuna.worker.run import WorkerSettings, load_data
from gru_optuna.workspace import is_plain_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from threading import Event

    from optuna import Study

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.storage.jobs import Job
    from gru_optuna.study.submissions import QueuedStudy
    from gru_optuna.study_file import Specification
    from gru_optuna.worker.events import WorkerEvent

TURN_SECONDS = 300.0
"""How long a worker stays at a study while another one has no worker."""

JOB_SECONDS = 15.0
"""How long it stays while a job waits: somebody wants a bundle or predictions now."""

_IDLE_SECONDS = 1.0
"""Between two looks for something to do."""

_AWAY_SECONDS = 5.0
"""Between two attempts while the database can't be reached."""

Work: TypeAlias = "str | Job"
"""A study's name, or a job."""


@dataclass
class _Turn:
    """What the worker is doing now."""

    study: str
    job: Job | None
    stop: EndOfTurn
    began: float = math.inf  # when it could train: a turn that only reads the data helps nobody


class QueueWorker:
    """Works on all studies of a database.

    Parameters
    ----------
    url
        The database's.
    settings
        How it trains.
    leaving
        Set it to leave after the epoch in flight, or sooner if that takes long.
    say
        Called with each message for people, a sentence.
    on_event
        Called with every `WorkerEvent` of the studies that it works on.
    data
        The only folder below which it opens paths that stand in the database: those of studies
        that `tune` made. None: it opens none.
    turn_seconds
        How long it stays at a study while another one has no worker.

    Attributes
    ----------
    abandoned : bool
        Whether it left while a thread was still training an epoch.
    """

    def __init__(
        self,
        url: str,
        settings: WorkerSettings,
        leaving: Event,
        say: Callable[[str], None],
        on_event: Callable[[WorkerEvent], None] = lambda event: None,
        data: Path | None = None,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self.abandoned = False
        self._url, self._settings, self._leaving = url, settings, leaving
        self._say, self._on_event = say, on_event
        self._data, self._turn_seconds = data, turn_seconds
        open_storage(url)  # says what is wrong with it
        open_storage(url, create=True)  # with the tables of this version
        self._engine = open_engine(url)
        require_usable(self._engine)
        host = Host.here(str(choose_device(settings.device)), settings.slots or 0)
        self._registration = QueueRegistration(self._engine, host, settings.lease_seconds)
        self._turn: _Turn | None = None
        self._turning = threading.Lock()
        self._next: Work | None = None  # what the other thread has claimed
        self._sizes: dict[str, WorkerSettings] = {}  # measured in earlier turns
        self._skipped: dict[str, tuple[int, str]] = {}  # the submission's version, and why
        self._shared: set[int] = set()  # ids of the confirmations that it has joined

    def run(self) -> None:
        """Works until `leaving` is set.

        Raises
        ------
        DatabaseLost
            If the database's file is deleted or replaced.
        """
        over = threading.Event()
        watching = threading.Thread(target=self._watch, args=(over,), name="queue", daemon=True)
        watching.start()
        idle = False
        try:
            while not self._leaving.is_set() and not self.abandoned:
                try:
                    work = self._find_work()
                    if work is None:
                        if not idle:
                            self._say(f"waiting for studies in {masked_url(self._url)}")
                        self._leaving.wait(_IDLE_SECONDS)
                    else:
                        self._do(work)
                    idle = work is None
                except (SQLAlchemyError, StorageError) as error:
                    self._say(f"the database can't be used now, and is tried again: {error}")
                    self._leaving.wait(_AWAY_SECONDS)
        finally:
            over.set()
            with suppress(SQLAlchemyError, GRUOptunaError, OSError):
                if isinstance(self._next, jobs.Job):
                    jobs.give_back(self._engine, self._next)
                self._registration.leave()
            self._engine.dispose()

    # --- what to do next ---

    def _find_work(self) -> Work | None:
        work, self._next = self._next, None
        if work is not None:
            return work
        studies = self._workable()
        self._request_confirmations(studies)
        job = jobs.claim(self._engine, self._registration.worker_id, list(self._skipped))
        return job or self._choose(studies) or self._choose_confirmation(studies)

    def _choose_confirmation(self, studies: Sequence[QueuedStudy]) -> str | None:
        """A study that another worker confirms, whose runs this idle one shares, once each time."""
        for study in studies:
            if study.state == "confirming" and self._to_share(study.name):
                with self._engine.begin() as connection:
                    self._registration.move(connection, study.name)
                return study.name
        return None

    def _to_share(self, study: str) -> set[int]:
        """The confirmations of a study that others are at and this worker hasn't shared."""
        found = jobs.list_all(self._engine, study, "confirm")
        return {job.job_id for job in found if job.state == jobs.RUNNING} - self._shared

    def _workable(self) -> list[QueuedStudy]:
        """The studies that this worker hasn't found to be impossible here."""
        found = submissions.list_all(self._engine)
        version = {s.name: s.submission.version if s.submission else 0 for s in found}
        for name, (seen, _) in list(self._skipped.items()):
            if version.get(name) != seen:  # changed or deleted since
                del self._skipped[name]
        return [study for study in found if study.name not in self._skipped]

    def _request_confirmations(self, studies: Sequence[QueuedStudy]) -> None:
        for study in studies:
            if study.state == "confirming":
                # Of a study that `tune` made, only if this worker can do the job.
                with suppress(Unavailable):
                    if study.submission is None:
                        self._folder_of(study)
                    jobs.create(self._engine, study.name, "confirm", {"ended": study.ended})

    def _choose(self, studies: Sequence[QueuedStudy], leaving: str | None = None) -> str | None:
        """The study to work on, which this worker from now on does as others see it.

        With `leaving`, the present one: another that has no worker, or None to stay.
        """
        wanting = {study.name: study for study in studies if study.wants_work}
        if not wanting.keys() - {leaving}:
            return None
        with self._engine.begin() as connection:
            begin_queue_change(connection)
            at_work = submissions.count_workers(connection)
            if leaving is not None:
                stays = at_work[leaving] < 2 and not self._turn_is_over()
                wanting = {} if stays else {n: s for n, s in wanting.items() if not at_work[n]}
            if not wanting:
                return None
            # Of those that wait, the one that has waited longest; of new ones the oldest.
            study = min(
                wanting.values(), key=lambda study: (at_work[study.name], *study.waits_since)
            )
            self._registration.move(connection, study.name)
        return study.name

    def _turn_is_over(self, seconds: float | None = None) -> bool:
        limit = self._turn_seconds if seconds is None else min(seconds, self._turn_seconds)
        return self._turn is not None and time.monotonic() - self._turn.began >= limit

    # --- the other thread ---

    def _watch(self, over: Event) -> None:
        beaten = -self._registration.beat_seconds
        while not over.wait(min(_IDLE_SECONDS, self._registration.beat_seconds)):
            # If the database fails, the thread that trains says so.
            with suppress(SQLAlchemyError, GRUOptunaError, OSError):
                is_time = time.monotonic() - beaten >= self._registration.beat_seconds
                if is_time:
                    self._registration.beat()
                    beaten = time.monotonic()
                # What is claimed for the time after this turn is found at its end, or not claimed.
                with self._turning:
                    if self._turn is not None and not self._turn.stop.is_set():
                        self._look_after(self._turn, elsewhere=is_time)

    def _look_after(self, turn: _Turn, *, elsewhere: bool) -> None:
        if not self._is_wanted(turn):
            turn.stop.set()
        elif elsewhere and turn.job is None and self._next is None:
            self._look_elsewhere(turn)

    def _is_wanted(self, turn: _Turn) -> bool:
        state = submissions.wanted_state(self._engine, turn.study)
        # A bundle may be wanted of a study that was suspended or cancelled.
        return state in (None, "queued") or (turn.job is not None and turn.job.kind != "confirm")

    def _look_elsewhere(self, turn: _Turn) -> None:
        """Ends the turn if a job or another study needs this worker more."""
        studies = self._workable()
        self._request_confirmations(studies)
        if self._turn_is_over(JOB_SECONDS):
            worker_id = self._registration.worker_id
            self._next = jobs.claim(self._engine, worker_id, list(self._skipped))
        self._next = self._next or self._choose(studies, leaving=turn.study)
        if self._next is not None:
            turn.stop.set()

    # --- one turn ---

    def _do(self, work: Work) -> None:
        job = None if isinstance(work, str) else work
        name = work if isinstance(work, str) else work.study
        if job is not None:
            self._registration.rest()
        self._turn = turn = _Turn(name, job, EndOfTurn(self._leaving))
        try:
            if job is None:
                self._search(turn)
            else:
                self._do_job(turn, job)
        except (DatabaseLost, SQLAlchemyError):
            raise
        except Abandoned:
            self.abandoned = True
        except Unavailable as error:
            self._skip(name, job, str(error))
        except Exception as error:
            self._handle_error(turn, error)
        finally:
            with self._turning:
                self._turn = None
            with suppress(SQLAlchemyError):
                if self._next is None:
                    self._registration.rest()

    def _handle_error(self, turn: _Turn, error: Exception) -> None:
        """Writes an error of one study, or of one job, where it belongs."""
        if isinstance(error, StorageError) and not self._is_reachable():
            raise error
        said = str(error)
        if not isinstance(error, GRUOptunaError):  # a bug
            traceback.print_exception(error)
            said = f"{type(error).__name__}: {error}"
        if turn.job is not None:
            jobs.fail(self._engine, turn.job, said)
        if turn.job is None or turn.job.kind == "confirm":
            submissions.set_error(self._engine, turn.study, said)
            self._skip(turn.study, None, said)
        else:
            self._say(f"{turn.study}: job {turn.job.job_id} failed: {said}")

    def _is_reachable(self) -> bool:
        with suppress(SQLAlchemyError), self._engine.connect() as connection:
            connection.execute(select(1))
            return True
        return False

    def _skip(self, name: str, job: Job | None, reason: str) -> None:
        """Leaves a study to other workers until somebody changes it."""
        if job is not None:
            jobs.give_back(self._engine, job)
        version = 0
        with suppress(UserError):
            found = submissions.get(self._engine, name)
            version = found.submission.version if found.submission else 0
        self._skipped[name] = version, reason
        self._say(f"{name} is left out: {reason}")

    def _search(self, turn: _Turn) -> None:
        self._say(f"working on {turn.study}")
        with self._open(turn) as run:
            try:
                run.search(WorkerRequest())
                run.baselines.record()
                if to_share := self._to_share(turn.study):
                    self._shared |= to_share
                    run.confirm("share")
            finally:
                self._sizes[turn.study] = run.settings
                self.abandoned = run.abandoned

    def _report(self, event: WorkerEvent) -> None:
        if isinstance(event, EngineReady) and self._turn is not None:
            self._turn.began = time.monotonic()
        self._on_event(event)

    def _do_job(self, turn: _Turn, job: Job) -> None:
        self._say(f"working on {job.study}: {job.kind}")
        with tempfile.TemporaryDirectory(prefix="gru-optuna-") as folder:
            made, result = _JOBS[job.kind](self, turn, job, Path(folder))
            if turn.stop.is_set():
                jobs.give_back(self._engine, job)
                return
            sha256 = None
            if made is not None:
                # A database may hold a study by any name.
                name = f"{job.study}-{made.name}" if is_plain_name(job.study) else made.name
                with made.open("rb") as file:
                    sha256 = uploads.put(self._engine, name, file).sha256
            jobs.finish(self._engine, job, result, sha256)

    def _confirm(
        self, turn: _Turn, job: Job, folder: Path
    ) -> tuple[Path | None, dict[str, object]]:
        """Confirms a study's winner and draws its report."""
        with self._open(turn) as run:
            run.confirm()
            self.abandoned = run.abandoned
            if turn.stop.is_set():
                return None, {}
            describe_at(run.study, self._url)
            report = replace(run, report_folder=folder / "report")
            page = report.render_report(summarize_stored(run.study, run.spec))
        if page is None:
            return None, {"report": False}
        return _zipped(page.parent), {"report": True}

    def _export(self, turn: _Turn, job: Job, folder: Path) -> tuple[Path, dict[str, object]]:
        """Trains a study's winner again, as a bundle."""
        found = submissions.get(self._engine, job.study)
        place = Place(self._url, self._folder_of(found), self._settings)
        single, refit = job.request.get("single"), job.request.get("refit")
        bundle = make_winner(
            job.study, place, turn.stop, refit=refit, ensemble=False if single else None
        )
        bundle.save(folder / "bundle")
        return _zipped(folder / "bundle"), {}

    def _predict(self, turn: _Turn, job: Job, folder: Path) -> tuple[Path, dict[str, object]]:
        """Predicts the rows of an upload with a bundle that another job made."""
        from gru_optuna.bundle.load import load_bundle
        from gru_optuna.bundle.output import writing
        from gru_optuna.bundle.rows import read_rows

        exported = jobs.get(self._engine, int(job.request["bundle"]))
        if exported.sha256 is None or exported.study != job.study:
            raise StorageError(f"job {exported.job_id} holds no bundle of {job.study}.")
        packed = uploads.fetch(self._engine, exported.sha256, folder / "bundle.zip")
        shutil.unpack_archive(packed, folder / "bundle")
        rows = uploads.find(self._engine, job.request["data"])
        (folder / "rows").mkdir()
        path = uploads.fetch(self._engine, rows.sha256, below(folder / "rows", rows.name))
        model, predicted, out = load_bundle(folder / "bundle"), 0, folder / "predictions.csv"
        with writing(out) as writer:
            for frame, _ in read_rows(path, model.encoder):
                if turn.stop.is_set():
                    break
                writer.write(model.predict_rows(frame))
                predicted += len(frame)
        return out, {"rows": predicted}

    @contextmanager
    def _open(self, turn: _Turn) -> Iterator[StudyRun]:
        """A study and its data, created from its submission if this worker is the first."""
        found = submissions.get(self._engine, turn.study)
        folder = self._folder_of(found)
        if found.study_id is None:
            study, spec, datasets = self._create(found, folder)
        else:
            study, spec = load_study(open_storage(self._url), found.name)
            datasets = load_data(study, spec, folder, self._settings.device)
        watch_file(study, self._url)
        with closing(BaselineFits(study, self._url, spec, folder)) as baselines:
            yield StudyRun(
                study,
                self._url,
                spec,
                datasets,
                folder,
                self._sizes.get(found.name, self._settings),
                turn.stop,
                self._report,
                Path.cwd(),  # where a lost database is saved
                baselines,
            )

    def _create(
        self, found: QueuedStudy, folder: Path
    ) -> tuple[Study, Specification, list[Dataset]]:
        assert found.spec is not None
        spec, where = found.spec, choose_device(self._settings.device)
        datasets = load_folds(spec, folder)
        refuse_impossible_constraints(spec, datasets[0])
        study, _, _ = open_or_create(self._url, spec, datasets)
        # Somebody may have changed the budget while the data were read.
        budget = submissions.get(self._engine, found.name).submission
        if budget is not None and budget.budget not in (None, study.user_attrs.get(BUDGET)):
            study.set_user_attr(BUDGET, budget.budget)
        study, spec = load_study(open_storage(self._url), found.name)
        return study, spec, [data.to(where) for data in datasets]

    def _folder_of(self, study: QueuedStudy) -> Path:
        """The folder that a study's paths are relative to, with its files in it.

        Raises
        ------
        Unavailable
            If they aren't to be had on this machine.
        """
        spec = study.spec
        if spec is None:
            raise Unavailable(study.error or "its study file can't be read.")
        paths = named_files(spec)
        if study.submission is not None:
            sha256 = {path: study.submission.data.get(part, "") for part, path in paths.items()}
            return fetch_files(self._engine, sha256)
        if self._data is not None:
            folder = self._data.resolve()
        elif study.files:
            folder = fetch_files(self._engine, study.files)
        else:
            raise Unavailable(
                "it was made with tune, and its data lie in files. Start this worker with "
                "--data DIR to let it open those below DIR."
            )
        for path in paths.values():
            below(folder, path)
        try:
            check_files(spec, folder)
        except UserError as error:
            raise Unavailable(str(error)) from None
        return folder


def _zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


_JOBS = {
    "confirm": QueueWorker._confirm,
    "export": QueueWorker._export,
    "predict": QueueWorker._predict,
}

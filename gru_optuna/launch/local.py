"""Several workers on this machine: started, watched, and restarted when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from gru_optuna.errors import DatabaseLost, StudyFailed, UserError
from gru_optuna.storage.database.open import open_engine
from gru_optuna.worker.events import WorkerDied, WorkerStarted
from gru_optuna.worker.watcher import Watcher
from gru_optuna.workspace import STORAGE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from threading import Event

    from optuna import Study

    from gru_optuna.worker.events import WorkerEvent
    from gru_optuna.worker.run import WorkerSettings

MOST_CRASHES = 5
"""Deaths in a row, each soon after its start, before a worker is given up."""

SOON_SECONDS = 60.0
"""A worker that lived longer isn't broken: its deaths are counted from 1 again."""

LOOK_SECONDS = 0.25
"""The pause between two checks of the study and the processes."""

_LEAVING_SECONDS = 4.5  # for all workers together; this process has five, and a kill is harmless
_SAVING_SECONDS = 60.0  # a worker needs to save thousands of trials
_DONE, _FAILED, _USER_ERROR, _INTERRUPTED = 0, 1, 2, 130


def supervise(
    study: Study,
    url: str,
    folder: Path,
    count: int,
    settings: WorkerSettings,
    stop: Event,
    on_event: Callable[[WorkerEvent], None],
) -> None:
    """Keeps workers running until the study is done.

    Parameters
    ----------
    study
        The study in the database.
    url
        The database's.
    folder
        What the paths of the study's data are relative to.
    count
        How many workers to run.
    settings
        The settings of each worker.
    stop
        Set it to stop the workers; their trials resume later.
    on_event
        Called with every `WorkerEvent` of all workers of the study, on other machines too.

    Raises
    ------
    UserError, StudyFailed
        The error of a worker that gave up, or that all workers die again and again.
    """
    engine = open_engine(url)
    watcher = Watcher(study, engine, settings.budget)
    workers = [_Supervised(index, settings) for index in range(count)]
    failure: UserError | StudyFailed | DatabaseLost | None = None
    try:
        for worker in workers:
            worker.start(study.study_name, url, folder)
            on_event(WorkerStarted(worker.index, worker.process.pid))
        while any(worker.runs for worker in workers) and failure is None:
            stop.wait(LOOK_SECONDS)
            if stop.is_set():
                break
            _report(watcher, on_event)
            for worker in workers:
                if worker.runs and worker.process.poll() is not None:
                    failure = failure or worker.handle_end(on_event)
                    if worker.runs:
                        worker.start(study.study_name, url, folder)
                        on_event(WorkerStarted(worker.index, worker.process.pid))
        _report(watcher, on_event)
    except DatabaseLost as lost:
        failure = lost
    finally:
        # If the database is lost, they notice it, too, and save what they know.
        seconds = _SAVING_SECONDS if isinstance(failure, DatabaseLost) else 0.0
        for worker in workers:
            worker.ask_to_leave(after=seconds)
        give_up = time.monotonic() + _LEAVING_SECONDS
        for worker in workers:
            worker.wait(until=give_up)
        with suppress(DatabaseLost):  # known, or noticed by whoever writes next
            _report(watcher, on_event)
        engine.dispose()
    if failure is not None:
        raise _with_others(failure, workers)
    if not stop.is_set() and all(worker.given_up for worker in workers):
        raise StudyFailed(
            f"every worker died {MOST_CRASHES} times in a row. The last message: "
            f"{workers[-1].last_words()}"
        )


@dataclass
class _Supervised:
    """One worker: its process, and what is known of those before it."""

    index: int
    settings: WorkerSettings
    runs: bool = True
    given_up: bool = False
    crashes: int = 0
    started: float = 0.0
    process: subprocess.Popen[bytes] = field(init=False)
    errors: IO[bytes] = field(init=False)

    def start(self, study: str, url: str, folder: Path) -> None:
        settings = self.settings
        options = {
            "--data": folder,
            "--device": settings.device,
            "--threads": settings.threads,
            "--slots": settings.slots,
            "--lease": settings.lease_seconds,
            "--budget": settings.budget and settings.budget.model_dump_json(),
        }
        given = [
            str(part) for option in options.items() if option[1] is not None for part in option
        ]
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        self.started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 (ourselves)
            [sys.executable, "-m", "gru_optuna", "worker", study, "--with-parent", *given],
            # In the environment: the URL may hold a password, and a command line is public.
            env=os.environ | {STORAGE_VARIABLE: url},
            # The pipe closes when this process ends in any way, and the worker leaves then.
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            # Ctrl-C in the terminal reaches this process alone, which passes it on.
            start_new_session=True,
        )

    def handle_end(self, on_event: Callable[[WorkerEvent], None]) -> UserError | StudyFailed | None:
        """Decides what follows the end of a process; returns an error that no restart can mend."""
        code = self.process.returncode
        if code in (_DONE, _INTERRUPTED):
            self.runs = False
            return None
        if code in (_FAILED, _USER_ERROR):
            self.runs = False
            kind = UserError if code == _USER_ERROR else StudyFailed
            return kind(self.last_words())
        lived = time.monotonic() - self.started
        self.crashes = self.crashes + 1 if lived < SOON_SECONDS else 1
        self.given_up = self.crashes >= MOST_CRASHES
        self.runs = not self.given_up
        if code == -signal.SIGKILL and (self.settings.slots or 1) > 1:
            # A SIGKILL that nobody sent means that the system ran out of memory.
            self.settings = replace(self.settings, slots=(self.settings.slots or 1) // 2)
        reason = signal.Signals(-code).name if code < 0 else self.last_words()
        on_event(WorkerDied(self.index, reason, restarts=self.runs))
        return None

    def ask_to_leave(self, after: float) -> None:
        if not hasattr(self, "process"):
            return
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(after)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, until: float) -> None:
        if not hasattr(self, "process"):
            return
        try:
            self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()

    def last_words(self) -> str:
        """The last line that it wrote, which is its error message."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing"


def _with_others(
    failure: UserError | StudyFailed | DatabaseLost, workers: Sequence[_Supervised]
) -> UserError | StudyFailed | DatabaseLost:
    """An error, and what other workers said as they failed while they were leaving.

    If the database is lost, each of them saves what it trained in a file of its own.
    """
    said = [w.last_words() for w in workers if w.process.returncode in (_FAILED, _USER_ERROR)]
    if isinstance(failure, DatabaseLost):
        if not said:
            return failure
        failure = StudyFailed(said[0])
    others = [words for words in dict.fromkeys(said) if words != str(failure)]
    return type(failure)("\nAnother worker: ".join([str(failure), *others]))


def _report(watcher: Watcher, on_event: Callable[[WorkerEvent], None]) -> None:
    # The workers retry while the database is away; their news can wait until it is back.
    with suppress(SQLAlchemyError):
        for event in watcher.poll():
            on_event(event)

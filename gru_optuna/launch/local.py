"""Workers on this machine: started, watched, and restarted when they die."""

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

from gru_optuna.launch.placement import DONE, INTERRUPTED, WorkerState, failure_of
from gru_optuna.workspace import STORAGE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.errors import GRUOptunaError
    from gru_optuna.launch.placement import Placement
    from gru_optuna.worker.run import WorkerSettings

MOST_CRASHES = 5
"""Deaths in a row, each soon after its start, before a worker is given up."""

SOON_SECONDS = 60.0
"""A worker that lived longer isn't broken: its deaths are counted from 1 again."""

_LEAVING_SECONDS = 4.5  # for all workers together; this process has five, and a kill is harmless
_SAVING_SECONDS = 60.0  # a worker needs to save thousands of trials


class Local:
    """This machine; the workers leave when this process ends in any way."""

    look_seconds = 0.25

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._workers: list[_Process] = []

    def start(self) -> Sequence[str]:
        """Starts the workers."""
        for index in range(self._placement.request.count):
            self._workers.append(_Process(index, self._placement, self._placement.settings))
            self._workers[-1].start()
        return ()

    def states(self) -> Sequence[WorkerState]:
        """The workers as they are now; those that died are started again."""
        found = [worker.state() for worker in self._workers]
        # The others leave if one has failed.
        if not any(state.failure for state in found):
            for worker in self._workers:
                if worker.is_to_start:
                    worker.start()
        return found

    def stop(self, *, save: bool = False) -> Sequence[WorkerState]:
        """Stops the workers."""
        for worker in self._workers:
            worker.ask_to_leave(after=_SAVING_SECONDS if save else 0.0)
        give_up = time.monotonic() + _LEAVING_SECONDS
        for worker in self._workers:
            worker.wait(until=give_up)
        return [worker.state() for worker in self._workers]


@dataclass
class _Process:
    """One worker: its process, and what is known of those before it."""

    index: int
    placement: Placement
    settings: WorkerSettings
    is_to_start: bool = True
    deaths: int = 0
    crashes: int = 0  # deaths in a row
    done: bool = False
    failure: GRUOptunaError | None = None
    death: str = ""
    started: float = 0.0
    process: subprocess.Popen[bytes] = field(init=False)
    errors: IO[bytes] = field(init=False)

    def start(self) -> None:
        self.is_to_start = False
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        self.started = time.monotonic()
        arguments = self.placement.arguments(self.settings)
        self.process = subprocess.Popen(  # noqa: S603 (ourselves)
            [sys.executable, "-m", "gru_optuna", *arguments, "--with-parent"],
            # In the environment: the URL may hold a password, and a command line is public.
            env=os.environ | {STORAGE_VARIABLE: self.placement.url},
            # The pipe closes when this process ends in any way, and the worker leaves then.
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            # Ctrl-C in the terminal reaches this process alone, which passes it on.
            start_new_session=True,
        )

    def state(self) -> WorkerState:
        """How it is; the first look after its end decides what follows."""
        code = self.process.poll()
        ended = self.is_to_start or self.done or self.failure or self.gave_up
        if code is not None and not ended:
            self._handle_end(code)
        return WorkerState(
            self.index,
            "running" if code is None else "waiting" if self.is_to_start else "ended",
            f"process {self.process.pid}",
            self.deaths,
            self.death,
            self._last_words() if self.gave_up else "",
            done=self.done,
            failure=self.failure,
        )

    @property
    def gave_up(self) -> bool:
        return self.crashes >= MOST_CRASHES

    def _handle_end(self, code: int) -> None:
        """Decides whether it is started again."""
        self.done = code in (DONE, INTERRUPTED)
        self.failure = failure_of(code, self._last_words())
        if self.done or self.failure:
            return
        lived = time.monotonic() - self.started
        self.deaths += 1
        self.crashes = self.crashes + 1 if lived < SOON_SECONDS else 1
        self.is_to_start = not self.gave_up
        if code == -signal.SIGKILL and (self.settings.slots or 1) > 1:
            # A SIGKILL that nobody sent means that the system ran out of memory.
            self.settings = replace(self.settings, slots=(self.settings.slots or 1) // 2)
        self.death = signal.Signals(-code).name if code < 0 else self._last_words()

    def ask_to_leave(self, after: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(after)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, until: float) -> None:
        try:
            self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _last_words(self) -> str:
        """The last line that it wrote, which is its error message."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing"

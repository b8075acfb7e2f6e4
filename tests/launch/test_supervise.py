"""What a command reports of its workers, and when it ends, with a launcher that plays a script."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from gru_optuna.errors import StudyFailed, UserError
from gru_optuna.launch.placement import WorkerState
from gru_optuna.launch.supervise import supervise
from gru_optuna.worker.events import (
    LauncherNote,
    WorkerDied,
    WorkerStarted,
    WorkersWaiting,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.worker.events import WorkerEvent

RUNNING = WorkerState(0, "running", "on a")
DONE = WorkerState(0, "ended", "on a", done=True)


class Script:
    """A launcher whose workers are in these states, one look after the other."""

    look_seconds = 0.0

    def __init__(self, *looks: Sequence[WorkerState]) -> None:
        self.looks = list(looks)
        self.stops = 0

    def start(self) -> Sequence[str]:
        """Starts nothing."""
        return ["job 12"]

    def states(self) -> Sequence[WorkerState]:
        """The next states; the last ones stay."""
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def stop(self, *, save: bool = False) -> Sequence[WorkerState]:
        """Counts."""
        self.stops += 1
        return []


def events_of(script: Script) -> list[WorkerEvent]:
    """What is reported until the workers have ended."""
    found: list[WorkerEvent] = []
    supervise(script, None, threading.Event(), found.append, nullcontext())
    assert script.stops == 1
    return found


def test_starts_deaths_and_waiting_are_reported_once_each() -> None:
    waits = WorkerState(0, "waiting", waits_for="Resources")
    died = WorkerState(0, "waiting", "on a", 1, "SIGKILL")
    again = WorkerState(0, "running", "on b", 1, "SIGKILL")
    script = Script([waits], [waits], [RUNNING], [RUNNING], [died], [again], [again], [DONE])
    assert events_of(script) == [
        LauncherNote("job 12"),
        WorkersWaiting(1, "Resources"),
        WorkerStarted(0, "on a"),
        WorkerDied(0, "SIGKILL", restarts=True),
        WorkerStarted(0, "on b"),
    ]


def test_workers_that_still_wait_are_not_waited_for_once_nothing_is_left_to_do() -> None:
    assert events_of(
        Script([RUNNING, WorkerState(1, "waiting")], [DONE, WorkerState(1, "waiting")])
    )


@pytest.mark.parametrize("error", [UserError("wrong"), StudyFailed("all failed")])
def test_the_error_of_a_worker_ends_all_of_them(error: UserError | StudyFailed) -> None:
    failed = WorkerState(1, "ended", failure=error)
    script = Script([RUNNING, failed])
    with pytest.raises(type(error), match=str(error)):
        events_of(script)
    assert script.stops == 1


def test_workers_that_end_before_their_work_is_done_are_an_error() -> None:
    script = Script([RUNNING], [WorkerState(0, "ended", deaths=5, last_words="no luck")])
    with pytest.raises(StudyFailed, match="The last message: no luck"):
        events_of(script)


def test_a_stop_ends_them_without_an_error() -> None:
    stop, script = threading.Event(), Script([RUNNING])
    stop.set()
    supervise(script, None, stop, lambda event: None, nullcontext())
    assert script.stops == 1

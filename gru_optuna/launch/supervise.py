"""Keeps the workers of a command running, wherever they are, and reports what they do."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from gru_optuna.errors import DatabaseLost, GRUOptunaError, StudyFailed
from gru_optuna.worker.events import (
    LauncherNote,
    WorkerDied,
    WorkerStarted,
    WorkersWaiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from threading import Event

    from gru_optuna.launch.placement import Launcher, WorkerState
    from gru_optuna.worker.events import WorkerEvent
    from gru_optuna.worker.watcher import Watcher

LOOK_SECONDS = 0.25
"""The pause between two looks at the study."""


def supervise(
    launcher: Launcher,
    watcher: Watcher | None,
    stop: Event,
    on_event: Callable[[WorkerEvent], None],
    alone: AbstractContextManager[None],
) -> None:
    """Keeps workers running until nothing is left to do.

    Parameters
    ----------
    launcher
        Places and watches them.
    watcher
        Of the study that they work on; None: they serve the whole queue.
    stop
        Set it to stop the workers; their trials resume later.
    on_event
        Called with every `WorkerEvent` of all workers of the study, on other machines too.

    alone
        Entered while they are started: two commands must not start one set each.

    Raises
    ------
    UserError, StudyFailed
        The error of a worker that gave up, or that all workers die again and again.
    """
    news = _News(on_event)
    failure: GRUOptunaError | None = None
    states: Sequence[WorkerState] = ()
    try:
        with alone:
            notes = launcher.start()
        for line in notes:
            on_event(LauncherNote(line))
        while not stop.is_set():
            states = launcher.states()
            news.report(states)
            failure = next((state.failure for state in states if state.failure), None)
            if failure is not None or not _goes_on(states):
                break
            waited = 0.0
            while waited < launcher.look_seconds and not stop.wait(LOOK_SECONDS):
                waited += LOOK_SECONDS
                _report(watcher, on_event)
        _report(watcher, on_event)
    except DatabaseLost as lost:
        failure = lost
    finally:
        # If the database is lost, they notice it, too, and save what they know.
        states = launcher.stop(save=isinstance(failure, DatabaseLost)) or states
        with suppress(DatabaseLost):  # known, or noticed by whoever writes next
            _report(watcher, on_event)
    if failure is not None:
        raise _with_others(failure, states)
    if states and not stop.is_set() and not any(state.done for state in states):
        raise StudyFailed(
            f"every worker has ended before the work was done. The last message: "
            f"{(states and states[-1].last_words) or 'nothing'}"
        )


def _goes_on(states: Sequence[WorkerState]) -> bool:
    """Whether workers run, or wait for their nodes and will find something to do there."""
    # A worker ends once nothing is left to do, also for those that still wait.
    return any(
        state.phase == "running"
        or (state.phase == "waiting" and not any(other.done for other in states))
        for state in states
    )


@dataclass
class _News:
    """Reports what is new about the workers."""

    on_event: Callable[[WorkerEvent], None]
    places: dict[int, str] = field(default_factory=dict)  # of the workers that run
    deaths: dict[int, int] = field(default_factory=dict)
    waiting: str = ""  # what was said last about those that wait

    def report(self, states: Sequence[WorkerState]) -> None:
        for state in states:
            if state.deaths > self.deaths.get(state.index, 0):
                self.deaths[state.index] = state.deaths
                self.places.pop(state.index, None)
                restarts = state.phase != "ended"
                self.on_event(WorkerDied(state.index, state.death, restarts=restarts))
            if state.phase == "running" and self.places.get(state.index) != state.place:
                self.places[state.index] = state.place
                self.on_event(WorkerStarted(state.index, state.place))
        waiting = [state.waits_for for state in states if state.waits_for]
        reason = waiting[0] if waiting else ""
        if reason and reason != self.waiting:
            self.on_event(WorkersWaiting(len(waiting), reason))
        self.waiting = reason


def _with_others(failure: GRUOptunaError, states: Sequence[WorkerState]) -> GRUOptunaError:
    """An error, and what other workers said as they failed while they were leaving.

    If the database is lost, each of them saves what it trained in a file of its own.
    """
    said = [str(state.failure) for state in states if state.failure is not None]
    if isinstance(failure, DatabaseLost):
        if not said:
            return failure
        failure = StudyFailed(said[0])
    others = [words for words in dict.fromkeys(said) if words != str(failure)]
    return type(failure)("\nAnother worker: ".join([str(failure), *others]))


def _report(watcher: Watcher | None, on_event: Callable[[WorkerEvent], None]) -> None:
    if watcher is None:
        return
    # The workers retry while the database is away; their news can wait until it is back.
    with suppress(SQLAlchemyError):
        for event in watcher.poll():
            on_event(event)

"""A thread that feeds a tracker, so that one that is slow or away never stops a worker."""

from __future__ import annotations

import importlib
import logging
import threading
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any, TypeAlias

from gru_optuna.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from optuna import Study

    from gru_optuna.study_file import Specification
    from gru_optuna.tracking.tracker import Tracker
    from gru_optuna.worker.events import WorkerEvent

logger = logging.getLogger(__name__)

OURS = {"mlflow": "gru_optuna.tracking.mlflow:MLflowTracker"}
"""Trackers by name; others are named as ``module:Class``."""

END_SECONDS = 60.0
"""How long the end of a run waits for a tracker; what it hasn't received then is lost to it."""

_MOST_WAITING = 10_000
_MOST_FAILURES = 3

_Call: TypeAlias = "tuple[str, Callable[[], None]]"


def open_tracker(name: str) -> BackgroundTracker:
    """A tracker by its name, or as ``module:Class``.

    Raises
    ------
    UserError
        If there is none, or what it needs isn't installed.
    """
    module, _, attribute = OURS.get(name, name).partition(":")
    if not attribute:
        raise UserError(
            f'no tracker is called "{name}". There is {" and ".join(OURS)}; name another one as '
            f"module:Class."
        )
    try:
        made: Any = getattr(importlib.import_module(module), attribute)()
    except ImportError as error:
        extra = f" Install it: pip install 'gru-optuna[{name}]'." if name in OURS else ""
        raise UserError(f'the tracker "{name}" can\'t be imported: {error}.{extra}') from None
    except AttributeError:
        raise UserError(f'the module "{module}" has no "{attribute}".') from None
    return BackgroundTracker(made)


class BackgroundTracker:
    """Passes everything on to a tracker, in a thread of its own.

    After three errors in a row, events are no longer passed on; the end is, because it brings
    everything once more.

    Parameters
    ----------
    tracker
        What receives it.
    end_seconds
        How long `end` waits.
    """

    def __init__(self, tracker: Tracker, end_seconds: float = END_SECONDS) -> None:
        self._tracker = tracker
        self._end_seconds = end_seconds
        self._calls: Queue[_Call | None] = Queue(_MOST_WAITING)
        self._failures = 0
        # A daemon: a tracker that doesn't answer must not keep the process alive.
        self._thread = threading.Thread(target=self._feed, name="tracker", daemon=True)

    def begin(self, study: Study, spec: Specification) -> None:
        """Starts the thread."""
        self._put("begin", lambda: self._tracker.begin(study, spec))
        self._thread.start()

    def happened(self, event: WorkerEvent) -> None:
        """Passes an event on, or drops it if the tracker is far behind."""
        self._put("happened", lambda: self._tracker.happened(event))

    def end(self, study: Study, files: Mapping[str, Path], *, finished: bool) -> None:
        """Passes the end on, and waits for it for a while."""
        if not self._thread.is_alive():
            return
        last: list[_Call | None] = [
            ("end", lambda: self._tracker.end(study, files, finished=finished)),
            None,
        ]
        for call in last:
            while True:  # makes room: the end has everything that an event would have brought
                try:
                    self._calls.put_nowait(call)
                    break
                except Full:
                    self._drop_one()
        self._thread.join(self._end_seconds)
        if self._thread.is_alive():
            logger.warning("the tracker didn't answer in time: it may lack the last results")

    def _put(self, name: str, call: Callable[[], None]) -> None:
        try:
            self._calls.put_nowait((name, call))
        except Full:
            return

    def _drop_one(self) -> None:
        try:
            self._calls.get_nowait()
        except Empty:
            return

    def _feed(self) -> None:
        while (found := self._calls.get()) is not None:
            name, call = found
            if name == "happened" and self._failures >= _MOST_FAILURES:
                continue
            try:
                call()
                self._failures = 0
            except Exception as error:  # whatever a library raises: it is only an extra
                self._failures += 1
                if self._failures <= _MOST_FAILURES:
                    logger.warning("the tracker failed: %s", str(error).partition("\n")[0])

"""What an experiment tracker has to do: three methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from optuna import Study

    from gru_optuna.study_file import Specification
    from gru_optuna.worker.events import WorkerEvent


class Tracker(Protocol):
    """Receives what happens to a study, in order and in one thread that isn't a worker's.

    Any method may take its time or raise: `BackgroundTracker` logs the error and goes on. Events
    may be lost then, so `end` gets the study, which has everything.
    """

    def begin(self, study: Study, spec: Specification) -> None:
        """Called once, before the first event; the study may have been worked on before."""

    def happened(self, event: WorkerEvent) -> None:
        """Called with what a worker reports: see `gru_optuna.worker.events`."""

    def end(self, study: Study, files: Mapping[str, Path], *, finished: bool) -> None:
        """Called once, after the last event.

        Parameters
        ----------
        study
            With all its trials and what was confirmed.
        files
            Folders to keep: ``report`` and ``bundle``, as far as they exist.
        finished
            Whether the budget is spent; otherwise the study may be resumed.
        """

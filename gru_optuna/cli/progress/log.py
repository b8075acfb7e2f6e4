"""Lines for files, pipes and CI, each with its time: few enough to read, whatever the speed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna.cli.progress.messages import COMPILING, engine, headline, notice
from gru_optuna.cli.progress.run_state import RunState
from gru_optuna.formatting import format_estimate, format_metric, format_rate, visible
from gru_optuna.worker.events import Confirming, EngineReady, StandingBy, TrialEnded, TrialStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from gru_optuna.tuning.tune import RunStart
    from gru_optuna.worker.events import WorkerEvent

EACH_ITS_LINE = 12
"""The first trials have a line each; later ones only if they are the best so far."""

MOST_FAILURES = 20
"""Failed trials that are reported one by one; a study of failures repeats itself."""

PROGRESS_SECONDS = (10.0, 60.0)
"""Seconds between two lines of progress, at first and at most; each pause is 1.5 times the last."""


class PlainView:
    """Writes a line now and then, without colours or control codes.

    Parameters
    ----------
    console
        Where the lines go.
    now
        A clock in seconds.
    """

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._now = now
        self._tally = RunState(now)
        self._told = 0  # trials that had a line
        self._failures = 0
        self._pause = PROGRESS_SECONDS[0]
        self._said_at = now()
        self._unsaid = False  # whether a trial ended since the last line of progress
        self._standing_by = False

    def opened(self, opening: RunStart) -> None:
        """Announces the run."""
        self._tally.opened(opening)
        self._print(": ".join(headline(opening)))
        if opening.compiles:
            self._print(COMPILING)

    def happened(self, event: WorkerEvent) -> None:
        """Writes a line for an event that deserves one."""
        self._tally.happened(event)
        match event:
            case EngineReady():
                workers = self._tally.opening.workers if self._tally.opening else 1
                self._print(engine(event.size, workers))
            case TrialEnded():
                self._trial(event)
            case StandingBy() if self._standing_by:
                return
            case Confirming(done, of, begins=False) if done < of and done % max(1, of // 5):
                return
            case _ if words := notice(event):
                self._print(words)
        # Printed once, although the event repeats every half second, until a trial starts.
        self._standing_by = isinstance(event, StandingBy) or (
            self._standing_by and not isinstance(event, TrialStarted)
        )
        if self._unsaid and self._now() - self._said_at >= self._pause:
            self._pause = min(1.5 * self._pause, PROGRESS_SECONDS[1])
            self._progress()

    def close(self) -> None:
        """Writes the progress, unless the lines before show it already."""
        if self._unsaid:
            self._progress()

    def _trial(self, event: TrialEnded) -> None:
        opening, best = self._tally.opening, self._tally.best
        failed = event.state == TrialState.FAIL
        self._failures += failed
        is_best = opening is not None and best is not None and best[1] == event.number
        if self._told >= EACH_ITS_LINE and not is_best:
            self._unsaid = True
            if not failed or self._failures > MOST_FAILURES:
                return
        self._told += 1
        metric = f"{opening.spec.metric} " if opening else ""
        reached = "" if event.value is None else f"{metric}{format_metric(event.value)}, "
        mark = ", the best so far" if is_best else ""
        self._print(
            f"trial {event.number}: {reached}{'failed: ' if failed else ''}{event.outcome}{mark}"
        )

    def _progress(self) -> None:
        tally = self._tally
        parts = [f"{tally.ended}{f' of {tally.limit}' if tally.limit else ''} trials"]
        parts.append(f"{tally.pruned} pruned")
        if tally.failed:
            parts.append(f"{tally.failed} failed")
        if tally.best is not None and tally.opening is not None:
            parts.append(f"best {format_metric(tally.best[0])} (trial {tally.best[1]})")
        if trials := tally.trials_per_minute():
            parts.append(f"{format_rate(trials)} trials/min")
        seconds = tally.seconds_left()
        if seconds is not None and tally.share() != 1.0:
            parts.append(f"{format_estimate(seconds)} left")
        self._print(", ".join(parts))
        self._said_at, self._unsaid = self._now(), False

    def _print(self, line: str) -> None:
        # Local time of day, by which logs of several programs can be compared.
        line = f"{time.strftime('%H:%M:%S')}  {visible(line, keep='')}"
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

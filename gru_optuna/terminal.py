"""What ``tune`` shows while it runs: a live table, or plain lines where nobody watches.

All of it goes to stderr; stdout is for results.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from optuna.trial import TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gru_optuna.worker.events import (
    CheckpointDamaged,
    Confirming,
    ConfirmingElsewhere,
    EngineReady,
    EpochTrained,
    FewerSlots,
    LeaseLost,
    StandingBy,
    StorageAway,
    StorageBack,
    TrialEnded,
    TrialStarted,
    WorkerDied,
    WorkerStarted,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gru_optuna.tuning import Opening
    from gru_optuna.worker.events import Event

_LAST_TRIALS = 8
_MOST_RUNNING = 16
_LAST_NOTICES = 4
_COMPILING = "compiling the training code for this machine, once: about half a minute"
_STYLES = {TrialState.COMPLETE: "green", TrialState.PRUNED: "dim", TrialState.FAIL: "red"}
_WORDS = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_BARS = "▁▂▃▄▅▆▇█"


class View(Protocol):
    """Watches a tuning run."""

    def opened(self, opening: Opening) -> None:
        """Told once, before the first trial."""

    def happened(self, event: Event) -> None:
        """Told about everything, in order."""

    def close(self) -> None:
        """Leaves the terminal as it was."""


def make_view(console: Console) -> View:
    """The view that suits where stderr goes."""
    return LiveView(console) if console.is_terminal else PlainView(console)


class PlainView:
    """One line a trial, for files, pipes and CI."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._metric = ""
        self._workers = 1
        self._standing_by = False

    def opened(self, opening: Opening) -> None:
        """Says what is about to begin."""
        self._metric = f"{opening.spec.metric} "
        self._workers = opening.workers
        self._print(_headline(opening))
        if opening.compiles:
            self._print(_COMPILING)

    def happened(self, event: Event) -> None:
        """A line for each trial that ends, and for what is out of the ordinary."""
        match event:
            case EngineReady():
                self._print(_engine(event, self._workers))
            case TrialEnded():
                value = "" if event.value is None else f"{self._metric}{event.value:.4f}, "
                failed = "failed: " if event.state == TrialState.FAIL else ""
                self._print(f"trial {event.number}: {value}{failed}{event.outcome}")
            case StandingBy() if self._standing_by:
                return
            case _ if words := notice(event):
                self._print(words)
        self._standing_by = _still_standing_by(self._standing_by, event)

    def close(self) -> None:
        """Nothing to put back."""

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)


class LiveView:
    """A table that redraws itself: progress, the trials in training, the last ones, the best."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._opening: Opening | None = None
        self._began: float | None = None  # the first trial
        self._ended: deque[TrialEnded] = deque(maxlen=_LAST_TRIALS)
        self._notices: deque[str] = deque(maxlen=_LAST_NOTICES)
        self._standing_by = False
        self._workers: set[int] = set()  # of those that this command started: who runs
        self._curves: dict[int, list[float]] = {}
        self._engine: EngineReady | None = None
        self._running: dict[int, TrialStarted] = {}
        self._counts: dict[TrialState, int] = {}
        self._epochs = 0
        self._ended_here = 0
        self._best: tuple[float, int] | None = None  # value, trial

    def opened(self, opening: Opening) -> None:
        """Begins to draw."""
        self._opening = opening
        trials = opening.before.trials
        self._counts = {
            TrialState.COMPLETE: trials["complete"],
            TrialState.PRUNED: trials["pruned"],
            TrialState.FAIL: trials["failed"],
        }
        if (winner := opening.before.best) is not None:
            self._best = winner.value, winner.number
        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=4)
        self._live.start()

    def happened(self, event: Event) -> None:
        """Takes note; the next refresh draws it."""
        match event:
            case EngineReady():
                self._engine = event
            case TrialStarted():
                self._began = self._began or time.monotonic()
                self._running[event.number] = event
                self._curves[event.number] = list(event.curve)
            case EpochTrained():
                self._epochs += 1
                if (curve := self._curves.get(event.number)) is not None:
                    curve.append(event.value)
            case TrialEnded():
                self._end(event)
            case LeaseLost():
                self._running.pop(event.number, None)
            case WorkerStarted():
                self._workers.add(event.index)
            case WorkerDied():
                self._workers.discard(event.index)
        again = self._standing_by and isinstance(event, StandingBy)
        # How many workers run stands above the table.
        if not again and not isinstance(event, WorkerStarted) and (words := notice(event)):
            self._notices.append(words)
        self._standing_by = _still_standing_by(self._standing_by, event)

    def close(self) -> None:
        """Stops drawing; the last picture stays."""
        if self._live is not None:
            self._live.stop()

    def _end(self, event: TrialEnded) -> None:
        self._running.pop(event.number, None)
        self._ended.append(event)
        self._counts[event.state] += 1
        self._ended_here += 1
        self._note_best(event)
        kept = {ended.number for ended in self._ended} | self._running.keys()
        self._curves = {n: curve for n, curve in self._curves.items() if n in kept}

    def _note_best(self, ended: TrialEnded) -> None:
        assert self._opening is not None
        sign = -1 if self._opening.spec.direction == "minimize" else 1
        value = ended.value
        if value is not None and (self._best is None or sign * value > sign * self._best[0]):
            self._best = value, ended.number

    def _draw(self) -> RenderableType:
        if self._opening is None:
            return ""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column, justify in (
            ("trial", "right"),
            ("state", "left"),
            (self._opening.spec.metric, "right"),
            ("epochs", "right"),
            ("curve", "left"),
        ):
            table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for ended in self._ended:
            self._add_row(table, ended.number, _WORDS[ended.state], _STYLES[ended.state], ended)
        # A pool on a GPU holds more trials than a terminal has lines.
        for number in list(self._running)[:_MOST_RUNNING]:
            self._add_row(table, number, "running", "bold")
        if (more := len(self._running) - _MOST_RUNNING) > 0:
            table.add_row("", f"and {more} more")
        head = [Text(_headline(self._opening), "bold"), Text(self._team(), "dim")]
        notices = [Text(words, "yellow") for words in self._notices]
        return Group(*head, self._progress(), table, *notices)

    def _team(self) -> str:
        """Who works, and how."""
        assert self._opening is not None
        if self._engine is None:
            return _COMPILING if self._opening.compiles else ""
        engine, workers = _engine(self._engine, self._opening.workers), self._opening.workers
        return f"{engine}; {len(self._workers)} of {workers} run" if workers > 1 else engine

    def _add_row(
        self, table: Table, number: int, state: str, style: str, ended: TrialEnded | None = None
    ) -> None:
        curve = self._curves.get(number, [])
        value = curve[-1] if curve else None
        # A complete trial's is its best epoch's.
        if ended is not None and ended.value is not None:
            value = ended.value
        epochs = ended.epochs if ended else len(curve)
        shown = "–" if value is None else f"{value:.4f}"
        table.add_row(str(number), state, shown, str(epochs), sparkline(curve), style=style)

    def _progress(self) -> RenderableType:
        assert self._opening is not None
        limit = self._opening.before.budget["trials"]
        over = sum(self._counts.values())
        failures = self._counts[TrialState.FAIL]
        failed = f"{failures} failed  " if failures else ""
        words = (
            f"{over}{f'/{limit}' if limit else ''} trials  "
            f"{self._counts[TrialState.PRUNED]} pruned  {failed}{self._rate(over, limit)}"
        )
        if self._best is not None:
            words = f"best {self._best[0]:.4f} (trial {self._best[1]})  {words}"
        line = Table.grid(padding=(0, 2, 0, 0))
        bar = ProgressBar(total=limit, completed=over, width=24) if limit else ""
        line.add_row(bar, words)
        return line

    def _rate(self, over: int, limit: int | None) -> str:
        seconds = time.monotonic() - (self._began or time.monotonic())
        rate = f"{self._epochs / seconds:.1f} epochs/s" if seconds > 1 else ""
        if not limit or not self._ended_here:
            return rate
        return f"{rate}  {clock(seconds / self._ended_here * (limit - over))} left"


def sparkline(curve: list[float], width: int = 40) -> str:
    """A curve as a line of bars, its lowest value low and its highest high.

    >>> sparkline([0.1, 0.5, 0.9])
    '▁▄█'
    """
    shown = curve[-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    # A hair more: the highest must not be rounded to just below its bar.
    return "".join(_BARS[int((value - low) * scale + 1e-9)] for value in shown)


def clock(seconds: float) -> str:
    """A duration as people say it.

    >>> clock(7), clock(200), clock(7300)
    ('7 s', '3 min 20 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def notice(event: Event) -> str | None:
    """What is out of the ordinary, in a sentence; None for what isn't.

    >>> notice(LeaseLost(3))
    'trial 3: another worker has taken it over'
    """
    words: str | None = None
    match event:
        case TrialStarted(number, adopted=True, epochs=0):
            words = f"trial {number} adopted, from its start"
        case TrialStarted(number, adopted=True, epochs=epochs):
            words = f"trial {number} adopted after epoch {epochs}"
        case CheckpointDamaged(number, epoch, reason):
            words = f"trial {number}: its checkpoint of epoch {epoch} is not used: {reason}"
        case LeaseLost(number):
            words = f"trial {number}: another worker has taken it over"
        case FewerSlots(slots, reason):
            together = f"{slots} trials train together" if slots > 1 else "one trial trains alone"
            words = f"{together} from now on: {reason}"
        case StorageAway(reason):
            words = f"waiting for the storage: {reason}"
        case StorageBack(seconds):
            words = f"the storage works again after {clock(seconds)}"
        case StandingBy(trials):
            them = "a trial" if trials == 1 else f"{trials} trials"
            words = f"nothing is left to begin; standing by while others train {them}"
        case WorkerStarted(index, process):
            words = f"worker {index + 1} started, process {process}"
        case WorkerDied(index, reason, restarts):
            follows = "it starts again" if restarts else "it is given up"
            words = f"worker {index + 1} died ({reason}); {follows}"
        case Confirming(done, of, candidates, seeds, begins) if (
            begins or done == of or done % max(1, of // 5) == 0
        ):
            best = f"the best {candidates}" if candidates > 1 else "the best one"
            words = f"confirming {best} on {seeds} fresh seeds: {done} of {of} runs done"
        case ConfirmingElsewhere():
            words = "another process confirms the winner; waiting for it"
    return words


def _still_standing_by(before: bool, event: Event) -> bool:
    """It is told every half second, and news once; a trial that begins ends it."""
    return isinstance(event, StandingBy) or (before and not isinstance(event, TrialStarted))


def _engine(ready: EngineReady, workers: int) -> str:
    memory = f", at most {ready.memory / 2**20:.0f} MiB for them" if ready.memory else ""
    threads = f"{ready.threads} thread{'s' if ready.threads > 1 else ''}"
    trials = f"{ready.slots} trials train together" if ready.slots > 1 else "one trial at a time"
    each = f", in each of {workers} workers" if workers > 1 else ""
    return f"{trials} in {threads}{memory}{each}"


def _headline(opening: Opening) -> str:
    spec, (train, validation, test) = opening.spec, opening.rows
    over = sum(opening.before.trials.values())
    tests = f", {test} test" if test else ""
    goes_on = f", goes on after {over} trials" if over else ""
    folds = f"mean of {spec.data.folds} folds, the first with " if spec.data.folds else ""
    return (
        f"{spec.name}: {spec.direction} {spec.metric}, {folds}"
        f"{train} training and {validation} validation rows{tests}, {opening.device}{goes_on}"
    )

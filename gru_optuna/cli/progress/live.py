"""A view of a run for terminals, which is redrawn four times a second."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from rich.live import Live

from gru_optuna.cli.progress.drawing import draw
from gru_optuna.cli.progress.log import PlainView
from gru_optuna.cli.progress.messages import notice
from gru_optuna.cli.progress.run_state import RunState
from gru_optuna.worker.events import Confirming, StandingBy, TrialStarted, WorkerStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType

    from gru_optuna.tuning.tune import RunStart
    from gru_optuna.worker.events import WorkerEvent

_LAST_NOTICES = 4


class ProgressView(Protocol):
    """Watches a tuning run."""

    def opened(self, opening: RunStart) -> None:
        """Called once, before the first trial."""

    def happened(self, event: WorkerEvent) -> None:
        """Called with every event, in order."""

    def close(self) -> None:
        """Leaves the terminal as it was."""


def make_view(console: Console) -> ProgressView:
    """The view that suits where stderr goes.

    A terminal that can't move its cursor (``TERM=dumb``), or shows only ASCII, gets lines.
    """
    can_draw = console.is_interactive and console.encoding.lower().startswith("utf")
    return LiveView(console) if can_draw else PlainView(console)


class LiveView:
    """Shows a run as a picture that is redrawn four times a second.

    Parameters
    ----------
    console
        A terminal.
    now
        A clock in seconds.
    """

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._tally = RunState(now)
        self._notices: deque[str] = deque(maxlen=_LAST_NOTICES)
        self._standing_by = False
        self._confirming = False
        self._live: Live | None = None
        self._last = False
        self._picture: RenderableType = ""
        # Drawn in a thread of its own, while events come in another.
        self._lock = threading.Lock()

    def opened(self, opening: RunStart) -> None:
        """Begins to draw."""
        self._tally.opened(opening)
        self._live = Live(
            console=self._console,
            get_renderable=self.picture,
            refresh_per_second=4,
            vertical_overflow="crop",
        )
        self._live.start()

    def happened(self, event: WorkerEvent) -> None:
        """Records an event; the next refresh shows it."""
        with self._lock:
            self._tally.happened(event)
            again = self._standing_by and isinstance(event, StandingBy)
            # The number of running workers is shown above the table.
            if not again and not isinstance(event, WorkerStarted) and (words := notice(event)):
                if self._confirming and isinstance(event, Confirming):
                    self._notices.pop()  # its newer form follows
                self._notices.append(words)
            self._confirming = isinstance(event, Confirming)
            self._standing_by = isinstance(event, StandingBy) or (
                self._standing_by and not isinstance(event, TrialStarted)
            )

    def close(self) -> None:
        """Stops drawing; the last picture stays."""
        if self._live is not None:
            self._last = True
            self._live.stop()

    def picture(self) -> RenderableType:
        """The picture of this moment."""
        # A signal may end the view in the middle of an event, whose lock is then never released.
        if self._lock.acquire(timeout=0.2):
            try:
                size = self._console.size
                self._picture = draw(
                    self._tally, self._notices, size.width, size.height, last=self._last
                )
            finally:
                self._lock.release()
        return self._picture

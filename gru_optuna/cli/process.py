"""The process that a command runs in: signals, leaving early, exit codes."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from gru_optuna.cli.console import EXIT_INTERRUPTED, say

if TYPE_CHECKING:
    import threading

    from gru_optuna.cli.progress import View


EXIT_CRASHED = 70
"""Of a supervised worker: a bug, not what became of the study."""


def begin_work() -> None:
    """Switches the garbage collector on, for what is made from now on (see `cli.main`)."""
    gc.freeze()
    gc.enable()


def stop_on_signals(view: View) -> threading.Event:
    """Set by the first Ctrl-C or SIGTERM; the second one ends the process at once."""
    import threading

    begin_work()
    stop = threading.Event()

    def on_signal(_number: int, _frame: object) -> None:
        if stop.is_set():
            view.close()
            say("stopped at once. Run the same command to resume.")
            # Not an exception: compiled code in other threads would hold up its way out.
            os._exit(EXIT_INTERRUPTED)
        stop.set()
        say("stopping after this epoch; again to stop at once")

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    return stop


def _stop_when_stdin_ends(stop: threading.Event) -> None:
    """Whoever started this process holds the other end, and the system closes it with them."""
    import threading

    def wait() -> None:
        # Not through sys.stdin: this thread would hold its lock when the interpreter ends, and
        # that aborts the process.
        while os.read(0, 4096):
            pass
        stop.set()

    threading.Thread(target=wait, name="parent", daemon=True).start()


def leave(code: int, *, at_once: bool) -> NoReturn:
    """Ends the process; at once, if an epoch is still in flight."""
    if at_once:
        sys.stdout.flush()
        # Compiled code in another thread would hold up the usual way out.
        os._exit(code)
    sys.exit(code)

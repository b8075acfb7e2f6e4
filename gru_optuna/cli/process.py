"""The process that a command runs in: signals, leaving early, exit codes."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from gru_optuna.cli.console import EXIT_INTERRUPTED, say
from gru_optuna.files import forbidden_permissions

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Callable

    from gru_optuna.cli.progress import ProgressView


EXIT_CRASHED = 70
"""The exit code of a supervised worker that met a bug, which isn't an error of the study."""

STOPPING = (signal.SIGINT, signal.SIGTERM)

_LEAVE_SECONDS = 4.7
"""The time a process takes to leave after Ctrl-C or SIGTERM. Service managers and container engines
send SIGKILL soon afterwards, so unfinished work is abandoned, as after a SIGKILL."""


def keep_files_private() -> None:
    """Lets only this user read what the command and its workers create.

    ``GRU_OPTUNA_SHARED=group`` shares it with the user's group, ``umask`` leaves it to the umask of
    the process. The mode of a file that exists stays as it is.

    Raises
    ------
    UserError
        If the variable has another value.
    """
    # The umask, not only `limit_access`: SQLite, Arrow and others create files, too.
    if (forbidden := forbidden_permissions()) is not None:
        os.umask(forbidden)


def begin_work() -> None:
    """Switches the garbage collector on, for what is made from now on (see `cli.main`)."""
    gc.freeze()
    gc.enable()


def stop_on_signals(view: ProgressView) -> threading.Event:
    """An event that the first Ctrl-C or SIGTERM sets; the second one ends the process at once.

    Whatever it is doing, the process ends some seconds after the first.
    """
    import socket
    import threading

    begin_work()
    stop = threading.Event()
    # Through a socket, to a thread: Python calls a handler only between two of the main thread's
    # instructions, and a single one may read a file, or compile code, for a minute. A handler may
    # also interrupt itself, or whoever holds the lock of the event or of stderr.
    received, sent = socket.socketpair()
    sent.setblocking(False)
    signal.set_wakeup_fd(sent.fileno(), warn_on_full_buffer=False)
    for number in STOPPING:
        signal.signal(number, lambda _number, _frame: None)

    def leave_in_time() -> None:
        with sent:  # kept open as long as the thread
            _wait_for_signal(received)
            _briefly(lambda: say("stopping after this epoch; press Ctrl-C again to stop at once"))
            stop.set()
            asked_again = _wait_for_signal(received, _LEAVE_SECONDS)
            _briefly(lambda: close(asked_again=asked_again))
            # Not an exception: compiled code in other threads would hold up its way out.
            os._exit(EXIT_INTERRUPTED)

    def close(*, asked_again: bool) -> None:
        view.close()
        stopped = "stopped at once." if asked_again else "stopped; unfinished work is abandoned."
        say(f"{stopped} Run the same command to resume.")

    threading.Thread(target=leave_in_time, name="leaving", daemon=True).start()
    return stop


def _wait_for_signal(received: socket.socket, seconds: float | None = None) -> bool:
    """Whether Ctrl-C or SIGTERM comes within `seconds`, as a number that Python sends."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        if deadline is not None:
            received.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            number = received.recv(1)[0]
        except TimeoutError:
            return False
        if number in STOPPING:
            return True  # others are signals that something else handles


def _briefly(write: Callable[[], object]) -> None:
    """Writes to the terminal, but doesn't wait long: a thread that holds the terminal's lock may
    never release it if nobody reads the output."""
    import threading

    writing = threading.Thread(target=write, name="closing", daemon=True)
    writing.start()
    writing.join(0.2)


def _stop_when_stdin_ends(stop: threading.Event) -> None:
    """Sets `stop` when the process that started this one ends: it holds the other end of stdin."""
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

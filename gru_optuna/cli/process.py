"""The process that a command runs in: signals, leaving early, exit codes."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from gru_optuna.cli.console import EXIT_INTERRUPTED, say
from gru_optuna.files import forbidden_permissions

if TYPE_CHECKING:
    import threading

    from gru_optuna.cli.progress import ProgressView


EXIT_CRASHED = 70
"""The exit code of a supervised worker that met a bug, which isn't an error of the study."""

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
    import threading

    begin_work()
    stop = threading.Event()

    def on_signal(_number: int, _frame: object) -> None:
        if stop.is_set():
            try:
                view.close()
                say("stopped at once. Run the same command to resume.")
            finally:
                # Not an exception: compiled code in other threads would hold up its way out.
                os._exit(EXIT_INTERRUPTED)
        stop.set()
        # RuntimeError: this interrupts a write to stderr, which waits for somebody to read.
        with suppress(RuntimeError):
            say("stopping after this epoch; press Ctrl-C again to stop at once")

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    _end_in_time(view)
    return stop


def _end_in_time(view: ProgressView) -> None:
    """Ends the process some seconds after the first signal, unless it has ended by itself."""
    import socket
    import threading

    # Through a socket, to a thread: Python calls the handler only between two of the main
    # thread's instructions, and a single one may read a file, or compile code, for a minute.
    received, sent = socket.socketpair()
    sent.setblocking(False)
    signal.set_wakeup_fd(sent.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        with sent:  # kept open as long as the thread
            while received.recv(1)[0] not in (signal.SIGINT, signal.SIGTERM):
                pass  # a signal that something else handles
            time.sleep(_LEAVE_SECONDS)
            # In a separate thread: the one that holds the terminal's lock may never release it.
            closing = threading.Thread(target=close, name="close", daemon=True)
            closing.start()
            closing.join(0.2)
            os._exit(EXIT_INTERRUPTED)

    def close() -> None:
        view.close()
        say("stopped; what was not finished is abandoned. Run the same command to resume.")

    threading.Thread(target=wait, name="leaving", daemon=True).start()


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

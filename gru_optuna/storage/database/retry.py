"""What to do while the database or the disk fails: wait, try again, and give up in the end."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import exc

from gru_optuna.errors import StorageError
from gru_optuna.urls import masked

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

RETRY_SECONDS = 600.0
"""How long a worker waits for its storage: a server's restart or a full disk takes minutes, and
what the worker has trained is still in its memory."""

_SHORTEST, _LONGEST = 0.25, 5.0

_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN}

Result = TypeVar("Result")


def with_retries(
    action: Callable[[], Result],
    stop: Event,
    on_failure: Callable[[str | None, float], None],
    seconds: float = RETRY_SECONDS,
) -> Result:
    """Does something with the storage, and repeats it while the storage fails.

    Parameters
    ----------
    action
        What to do. It happens whole or not at all, so that it can be repeated.
    stop
        Once set, only one more attempt is made.
    on_failure
        Called with the reason at the first failure, and with None when the storage works again;
        and with the seconds since the first failure.
    seconds
        When to give up.

    Raises
    ------
    StorageError
        If the storage fails until then, or until `stop` is set.
    """
    failing: float | None = None
    pause = _SHORTEST
    while True:
        # Read before the attempt: a stop that comes during it still gets one full attempt, which
        # commits what has been trained.
        last = stop.is_set()
        try:
            result = action()
        except (exc.DBAPIError, exc.TimeoutError, OSError, StorageError) as error:
            if not _may_pass(error):
                raise
            reason = _plain_reason(error).rstrip(".")
            if failing is None:
                failing = time.monotonic()
                on_failure(reason, 0.0)
            if last or time.monotonic() - failing > seconds:
                raise StorageError(
                    f"{reason}. Everything committed so far is safe. Once the storage works "
                    f"again, run the same command to continue."
                ) from error
            stop.wait(pause)
            # Longer each time: many workers must not storm a server that is just starting.
            pause = min(2 * pause, _LONGEST)
        else:
            if failing is not None:
                on_failure(None, time.monotonic() - failing)
            return result


def _plain_reason(error: exc.DBAPIError | exc.TimeoutError | OSError | StorageError) -> str:
    """What failed, in one line without SQL."""
    if isinstance(error, exc.TimeoutError):
        # A worker has one connection, and its heartbeat waits for an answer on it.
        return "the database doesn't answer"
    if isinstance(error, StorageError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    text = " ".join(str(error.orig or error).split())
    return f"the database failed: {masked(text)}"


def _may_pass(error: BaseException | None) -> bool:
    """Whether waiting can help; a syntax error or a missing permission stays."""
    if isinstance(error, StorageError):  # from a checkpoint store, which wraps what failed
        return not isinstance(error.__cause__, OSError) or _may_pass(error.__cause__)
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return isinstance(error, exc.OperationalError | exc.InterfaceError | exc.TimeoutError) or (
        isinstance(error, exc.DBAPIError) and error.connection_invalidated
    )

"""What to do while the database or the disk fails: wait, try again, and give up in the end."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from gru_optuna.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

PATIENCE_SECONDS = 600.0
"""How long a worker waits for its storage. What it has trained meanwhile it still knows."""

_SHORTEST, _LONGEST = 0.25, 5.0

_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN}

Result = TypeVar("Result")


def with_retries(
    action: Callable[[], Result],
    stop: Event,
    told: Callable[[str | None, float], None],
    seconds: float = PATIENCE_SECONDS,
) -> Result:
    """Does something with the storage, again and again while the storage fails.

    Parameters
    ----------
    action
        What to do. It is done whole or not at all, so that it can be tried again.
    stop
        Once set, only one more attempt is made.
    told
        Told the reason when it fails first, and None when it works again; with the seconds since
        it failed.
    seconds
        When to give up.

    Raises
    ------
    StorageError
        If it fails until then, or `stop` is set.
    """
    failing: float | None = None
    pause = _SHORTEST
    while True:
        last = stop.is_set()
        try:
            result = action()
        except (DBAPIError, NoConnection, OSError, StorageError) as error:
            if not _may_pass(error):
                raise
            reason = plain_reason(error).rstrip(".")
            if failing is None:
                failing = time.monotonic()
                told(reason, 0.0)
            if last or time.monotonic() - failing > seconds:
                raise StorageError(
                    f"{reason}. What was committed is safe; once the storage works again, the "
                    f"same command goes on."
                ) from error
            stop.wait(pause)
            pause = min(2 * pause, _LONGEST)
        else:
            if failing is not None:
                told(None, time.monotonic() - failing)
            return result


def plain_reason(error: DBAPIError | NoConnection | OSError | StorageError) -> str:
    """What failed, in one line without SQL."""
    if isinstance(error, NoConnection):  # the beat's thread waits for an answer on the only one
        return "the database doesn't answer"
    if isinstance(error, StorageError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    text = " ".join(str(error.orig or error).split())
    return f"the database failed: {text}"


def _may_pass(error: BaseException | None) -> bool:
    """Whether waiting can help."""
    if isinstance(error, StorageError):  # a store of checkpoints says what failed
        return not isinstance(error.__cause__, OSError) or _may_pass(error.__cause__)
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return isinstance(error, OperationalError | InterfaceError | NoConnection) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )

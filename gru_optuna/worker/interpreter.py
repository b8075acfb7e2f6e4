"""Python's own turns, where threads come back from compiled code all the time."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def short_turns() -> Iterator[None]:
    """Lets a thread that comes back from compiled code wait 0.2 ms for the interpreter, not 5.

    An epoch of a small GRU takes as long as Python's own turn, so bookkeeping would hold up
    every one of them.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(before)

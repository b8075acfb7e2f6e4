"""Starts processes of ``gru-optuna`` within a tenth of a second: they are forked, all imported.

One line of JSON on stdin starts one; a line on stdout says what became of it. Each is a process
of its own in every respect that matters here: its memory, its files, its signals, its death.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from typing import Any


def main() -> None:
    """Serves until stdin ends, and leaves no process behind."""
    _import_all()
    _say("ready")
    children: set[int] = set()
    while True:
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], 0.02)
        _bury(children)
        if not readable:
            continue
        line = _line()
        if not line:
            break
        order = json.loads(line)
        process = os.fork()
        if process == 0:
            _become(order)
            return  # through Python's usual way out
        children.add(process)
        _say("started", process)
    for process in children:
        os.kill(process, signal.SIGKILL)


def _import_all() -> None:
    import numpy as np
    import psycopg  # noqa: F401

    import gru_optuna.tuning.tune  # noqa: F401 (what every process needs, imported once)
    import helpers.faulty  # noqa: F401
    from gru_optuna.training.engines.compiled.epoch import warm_up

    warm_up(np.float32)


def _become(order: dict[str, Any]) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for place, file in enumerate([null, *(os.open(p, flags, 0o600) for p in order["output"])]):
        os.dup2(file, place)
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    from gru_optuna import cli
    from helpers import faulty

    faulty.apply(order["faults"])
    sys.argv = ["gru-optuna", *order["arguments"]]
    cli.main()


def _line() -> bytes:
    """Byte by byte: a child must not find a second order in a buffer."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            return b""
        line += byte
    return line


def _bury(children: set[int]) -> None:
    while children:
        process, status = os.waitpid(-1, os.WNOHANG)
        if not process:
            return
        children.remove(process)
        _say("ended", process, os.waitstatus_to_exitcode(status))


def _say(*words: object) -> None:
    os.write(1, (json.dumps(words) + "\n").encode())


if __name__ == "__main__":
    main()

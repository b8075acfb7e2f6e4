"""``gru-optuna`` with faults: it dies, fails or fills the disk at a chosen point.

The package has no hooks for this; here its functions are wrapped before its command line runs.
A fault is named by its function below, and described in JSON::

    python -m helpers.faulty '{"strike": {"at": "commit", "occurrence": 3}}' worker tiny

"""

from __future__ import annotations

import builtins
import ctypes
import errno
import importlib
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import event

import gru_optuna.storage.database.open
from gru_optuna.checkpoints import stores
from gru_optuna.checkpoints.study_checkpoints import StudyCheckpoints
from gru_optuna.launch import local
from gru_optuna.storage.database import sqlite
from gru_optuna.storage.database.retry import with_retries
from gru_optuna.storage.mirror.mirror import Mirror
from gru_optuna.storage.mirror.optuna_rows import Changes
from gru_optuna.storage.workers.leases import Registration
from gru_optuna.training.engines.cpu import CPUEngine
from gru_optuna.worker import commits, loop
from gru_optuna.worker.loop import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self


def apply(faults: dict[str, dict[str, Any]]) -> None:
    """Wraps the package."""
    for name, description in faults.items():
        FAULTS[name](**description)


def log(path: str) -> None:
    """Appends what was trained, and what was committed: ``trained SEED EPOCH PID``.

    Two processes' lines never mix: each is one write at the end of the file.
    """

    def trained(engine: CPUEngine, slot: Any) -> None:
        _append(path, f"trained {slot.seed} {slot.progress.epoch + 1}")

    _after(CPUEngine, "_train_slot", trained)
    sync = Mirror.sync

    def synced(mirror: Mirror, *arguments: Any, **options: Any) -> Any:
        result = sync(mirror, *arguments, **options)
        saved = options.get("saved") or (arguments[2] if len(arguments) > 2 else {})
        for number, one in saved.items():
            if number not in result.lost:
                _append(path, f"saved {number} {one.epoch}")
        return result

    Mirror.sync = synced  # type: ignore[method-assign]


def strike(at: str, occurrence: int, number: int = signal.SIGKILL) -> None:
    """The process sends itself a signal when it comes to a point for the n-th time.

    If the signal asks it to stop, it goes on once it knows.
    """
    left = occurrence
    stops: list[threading.Event] = []
    _before(Worker, "_work", lambda worker, *_: stops.append(worker.stop))

    def hit(seconds: float = 0.0) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            if seconds:
                threading.Timer(seconds, os.kill, (os.getpid(), number)).start()
            else:
                os.kill(os.getpid(), number)
                if number in (signal.SIGINT, signal.SIGTERM):
                    stops[-1].wait()

    POINTS[at](hit)


def eager() -> None:
    """Every epoch has a commit of its own, as if it took long."""
    commits.COMMIT_SECONDS = 0.0


def blameless() -> None:
    """No trial is ever blamed for the deaths of its workers, however many die in a row."""
    loop.MOST_DEATHS = 10**9


def fatal(trial_seed: int, epoch: int) -> None:
    """Training this epoch of this trial kills the process."""

    def train(engine: CPUEngine, slot: Any) -> None:
        if slot.seed == trial_seed and slot.progress.epoch + 1 == epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    _before(CPUEngine, "_train_slot", train)


def crash(trial_seed: int, epoch: int, error: str = "ValueError") -> None:
    """Training this epoch of this trial raises."""
    kind = getattr(builtins, error)

    def train(engine: CPUEngine, slot: Any) -> None:
        if slot.seed == trial_seed and slot.progress.epoch + 1 == epoch:
            raise kind("of no known kind")

    _before(CPUEngine, "_train_slot", train)


def memory(slots: int) -> None:
    """The memory suffices for this many slots that train together."""

    def train(engine: CPUEngine, training: Sequence[Any]) -> None:
        if len(training) > slots:
            raise MemoryError

    _before(CPUEngine, "train_epoch", train)


def slow(seconds: float, sign: str = "") -> None:
    """An epoch of one slot takes so much longer; a file is the sign that one has begun."""

    def wait(*_: Any) -> None:
        if sign:
            Path(sign).touch()
        time.sleep(seconds)

    _before(CPUEngine, "_train_slot", wait)


def held(until: str) -> None:
    """No epoch ends before there is a file of this name."""

    def wait(*_: Any) -> None:
        while not Path(until).exists():
            time.sleep(0.02)

    _before(CPUEngine, "_train_slot", wait)


def stuck(at: str, sign: str) -> None:
    """The main thread comes to a step that is one long instruction, and leaves a file as a sign."""

    def hang(*_: Any, **__: Any) -> None:
        Path(sign).touch()
        lock, system = ctypes.create_string_buffer(128), ctypes.CDLL(None)
        system.pthread_mutex_lock(lock)
        system.pthread_mutex_lock(lock)  # forever; no signal interrupts it

    module, _, name = at.rpartition(".")
    setattr(importlib.import_module(module), name, hang)


class _Opened:
    """A file of a checkpoint; its writing is up to subclasses."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def full_disk(after: int, seconds: float) -> None:
    """No further checkpoint can be written for a while; what was begun stays half written."""
    full = _for_a_while(seconds)
    create = stores._create
    left = after

    class Full(_Opened):
        """A file that takes one byte."""

        def write(self, content: bytes) -> None:
            self.file.write(content[:1])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def created(path: Any) -> Any:
        nonlocal left
        left -= 1
        return Full(create(path)) if left < 0 and full() else create(path)

    stores._create = created


def full_database(after: int, until: str) -> None:
    """SQLite itself finds that its file may not grow, until there is a file of this name."""
    connections: list[Any] = []
    connect = sqlite.connect

    def connected(*arguments: Any) -> Any:
        connections.append(connect(*arguments))
        return connections[-1]

    def limit(pages: int) -> None:
        for connection in connections:
            with suppress(sqlite3.ProgrammingError):  # closed meanwhile
                connection.execute(f"PRAGMA max_page_count = {pages}")  # no less than there are

    def wait() -> None:
        while not Path(until).exists():
            time.sleep(0.05)
        limit(2**31)

    def start() -> None:
        limit(1)
        threading.Thread(target=wait, daemon=True).start()  # or the process outlives its work

    sqlite.connect = connected
    _once(Mirror, "sync", after, start)


def clock(after: int, hours: float) -> None:
    """The machine's clock is set, while it runs."""
    shift = timedelta(0)
    wall = time.time

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + shift

    def start() -> None:
        nonlocal shift
        shift = timedelta(hours=hours)

    gru_optuna.storage.database.open.datetime = Clock  # type: ignore[attr-defined]
    time.time = lambda: wall() + shift.total_seconds()
    _once(Mirror, "sync", after, start)


def give_up(seconds: float) -> None:
    """The worker waits only so long for its storage."""
    (_,) = with_retries.__defaults__ or ()
    with_retries.__defaults__ = (seconds,)


def workers(faults: dict[str, dict[str, Any]]) -> None:
    """The workers that a supervisor starts have faults of their own."""
    popen = local.subprocess.Popen

    def started(command: list[str], **options: Any) -> Any:
        assert command[1:3] == ["-m", "gru_optuna"]
        # Not by its path: helpers/queue.py would stand in for the module of the library.
        return popen(
            [command[0], "-m", "helpers.faulty", json.dumps(faults), *command[3:]], **options
        )

    local.subprocess.Popen = started  # type: ignore[assignment,misc]


def broken(reason: str) -> None:
    """Every worker dies as soon as it trains."""

    def train(*_: Any) -> None:
        sys.stderr.write(f"{reason}\n")
        sys.stderr.flush()
        os.abort()

    _before(CPUEngine, "train_epoch", train)


def _epoch(hit: Callable[..., None]) -> None:
    """In the middle of an epoch, while compiled code runs."""
    _before(CPUEngine, "_train_slot", lambda *_: hit(seconds=0.004))


def _epoch_over(hit: Callable[[], None]) -> None:
    """Between two epochs of all slots."""
    _after(Worker, "_after_epoch", lambda *_: hit())


def _checkpoint_half(hit: Callable[[], None]) -> None:
    """With half of a checkpoint's file written."""
    create = stores._create

    class Half(_Opened):
        def write(self, content: bytes) -> None:
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            hit()
            self.file.write(content[len(content) // 2 :])

    stores._create = lambda path: Half(create(path))


def _checkpoint(hit: Callable[[], None]) -> None:
    """With a checkpoint in its place, and no row that knows it."""
    _after(StudyCheckpoints, "put", lambda *_: hit())


def _written(hit: Callable[[], None]) -> None:
    """Within a transaction that has written reports and endings."""
    _after(Changes, "write", lambda *_: hit())


def _claim(hit: Callable[[], None]) -> None:
    """Within a transaction that has taken trials."""
    _after(Registration, "claim", lambda *_: hit())


def _commit(hit: Callable[[], None]) -> None:
    """The moment before the database commits what a worker did."""
    inside = threading.local()
    sync = Mirror.sync

    def synced(*arguments: Any, **options: Any) -> Any:
        inside.sync = True
        try:
            return sync(*arguments, **options)
        finally:
            inside.sync = False

    Mirror.sync = synced  # type: ignore[method-assign]
    event.listen(
        sqlalchemy.Engine, "commit", lambda _: hit() if getattr(inside, "sync", False) else None
    )


def _committed(hit: Callable[[], None]) -> None:
    """The moment after: the worker doesn't know yet."""
    _before(Mirror, "_accept", lambda *_: hit())


def _saved(hit: Callable[[], None]) -> None:
    """After a commit that noted a checkpoint."""
    sync = Mirror.sync

    def synced(
        mirror: Mirror, wanted: int, limit: Any, saved: Any, *more: Any, **options: Any
    ) -> Any:
        result = sync(mirror, wanted, limit, saved, *more, **options)
        if saved:
            hit()
        return result

    Mirror.sync = synced  # type: ignore[method-assign]


def _clear(hit: Callable[[], None]) -> None:
    """A trial's end is committed, its checkpoints still lie there."""
    _before(StudyCheckpoints, "clear", lambda *_: hit())


def _leave(hit: Callable[[], None]) -> None:
    """All is done but the leaving."""
    _before(Registration, "leave", lambda *_: hit())


FAULTS: dict[str, Callable[..., None]] = {
    fault.__name__: fault
    for fault in (
        log, strike, eager, blameless, fatal, crash, memory, slow, held, stuck, full_disk,
        full_database, clock, give_up, workers, broken,
    )
}  # fmt: skip


def _ending(hit: Callable[[], None]) -> None:
    """About to end a trial without training it on, such as one that was paused."""
    _before(Worker, "_end_without_slot", lambda *_: hit())


POINTS: dict[str, Callable[[Callable[..., None]], None]] = {
    "epoch": _epoch,
    "epoch over": _epoch_over,
    "checkpoint half": _checkpoint_half,
    "checkpoint": _checkpoint,
    "written": _written,
    "claim": _claim,
    "commit": _commit,
    "committed": _committed,
    "saved": _saved,
    "ending": _ending,
    "clear": _clear,
    "leave": _leave,
}


def _before(owner: Any, name: str, action: Callable[..., None]) -> None:
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        action(*arguments)
        return original(*arguments, **options)

    setattr(owner, name, wrapped)


def _after(owner: Any, name: str, action: Callable[..., None]) -> None:
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        action(*arguments)
        return result

    setattr(owner, name, wrapped)


def _once(owner: Any, name: str, after: int, action: Callable[[], None]) -> None:
    """Runs an action once, before the call that follows `after` calls."""
    left = after

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            action()

    _before(owner, name, count)


def _for_a_while(seconds: float) -> Callable[[], bool]:
    """True from the first question on, so long."""
    end = 0.0

    def still() -> bool:
        nonlocal end
        end = end or time.monotonic() + seconds
        return time.monotonic() < end

    return still


def _append(path: str, line: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{line} {os.getpid()}\n".encode())
    os.close(file)


if __name__ == "__main__":
    from gru_optuna.cli import main

    apply(json.loads(sys.argv.pop(1)))
    main()

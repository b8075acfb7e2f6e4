"""Workers of the whole queue on this machine, kept running by one command."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.processes import wait_for
from helpers.queue import Queue
from sqlalchemy import select

from gru_optuna.storage.database.tables import queue_workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers.processes import Nursery


@pytest.fixture
def queue(nursery: Nursery, tmp_path: Path) -> Iterator[Queue]:
    """A queue in a SQLite database; its workers end with the test."""
    queue = Queue(nursery, tmp_path, f"sqlite:///{tmp_path / 'queue.db'}")
    yield queue
    queue.close()


def test_workers_of_the_queue_are_restarted_and_leave_together(queue: Queue) -> None:
    queue.submit("films", trials=2)
    command = queue.start_worker("--workers", 2)

    def at_work() -> set[int]:
        return {row.process for row in queue.rows(select(queue_workers))}

    first = wait_for(
        lambda: f"two workers; they said: {queue.said}", lambda: len(at_work()) == 2 and at_work()
    )
    os.kill(min(first), signal.SIGKILL)
    wait_for(
        lambda: f"another worker; they said: {queue.said}",
        lambda: len(at_work() - {min(first)}) == 2,
    )
    queue.wait_until("films", "done")
    command.signal(signal.SIGTERM)
    assert command.wait() == 130
    assert "SIGKILL" in command.said
    assert at_work() <= {min(first)}
    assert not any(Path(f"/proc/{process}").exists() for process in first)

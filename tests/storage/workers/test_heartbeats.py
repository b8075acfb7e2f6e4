"""How a worker learns that another one on this machine has died, or is silent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine

from gru_optuna.storage.workers.heartbeats import (
    BEATS_A_LEASE,
    HeartbeatMonitor,
    has_died,
    life_lock,
    remove_lock,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return create_engine(f"sqlite:///{tmp_path / 'x.db'}")


def test_who_holds_the_lock_lives_and_who_has_left_it_is_dead(engine: Engine) -> None:
    lock = life_lock(engine, 7)
    assert lock is not None
    with lock:
        assert not has_died(engine, 7)
    assert has_died(engine, 7)
    # Looking took the lock for a moment only.
    lock.acquire(timeout=0)
    lock.release()


def test_without_a_file_a_worker_is_dead(engine: Engine) -> None:
    """Whoever removed it may have died before the row was removed, too."""
    assert has_died(engine, 7)
    lock = life_lock(engine, 7)
    assert lock is not None
    assert not Path(lock.lock_file).exists()
    remove_lock(lock)  # missing: no error


def test_on_a_server_nobody_is_certainly_dead() -> None:
    """Its workers may run on other machines. No connection is made."""
    engine = create_engine("postgresql+psycopg://nobody@nowhere.invalid/x")
    assert life_lock(engine, 7) is None
    assert not has_died(engine, 7)
    remove_lock(None)


def test_silence_is_counted_from_the_last_beat() -> None:
    monitor = HeartbeatMonitor(BEATS_A_LEASE * 1.0)
    for second in range(4):
        assert monitor.look({7: second}, at=second) == set()
    for second in range(4, 4 + BEATS_A_LEASE):  # until it has been silent for exactly a lease
        assert monitor.look({7: 3}, at=second) == set()
    assert monitor.look({7: 3}, at=4 + BEATS_A_LEASE) == {7}

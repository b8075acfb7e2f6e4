"""Many kills of the queue's workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.queue import Queue, check_all_done, kill_at_random

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.processes import Nursery

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("seed", range(3))
def test_killed_workers_cost_no_study_anything(
    nursery: Nursery, tmp_path: Path, database_url: str, seed: int
) -> None:
    queue = Queue(nursery, tmp_path, database_url)
    try:
        for name in ("first", "second", "third"):
            queue.submit(name, trials=5, epochs=300)
        kill_at_random(queue, workers=2, kills=15, seed=seed)
        check_all_done(queue, trials=5, epochs=300)
    finally:
        queue.close()

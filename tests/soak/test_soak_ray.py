"""A study on a real Ray cluster of two nodes: a node killed, the command closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.cluster_tuning import LIMIT, SETTINGS, Tuning
from helpers.processes import wait_for
from helpers.ray_cluster import ADDRESSES, RayCluster, missing

from gru_optuna.storage.database.tables import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from helpers.processes import Lab

lacks = missing()
pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(LIMIT),
    pytest.mark.skipif(bool(lacks), reason=f"no real Ray here, it lacks: {', '.join(lacks)}"),
]


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A cluster of two nodes; nothing of it is left at the end."""
    made = RayCluster(tmp_path_factory.mktemp("r") / "r")  # the path of a socket is short
    yield made
    made.close()


@pytest.fixture
def tuning(
    cluster: RayCluster,
    new_lab: Callable[..., Lab],
    new_postgresql: Callable[[], str],
    tmp_path: Path,
) -> Iterator[Tuning]:
    """A study of some thousand epochs."""
    made = Tuning(cluster, "ray", new_lab(new_postgresql(), *SETTINGS), tmp_path / "log")
    yield made
    made.engine.dispose()


def test_a_study_survives_a_dead_node_and_a_closed_command(
    tuning: Tuning, cluster: RayCluster
) -> None:
    again = tuning.close_and_attach()
    said = len(tuning.log.read_text())

    cluster.kill_node(1)
    tuning.wait_for_epochs(100)  # by the workers of the other node
    cluster.start_node(1)  # and there is room for the two that died
    wait_for(
        lambda: f"two restarts on the new node: {tuning.log.read_text()[said:]}",
        lambda: (
            (news := tuning.log.read_text()[said:]).count(" died (") == 2
            and news.count(f"on {ADDRESSES[1]}") >= 2
        ),
    )

    tuning.wait_for_the_end(again)
    tuning.check_exact()
    print(tuning.log.read_text())


def test_ctrl_c_ends_the_workers_and_the_same_command_resumes_the_study(tuning: Tuning) -> None:
    first = tuning.start()
    tuning.wait_for_epochs(100)
    tuning.interrupt(first)
    wait_for("the workers to leave", lambda: tuning.rows(workers) == [])
    again = tuning.start()
    tuning.wait_for_epochs(50)
    assert "started earlier" not in tuning.log.read_text()
    tuning.interrupt(again)

"""A study on a real Slurm of two nodes: preempted, a node killed, the command closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.cluster_tuning import LIMIT, SETTINGS, Tuning
from helpers.network_namespace import missing
from helpers.processes import wait_for
from helpers.slurm_cluster import NEEDED, SlurmCluster

from gru_optuna.storage.database.tables import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from helpers.processes import Lab

lacks = missing(*NEEDED)
pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(LIMIT),
    pytest.mark.skipif(bool(lacks), reason=f"no real Slurm here, it lacks: {', '.join(lacks)}"),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[SlurmCluster]:
    """A cluster of two nodes; nothing of it is left at the end."""
    made = SlurmCluster(tmp_path / "slurm")
    yield made
    made.close()


def tasks(cluster: SlurmCluster) -> dict[str, list[str]]:
    """Slurm's tasks: state, node, and how often they were started again."""
    shown = cluster.run(
        "squeue", "--noheader", "--array", "--states=all",
        "--Format=JobArrayID:|,State:|,NodeList:|,RestartCnt:|",
    )  # fmt: skip
    rows = [line.split("|") for line in shown.splitlines()]
    return {row[0]: row[1:4] for row in rows if "_" in row[0]}


@pytest.fixture
def tuning(
    cluster: SlurmCluster,
    new_lab: Callable[..., Lab],
    new_postgresql: Callable[[], str],
    tmp_path: Path,
) -> Iterator[Tuning]:
    """A study of some thousand epochs."""
    made = Tuning(cluster, "slurm", new_lab(new_postgresql(), *SETTINGS), tmp_path / "log")
    yield made
    made.engine.dispose()


def test_a_study_survives_preemption_a_dead_node_and_a_closed_command(
    tuning: Tuning, cluster: SlurmCluster
) -> None:
    again = tuning.close_and_attach()

    cluster.run(
        "sbatch", "--partition=high", "--nodelist=node1", "--cpus-per-task=2",
        f"--output={cluster.folder}/urgent", "--wrap=sleep 3",
    )  # fmt: skip
    wait_for(
        lambda: f"a task to be preempted: {tasks(cluster)}",
        lambda: any(int(restarts) for *_, restarts in tasks(cluster).values()),
    )
    tuning.wait_for_epochs(100)

    restarts = sum(int(row[2]) for row in tasks(cluster).values())
    cluster.kill_node("node2")
    wait_for(
        lambda: f"the tasks of the dead node to be queued again: {tasks(cluster)}",
        lambda: sum(int(row[2]) for row in tasks(cluster).values()) > restarts,
    )
    cluster.start_node("node2")

    tuning.wait_for_the_end(again)
    tuning.check_exact()
    print(tuning.log.read_text())


def test_ctrl_c_cancels_the_job_and_the_same_command_resumes_the_study(
    tuning: Tuning, cluster: SlurmCluster
) -> None:
    first = tuning.start()
    tuning.wait_for_epochs(100)
    tuning.interrupt(first)
    states = wait_for(
        lambda: f"the job to end: {tasks(cluster)}",
        lambda: (
            (found := {row[0] for row in tasks(cluster).values()})
            and not found & {"RUNNING", "COMPLETING", "PENDING"}
            and found
        ),
    )
    assert states == {"CANCELLED"}
    assert tuning.rows(workers) == []
    again = tuning.start()
    tuning.wait_for_epochs(50)
    tuning.interrupt(again)


def test_wrong_input_is_not_retried_and_is_said(tuning: Tuning, cluster: SlurmCluster) -> None:
    command = tuning.start("--device", "cuda")
    assert command.wait(300) == 2
    assert "--device cuda" in tuning.log.read_text()
    assert {row[2] for row in tasks(cluster).values()} == {"0"}

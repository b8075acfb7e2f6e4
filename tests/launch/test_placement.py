"""What is refused before anything is created."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from helpers.workspaces import Workspace

SERVER = ("--storage", "postgresql://host/studies")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--on", "slurm"), "need a PostgreSQL server that all of them reach"),
        (("--on", "kubernetes"), "need a PostgreSQL server that all of them reach"),
        (("--gpus-per-worker", "1"), "workers on this machine share its GPUs"),
        (("--image", "gru-optuna"), "only workers on Kubernetes run in containers"),
        (("--on", "slurm", *SERVER, "--image", "x"), "only workers on Kubernetes"),
        (("--on", "nowhere"), "nowhere"),
    ],
)
def test_what_makes_no_sense_where_the_workers_run_is_refused(
    workspace: Workspace, options: tuple[str, ...], words: str
) -> None:
    ran = workspace.run("worker", *options)
    assert ran.returncode == 2
    assert words in " ".join(ran.stderr.split())
    assert not (workspace.folder / "storage").exists()


def test_a_named_worker_is_one_worker(workspace: Workspace) -> None:
    ran = workspace.run("worker", "tiny", "--workers", "2")
    assert ran.returncode == 2
    assert "worker tiny is one worker. Start several with gru-optuna tune" in ran.stderr

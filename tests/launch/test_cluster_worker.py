"""A worker as a cluster starts it: it says where it runs, and confirms what it has searched."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from helpers.processes import wait_for

from gru_optuna.attributes import CONFIRMATION_SECONDS
from gru_optuna.storage.database.open import locate, open_storage
from gru_optuna.storage.database.tables import checkpoints, workers
from gru_optuna.storage.optuna_private import study_id
from gru_optuna.study.confirmation import is_current, read_decision, read_runs
from gru_optuna.study.study import load_study

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers.processes import Lab
    from helpers.workspaces import Workspace

CONFIRM = ("confirmation.candidates=1", "confirmation.seeds=1", "budget.trials=2")


def start(lab: Lab, workspace: Workspace) -> subprocess.Popen[str]:
    """A worker of the study ``tiny``, in a job of a cluster."""
    command = [
        sys.executable, "-m", "gru_optuna", "worker", "tiny", "--storage", lab.url,
        "--data", str(lab.folder), "--device", "cpu", "--threads", "1", "--slots", "2",
        "--confirm", lab.spec.confirmation.model_dump_json(),
    ]  # fmt: skip
    job = {"GRU_OPTUNA_JOB": "slurm 12_3", "GRU_OPTUNA_NODE": "node1"}
    return subprocess.Popen(
        command, cwd=lab.folder, env=workspace.environment() | job, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def test_a_worker_of_a_cluster_confirms_once_the_search_is_over(
    new_lab: Callable[..., Lab], workspace: Workspace, database_url: str
) -> None:
    lab = new_lab(database_url, *CONFIRM)
    worker = start(lab, workspace)
    _, said = worker.communicate(timeout=120)
    assert worker.returncode == 0, said
    study, spec = load_study(open_storage(lab.url), "tiny")
    assert is_current(read_decision(study), study, spec)
    assert study.user_attrs[CONFIRMATION_SECONDS] > 0


def test_a_worker_shares_the_confirmation_that_another_one_decides(
    new_lab: Callable[..., Lab], workspace: Workspace, database_url: str
) -> None:
    lab = new_lab(database_url, *CONFIRM)
    with locate(lab.url).exclusively(f"confirm-{study_id(lab.study)}", 10):
        worker = start(lab, workspace)
        _, said = worker.communicate(timeout=120)
    assert worker.returncode == 0, said
    assert [trial.state.name for trial in lab.trials] == ["COMPLETE"] * 2
    assert len(read_runs(lab.study)) == 1
    assert len(lab.rows(checkpoints)) == 1  # its weights, for the one that decides
    assert read_decision(lab.study) is None
    # Which finds everything, and leaves nothing.
    again = start(lab, workspace)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert read_decision(lab.study) is not None
    assert (lab.rows(checkpoints), lab.rows(workers), lab.files) == ([], [], [])


def test_status_shows_the_job_and_the_node_of_a_worker(
    new_lab: Callable[..., Lab], workspace: Workspace, database_url: str
) -> None:
    lab = new_lab(database_url, "training.epochs=100000", "training.patience='off'")
    worker = start(lab, workspace)

    def workers() -> list[dict[str, object]]:
        shown = workspace.run("status", "tiny", "--storage", lab.url, "--json")
        found: list[dict[str, object]] = json.loads(shown.stdout)["workers"]
        return found

    try:
        (found,) = wait_for("the worker", workers)
        assert found["host"] == "node1 (slurm 12_3)"
    finally:
        worker.kill()
        worker.communicate()

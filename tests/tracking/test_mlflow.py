"""A study in a real MLflow, on SQLite. MLflow is no part of the test environment: without it, these
tests are skipped. To run them: pip install 'gru-optuna[mlflow]'."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from helpers.workspaces import write_tiny_study

import gru_optuna
from gru_optuna.worker.events import TrialEnded, WorkerEvent

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.tuning.tune import TuningResult

tracking = pytest.importorskip("mlflow.tracking", reason="MLflow is not installed")


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of a database of its own."""
    monkeypatch.chdir(tmp_path)  # artifacts go to a folder beside it
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return tracking.MlflowClient()


def tuned(path: Path, **options: Any) -> TuningResult:
    return gru_optuna.tune(
        path, storage=f"sqlite:///{path.parent / 'x.db'}", slots=1, threads=1, track="mlflow",
        overrides=["confirmation.candidates=1", "confirmation.seeds=2"],
        report=path.parent / "report", **options,
    )  # fmt: skip


def test_a_study_is_a_run_with_a_run_for_each_trial(mlflow: Any, tmp_path: Path) -> None:
    path, stop = write_tiny_study(tmp_path / "study"), threading.Event()

    def after_one(event: WorkerEvent) -> None:
        if isinstance(event, TrialEnded):
            stop.set()

    assert tuned(path, trials=3, stop=stop, on_event=after_one).interrupted
    result = tuned(path, trials=3)  # continues in the same run
    experiment = mlflow.get_experiment_by_name("gru-optuna")
    runs = mlflow.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.data.tags.get("gru_optuna.kind") == "study")
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "tiny"
    best = result.best
    assert best is not None
    assert parent.data.metrics["best_validation_accuracy"] == best.value
    assert parent.data.metrics["test_accuracy"] == best.test
    assert parent.data.tags["best_trial"] == str(best.number)
    assert {file.path for file in mlflow.list_artifacts(parent.info.run_id)} == {
        "bundle", "report", "specification.json",
    }  # fmt: skip
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{path.parent / 'x.db'}")
    children = {
        int(run.data.tags["gru_optuna.trial"]): run
        for run in runs
        if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert len(runs) == 1 + len(children)
    assert children.keys() == {trial.number for trial in study.trials}
    for trial in study.trials:
        child = children[trial.number]
        assert child.info.status == "FINISHED"
        assert child.data.params.keys() == trial.params.keys()
        history = mlflow.get_metric_history(child.info.run_id, "accuracy")
        assert {point.step: point.value for point in history} == trial.intermediate_values
        assert len(history) == len(trial.intermediate_values)
        assert child.data.tags["outcome"] == trial.user_attrs["outcome"]

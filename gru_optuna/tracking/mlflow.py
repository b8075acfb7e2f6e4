"""MLflow: a run for each study, with a run below it for each trial.

Where the server is and who may write to it are MLflow's own settings (``MLFLOW_TRACKING_URI``,
``MLFLOW_EXPERIMENT_NAME``). A study that is resumed continues in its run.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Here, and not where it is used: without MLflow the tracker is refused before anything is trained.
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from gru_optuna.attributes import FINGERPRINT
from gru_optuna.formatting import format_value
from gru_optuna.study.summary import summarize
from gru_optuna.study.trial_attributes import TrialAttributes
from gru_optuna.worker.events import EpochTrained, TrialEnded, TrialStarted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.study_file import Specification
    from gru_optuna.worker.events import WorkerEvent

EXPERIMENT = "gru-optuna"
STUDY, TRIAL = "gru_optuna.study", "gru_optuna.trial"
_PARENT = "mlflow.parentRunId"
_STATES = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
}
_MOST_METRICS = 1000
"""Metrics that MLflow takes at once."""


class MLflowTracker:
    """Writes to the MLflow server or database that ``MLFLOW_TRACKING_URI`` names."""

    def __init__(self) -> None:
        self._client = MlflowClient()
        self._experiment = self._run = ""
        self._metric = "value"
        self._spec: Specification | None = None
        self._children: dict[int, str] = {}  # run ids, by the trial's number
        self._ended: set[int] = set()
        self._epochs: dict[int, dict[int, float]] = {}  # that MLflow has, by trial

    def begin(self, study: Study, spec: Specification) -> None:
        """Finds the study's run, or creates it."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._spec, self._metric = spec, spec.metric
        # A study is its name and its rows: another one of that name has other rows.
        fingerprint = str(study.user_attrs.get(FINGERPRINT, ""))
        tags = {STUDY: study.study_name, "gru_optuna.fingerprint": fingerprint}
        runs = self._search({**tags, "gru_optuna.kind": "study"})
        if runs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            for child in self._search({_PARENT: self._run}):
                self._children[int(child.data.tags[TRIAL])] = child.info.run_id
        else:
            tags |= {"gru_optuna.kind": "study", "task": spec.task, "metric": spec.metric}
            created = self._client.create_run(
                self._experiment, tags=tags, run_name=study.study_name
            )
            self._run = created.info.run_id
            self._client.log_dict(self._run, spec.model_dump(mode="json"), "specification.json")

    def happened(self, event: WorkerEvent) -> None:
        """Writes the epochs of trials as they come."""
        match event:
            case TrialStarted(number, curve=curve):
                self._child(number)
                self._log_epochs(number, dict(enumerate(curve, start=1)))
            case EpochTrained(number, epoch, value):
                self._log_epochs(number, {epoch: value})
            case TrialEnded(number, state, outcome=outcome):
                self._end_child(number, state, outcome)

    def end(self, study: Study, files: Mapping[str, Path], *, finished: bool) -> None:
        """Writes what events didn't bring, the winner, and the files."""
        assert self._spec is not None
        for trial in study.get_trials(deepcopy=False):
            if trial.state != TrialState.WAITING:
                self._complete_child(trial)
        summary = summarize(study, self._spec)
        if (best := summary.best) is not None:
            values = {f"best_validation_{self._metric}": best.value}
            if best.test is not None:
                values[f"test_{self._metric}"] = best.test
            confirmed = best.confirmed
            if confirmed and confirmed.test and (both := confirmed.test.ensemble):
                values[f"test_{self._metric}_ensemble"] = both["value"]
            metrics = [Metric(key, float(value), 0, 0) for key, value in values.items()]
            tags = [RunTag("best_trial", str(best.number))]
            tags += [
                RunTag(f"best.{key}", format_value(value))
                for key, value in best.configuration().items()
            ]
            self._client.log_batch(self._run, metrics=metrics, tags=tags)
        for name, folder in files.items():
            self._client.log_artifacts(self._run, str(folder), name)
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")

    def _search(self, tags: Mapping[str, str]) -> list[Any]:
        """The runs with these tags, the newest first."""
        where = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found, token = [], None
        while True:
            page = self._client.search_runs([self._experiment], where, page_token=token)
            found += list(page)
            token = page.token
            if not token:
                return found

    def _child(self, number: int) -> str:
        """The run of a trial, created if it is new."""
        if number not in self._children:
            tags = {_PARENT: self._run, TRIAL: str(number)}
            made = self._client.create_run(self._experiment, tags=tags, run_name=f"trial {number}")
            self._children[number] = made.info.run_id
        return self._children[number]

    def _log_epochs(self, number: int, curve: Mapping[int, float]) -> None:
        known = self._epochs.setdefault(number, {})
        new = [
            Metric(self._metric, value, 0, epoch)
            for epoch, value in curve.items()
            if epoch not in known
        ]
        for begin in range(0, len(new), _MOST_METRICS):
            self._client.log_batch(self._child(number), metrics=new[begin : begin + _MOST_METRICS])
        known.update(curve)

    def _end_child(self, number: int, state: TrialState, outcome: str) -> None:
        if number in self._ended:
            return
        run = self._child(number)
        self._client.set_tag(run, "outcome", outcome)
        self._client.set_terminated(run, _STATES.get(state, "KILLED"))
        self._ended.add(number)

    def _complete_child(self, trial: FrozenTrial) -> None:
        """Writes what the database knows of a trial, whichever worker trained it."""
        self._log_epochs(trial.number, trial.intermediate_values)
        params = [Param(key, format_value(value)) for key, value in trial.params.items()]
        self._client.log_batch(self._child(trial.number), params=params)
        if trial.state.is_finished():
            outcome = TrialAttributes.read(trial).outcome
            self._end_child(trial.number, trial.state, outcome)

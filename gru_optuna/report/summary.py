"""A study in a few plain values: what ``studies``, ``status`` and ``best`` print."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from gru_optuna.hyperparameters import OFF
from gru_optuna.search import budget, space
from gru_optuna.search.study import BASELINES
from gru_optuna.spec import Data, Model, Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.hyperparameters import Hyperparameters, Value
    from gru_optuna.spec import Specification
    from gru_optuna.storage.roster import WorkerStatus

TEST = "test"
"""User attribute of a study: the winner's test value, ``{"number", "value"}``."""

CONFIRMATION = "confirmation"
"""User attribute of a study: its best few, trained again on fresh seeds."""

_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "running": TrialState.RUNNING,
    "waiting": TrialState.WAITING,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True)
class Winner:
    """The best trial of a study, chosen on validation rows."""

    number: int
    value: float
    test: float | None  # None: no test split, or not measured yet
    best_epoch: int
    params: dict[str, Any]  # what was searched
    hyperparameters: Hyperparameters  # fixed ones too

    def configuration(self) -> dict[str, Value]:
        """Every hyperparameter that applies, by its name in the study file."""
        values = asdict(self.hyperparameters)
        if values["clip_norm"] is None:
            values["clip_norm"] = OFF
        return {name: value for name, value in values.items() if value is not None}

    def as_json(self) -> dict[str, Any]:
        """As ``best --json`` prints it."""
        return {
            "number": self.number,
            "value": self.value,
            "test": self.test,
            "best_epoch": self.best_epoch,
            "params": self.params,
            "configuration": self.configuration(),
        }

    def as_toml(self) -> str:
        """The configuration as a study file fixes it, to paste."""
        configuration = self.configuration()
        blocks: list[str] = []
        for name, section in (("model", Model), ("search", Search), ("data", Data)):
            # JSON writes numbers, booleans and plain words as TOML does.
            lines = [
                f"{key} = {json.dumps(configuration[key])}"
                for key in section.model_fields
                if key in configuration
            ]
            if lines:
                blocks.append("\n".join([f"[{name}]", *lines]) + "\n")
        return "\n".join(blocks)


@dataclass(frozen=True)
class Summary:
    """A study at one moment."""

    study: str
    task: str
    metric: str
    direction: str
    trials: dict[str, int]  # by state: complete, pruned, running, waiting, failed
    budget: dict[str, int | None]
    best: Winner | None
    baselines: dict[str, float]  # the metric of simpler predictions on the test rows, by name

    def status(self, workers: Sequence[WorkerStatus]) -> dict[str, Any]:
        """As ``status --json`` prints it."""
        content = asdict(self)
        content["workers"] = [worker.as_json() for worker in workers]
        content["best"] = (
            {"number": self.best.number, "value": self.best.value, "params": self.best.params}
            if self.best
            else None
        )
        return content

    def line(self) -> dict[str, Any]:
        """As ``studies --json`` prints it."""
        return {
            "study": self.study,
            "task": self.task,
            "trials": sum(self.trials.values()),
            "best": self.best.value if self.best else None,
        }


def summarize(study: Study, spec: Specification) -> Summary:
    """Counts a study's trials and finds its winner."""
    counts = Counter(trial.state for trial in study.get_trials(deepcopy=False))
    # Of the same moment as the counts: workers may go on meanwhile.
    claimed = sum(counts.values()) - counts[TrialState.WAITING]
    return Summary(
        study=study.study_name,
        task=spec.task,
        metric=spec.metric,
        direction=spec.direction,
        trials={name: counts[state] for name, state in _STATES.items()},
        budget={"trials": budget.trial_limit(spec), "claimed": claimed},
        best=find_winner(study, spec),
        baselines=dict(study.user_attrs.get(BASELINES, {})),
    )


def find_winner(study: Study, spec: Specification) -> Winner | None:
    """The complete trial with the best metric; None if there is none yet.

    Among equal ones the lower validation loss wins, then the earlier trial: on a few dozen
    validation rows, many trials reach the same accuracy.
    """
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    # A trial that plain Optuna added may lack what ours hold.
    ours = [trial for trial in complete if "best_epoch" in trial.user_attrs]
    if not ours:
        return None
    sign = 1 if spec.direction == "minimize" else -1

    def rank(trial: FrozenTrial) -> tuple[float, float, int]:
        assert trial.value is not None
        loss = float(trial.user_attrs["best_validation_loss"])
        return sign * trial.value, loss, trial.number

    return _winner(study, spec, min(ours, key=rank))


def winner_of_trial(study: Study, spec: Specification, number: int) -> Winner | None:
    """A complete trial by its number, as the winner it may turn out to be; None if it isn't one."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        if trial.number == number and "best_epoch" in trial.user_attrs:
            return _winner(study, spec, trial)
    return None


def _winner(study: Study, spec: Specification, trial: FrozenTrial) -> Winner:
    assert trial.value is not None
    test = study.user_attrs.get(TEST, {})
    return Winner(
        number=trial.number,
        value=trial.value,
        test=test["value"] if test.get("number") == trial.number else None,
        best_epoch=trial.user_attrs["best_epoch"],
        params=dict(trial.params),
        hyperparameters=space.hyperparameters(trial.params, spec),
    )

"""A study summarized in plain values, which ``studies``, ``status`` and ``best`` print."""

from __future__ import annotations

import json
import math
import operator
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from gru_optuna.attributes import BASELINES, TEST, WORKED_SECONDS
from gru_optuna.search import space
from gru_optuna.storage.paused_trials import is_paused
from gru_optuna.storage.trial_counts import count_trials, read_best_trials
from gru_optuna.study import budget
from gru_optuna.study.confirmation import rank, read_decision
from gru_optuna.study.fitted_baselines import compare_in_words, read_fitted
from gru_optuna.study.front import FrontMember, find_front
from gru_optuna.study.prediction_intervals import PredictionIntervals, read_intervals
from gru_optuna.study.trial_attributes import (
    BEST_EPOCH,
    COUNTED,
    TrialAttributes,
    best_epoch,
    best_reached,
)
from gru_optuna.study_file import Data, Model, Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.hyperparameters import Hyperparameters, Value
    from gru_optuna.storage.workers.status import WorkerStatus
    from gru_optuna.study.confirmation import Decision
    from gru_optuna.study.fitted_baselines import FittedBaselines
    from gru_optuna.study_file import Specification

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
    value: float  # in the search; as the best of many it is optimistic
    test: float | None  # None: no test split, or not measured yet
    best_epoch: int
    params: dict[str, Any]  # what was searched
    hyperparameters: Hyperparameters  # fixed ones too
    confirmed: Decision | None = None  # None: not confirmed on fresh seeds
    unconfirmed: str | None = None  # why, in a sentence
    intervals: PredictionIntervals | None = None  # of predicted numbers, if it is confirmed
    equals: int = 1  # how many trials reached its value; it has the lowest loss of them

    def configuration(self) -> dict[str, Value]:
        """Every hyperparameter that applies, by its name in the study file."""
        return self.hyperparameters.configuration()

    def as_json(self) -> dict[str, Any]:
        """What ``best --json`` prints of the winner itself."""
        return {
            "number": self.number,
            "value": self.value,
            "test": self.test,
            "best_epoch": self.best_epoch,
            "confirmed": self.confirmed
            and {
                "mean": self.confirmed.won.mean,
                "interval": self.confirmed.won.interval,
                "values": self.confirmed.won.values,
                "test": self.confirmed.test and asdict(self.confirmed.test),
                "test_uses": self.confirmed.test_uses,
                "ensemble": self.confirmed.members.as_json(),
            },
            "unconfirmed": self.unconfirmed,
            "intervals": self.intervals and self.intervals.as_json(),
            "params": self.params,
            "configuration": self.configuration(),
        }

    def as_toml(self) -> str:
        """The configuration as lines of a study file that fix it, to paste."""
        configuration = self.configuration()
        blocks = [f"# Trial {self.number}, the best single configuration.\n"]
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
    trials: dict[str, int]  # by state: complete, pruned, running, waiting, failed, paused
    budget: dict[str, int | None]
    best: Winner | None
    baselines: dict[str, float]  # the metric of simpler predictions on the test rows, by name
    fitted_baselines: FittedBaselines | None = None  # among those above once they are tested
    no_result: str | None = None  # why there is no best trial, in a sentence
    front: list[FrontMember] = field(default_factory=list)  # of a study with two goals

    def compared(self) -> list[str]:
        """How the winner compares with the best simple model, in sentences; none if unknown."""
        fitted = self.fitted_baselines
        found = None if fitted is None else fitted.comparison
        if self.best is None or found is None or found.winner != self.best.number:
            return []
        rows = "windows" if self.task == "forecasting" else "rows"
        return compare_in_words(found, self.metric, rows)

    def best_as_json(self) -> dict[str, Any]:
        """The content that ``best --json`` prints."""
        assert self.best is not None
        fitted = self.fitted_baselines
        front = {"front": [asdict(member) for member in self.front]} if self.front else {}
        return {
            **self.best.as_json(),
            **front,
            "compared": self.compared(),
            "fitted_baselines": None if fitted is None else fitted.as_json(),
        }

    def status(self, workers: Sequence[WorkerStatus]) -> dict[str, Any]:
        """The content that ``status --json`` prints."""
        content = asdict(self)
        if not self.front:
            del content["front"]
        content["workers"] = [worker.as_json() for worker in workers]
        content["best"] = (
            {"number": self.best.number, "value": self.best.value, "params": self.best.params}
            if self.best
            else None
        )
        return content

    def line(self) -> dict[str, Any]:
        """The content that ``studies --json`` prints for a study."""
        return {
            "study": self.study,
            "task": self.task,
            "trials": sum(self.trials.values()),
            "best": self.best.value if self.best else None,
        } | ({"front": [asdict(member) for member in self.front]} if self.front else {})


def summarize(study: Study, spec: Specification) -> Summary:
    """Counts a study's trials and finds its winner."""
    counts = Counter(trial.state for trial in study.get_trials(deepcopy=False))
    paused = sum(map(is_paused, study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))))
    return _summary(study, spec, counts, paused, find_winner(study, spec))


def summarize_stored(study: Study, spec: Specification) -> Summary:
    """What `summarize` finds, for a study in a database, without reading all of its trials."""
    decision = read_decision(study)
    best = read_best_trials(
        study,
        BEST_EPOCH,
        [c.number for c in decision.candidates] if decision else (),
        complete_only=decision is not None and decision.complete_only,
    )
    counts, paused = count_trials(study)
    if best is None:
        return _summary(study, spec, counts, paused, find_winner(study, spec))
    return _summary(study, spec, counts, paused, _winner_of(study, spec, rank(best, spec)))


def _summary(
    study: Study,
    spec: Specification,
    counts: Counter[TrialState],
    paused: int,
    best: Winner | None,
) -> Summary:
    # From the counts, to agree with them: workers may claim more trials meanwhile.
    claimed = sum(counts.values()) - counts[TrialState.WAITING]
    fitted = read_fitted(study)
    return Summary(
        study=study.study_name,
        task=spec.task,
        metric=spec.metric,
        direction=spec.direction,
        trials={name: counts[state] for name, state in _STATES.items()}
        | {"running": counts[TrialState.RUNNING] - paused, "paused": paused},
        budget={"trials": budget.trial_limit(spec), "claimed": claimed},
        best=best,
        baselines=dict(study.user_attrs.get(BASELINES, {})) | (fitted.tested() if fitted else {}),
        fitted_baselines=fitted,
        no_result=_about_no_result(study, spec) if best is None else None,
        front=find_front(study, spec, best.confirmed if best else None),
    )


def _about_no_result(study: Study, spec: Specification) -> str:
    """Why no trial has a value, and what to try."""
    trials = study.get_trials(deepcopy=False)
    states = Counter(trial.state for trial in trials)
    failed = [
        TrialAttributes.read(trial).outcome or "no reason was recorded"
        for trial in trials
        if trial.state == TrialState.FAIL
    ]
    outcomes = ""
    if failed:
        (reason, count), *others = Counter(failed).most_common()
        outcomes = f"{len(failed)} of {len(trials)} trials failed"
        usual = "" if not others else f", most often ({count} times)"
        outcomes += f"{usual}: {reason.rstrip('.')}. "
    worked = float(study.user_attrs.get(WORKED_SECONDS, 0.0))
    if states[TrialState.RUNNING]:
        count = states[TrialState.RUNNING]
        training = f"{count} trial{'s are' if count > 1 else ' is'} in training"
        return f"{outcomes}{training}, and none has ended yet."
    if budget.seconds_left(spec, worked) <= 0:
        return (
            f"{outcomes}The budget of {spec.budget.hours:g} hours is spent, and no trial has "
            f"trained an epoch. Give more with --hours, or make networks and data smaller."
        )
    if not budget.trials_left(study, spec):
        return f"{outcomes}All trials of the budget have ended. Give more with --trials."
    return f"{outcomes}{'No trial has trained an epoch' if trials else 'No trial has started'} yet."


def find_winner(study: Study, spec: Specification) -> Winner | None:
    """The trial to use; None if no trial has trained an epoch and ended yet.

    It is the trial that was confirmed on fresh seeds, unless the search has found a better one
    since, which the confirmation didn't compare.
    """
    decision = read_decision(study)
    complete_only = decision is not None and decision.complete_only
    states = (TrialState.COMPLETE,) if complete_only else COUNTED
    better, worse = (min, operator.gt) if spec.direction == "minimize" else (max, operator.lt)
    confirmed = {c.number for c in decision.candidates} if decision else set()
    trials = study.get_trials(deepcopy=False, states=states)
    reached = [
        (t, value)
        for t in trials
        if t.state == TrialState.COMPLETE
        and BEST_EPOCH in t.user_attrs
        and (value := best_reached(t, spec)) is not None
    ]
    # Of thousands of pruned trials, few had an epoch as good as the best complete trial's.
    least = better((value for _, value in reached), default=math.nan)
    reached += [
        (t, value)
        for t in trials
        if t.state != TrialState.COMPLETE
        and (values := t.intermediate_values.values())
        and (not worse(better(values), least) or t.number in confirmed)
        and BEST_EPOCH in t.user_attrs
        and (value := best_reached(t, spec)) is not None
    ]
    sound = [value for t, value in reached if t.state != TrialState.FAIL]
    best = better(sound or (value for _, value in reached), default=None)
    # Ranking all trials would take as long as a study is large.
    equal = [t for t, value in reached if t.number in confirmed or value == best]
    return _winner_of(study, spec, rank(equal, spec))


def _winner_of(study: Study, spec: Specification, trials: Sequence[FrozenTrial]) -> Winner | None:
    if not trials:
        return None
    best, decision = trials[0], read_decision(study)
    confirmed = None
    if decision is not None and best.number in {c.number for c in decision.candidates}:
        best = next(trial for trial in trials if trial.number == decision.winner)
        confirmed = decision
    value = best_reached(best, spec)
    assert value is not None
    test = study.user_attrs.get(TEST, {})
    return Winner(
        number=best.number,
        value=value,
        test=test["value"] if test.get("number") == best.number else None,
        best_epoch=best_epoch(best, value),
        params=dict(best.params),
        hyperparameters=space.hyperparameters(best.params, spec),
        confirmed=confirmed,
        unconfirmed=None if confirmed else _about_no_confirmation(study, spec, decision),
        intervals=read_intervals(study, best.number) if confirmed else None,
        equals=sum(best_reached(trial, spec) == value for trial in trials),
    )


def _about_no_confirmation(study: Study, spec: Specification, decision: Decision | None) -> str:
    """Why the best trial is not confirmed on fresh seeds, and what to try."""
    if decision is not None:
        return "It was found after the last confirmation, which didn't compare it."
    if not spec.confirmation.candidates:
        return "The study asks for no confirmation."
    worked = float(study.user_attrs.get(WORKED_SECONDS, 0.0))
    if budget.is_over(spec, worked):
        return (
            f"The budget of {spec.budget.hours:g} hours ended before one run on a fresh seed had "
            f"finished. Give more with --hours, or run: gru-optuna confirm {study.study_name}."
        )
    return "The search hasn't ended yet."

"""How much of a study is left to do."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from gru_optuna.attributes import BUDGET
from gru_optuna.search import space
from gru_optuna.storage.paused_trials import epochs_granted
from gru_optuna.study.trial_attributes import (
    BEST_EPOCH,
    COUNTED,
    epochs_trained,
    seconds_trained,
)
from gru_optuna.study_file import Budget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study

    from gru_optuna.study_file import Specification

_REPORT_SECONDS = 10.0
"""Drawing a report takes a few seconds, most of which the libraries that draw take to load."""

_REPORT_SHARE = 0.05
"""The most that the report may take, as a share of the study's hours: these may be minutes."""


def trial_limit(spec: Specification) -> int | None:
    """How many trials a study may have; a grid also ends by itself."""
    limits = [spec.budget.trials] if spec.budget.trials is not None else []
    if spec.sampler.name == "grid":
        limits.append(len(space.grid(spec)))
    return min(limits, default=None)


def claimed(study: Study) -> int:
    """How many trials were started, however they ended. A failed one counts: it was tried."""
    trials = study.get_trials(deepcopy=False)
    return sum(trial.state != TrialState.WAITING for trial in trials)


def trials_left(study: Study, spec: Specification) -> float:
    """How many more trials may start; infinity where neither trials nor epochs are limited."""
    limit, limit_of_epochs = trial_limit(spec), spec.budget.epochs
    left = float("inf") if limit is None else max(0, limit - claimed(study))
    if limit_of_epochs is None:
        return left
    trials = study.get_trials(deepcopy=False)
    return min(left, max(0, limit_of_epochs - epochs_granted(trials)))


def seconds_left(spec: Specification, worked: float) -> float:
    """How much longer a study may be worked on after `worked` seconds; infinity without a limit."""
    return float("inf") if spec.budget.hours is None else spec.budget.hours * 3600 - worked


def seconds_for_report(spec: Specification) -> float:
    """The part of a study's hours in which its report is drawn."""
    return min(_REPORT_SECONDS, _REPORT_SHARE * 3600 * (spec.budget.hours or 0.0))


def is_over(spec: Specification, worked: float) -> bool:
    """Whether nothing more is trained after `worked` seconds."""
    return seconds_left(spec, worked) <= seconds_for_report(spec)


def seconds_for_confirmation(study: Study, spec: Specification, slots: int) -> float:
    """The part of a study's hours that its confirmation is going to need.

    It is what the confirmation's runs would take, `slots` at a time, if each took as long as the
    complete trials did on average; but no more than half of the hours, and nothing if not one run
    would finish in that half. Before a trial is complete, the others' epochs say how long a whole
    training takes.
    """
    took, runs = _runs_to_confirm(study, spec)
    most = (spec.budget.hours or 0.0) * 1800
    if took > most:
        return 0.0
    return min(took * runs / min(slots, max(1, runs)), most)


def expected_confirmation(study: Study, spec: Specification, slots: int) -> float | None:
    """How many seconds the confirmation's runs are going to take; None: unknown.

    It is the estimate of `seconds_for_confirmation`, whatever the hours.
    """
    took, runs = _runs_to_confirm(study, spec)
    return took * runs / min(slots, runs) if took and runs else None


def _runs_to_confirm(study: Study, spec: Specification) -> tuple[float, int]:
    """How many seconds a whole training takes, and how many the confirmation needs at most."""
    trained = [
        (trial.state == TrialState.COMPLETE, seconds_trained(trial), epochs_trained(trial))
        for trial in study.get_trials(deepcopy=False, states=COUNTED)
        if BEST_EPOCH in trial.user_attrs
    ]
    took = [seconds for is_complete, seconds, _ in trained if is_complete] or [
        seconds / epochs * spec.training.epochs for _, seconds, epochs in trained if epochs
    ]
    runs = min(spec.confirmation.candidates, len(trained)) * spec.confirmation.seeds
    return (fmean(took), runs) if took else (0.0, 0)


def renewed(spec: Specification, user_attrs: Mapping[str, Any]) -> Specification:
    """The specification with the budget that is in force: someone may have given another one.

    Of two values for the same limit, the larger one counts, so that a worker that joins can't
    end the work of the others. A limit that only one of them has is taken from the study.
    """
    stored = user_attrs.get(BUDGET)
    if not stored or stored == spec.budget.model_dump(mode="json"):
        return spec
    return spec.model_copy(update={"budget": larger(spec.budget, Budget.model_validate(stored))})


def larger(own: Budget, given: Budget) -> Budget:
    """The given budget, with the larger value of each limit that both have."""
    both = {
        key: max(here, there)
        for key, here, there in (
            ("trials", own.trials, given.trials),
            ("epochs", own.epochs, given.epochs),
            ("hours", own.hours, given.hours),
        )
        if here is not None and there is not None
    }
    return given.model_copy(update=both)

"""How the search went: every trial's value in order, and the best so far, by trial and by time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna.report.numbers.timeline import Clock
from gru_optuna.report.numbers.trials import ENDED, STATES, State, last_value, trials_in

if TYPE_CHECKING:
    from optuna import Study


@dataclass(frozen=True)
class HistoryPoint:
    """One trial in the order of the search."""

    number: int
    state: State
    value: float | None  # a pruned trial's is its last epoch's
    best: float | None  # of all complete trials up to here


@dataclass(frozen=True)
class BestByTime:
    """A moment at which the best value so far improved, or the search ended."""

    seconds: float  # since the first trial began, pauses left out
    number: int
    best: float


def history(study: Study) -> list[HistoryPoint]:
    """Every trial that is over, by number."""
    better = max if study.direction.name == "MAXIMIZE" else min
    best: float | None = None
    points = []
    for trial in trials_in(study, *ENDED):
        value = last_value(trial)
        if trial.state == TrialState.COMPLETE and value is not None:
            best = value if best is None else better(best, value)
        points.append(HistoryPoint(trial.number, STATES[trial.state], value, best))
    return points


def best_by_time(study: Study) -> list[BestByTime]:
    """When the best value improved, in the order in which trials ended."""
    clock = Clock.of(study)
    better = max if study.direction.name == "MAXIMIZE" else min
    steps: list[BestByTime] = []
    over = [t for t in trials_in(study, *ENDED) if t.datetime_start and t.datetime_complete]
    over.sort(key=lambda trial: (trial.datetime_complete, trial.number))
    for trial in over:
        value = last_value(trial)
        if trial.state != TrialState.COMPLETE or value is None or trial.datetime_complete is None:
            continue
        if not steps or (value != steps[-1].best and better(value, steps[-1].best) == value):
            steps.append(BestByTime(clock.seconds(trial.datetime_complete), trial.number, value))
    if steps and over[-1].datetime_complete is not None:
        end = clock.seconds(over[-1].datetime_complete)
        if end > steps[-1].seconds:
            steps.append(BestByTime(end, steps[-1].number, steps[-1].best))
    return steps

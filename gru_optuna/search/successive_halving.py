"""Asynchronous successive halving whose decisions cost the same in a study of any size."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner
from optuna.study import StudyDirection

from gru_optuna.storage.optuna_private import set_system_attribute

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


class FlatHalvingPruner(BasePruner):
    """Decides as `optuna.pruners.SuccessiveHalvingPruner` does, without reading all trials.

    That pruner collects and sorts the values of all trials at a rung for each decision. This one
    keeps them sorted, and looks only at trials that had not ended before.

    Parameters
    ----------
    first_rung
        The step of the first rung.
    factor
        One in this many trials continues, and each rung is this many times the one before it.

    References
    ----------
    Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning.
    """

    def __init__(self, first_rung: int, factor: int) -> None:
        self._first, self._factor = first_rung, factor
        self._study: Study | None = None
        self._known = 0  # trials of the study
        # Trials that may still change, as they were, with their values at rungs.
        self._open: dict[int, tuple[FrozenTrial | None, list[float]]] = {}
        self._values: dict[int, list[float]] = defaultdict(list)  # by rung, ascending

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether a trial ends at the step that it reported last; notes the rungs it reached."""
        step = trial.last_step
        if step is None:
            return False
        value, rung, looked = trial.intermediate_values[step], 0, False
        while _key(rung) in trial.system_attrs:
            rung += 1
        while step >= self._first * self._factor**rung:
            if math.isnan(value):
                return True
            if not looked:
                self._look(study)
                looked = True
            set_system_attribute(study, trial, _key(rung), value)
            if not self._promotes(rung, value, study.direction):
                return True
            rung += 1
        return False

    def _promotes(self, rung: int, value: float, direction: StudyDirection) -> bool:
        """Whether a value is among the best of all at a rung, itself included."""
        values = self._values[rung]
        if direction == StudyDirection.MAXIMIZE:
            better = len(values) - bisect_right(values, value)
        else:
            better = bisect_left(values, value)
        # The best value continues even among the first few, whose share is less than one trial.
        return better < max(1, (len(values) + 1) // self._factor)

    def _look(self, study: Study) -> None:
        """Takes note of what is new in trials that had not ended at the last look."""
        trials = study.get_trials(deepcopy=False)
        if study is not self._study or len(trials) < self._known:
            self._study, self._known = study, 0
            self._open.clear()
            self._values.clear()
        self._open.update((position, (None, [])) for position in range(self._known, len(trials)))
        self._known = len(trials)
        for position, (before, counted) in list(self._open.items()):
            trial = trials[position]
            if trial is before:
                continue
            # A trial that another worker adopted may have lost what was never committed.
            for rung, value in enumerate(counted):
                del self._values[rung][bisect_left(self._values[rung], value)]
            reached = _reached(trial)
            for rung, value in enumerate(reached):
                insort(self._values[rung], value)
            self._open[position] = trial, reached
            if trial.state.is_finished():
                del self._open[position]


def _key(rung: int) -> str:
    """The system attribute under which Optuna's pruner notes a trial's value at a rung."""
    return f"completed_rung_{rung}"


def _reached(trial: FrozenTrial) -> list[float]:
    """A trial's values at the rungs that it has reached."""
    found: list[float] = []
    while (value := trial.system_attrs.get(_key(len(found)))) is not None:
        found.append(value)
    return found

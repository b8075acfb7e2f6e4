"""TPE whose proposals cost the same in a study of a hundred and of a hundred thousand trials."""

from __future__ import annotations

import math
from bisect import insort
from typing import TYPE_CHECKING, Any

from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from gru_optuna.search.study_view import StudyView
from gru_optuna.storage.paused_trials import PAUSED

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

BEST = 100
"""Optuna's TPE takes at most 25 trials as good ones (its ``default_gamma``). With four times as
many, the good ones stay the same, and the other estimator knows the trials that came close."""

RECENT = 300
"""Optuna gives older trials less and less weight, so the most recent ones matter most."""

_RANKED = (TrialState.COMPLETE, TrialState.PRUNED)


class ModelledTrials:
    """The trials of a study that TPE models: all of a small study, a choice from a large one.

    It remembers what it has seen, so that only new trials and those that have ended cost time.

    Parameters
    ----------
    best, recent
        How many of the best trials, and how many of the most recent ones, a choice holds.
    """

    def __init__(self, best: int = BEST, recent: int = RECENT) -> None:
        self._most_best, self._most_recent = best, recent
        self._clear()

    def _clear(self) -> None:
        self._seen: list[FrozenTrial] = []
        self._open: set[int] = set()  # numbers of trials that may still end
        self._paused: list[int] = []  # those of them that wait
        self._ended = 0
        self._best: list[tuple[tuple[float, ...], int]] = []
        self._recent: list[int] = []
        self._first: dict[frozenset[str], int] = {}  # trial with these parameters, lowest number

    def update(self, study: Study) -> None:
        """Takes note of a study's new trials, and of those that have ended."""
        trials = study.get_trials(deepcopy=False)
        if len(trials) < len(self._seen) or (trials and trials[-1].number != len(trials) - 1):
            # Another study, or only the trials of a bracket of Hyperband, whose numbers have gaps.
            self._clear()
        self._open.update(range(len(self._seen), len(trials)))
        self._seen = trials
        over = [p for p in self._open if trials[p].state.is_finished()]
        # It counts as pruned, but only for now: it may continue.
        self._paused = [p for p in over if trials[p].user_attrs.get(PAUSED)]
        for position in set(over).difference(self._paused):
            self._open.remove(position)
            if trials[position].state in _RANKED:
                self._add(study, position, trials[position])

    def _add(self, study: Study, position: int, trial: FrozenTrial) -> None:
        self._ended += 1
        insort(self._best, (_rank(trial, study.direction), position))
        del self._best[self._most_best :]
        insort(self._recent, position)
        del self._recent[: -self._most_recent]
        names = frozenset(trial.distributions)
        self._first[names] = min(position, self._first.get(names, position))

    def of_each_kind(self) -> list[FrozenTrial]:
        """The first ended trial with each set of parameters, and the paused trials."""
        return [self._seen[p] for p in sorted({*self._first.values(), *self._paused})]

    def chosen(self) -> list[FrozenTrial] | None:
        """The trials to model; None if these are all."""
        running = sorted(p for p in self._open if self._seen[p].state == TrialState.RUNNING)
        known = self._ended + len(running) + len(self._paused)
        if known <= self._most_best + self._most_recent:
            return None
        positions = {position for _, position in self._best} | set(self._first.values())
        positions |= {*self._recent, *running[-self._most_recent :], *self._paused}
        return [self._seen[position] for position in sorted(positions)]


class FlatTPESampler(TPESampler):
    """Optuna's TPE on the trials that `ModelledTrials` chooses.

    Parameters
    ----------
    modelled
        Shared by the samplers of all trials of a study.
    **settings
        As `optuna.samplers.TPESampler` takes them.
    """

    def __init__(self, modelled: ModelledTrials, **settings: Any) -> None:
        super().__init__(**settings)
        self._modelled = modelled

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The parameters that are sampled jointly."""
        self._modelled.update(study)
        # Optuna takes the parameters of trial after trial to split the groups that it has. A set
        # of parameters that it had before splits nothing, so the first trial of each suffices.
        view: Any = StudyView(study, self._modelled.of_each_kind())
        return super().infer_relative_search_space(view, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of the parameters that are sampled jointly."""
        return super().sample_relative(self._view(study), trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The value of a parameter that no trial had so far."""
        self._modelled.update(study)
        return super().sample_independent(self._view(study), trial, param_name, param_distribution)

    def _view(self, study: Study) -> Any:
        chosen = self._modelled.chosen()
        return study if chosen is None else StudyView(study, chosen)


def _rank(trial: FrozenTrial, direction: StudyDirection) -> tuple[float, ...]:
    """Orders ended trials as Optuna's TPE does: lower is better."""
    sign = 1.0 if direction == StudyDirection.MINIMIZE else -1.0
    if (violated := sum(v for v in trial.constraints.values() if v > 0)) > 0:
        return (2, violated)
    if trial.state == TrialState.COMPLETE:
        assert trial.value is not None
        return (0, sign * trial.value)
    if (step := trial.last_step) is None:
        return (1, 1.0, 0.0)
    value = trial.intermediate_values[step]
    # NaN ranks as the worst value of its epoch.
    return (1, -step, math.inf if math.isnan(value) else sign * value)

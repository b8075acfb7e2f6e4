"""Pauses trials at rungs and continues the best of them later, under the same numbers.

Trials are compared at *rungs*, the epochs r, 4r, 16r, … A trial that reaches a rung continues at
once if it is among the best quarter of those that have reached it, and is paused otherwise. It may
continue when the quarter has grown: Li et al. 2020 (ASHA) promote trials in this way. Before four
trials have reached a rung, its best quarter is empty, and no trial is promoted.

With two goals, the metric at a rung and the size of the network, the place in the order that
`search.fronts` gives takes the value's: the best quarter of a rung covers its best front.

Every decision is a function of what trials have reported, so a worker that takes over from a dead
one decides the same.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna.search import fronts
from gru_optuna.storage.paused_trials import RUNG_LOSSES, is_paused
from gru_optuna.study_file import SIZE, complete_pruner

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optuna.trial import FrozenTrial

    from gru_optuna.study_file import Specification

MOST_PAUSED = 64
"""At most this many trials paused at a rung keep their checkpoints. A worse one is very unlikely to
be continued: that would take four times as many trials at its rung."""


def as_pruned(trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
    """The trials as a sampler should see them: paused ones as if pruned at their last step."""
    if not any(map(is_paused, trials)):
        return trials
    return [_pruned(trial) if is_paused(trial) else trial for trial in trials]


def _pruned(trial: FrozenTrial) -> FrozenTrial:
    seen = copy.copy(trial)
    seen.state = TrialState.PRUNED
    return seen


@dataclass(frozen=True)
class Thaw:
    """Which trials of a study pause, and which continue.

    Parameters
    ----------
    first_rung
        The epoch r of the first rung.
    factor
        One in this many continues, and each rung is this many times the one before it.
    epochs
        The epochs of a whole training.
    maximizes
        Whether a higher metric is better.
    candidates
        How many trials are to be complete in the end.
    two_goals
        Whether a smaller network is better, too.
    """

    first_rung: int
    factor: int
    epochs: int
    maximizes: bool
    candidates: int
    two_goals: bool = False

    @classmethod
    def of(cls, spec: Specification) -> Thaw | None:
        """The study's schedule; None if it has another pruner."""
        pruner = complete_pruner(spec)
        if pruner.name != "thaw":
            return None
        return cls(
            pruner.first_rung or 1,
            pruner.reduction_factor or 4,
            spec.training.epochs,
            spec.direction == "maximize",
            spec.confirmation.candidates,
            spec.two_goals,
        )

    @cached_property
    def rungs(self) -> tuple[int, ...]:
        """The epochs at which trials are compared; a trial that passes the last one completes.

        >>> Thaw(1, 4, 40).rungs
        (1, 4, 16)
        """
        rungs = [self.first_rung]
        while rungs[-1] < self.epochs:
            rungs.append(rungs[-1] * self.factor)
        return tuple(rungs[:-1])

    def continues(
        self, number: int, trials: Sequence[FrozenTrial], *, starts_more: bool = True
    ) -> bool:
        """Whether a trial that has just reached a rung continues at once.

        Parameters
        ----------
        number
            The trial's.
        trials
            All trials of the study, by number, with everything that they have reported.
        starts_more
            Whether the study may begin more trials. Once it may not, the best ones train on.
        """
        if number in self._promoted(trials, self._level(trials[number]) - 1):
            return True
        return not starts_more and number in self._last(trials)

    def to_continue(self, trials: Sequence[FrozenTrial], *, starts_more: bool = True) -> list[int]:
        """Numbers of the paused trials that continue now, in this order, if slots are free.

        From the highest rung down, those that now belong to the best of their rung; after the last
        start also those without which too few trials would be complete. Parameters as in
        `continues`.
        """
        found: list[int] = []
        for rung, waiting in reversed(list(enumerate(self._paused(trials)))):
            if waiting:
                found += [n for n in self._promoted(trials, rung) if n in waiting]
        if not starts_more:
            found += [n for n in self._last(trials) if is_paused(trials[n]) and n not in found]
        return found

    def surplus(self, trials: Sequence[FrozenTrial]) -> list[int]:
        """Numbers of the paused trials that are too bad to keep a checkpoint for."""
        found: list[int] = []
        for rung, waiting in enumerate(self._paused(trials)):
            if len(waiting) > MOST_PAUSED:
                order = [n for n in self._standing(trials, rung) if n in waiting]
                found += order[MOST_PAUSED:]
        return found

    def _last(self, trials: Sequence[FrozenTrial]) -> list[int]:
        """The best trials that haven't ended, as many as complete ones are missing."""
        missing = self.candidates - sum(t.state == TrialState.COMPLETE for t in trials)
        levels: list[list[FrozenTrial]] = [[] for _ in range(len(self.rungs) + 1)]
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                levels[self._level(trial)].append(trial)
        # A trial that has passed a rung is ahead of all that wait below it.
        order = [n for k in reversed(range(len(levels))) for n in self._ordered(levels[k], k - 1)]
        return order[: max(0, missing)]

    def _promoted(self, trials: Sequence[FrozenTrial], rung: int) -> list[int]:
        """Numbers of the trials that are among the best of their rung, in order."""
        order = self._standing(trials, rung)
        return order[: len(order) // self.factor]

    def _paused(self, trials: Sequence[FrozenTrial]) -> list[set[int]]:
        """Numbers of the paused trials, by the rung that each has reached last."""
        found: list[set[int]] = [set() for _ in self.rungs]
        for trial in trials:
            if is_paused(trial) and (level := self._level(trial)):
                found[level - 1].add(trial.number)
        return found

    def _standing(self, trials: Iterable[FrozenTrial], rung: int) -> list[int]:
        """Numbers of the trials that have reached a rung, the best first."""
        epoch = self.rungs[rung]
        reached = [
            trial
            for trial in trials
            if epoch in trial.intermediate_values
            # A trial that diverged on its way to the rung counts as the last one.
            or (trial.state == TrialState.FAIL and self._level(trial) == rung)
        ]
        return self._ordered(reached, rung)

    def _ordered(self, trials: Iterable[FrozenTrial], rung: int) -> list[int]:
        """Numbers of trials by what they had reached at a rung, the best first."""
        ranked = sorted(trials, key=lambda t: self._rank(t, rung))
        if self.two_goals:
            points = [(self._rank(t, rung)[0], t.user_attrs.get(SIZE, math.inf)) for t in ranked]
            ranked = [ranked[place] for place in fronts.order(points)]
        return [trial.number for trial in ranked]

    def _level(self, trial: FrozenTrial) -> int:
        """How many rungs a trial has reached."""
        return sum(rung in trial.intermediate_values for rung in self.rungs)

    def _rank(self, trial: FrozenTrial, rung: int) -> tuple[float, float, int]:
        """Orders trials at a rung: by the metric there, then by validation loss; lower is better.

        NaN comes last.
        """
        value = trial.intermediate_values.get(self.rungs[rung], math.nan) if rung >= 0 else math.nan
        losses: Sequence[float] = trial.user_attrs.get(RUNG_LOSSES, ())
        loss = losses[rung] if 0 <= rung < len(losses) else math.nan
        return (
            math.inf if math.isnan(value) else -value if self.maximizes else value,
            math.inf if math.isnan(loss) else loss,
            trial.number,
        )

"""A study of which only some trials can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.study import StudyDirection
from optuna.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial


class StudyView:
    """Stands for a study wherever its trials are read.

    Parameters
    ----------
    study
        The study, which has everything else.
    trials
        The trials that can be seen, by number.
    places
        Whether their values are places in an order, of which lower ones are better.
    """

    def __init__(
        self, study: Study, trials: Sequence[FrozenTrial], *, places: bool = False
    ) -> None:
        self._study = study
        if places:
            self.direction = StudyDirection.MINIMIZE
            self.directions = [self.direction]
            self._is_multi_objective = lambda: False  # which Optuna's samplers ask
        self._trials = trials
        self._in_states: dict[tuple[TrialState, ...], list[FrozenTrial]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials in these states; never copies."""
        if states is None:
            return list(self._trials)
        # Samplers ask for the trials in the same states again and again.
        asked = tuple(state for state in TrialState if state in states)
        if asked not in self._in_states:
            self._in_states[asked] = [trial for trial in self._trials if trial.state in asked]
        return list(self._in_states[asked])

    def _get_trials(  # which Optuna's samplers call
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return self.get_trials(deepcopy, states)

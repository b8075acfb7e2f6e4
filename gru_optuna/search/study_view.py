"""A study of which only some trials can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial, TrialState


class StudyView:
    """Stands for a study wherever its trials are read.

    Parameters
    ----------
    study
        The study, which has everything else.
    trials
        The trials that can be seen, by number.
    """

    def __init__(self, study: Study, trials: Sequence[FrozenTrial]) -> None:
        self._study = study
        self._trials = trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials in these states; never copies."""
        return [trial for trial in self._trials if states is None or trial.state in states]

    def _get_trials(  # which Optuna's samplers call
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return self.get_trials(deepcopy, states)

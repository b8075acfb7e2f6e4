"""Proposals of a study with constraints: a configuration that breaks one is drawn again.

What a constraint limits is known before a trial trains, so nothing is trained, and no trial of the
budget is spent, to find out that a configuration isn't allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna import samplers
from optuna.distributions import CategoricalDistribution

from gru_optuna import seeds
from gru_optuna.search import space
from gru_optuna.search.samplers import SeededSampler

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification

FROM_MODEL = 10
"""How often the sampler may propose a trial. A model that has seen only good large networks may
propose nothing else; then the trial is drawn from the whole space."""

MOST = 500
"""How often a trial is drawn. If the constraints refuse all draws, they allow hardly any
configuration, and the trial fails."""


class ConstrainedSampler(SeededSampler):
    """Draws a trial again, as a whole and with another seed, until its configuration is allowed.

    Parameters
    ----------
    inner
        Draws without constraints; this sampler takes over its state.
    spec
        The study.
    allows
        Whether the constraints allow a configuration.
    """

    def __init__(
        self,
        inner: SeededSampler,
        spec: Specification,
        allows: Callable[[Hyperparameters], bool],
    ) -> None:
        self.__dict__.update(vars(inner))
        self._spec = spec
        self._allows = allows
        self._distributions = space.searched(spec)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        # A constraint needs a whole configuration, so nothing is left to be drawn alone.
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        given = self._given(trial)
        values: dict[str, Any] = {}
        for attempt in range(MOST):
            values = _Drawn(self._drawer(study, trial, attempt))
            if attempt < FROM_MODEL:
                self.redraw(trial, attempt)
                joint = super().infer_relative_search_space(study, trial)
                values.update(super().sample_relative(study, trial, joint))
            values.update(given)
            if self._allows(space.hyperparameters(values, self._spec)):
                break
        return dict(values)

    def _given(self, trial: FrozenTrial) -> dict[str, Any]:
        """The values that a trial has, or that it was enqueued with."""
        found = {}
        for name, value in {**trial.system_attrs.get("fixed_params", {}), **trial.params}.items():
            try:
                self._distributions[name].to_internal_repr(value)
            except (KeyError, ValueError):  # the trial will fail with the same error
                continue
            found[name] = value
        return found

    def _drawer(self, study: Study, trial: FrozenTrial, attempt: int) -> Callable[[str], Any]:
        seed = (seeds.seed_for(self._spec.seed, "sampler", trial.number) + attempt) % 2**32
        sampler = self if attempt < FROM_MODEL else samplers.RandomSampler(seed)

        def draw(name: str) -> Any:
            distribution = self._distributions[name]
            if distribution.single():
                return _only_value(distribution)
            return sampler.sample_independent(study, trial, name, distribution)

        return draw


class _Drawn(dict[str, Any]):
    """The values of a trial; one that is missing is drawn."""

    def __init__(self, draw: Callable[[str], Any]) -> None:
        super().__init__()
        self._draw = draw

    def __missing__(self, name: str) -> Any:
        self[name] = self._draw(name)
        return self[name]


def _only_value(distribution: Any) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    return distribution.low

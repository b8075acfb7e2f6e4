"""Optuna's samplers, which propose the next trial, with a new seed for each trial.

Every proposal is seeded by the study's seed and the trial's number. So a study that was stopped
and resumed gets the same proposals as one that never stopped, and no two workers propose the
same start-up points.
"""

from __future__ import annotations

import warnings
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna import samplers
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from gru_optuna import seeds
from gru_optuna.search import space
from gru_optuna.search.places import as_places
from gru_optuna.search.prior import Prior
from gru_optuna.search.study_view import StudyView
from gru_optuna.search.thaw import Thaw, as_pruned
from gru_optuna.search.tpe import FlatTPESampler, ModelledTrials

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from gru_optuna.study_file import Specification


def make_sampler(spec: Specification) -> samplers.BaseSampler:
    """The sampler that a study file names; each worker makes its own."""
    startup = spec.sampler.n_startup_trials
    prunes = spec.pruner.name != "none"
    modelled = ModelledTrials()

    def tpe(seed: int) -> samplers.BaseSampler:  # Bergstra et al. 2011, Watanabe 2023
        # multivariate: a good learning rate depends on the batch size, the decay and others.
        # group: a decay's parameters exist only under that decay. Without groups, Optuna models
        #   jointly only what all trials have in common, and the rest independently.
        # With two goals, places change with every trial, so none can be kept for the next.
        return FlatTPESampler(
            ModelledTrials() if spec.two_goals else modelled,
            n_startup_trials=startup,
            multivariate=True,
            group=True,
            seed=seed,
        )

    def gp(seed: int) -> samplers.BaseSampler:
        # A Gaussian process models what all trials have in common; a decay's parameters, which
        # don't exist under other decays, are drawn at random.
        return samplers.GPSampler(
            n_startup_trials=startup,
            independent_sampler=samplers.RandomSampler(seed),
            warn_independent_sampling=False,
            seed=seed,
        )

    def qmc(seed: int) -> samplers.BaseSampler:
        # All trials share one scrambled sequence, or its points wouldn't fill the space evenly:
        # its seed is the study's. Parameters that aren't part of it are drawn by the trial's.
        return samplers.QMCSampler(
            scramble=True,
            seed=seeds.seed_for(spec.seed, "sampler") % 2**32,
            independent_sampler=samplers.RandomSampler(seed),
            warn_independent_sampling=False,
        )

    def cmaes(seed: int) -> samplers.BaseSampler:  # Hansen & Ostermeier 2001
        # A pruned trial's last value says less than a final one. But most trials are pruned, and
        # a generation of complete ones alone would take most of the budget.
        return samplers.CmaEsSampler(
            independent_sampler=samplers.RandomSampler(seed),
            warn_independent_sampling=False,
            consider_pruned_trials=prunes,
            seed=seed,
        )

    if spec.sampler.name == "grid":
        return GridByNumber(spec)
    makers: dict[str, Callable[[int], samplers.BaseSampler]] = {
        "tpe": tpe,
        "gp": gp,
        "random": samplers.RandomSampler,
        "qmc": qmc,
        "cmaes": cmaes,
    }
    pauses = Thaw.of(spec) is not None
    # Studies that prune, as all earlier ones did, keep the proposals that they always had.
    models = (pauses or spec.two_goals) and spec.sampler.name in ("tpe", "gp")
    seen = as_pruned if pauses else None
    # Optuna's TPE ranks pruned trials by one goal only, and its GP passes them over.
    if models and (spec.two_goals or spec.sampler.name == "gp"):
        seen = partial(as_places, spec)
    return SeededSampler(
        makers[spec.sampler.name],
        spec.seed,
        seen=seen,
        prior=Prior(spec.tries, spec.seed) if models else None,
        startup=startup,
    )


class SeededSampler(samplers.BaseSampler):
    """Wraps another sampler: makes a new one for each trial, with that trial's own seed.

    A single sampler would draw from one stream of random numbers, which a restart begins again
    and which depends on the order in which trials ask. Optuna's samplers learn from the trials in
    the storage, so a new one knows as much as an old one.

    Parameters
    ----------
    make
        Makes a sampler from a seed.
    study_seed
        The study's seed.
    seen
        The trials as the sampler should see them; None: as they are.
    prior
        Where start-up trials may come from; None: only from the sampler.
    startup
        How many trials must have ended, or paused, before the sampler builds a model.
    """

    def __init__(
        self,
        make: Callable[[int], samplers.BaseSampler],
        study_seed: int,
        *,
        seen: Callable[[Sequence[FrozenTrial]], Sequence[FrozenTrial]] | None = None,
        prior: Prior | None = None,
        startup: int = 0,
    ) -> None:
        self._make = make
        self._study_seed = study_seed
        self._as_seen = seen
        self.prior = prior
        self._startup = startup
        self._attempt = 0
        self._view: StudyView | None = None
        self._inner: samplers.BaseSampler

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._view = None
        study = self._seen(study)
        # One trial is proposed at a time. `after_trial` may meet the sampler of a later trial,
        # which makes no difference: what a sampler must remember, it writes to the storage.
        self._attempt = 0
        self._inner = self._make_for(trial)
        self._inner.before_trial(study, trial)

    def redraw(self, trial: FrozenTrial, attempt: int) -> None:
        """Proposes the current trial with another seed from now on; attempt 0 has its own."""
        if attempt != self._attempt:
            self._attempt = attempt
            self._inner = self._make_for(trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._inner.infer_relative_search_space(self._seen(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._inner.sample_relative(self._seen(study), trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        seen = self._seen(study)
        if self.prior is not None and self._attempt == 0 and self._is_startup(seen):
            drawn = self.prior.draw(trial.number, param_name, param_distribution)
            if drawn is not None:
                return drawn
        # By name, not in turn: a trial whose worker died between two parameters gets the rest
        # as it would have without the crash.
        inner = self._make_for(trial, param_name)
        return inner.sample_independent(seen, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._inner.after_trial(study, trial, state, values)

    def _seen(self, study: Study) -> Any:
        """The study with its trials as the sampler should see them."""
        if self._as_seen is None:
            return study
        if self._view is None:  # once for each proposal: it takes long in a large study
            seen = self._as_seen(study.get_trials(deepcopy=False))
            self._view = StudyView(study, seen, places=self._as_seen is not as_pruned)
        return self._view

    def _is_startup(self, study: Any) -> bool:
        """Whether the sampler would draw a trial uniformly, as Optuna's TPE and GP decide it."""
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return len(ended) < self._startup

    def _make_for(self, trial: FrozenTrial, param_name: str = "") -> samplers.BaseSampler:
        purpose = seeds.seed_for(self._study_seed, "sampler", trial.number)
        key = [purpose, zlib.crc32(param_name.encode())]
        mixed = np.random.SeedSequence(key + [self._attempt] * bool(self._attempt))
        # 32 bits are what numpy's legacy generators, which samplers use, take.
        seed = int(mixed.generate_state(1, np.uint32)[0])
        with warnings.catch_warnings():
            # Optuna may still change these samplers' arguments; the lock file pins the version.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return self._make(seed)


class GridByNumber(samplers.BaseSampler):
    """Proposes every configuration once: trial n gets the n-th of a shuffled order.

    Optuna's GridSampler asks the storage which points are taken, so two workers can take the same
    point at once; and its product repeats each configuration for all values of the parameters of
    other decays. Trial numbers are dense and unique, so they divide the grid among any workers.
    """

    def __init__(self, spec: Specification) -> None:
        points = space.grid(spec)
        shuffle = np.random.default_rng(seeds.seed_for(spec.seed, "sampler"))
        self._points: list[dict[str, Any]] = [
            points[index] for index in shuffle.permutation(len(points))
        ]
        self._distributions = space.searched(spec)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        # Our budget ends with the grid; plain Optuna may continue, and then starts over.
        return self._points[trial.number % len(self._points)]

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        raise AssertionError(f"{param_name} is not part of the grid")

"""The decision which configuration holds up on fresh seeds, as a study records it.

The best of many trials owes some of its value to luck: that of its seed, and that of the
validation rows on which it was chosen. So the best few are trained again on seeds that no trial
has had. The value of a run is its best epoch's metric on the validation rows, as in the search.

The study's user attributes hold every finished run as soon as it ends, and finally the decision.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from math import sqrt
from statistics import fmean, median_low, stdev
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from gru_optuna.attributes import CONFIRMATION, CONFIRMATION_RUNS
from gru_optuna.data.intervals import student_interval
from gru_optuna.data.views import have_comparable_losses
from gru_optuna.search import fronts, space
from gru_optuna.storage.workers.run_leases import run_key
from gru_optuna.study.ensemble import Ensemble
from gru_optuna.study.records import checked
from gru_optuna.study.trial_attributes import (
    COUNTED,
    TrialAttributes,
    best_epoch,
    best_reached,
    goals_reached,
)

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.storage.workers.run_leases import FinishedRuns, RunKey
    from gru_optuna.study_file import Specification


@dataclass(frozen=True)
class Run:
    """One finished training of a configuration."""

    value: float | None  # None: it failed
    best_epoch: int
    epochs: int

    def as_json(self) -> list[Any]:
        """The run as the study's attribute holds it."""
        return [self.value, self.best_epoch, self.epochs]

    @classmethod
    def of(cls, trial: FrozenTrial, spec: Specification) -> Run:
        """The training of a trial in the search, on its own seed."""
        value = best_reached(trial, spec)
        assert value is not None
        return cls(value, best_epoch(trial, value), len(trial.intermediate_values))


@dataclass(frozen=True)
class Candidate:
    """A configuration and the results of its runs."""

    number: int  # of the trial
    search_value: float
    values: list[float | None]  # by the seed's index; None: the run failed; empty: no time for any
    best_epochs: list[int]
    epochs: list[int]  # how many were trained, the patience included
    mean: float | None  # of the values; None: there is none
    interval: list[float] | None  # Student's, for the mean over seeds; None: fewer than two values
    parameters: int  # weights of the network

    @classmethod
    def of(cls, trial: FrozenTrial, runs: Sequence[Run], spec: Specification) -> Candidate:
        """A candidate from its trial and its runs, in the order of their seeds."""
        good = [run.value for run in runs if run.value is not None]
        value = best_reached(trial, spec)
        assert value is not None
        return cls(
            number=trial.number,
            search_value=value,
            values=[run.value for run in runs],
            best_epochs=[run.best_epoch for run in runs],
            epochs=[run.epochs for run in runs],
            mean=fmean(good) if good else None,
            interval=student_interval(good, spec.metric),
            parameters=TrialAttributes.read(trial).network_parameters,
        )

    @property
    def error(self) -> float:
        """The standard error of the mean; 0 for a single value."""
        good = [value for value in self.values if value is not None]
        return stdev(good) / sqrt(len(good)) if len(good) > 1 else 0.0

    @property
    def typical(self) -> int:
        """The seed's index of the run with the median value, the earliest if several have it.

        The best run would be chosen by luck once more.
        """
        good = [value for value in self.values if value is not None]
        return self.values.index(median_low(good))

    @property
    def usual_epochs(self) -> int:
        """The median number of epochs after which its runs were best."""
        return median_low(
            epoch
            for epoch, value in zip(self.best_epochs, self.values, strict=True)
            if value is not None
        )


@dataclass(frozen=True)
class TestValue:
    """The winner's metric on the test rows."""

    __test__ = False  # pytest takes classes of this name for its own

    value: float  # of one network: the mean over those of the winning configuration
    interval: list[float] | None  # by resampling rows and networks; None: not defined
    ensemble: dict[str, Any] | None  # {"value", "interval"} of the ensemble; None: it is undefined


@dataclass(frozen=True)
class Decision:
    """Which candidate won, and what was known when that was decided."""

    candidates: list[Candidate]  # in the order of the search
    winner: int  # number of the trial
    test: TestValue | None  # None: the study has no test rows
    seeds: int  # runs of each candidate that wasn't left behind
    asked_candidates: int  # if more than there are, too few trials were trained
    asked_seeds: int  # if more than `seeds`, the hours were spent
    tied: list[int]  # numbers of the trials that aren't clearly worse than the winner, and its own
    test_uses: int  # how often the test rows have been used, this time included
    made_at: str = field(compare=False)  # UTC
    # Version 0.1.0 compared complete trials alone, and what it decided remains decided.
    complete_only: bool = False
    # Earlier versions recorded none: there it is the average of the winner's networks.
    ensemble: Ensemble | None = None

    @property
    def members(self) -> Ensemble:
        """What predicts: the ensemble, or a single network if only one run succeeded."""
        return self.ensemble or Ensemble.average(self.winner, self.won.values)

    @property
    def won(self) -> Candidate:
        """The winning candidate."""
        return next(c for c in self.candidates if c.number == self.winner)

    def as_json(self) -> dict[str, Any]:
        """The content of the study's attribute."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Decision:
        """The decision from what `as_json` returned."""
        return checked(cls, {"complete_only": True, **content})


def ranked(
    study: Study, spec: Specification, states: Container[TrialState] = COUNTED
) -> list[FrozenTrial]:
    """The trials in these states that were trained, ordered as `rank` does."""
    return rank(study.get_trials(deepcopy=False, states=states), spec)


def rank(trials: Sequence[FrozenTrial], spec: Specification) -> list[FrozenTrial]:
    """The trials that have trained an epoch, ordered by their best epochs, the best first.

    Among equal values the lower validation loss is better, then the earlier trial: on a few dozen
    validation rows, many trials reach the same accuracy. Losses in the units of different views
    are not compared. With two goals the order is that of `search.fronts`: the first trials cover
    the front, and the very first has the best value of the metric.
    """
    comparable = have_comparable_losses(spec)
    # A trial that plain Optuna added may lack our attributes.
    # A failed trial will mostly fail again, so it counts only where there are no others.
    keys = [
        (
            trial.state == TrialState.FAIL,
            spec.as_loss(value),
            attributes.best_validation_loss if comparable else 0.0,
            trial.number,
        )
        for trial in trials
        if (attributes := TrialAttributes.read(trial)).best_epoch
        and (value := best_reached(trial, spec)) is not None
    ]
    by_number = {trial.number: trial for trial in trials}
    order = [by_number[number] for *_, number in sorted(keys)]
    if not spec.two_goals:
        return order
    failed = [trial for trial in order if trial.state == TrialState.FAIL]
    sound = [trial for trial in order if trial.state != TrialState.FAIL]
    return [
        part[place]
        for part in (sound, failed)
        for place in fronts.order([goals_reached(trial, spec) for trial in part])
    ]


def finalists(
    study: Study, spec: Specification, *, complete_only: bool = False
) -> list[tuple[FrozenTrial, Hyperparameters]]:
    """The best trials, which will be confirmed; one trial for each distinct configuration."""
    distinct: dict[Hyperparameters, FrozenTrial] = {}
    order = ranked(study, spec, (TrialState.COMPLETE,) if complete_only else COUNTED)
    for trial in order:
        if trial.state == TrialState.FAIL and order[0].state != TrialState.FAIL:
            break
        distinct.setdefault(space.hyperparameters(trial.params, spec), trial)
    chosen = islice(distinct.items(), spec.confirmation.candidates)
    return [(trial, hyperparameters) for hyperparameters, trial in chosen]


FEWEST_SEEDS = 3
"""Fewer values say too little about how far seeds differ to leave a candidate behind."""


def seeds_to_train(
    values: Mapping[int, Sequence[float | None]], spec: Specification
) -> dict[int, int]:
    """How many seeds each candidate is trained on, as far as its values show.

    A candidate gets no further seed once its interval lies apart from that of the best one, on the
    worse side, after the same seeds of both. Intervals are those of `Candidate`; equal values show
    no spread, so they leave no candidate behind. With two goals, all candidates get every seed.

    Parameters
    ----------
    values
        By the trial's number, in the order of the seeds; None where a run failed.
    spec
        The study file; its ``confirmation`` says how many seeds there are at most.
    """
    most = spec.confirmation.seeds
    planned = dict.fromkeys(values, most)
    left = list(values)
    for count in range(FEWEST_SEEDS, most):
        if spec.two_goals or any(len(values[number]) < count for number in left):
            break
        intervals = {
            number: student_interval(
                [v for v in values[number][:count] if v is not None], spec.metric
            )
            for number in left
        }
        # As losses, the lower end first.
        known = {
            number: sorted((spec.as_loss(found[0]), spec.as_loss(found[1])))
            for number, found in intervals.items()
            if found is not None and found[0] < found[1]
        }
        if not known:
            continue
        best = min(known.values(), key=sum)
        behind = {number for number, (low, _) in known.items() if low > best[1]}
        planned |= dict.fromkeys(behind, count)
        left = [number for number in left if number not in behind]
    return planned


def read_decision(study: Study) -> Decision | None:
    """The last decision, if there is one."""
    content = study.user_attrs.get(CONFIRMATION)
    return None if content is None else Decision.from_json(content)


def is_current(decision: Decision | None, study: Study, spec: Specification) -> bool:
    """Whether a decision compares the trials that are best now, on the seeds now asked for."""
    if decision is None:
        return False
    found = finalists(study, spec, complete_only=decision.complete_only)
    numbers = [trial.number for trial, _ in found]
    compared = [candidate.number for candidate in decision.candidates]
    values = {candidate.number: candidate.values for candidate in decision.candidates}
    planned = seeds_to_train(values, spec)
    # Earlier versions trained every candidate on every seed.
    return compared == numbers and all(
        len(done) in (planned[number], spec.confirmation.seeds) for number, done in values.items()
    )


def read_runs(study: Study) -> dict[tuple[int, int], Run]:
    """Finished runs, by trial number and the seed's index."""
    return runs_from_json(study.user_attrs.get(CONFIRMATION_RUNS, {}))


def runs_from_json(content: FinishedRuns) -> dict[RunKey, Run]:
    """The runs from the content of the study's attribute."""
    return {run_key(name): Run(*fields) for name, fields in content.items()}


@dataclass(frozen=True)
class RunPlan:
    """Which runs the candidates get, as far as the finished ones show.

    Parameters
    ----------
    numbers
        The candidates' trials, the best first.
    spec
        The study file; its ``confirmation`` says how many seeds there are at most.
    runs
        The finished runs.
    """

    numbers: Sequence[int]
    spec: Specification
    runs: Mapping[RunKey, Run]

    @cached_property
    def seeds(self) -> dict[int, int]:
        """How many seeds each candidate is trained on."""
        values: dict[int, list[float | None]] = {number: [] for number in self.numbers}
        for number, found in values.items():
            while (number, len(found)) in self.runs:
                found.append(self.runs[number, len(found)].value)
        return seeds_to_train(values, self.spec)

    @property
    def asked(self) -> list[RunKey]:
        """All runs, the first seed of all candidates first."""
        return [
            (number, index)
            for index in range(self.spec.confirmation.seeds)
            for number in self.numbers
            if index < self.seeds[number]
        ]

    @property
    def left(self) -> list[RunKey]:
        """The runs that aren't finished."""
        return [key for key in self.asked if key not in self.runs]

    @property
    def finished_seeds(self) -> int:
        """How many seeds all candidates have finished that weren't left behind before."""
        most = self.spec.confirmation.seeds
        return min((index for _, index in self.left), default=most)


def decide(
    candidates: Sequence[Candidate], spec: Specification
) -> tuple[Candidate, list[int]] | None:
    """The winner, and the numbers of all that are tied with it; None if every run failed.

    Candidates whose mean lies within one standard error of the difference from the best mean are
    tied with it (after the one-standard-error rule of Breiman et al. 1984), and the cheapest of
    these wins: fewest weights, then fewest epochs, then the better mean. A candidate that failed
    on any seed can win only if all did; one for which there was no time can't win.
    """
    eligible = [candidate for candidate in candidates if candidate.mean is not None]
    eligible = [c for c in eligible if None not in c.values] or eligible
    if not eligible:
        return None

    def loss(candidate: Candidate) -> float:
        assert candidate.mean is not None
        return spec.as_loss(candidate.mean)

    best = min(eligible, key=loss)

    def ties(candidate: Candidate) -> bool:
        error = sqrt(candidate.error**2 + best.error**2)
        return candidate is best or loss(candidate) - loss(best) <= error

    tied = [candidate for candidate in eligible if ties(candidate)]
    winner = min(tied, key=lambda c: (c.parameters, fmean(c.epochs), loss(c)))
    return winner, [c.number for c in tied]

"""Which configuration holds on fresh seeds: who is asked, and what the numbers say.

The best of many trials owes some of its value to luck: its seed's, and that of the validation
rows on which it was chosen. So the best few are trained again on seeds that no trial has had.
What a run is worth is its best epoch's metric on the validation rows, as in the search.

What comes of it stands in the study's user attributes: every finished run at once, and in the
end the decision.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import islice
from math import sqrt
from statistics import fmean, median_low, stdev
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from gru_optuna.attributes import CONFIRMATION, CONFIRMATION_RUNS
from gru_optuna.data.intervals import student_interval
from gru_optuna.search import space
from gru_optuna.study.trial_attributes import TrialAttributes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Metric, Specification


@dataclass(frozen=True)
class Run:
    """One finished training of a candidate on a fresh seed."""

    value: float | None  # None: it failed
    best_epoch: int
    epochs: int


@dataclass(frozen=True)
class Candidate:
    """One configuration, and what its runs came to."""

    number: int  # of the trial
    search_value: float
    values: list[float | None]  # by the seed's index; None where the run failed
    best_epochs: list[int]
    epochs: list[int]  # that were trained, the patience included
    mean: float | None  # of those that didn't fail
    interval: list[float] | None  # Student's, for the mean over seeds; None: fewer than two values
    parameters: int  # weights of the network

    @classmethod
    def of(cls, trial: FrozenTrial, runs: Sequence[Run], metric: Metric) -> Candidate:
        """A trial and its runs, by their seeds' index."""
        good = [run.value for run in runs if run.value is not None]
        assert trial.value is not None
        return cls(
            number=trial.number,
            search_value=trial.value,
            values=[run.value for run in runs],
            best_epochs=[run.best_epoch for run in runs],
            epochs=[run.epochs for run in runs],
            mean=fmean(good) if good else None,
            interval=student_interval(good, metric),
            parameters=TrialAttributes.read(trial).network_parameters,
        )

    @property
    def error(self) -> float:
        """The standard error of the mean; 0 of a single value."""
        good = [value for value in self.values if value is not None]
        return stdev(good) / sqrt(len(good)) if len(good) > 1 else 0.0

    @property
    def typical(self) -> int:
        """Which run (its seed's index) has the median value, the earliest of several.

        The best one would be chosen by luck once more.
        """
        good = [value for value in self.values if value is not None]
        return self.values.index(median_low(good))

    @property
    def usual_epochs(self) -> int:
        """After how many epochs its runs were best: the median."""
        return median_low(
            epoch
            for epoch, value in zip(self.best_epochs, self.values, strict=True)
            if value is not None
        )


@dataclass(frozen=True)
class TestValue:
    """The winner on the test rows."""

    __test__ = False  # pytest takes classes of this name for its own

    value: float  # the mean over its networks
    interval: list[float] | None  # by resampling rows and networks; None: not defined
    ensemble: dict[str, Any] | None  # the same of all networks together: {"value", "interval"}


@dataclass(frozen=True)
class Decision:
    """The decision."""

    candidates: list[Candidate]  # in the order of the search
    winner: int  # number of the trial
    test: TestValue | None  # None: the study has no test rows
    seeds: int  # runs a candidate
    asked_candidates: int  # more than there are: too few trials were complete
    asked_seeds: int  # more than seeds: the hours were over
    tied: list[int]  # numbers of those that the winner can't be told from, itself included
    test_uses: int  # how often the test rows have been looked at, this time included
    made_at: str = field(compare=False)  # UTC

    @property
    def won(self) -> Candidate:
        """The winner."""
        return next(one for one in self.candidates if one.number == self.winner)

    def as_json(self) -> dict[str, Any]:
        """As the study keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Decision:
        """What `as_json` gave."""
        return cls(
            **{
                **content,
                "candidates": [Candidate(**one) for one in content["candidates"]],
                "test": None if content["test"] is None else TestValue(**content["test"]),
            }
        )


def ranked(study: Study, spec: Specification) -> list[FrozenTrial]:
    """The complete trials, the best first.

    Among equal ones the lower validation loss is better, then the earlier trial: on a few dozen
    validation rows, many trials reach the same accuracy.
    """
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    # A trial that plain Optuna added may lack what ours hold.
    known = [(trial, TrialAttributes.read(trial)) for trial in complete]
    sign = 1 if spec.direction == "minimize" else -1

    def rank(ours: tuple[FrozenTrial, TrialAttributes]) -> tuple[float, float, int]:
        trial, attributes = ours
        assert trial.value is not None
        return sign * trial.value, attributes.best_validation_loss, trial.number

    return [trial for trial, _ in sorted((one for one in known if one[1].best_epoch), key=rank)]


def finalists(study: Study, spec: Specification) -> list[tuple[FrozenTrial, Hyperparameters]]:
    """The best trials that are to be confirmed, of equal configurations the best one."""
    distinct: dict[Hyperparameters, FrozenTrial] = {}
    for trial in ranked(study, spec):
        distinct.setdefault(space.hyperparameters(trial.params, spec), trial)
    chosen = islice(distinct.items(), spec.confirmation.candidates)
    return [(trial, hyperparameters) for hyperparameters, trial in chosen]


def read_decision(study: Study) -> Decision | None:
    """The last decision, if there is one."""
    content = study.user_attrs.get(CONFIRMATION)
    return None if content is None else Decision.from_json(content)


def is_current(found: Decision | None, study: Study, spec: Specification) -> bool:
    """Whether a decision is about the trials that are the best ones now, on as many seeds."""
    if found is None:
        return False
    numbers = [trial.number for trial, _ in finalists(study, spec)]
    about = [one.number for one in found.candidates]
    return about == numbers and found.seeds == spec.confirmation.seeds


def read_runs(study: Study) -> dict[tuple[int, int], Run]:
    """Finished runs, by trial number and the seed's index."""
    found: dict[tuple[int, int], Run] = {}
    for key, numbers in study.user_attrs.get(CONFIRMATION_RUNS, {}).items():
        number, _, index = key.partition("/")
        found[int(number), int(index)] = Run(*numbers)
    return found


def runs_as_json(runs: Mapping[tuple[int, int], Run]) -> dict[str, list[float | None]]:
    """What `read_runs` reads."""
    return {
        f"{number}/{index}": [run.value, run.best_epoch, run.epochs]
        for (number, index), run in runs.items()
    }


def decide(
    candidates: Sequence[Candidate], spec: Specification
) -> tuple[Candidate, list[int]] | None:
    """The winner, and the numbers of all that are tied with it; None if every run failed.

    The best mean wins. Those whose mean lies within one standard error of the difference are
    tied with it (after the one-standard-error rule of Breiman et al. 1984), and of these the
    cheapest wins: fewest weights, then fewest epochs, then the better mean. Who failed on any
    seed comes after all who didn't.
    """
    sound = [one for one in candidates if None not in one.values]
    eligible = sound or [one for one in candidates if one.mean is not None]
    if not eligible:
        return None
    sign = 1 if spec.direction == "minimize" else -1

    def loss(one: Candidate) -> float:
        assert one.mean is not None
        return sign * one.mean

    best = min(eligible, key=loss)
    tied = [
        one
        for one in eligible
        if loss(one) - loss(best) <= sqrt(one.error**2 + best.error**2) or one is best
    ]
    winner = min(tied, key=lambda one: (one.parameters, fmean(one.epochs), loss(one)))
    return winner, [one.number for one in tied]

"""What the study found: the winner, how good it is and how sure that is, and against what."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from gru_optuna.report.trials import ENDED, best_reached, complete, is_better, trials_in
from gru_optuna.storage.optuna_private import enqueued_parameters
from gru_optuna.study.predictions import stored_predictions
from gru_optuna.study.summary import Winner, find_winner

if TYPE_CHECKING:
    from optuna import Study

    from gru_optuna.study.confirmation import Decision
    from gru_optuna.study.summary import Summary
    from gru_optuna.study_file import Specification

FEWEST_STARTS = 3
"""The median of fewer says nothing."""

START_TRIALS = 10
"""Of samplers that don't say how many trials they draw blindly."""

Standing: TypeAlias = Literal["better", "worse", "equal"]
"""Beside a value to beat; equal where the interval has that value in it."""


@dataclass(frozen=True)
class Estimate:
    """A value of the metric and how far off it may be."""

    value: float
    interval: tuple[float, float] | None  # 95 %; None: unknown
    rows: int | None  # it was measured on

    def beside(self, other: float, spec: Specification) -> Standing:
        """How it stands beside a value to beat; without an interval, by the value alone."""
        low, high = self.interval or (self.value, self.value)
        if low <= other <= high:
            return "equal"
        return "better" if is_better(self.value, other, spec) else "worse"


@dataclass(frozen=True)
class Start:
    """Where the search began: what a configuration drawn blindly reaches."""

    median: float
    trials: int


@dataclass(frozen=True)
class Result:
    """All that stands on the first page."""

    winner: Winner
    complete: int  # trials it is the best of
    validation: Estimate  # flattered: it is the best of many
    test: Estimate | None
    baselines: dict[str, float]  # measured on test rows, or on validation rows without a test
    start: Start | None
    confirmation: Decision | None
    to_beat: tuple[str, float] | None  # the best of the baselines

    @property
    def measured(self) -> Estimate:
        """The most honest value there is."""
        return self.test or self.confirmed or self.validation

    @property
    def confirmed(self) -> Estimate | None:
        """The mean over fresh seeds, on validation rows."""
        won = self.confirmation and self.confirmation.won
        if not won or won.mean is None:
            return None
        return Estimate(won.mean, _interval(won.interval), self.validation.rows)

    @property
    def reached(self) -> float:
        """What the search came to on validation rows, without its luck where that is known."""
        return (self.confirmed or self.validation).value


def find_result(study: Study, spec: Specification, summary: Summary) -> Result | None:
    """None while no trial is complete."""
    best = find_winner(study, spec)
    if best is None:
        return None
    first = max if spec.direction == "maximize" else min
    kept = stored_predictions(study, best.number) or {}
    validation = kept.get("validation") or {}
    test, confirmed = None, best.confirmed
    if confirmed and confirmed.test:
        rows = (kept.get("test") or {}).get("rows")
        test = Estimate(confirmed.test.value, _interval(confirmed.test.interval), rows)
    elif best.test is not None:
        test = _estimate(best.test, kept.get("test") or {})
    return Result(
        winner=best,
        complete=len(complete(study)),
        validation=_estimate(best.value, validation),
        test=test,
        baselines=summary.baselines,
        start=_start(study, spec),
        confirmation=confirmed,
        to_beat=first(summary.baselines.items(), key=lambda one: one[1], default=None),
    )


def _start(study: Study, spec: Specification) -> Start | None:
    """The first trials, which no model proposed. A pruned one counts by its best epoch."""
    blind = START_TRIALS if spec.sampler.name == "random" else spec.sampler.n_startup_trials
    # What somebody enqueued, or another study's best, wasn't drawn.
    drawn = [t for t in trials_in(study, *ENDED) if enqueued_parameters(t) is None]
    reached = [value for trial in drawn[:blind] if (value := best_reached(trial, spec)) is not None]
    return Start(median(reached), len(reached)) if len(reached) >= FEWEST_STARTS else None


def _estimate(value: float, description: dict[str, Any]) -> Estimate:
    # Another processor may have rounded the predictions differently: then these aren't its.
    same = abs(description.get("value", value) - value) <= 1e-6 * max(1.0, abs(value))
    interval = _interval(description.get("interval")) if same else None
    return Estimate(value, interval, description.get("rows"))


def _interval(stored: Any) -> tuple[float, float] | None:
    return (float(stored[0]), float(stored[1])) if stored else None

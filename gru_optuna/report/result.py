"""What the study found: the winner, how good and how certain it is, and what it had to beat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from gru_optuna.formatting import format_measured
from gru_optuna.report.trials import ENDED, trials_in
from gru_optuna.storage.optuna_private import enqueued_parameters
from gru_optuna.study.predictions import stored_predictions
from gru_optuna.study.trial_attributes import best_reached

if TYPE_CHECKING:
    from optuna import Study

    from gru_optuna.study.confirmation import Decision
    from gru_optuna.study.summary import Summary, Winner
    from gru_optuna.study_file import Specification

START_TRIALS = 10
"""How many trials count as the start of a random search, which has no start-up phase of its own."""

Standing: TypeAlias = Literal["better", "worse", "equal"]
"""Compared with a value to beat; "equal" if the interval contains that value."""


@dataclass(frozen=True)
class Estimate:
    """A value of the metric, and how far off it may be."""

    value: float
    interval: tuple[float, float] | None  # 95%; None: unknown
    rows: int | None  # how many it was measured on

    @property
    def shown(self) -> str:
        """The value, with the digits that its interval leaves."""
        return format_measured(self.value, self.interval)[0]

    @property
    def shown_interval(self) -> str:
        """Both ends of the interval; empty where it is unknown."""
        return format_measured(self.value, self.interval)[1] or ""

    @property
    def sureness(self) -> str:
        """The interval in words; empty where it is unknown."""
        return f"95% interval {self.shown_interval}" if self.interval else ""

    def compare(self, other: float, spec: Specification) -> Standing:
        """How it compares with a value to beat; without an interval, by the value alone."""
        low, high = self.interval or (self.value, self.value)
        if low <= other <= high:
            return "equal"
        return "better" if spec.as_loss(self.value) < spec.as_loss(other) else "worse"


@dataclass(frozen=True)
class Start:
    """The best that the search saw among the first trials, which no model proposed, and after them.

    Both are single trials, each the best of several, so they compare like with like.
    """

    best: float
    trials: int
    later: float | None  # the best of the trials after them; None: there is none
    later_trials: int


@dataclass(frozen=True)
class Result:
    """Everything that the top of the page shows."""

    winner: Winner
    trials: int  # that it is the best of
    validation: Estimate  # optimistic, since it is the best of many
    test: Estimate | None  # of one network
    ensemble: Estimate | None  # on the same rows
    baselines: dict[str, float]  # measured on test rows, or on validation rows without a test
    start: Start | None
    confirmation: Decision | None
    to_beat: tuple[str, float] | None  # the best of the baselines
    compared: list[str] = field(default_factory=list)  # with the best simple model, in sentences
    paired: frozenset[str] = frozenset()  # baselines that were fitted to the training rows

    @property
    def measured(self) -> Estimate:
        """The most honest value there is."""
        return self.ensemble or self.test or self.confirmed or self.validation

    @property
    def confirmed(self) -> Estimate | None:
        """The mean over fresh seeds, on validation rows."""
        won = self.confirmation and self.confirmation.won
        if not won or won.mean is None:
            return None
        return Estimate(won.mean, _interval(won.interval), self.validation.rows)

    def independent_rows(self, spec: Specification) -> int | None:
        """How many validation rows are independent of each other; None: unknown.

        Windows of a series that overlap count once for each stretch of the horizon's length.
        """
        if self.confirmation is not None and self.confirmation.members.rows is not None:
            return self.confirmation.members.rows
        horizon = spec.data.horizon or 1
        if self.validation.rows is not None:
            return -(-self.validation.rows // horizon)
        if spec.kind == "series" and isinstance(spec.data.validation, int):
            return spec.data.validation // horizon * (spec.data.folds or 1)
        return None


def find_result(study: Study, spec: Specification, summary: Summary) -> Result | None:
    """The study's result; None until a trial has trained an epoch and ended."""
    best = summary.best
    if best is None:
        return None
    kept = stored_predictions(study, best.number) or {}
    validation = kept.get("validation") or {}
    test, ensemble, confirmed = None, None, best.confirmed
    if confirmed and confirmed.test:
        rows = (kept.get("test") or {}).get("rows")
        test = Estimate(confirmed.test.value, _interval(confirmed.test.interval), rows)
        if (both := confirmed.test.ensemble) is not None:
            ensemble = Estimate(both["value"], _interval(both["interval"]), rows)
    elif best.test is not None:
        test = _estimate(best.test, kept.get("test") or {})
    return Result(
        winner=best,
        trials=sum(best_reached(trial, spec) is not None for trial in trials_in(study, *ENDED)),
        validation=_estimate(best.value, validation),
        test=test,
        ensemble=ensemble,
        baselines=summary.baselines,
        start=_start(study, spec),
        confirmation=confirmed,
        to_beat=min(
            summary.baselines.items(), key=lambda item: spec.as_loss(item[1]), default=None
        ),
        compared=summary.compared(),
        paired=frozenset(summary.fitted_baselines.tested() if summary.fitted_baselines else ()),
    )


def _start(study: Study, spec: Specification) -> Start | None:
    """The first trials and the others. A pruned one counts with its best epoch."""
    blind = START_TRIALS if spec.sampler.name == "random" else spec.sampler.n_startup_trials
    # Trials that were enqueued, or taken from another study, weren't drawn at random.
    drawn = [t for t in trials_in(study, *ENDED) if enqueued_parameters(t) is None]
    first, later = (
        [value for trial in part if (value := best_reached(trial, spec)) is not None]
        for part in (drawn[:blind], drawn[blind:])
    )
    if not first:
        return None
    return Start(
        min(first, key=spec.as_loss),
        len(first),
        min(later, key=spec.as_loss, default=None),
        len(later),
    )


def _estimate(value: float, description: dict[str, Any]) -> Estimate:
    # Predictions made on another processor may be rounded differently; their interval is then
    # not this value's.
    same = abs(description.get("value", value) - value) <= 1e-6 * max(1.0, abs(value))
    interval = _interval(description.get("interval")) if same else None
    return Estimate(value, interval, description.get("rows"))


def _interval(stored: Any) -> tuple[float, float] | None:
    # Equal ends say only that nothing varied: five seeds may well agree on few rows.
    return (float(stored[0]), float(stored[1])) if stored and stored[0] != stored[1] else None

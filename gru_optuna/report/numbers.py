"""What the report shows, as plain numbers: trials go in, lists and small dataclasses come out.

``figures`` draws them, the report's JSON files hold them as they are (`as_json`).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from optuna.importance import get_param_importances
from optuna.trial import TrialState

from gru_optuna.report.scales import Scale, metric_scale, parameter_scale
from gru_optuna.report.summary import find_winner
from gru_optuna.search import space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.hyperparameters import Value
    from gru_optuna.spec import Specification

State: TypeAlias = Literal["complete", "pruned", "failed", "running"]

STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}

FEWEST_TRIALS = 4
"""PED-ANOVA sets the best tenth against all trials; among fewer there is nothing to compare."""

STEADY_TRIALS = 50
"""Optuna's advice for PED-ANOVA: five trials in the best tenth."""

ABSENT = "none"
"""Where a trial stands that doesn't have a conditional parameter."""


@dataclass(frozen=True)
class Importance:
    """How much each parameter decides whether a trial is among the best tenth."""

    shares: dict[str, float]  # largest first, together 1; empty where `missing` says why
    trials: int  # complete ones it is computed from
    missing: str | None


@dataclass(frozen=True)
class Column:
    """One axis of the parallel coordinates, with every complete trial's place on it."""

    scale: Scale
    values: list[Value | None]  # None: the trial doesn't have this parameter
    positions: list[float]  # an absent value stands below the axis, at the tick "none"


@dataclass(frozen=True)
class ParallelCoordinates:
    """All complete trials over all searched parameters; the metric is the last column."""

    numbers: list[int]
    columns: list[Column]


@dataclass(frozen=True)
class HistoryPoint:
    """One trial in the order of the search."""

    number: int
    state: State
    value: float | None  # a pruned trial's is its last epoch's
    best: float | None  # of all complete trials up to here


@dataclass(frozen=True)
class Curve:
    """The metric of one trial, epoch by epoch."""

    number: int
    state: State
    epochs: list[int]
    values: list[float | None]
    best: bool  # the winner's


@dataclass(frozen=True)
class Slice:
    """One parameter against the metric, over the complete trials that have it."""

    scale: Scale
    numbers: list[int]
    values: list[Value]
    metric: list[float]


@dataclass(frozen=True)
class Row:
    """One line of the trial table."""

    number: int
    state: State
    value: float | None
    epochs: int
    seconds: float | None
    params: dict[str, Value]
    outcome: str
    best: bool


def importance(study: Study) -> Importance:
    """Optuna's default importance (PED-ANOVA), conditional parameters included."""
    trials = _complete(study)
    searched = any(trial.distributions for trial in trials)
    missing = None
    if len(trials) < FEWEST_TRIALS:
        missing = (
            f"Importance needs at least {FEWEST_TRIALS} complete trials, "
            f"and this study has {len(trials)}."
        )
    elif not searched:
        missing = "Nothing was searched: every hyperparameter is fixed."
    elif len({trial.value for trial in trials}) == 1:
        missing = (
            f"All {len(trials)} complete trials reached the same value, "
            f"so no parameter can be said to matter."
        )
    if missing:
        return Importance({}, len(trials), missing)
    with warnings.catch_warnings():
        # Optuna warns of few trials; the page says so in its own words.
        warnings.simplefilter("ignore")
        shares = get_param_importances(study)
    # Optuna leaves the order of equal ones to the hash seed.
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return Importance(dict(ordered), len(trials), None)


def parallel_coordinates(study: Study, spec: Specification) -> ParallelCoordinates:
    """Columns for every searched parameter that some complete trial has, then the metric."""
    trials = _complete(study)
    columns = []
    for name, distribution in space.searched(spec).items():
        values = [trial.params.get(name) for trial in trials]
        if any(value is not None for value in values):
            columns.append(_column(parameter_scale(name, distribution), values))
    metric = [_value(trial) for trial in trials]
    columns.append(_column(metric_scale(spec, metric), metric))
    return ParallelCoordinates([trial.number for trial in trials], columns)


def history(study: Study) -> list[HistoryPoint]:
    """Every trial that is over, by number."""
    better = max if study.direction.name == "MAXIMIZE" else min
    best: float | None = None
    points = []
    for trial in _trials(study, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
        value = _last_value(trial)
        if trial.state == TrialState.COMPLETE and value is not None:
            best = value if best is None else better(best, value)
        points.append(HistoryPoint(trial.number, STATES[trial.state], value, best))
    return points


def curves(study: Study, spec: Specification) -> list[Curve]:
    """Every trial that reported an epoch."""
    winner = find_winner(study, spec)
    return [
        Curve(
            number=trial.number,
            state=STATES[trial.state],
            epochs=sorted(trial.intermediate_values),
            values=[_finite(value) for _, value in sorted(trial.intermediate_values.items())],
            best=winner is not None and trial.number == winner.number,
        )
        for trial in _trials(study, *STATES)
        if trial.intermediate_values
    ]


def slices(study: Study, spec: Specification) -> list[Slice]:
    """One for every searched parameter that some complete trial has."""
    panels = []
    for name, distribution in space.searched(spec).items():
        having = [trial for trial in _complete(study) if name in trial.params]
        if having:
            panels.append(
                Slice(
                    scale=parameter_scale(name, distribution),
                    numbers=[trial.number for trial in having],
                    values=[trial.params[name] for trial in having],
                    metric=[_value(trial) for trial in having],
                )
            )
    return panels


def rows(study: Study, spec: Specification) -> list[Row]:
    """Every trial, best first: complete ones, pruned, running, failed."""
    order = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)
    winner = find_winner(study, spec)
    sign = 1 if spec.direction == "minimize" else -1

    def rank(trial: FrozenTrial) -> tuple[bool, int, float, float, int]:
        value = _last_value(trial)
        return (
            winner is None or trial.number != winner.number,
            order.index(trial.state),
            math.inf if value is None else sign * value,
            # The same tie-break as the winner's.
            float(trial.user_attrs.get("best_validation_loss", math.inf)),
            trial.number,
        )

    return [
        Row(
            number=trial.number,
            state=STATES[trial.state],
            value=_last_value(trial),
            epochs=int(trial.user_attrs.get("epochs", trial.last_step or 0)),
            seconds=trial.user_attrs.get("seconds"),
            params=dict(trial.params),
            outcome=str(trial.user_attrs.get("outcome", "")),
            best=winner is not None and trial.number == winner.number,
        )
        for trial in sorted(_trials(study, *order), key=rank)
    ]


def as_json(numbers: Any) -> Any:
    """Dataclasses as dicts, and null for what JSON can't say (NaN, infinity)."""
    if hasattr(numbers, "__dataclass_fields__"):
        return as_json(asdict(numbers))
    if isinstance(numbers, dict):
        return {key: as_json(value) for key, value in numbers.items()}
    if isinstance(numbers, list | tuple):
        return [as_json(value) for value in numbers]
    return _finite(numbers) if isinstance(numbers, float) else numbers


def _column(scale: Scale, values: Sequence[Value | None]) -> Column:
    if None in values:
        scale = scale.with_absent(ABSENT)
    return Column(
        scale=scale,
        values=list(values),
        positions=[scale.ticks[0] if v is None else scale.position(v) for v in values],
    )


def _trials(study: Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states)


def _complete(study: Study) -> list[FrozenTrial]:
    """Those with a value to compare: an infinite loss is complete to Optuna."""
    return [t for t in _trials(study, TrialState.COMPLETE) if _last_value(t) is not None]


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def _last_value(trial: FrozenTrial) -> float | None:
    """A trial's value, or that of the last epoch it reported."""
    if trial.state == TrialState.COMPLETE:
        return _finite(trial.value)
    if trial.last_step is None:
        return None
    return _finite(trial.intermediate_values[trial.last_step])


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

"""Every complete trial over all parameters at once, and over each of them alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gru_optuna.report.numbers.trials import complete, value_of
from gru_optuna.report.scales import Scale, metric_scale, parameter_scale
from gru_optuna.search import space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study

    from gru_optuna.hyperparameters import Value
    from gru_optuna.spec import Specification

ABSENT = "none"
"""Where a trial stands that doesn't have a conditional parameter."""


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
class Slice:
    """One parameter against the metric, over the complete trials that have it."""

    scale: Scale
    numbers: list[int]
    values: list[Value]
    metric: list[float]


def parallel_coordinates(study: Study, spec: Specification) -> ParallelCoordinates:
    """Columns for every searched parameter that some complete trial has, then the metric."""
    trials = complete(study)
    columns = []
    for name, distribution in space.searched(spec).items():
        values = [trial.params.get(name) for trial in trials]
        if any(value is not None for value in values):
            columns.append(_column(parameter_scale(name, distribution), values))
    metric = [value_of(trial) for trial in trials]
    columns.append(_column(metric_scale(spec, metric), metric))
    return ParallelCoordinates([trial.number for trial in trials], columns)


def slices(study: Study, spec: Specification) -> list[Slice]:
    """One for every searched parameter that some complete trial has."""
    panels = []
    for name, distribution in space.searched(spec).items():
        having = [trial for trial in complete(study) if name in trial.params]
        if having:
            panels.append(
                Slice(
                    scale=parameter_scale(name, distribution),
                    numbers=[trial.number for trial in having],
                    values=[trial.params[name] for trial in having],
                    metric=[value_of(trial) for trial in having],
                )
            )
    return panels


def _column(scale: Scale, values: Sequence[Value | None]) -> Column:
    if None in values:
        scale = scale.with_absent(ABSENT)
    return Column(
        scale=scale,
        values=list(values),
        positions=[scale.ticks[0] if v is None else scale.position(v) for v in values],
    )

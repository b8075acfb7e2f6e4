"""The simple models that were fitted to a study's rows, and how the winner compares with them.

The settings of each model, and the model that the winner is compared with, are chosen on the
validation rows. The test rows are measured once, together with the winner.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gru_optuna.attributes import FITTED_BASELINES
from gru_optuna.formatting import format_interval, format_list, format_metric
from gru_optuna.study.records import checked
from gru_optuna.study_file.tasks import MAXIMIZED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study

    from gru_optuna.data.intervals import Gain
    from gru_optuna.study_file import Specification

_IN_POINTS = ("accuracy", "balanced_accuracy", "macro_f1")  # differences in hundredths


@dataclass(frozen=True)
class FittedModel:
    """One simple model."""

    family: str
    name: str
    settings: dict[str, Any]
    validation: float  # the metric; with folds their mean
    seconds: float  # of processor time
    tried: int  # settings
    test: float | None = None  # None: not measured yet
    exportable: bool = False  # whether an ensemble may have it among its members


@dataclass(frozen=True)
class ModelLeftOut:
    """A kind of model that wasn't fitted."""

    family: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """The winner and the best simple model on the same rows."""

    winner: int  # number of the trial
    part: str  # "test", or "validation" without test rows
    rows: int
    name: str
    gru: float  # the metric of what is exported
    baseline: float
    gain: float  # the share of the error that is saved; the difference of a maximized metric
    interval: list[float] | None
    units: int  # independent rows, groups or stretches of series
    # Earlier versions compared the mean over the winner's networks.
    ensemble: bool = False

    @classmethod
    def of(
        cls,
        winner: int,
        part: str,
        rows: int,
        name: str,
        values: tuple[float, float],
        gain: Gain,
        *,
        ensemble: bool = False,
    ) -> Comparison:
        """The comparison with these values of the winner and of the simple model."""
        found = cls(winner, part, rows, name, *values, gain.value, gain.interval, gain.units)
        return replace(found, ensemble=ensemble)


@dataclass(frozen=True)
class FittedBaselines:
    """What is known of a study's simple models."""

    models: list[FittedModel] = field(default_factory=list)
    left_out: list[ModelLeftOut] = field(default_factory=list)
    rows: int = 0  # training rows that they were fitted to
    of: int = 0  # training rows that there are
    complete: bool = False  # False: some were not finished in time
    comparison: Comparison | None = None

    def as_json(self) -> dict[str, Any]:
        """The content of the study's attribute."""
        return asdict(self)

    def best(self, spec: Specification) -> FittedModel | None:
        """The model that is best on the validation rows; None if there is none."""
        return min(self.models, key=lambda model: spec.as_loss(model.validation), default=None)

    def tested(self) -> dict[str, float]:
        """The test values of the models that have been measured, by name."""
        return {model.name: model.test for model in self.models if model.test is not None}

    def measured(
        self, values: Mapping[str, float], comparison: Comparison | None
    ) -> FittedBaselines:
        """Adds the test values of the models, by family, and the comparison."""
        models = [replace(model, test=values.get(model.family)) for model in self.models]
        return replace(self, models=models, comparison=comparison)

    def about_fit(self) -> list[str]:
        """What a reader should know about how they were fitted, in sentences."""
        sentences = []
        if self.rows < self.of:
            sentences.append(
                f"They were fitted to {self.rows:,} of the {self.of:,} training rows, drawn at "
                f"random."
            )
        if self.left_out:
            names = format_list(f"{each.family} ({each.reason})" for each in self.left_out)
            sentences.append(f"Left out: {names}.")
        return sentences


def read_fitted(study: Study) -> FittedBaselines | None:
    """The study's simple models; None if none were fitted."""
    content = study.user_attrs.get(FITTED_BASELINES)
    return None if content is None else checked(FittedBaselines, content)


def write_fitted(study: Study, fitted: FittedBaselines) -> None:
    """Records the study's simple models."""
    study.set_user_attr(FITTED_BASELINES, fitted.as_json())


def compare_in_words(comparison: Comparison, metric: str, rows: str = "rows") -> list[str]:
    """The result of a comparison: a sentence that says which model to use, and one of numbers.

    Parameters
    ----------
    comparison, metric
        The comparison, and the metric of its values.
    rows
        What the values were measured on: rows, or windows of a series.

    >>> compare_in_words(
    ...     Comparison(3, "test", 286, "ridge regression on 48 lags", 2.61, 2.97, 0.12,
    ...                [0.05, 0.18], 40), "mae")[0]
    'The GRU beats ridge regression on 48 lags by 12% (95% interval 5% to 18%).'
    """
    name, gain, interval = comparison.name, comparison.gain, comparison.interval
    who = "ensemble" if comparison.ensemble else "GRU"
    values = f"{metric} {format_metric(comparison.gru)} and {format_metric(comparison.baseline)}"
    if interval is None:
        first = (
            f"No difference can be shown between the {who} and {name}: {comparison.units} "
            f"independent row{'s are' if comparison.units != 1 else ' is'} too few ({values})."
            if comparison.units < _few()
            else f"No difference can be shown between the {who} and {name} ({values})."
        )
    elif interval[0] > 0:
        first = f"The {who} beats {name} by {_by(gain, metric)} ({_sure(interval, metric)})."
    elif interval[1] < 0:
        by, sure = _by(-gain, metric), _sure([-interval[1], -interval[0]], metric)
        how = f"{by} lower" if metric in MAXIMIZED else f"{by} higher"
        if metric not in MAXIMIZED and gain < -1:  # more than 100% higher
            how = f"{_number(1 - gain)} times as high"
            sure = _sure_times([1 - interval[1], 1 - interval[0]])
        first = (
            f"{name[0].upper()}{name[1:]} is better here; use it: the {who}'s {metric} is {how} "
            f"({sure})."
        )
    else:
        may_be = (
            f"the {who} may be {_by(-interval[0], metric)} worse or "
            f"{_by(interval[1], metric)} better."
            if interval[0] < interval[1]
            else "on each row, neither does better than the other."  # no resample differs either
        )
        first = f"No difference can be shown between the {who} and {name} ({values}): {may_be}"
    where = f"{comparison.rows:,} {comparison.part} {rows}"
    if comparison.part == "validation":
        where += ", which both were chosen on"
    second = f"Both were measured on the same {where}{'' if values in first else f': {values}'}."
    return [first, f"{second} Of the simple models, it was the best on the validation rows."]


def _few() -> int:
    from gru_optuna.data.intervals import FEWEST_UNITS  # numpy: not for every command

    return FEWEST_UNITS


def _by(gain: float, metric: str) -> str:
    """A gain in the units in which people speak of it."""
    gain += 0.0  # no minus before a zero
    if metric in _IN_POINTS:
        return f"{_number(100 * gain)} percentage points"
    if metric in MAXIMIZED:
        return f"{gain:.2g}"
    return f"{_number(100 * gain)}%"


def _sure(interval: Sequence[float], metric: str) -> str:
    ends = format_interval(
        interval, lambda end: _by(end, metric).removesuffix(" percentage points")
    )
    return f"95% interval {ends}"


def _sure_times(interval: Sequence[float]) -> str:
    return f"95% interval {format_interval(interval, _number)}"


def _number(hundredths: float) -> str:
    """Per cent, points or times, with two significant figures.

    >>> _number(12.34), _number(0.456), _number(1.28)
    ('12', '0.46', '1.3')
    """
    size = abs(hundredths)
    return f"{hundredths:.0f}" if size >= 9.95 else f"{hundredths:.2g}"

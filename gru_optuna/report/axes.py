"""Axes: where a value stands on one, and ticks that people can read."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from optuna.distributions import CategoricalDistribution

from gru_optuna.formatting import format_list, format_value
from gru_optuna.study_file.searchable import Range

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optuna.distributions import BaseDistribution

    from gru_optuna.hyperparameters import Value
    from gru_optuna.study_file import Specification
    from gru_optuna.study_file.searchable import Searchable

LOG_RATIO = 30.0
"""An error is shown on a log scale if the worst is at least this many times the best."""

MOST_CHOICES = 12


@dataclass(frozen=True)
class Scale:
    """One axis. Positions are log10 of the value on a log scale, 0, 1, … for categories."""

    name: str
    kind: Literal["linear", "log", "category"]
    low: float
    high: float
    ticks: list[float]
    labels: list[str]

    def position(self, value: Value) -> float:
        """Where a value stands."""
        if self.kind == "category":
            return self.ticks[self.labels.index(format_value(value))]
        return math.log10(float(value)) if self.kind == "log" else float(value)

    def with_absent(self, tick: str) -> Scale:
        """This axis with one more tick, the first, below all values."""
        below = 1.0 if self.kind == "category" else 0.15 * (self.high - self.low)
        place = self.low - below
        return replace(self, low=place, ticks=[place, *self.ticks], labels=[tick, *self.labels])


def parameter_scale(name: str, distribution: BaseDistribution) -> Scale:
    """The axis of a searched parameter: its whole range, even where nothing was tried."""
    if isinstance(distribution, CategoricalDistribution):
        names = [format_value(choice) for choice in distribution.choices if choice is not None]
        places = [float(place) for place in range(len(names))]
        return Scale(name, "category", 0.0, places[-1], places, names)
    low, high, log = _bounds(distribution)
    return _number_scale(name, low, high, log)


def metric_scale(spec: Specification, values: Iterable[float | None]) -> Scale:
    """The axis of the metric, over the values given."""
    known = [value for value in values if value is not None] or [0.0]
    low, high = min(known), max(known)
    log = spec.direction == "minimize" and 0 < low < high / LOG_RATIO
    return _number_scale(spec.metric, low, high, log)


def size_scale(sizes: Iterable[int]) -> Scale:
    """The axis of the second goal, how many numbers a network learns."""
    known = list(sizes) or [1]
    return _number_scale("parameters", min(known), max(known), log=True)


def describe_range(value: Searchable) -> str:
    """Where a hyperparameter is searched, or that it is fixed."""
    if isinstance(value, Range):
        log = ", log scale" if value.log else ""
        step = f", in steps of {format_value(value.step)}" if value.step else ""
        return f"{format_value(value.low)} to {format_value(value.high)}{log}{step}"
    if isinstance(value, list):
        return format_list(map(format_value, value), most=MOST_CHOICES, last=", ")
    return "fixed"


def duration_ticks(seconds: float) -> tuple[list[float], list[str]]:
    """Four to nine round times, beginning with 0, and their labels."""
    units = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next(((n, u) for n, u in units if seconds >= 2 * n), (1, "s"))
    ticks = _ticks(0.0, max(seconds, 1e-3) / size)
    return [tick * size for tick in ticks], [f"{format_value(tick)} {unit}" for tick in ticks]


def _number_scale(name: str, low: float, high: float, log: bool) -> Scale:
    first, last = (math.log10(low), math.log10(high)) if log else (float(low), float(high))
    if first == last:
        # An axis needs a length.
        only, reach = float(low), abs(low) / 2 or 0.5
        return Scale(name, "linear", only - reach, only + reach, [only], [format_value(low)])
    ticks = _log_ticks(low, high) if log else _ticks(low, high)
    return Scale(
        name=name,
        kind="log" if log else "linear",
        low=first,
        high=last,
        ticks=[math.log10(tick) for tick in ticks] if log else ticks,
        labels=[format_value(tick) for tick in ticks],
    )


def _log_ticks(low: float, high: float) -> list[float]:
    """At most seven powers of ten; on a short axis, 2 and 5 between them too."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high / low)
    steps = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    stride = math.ceil((decades + 0.001) / 6)
    # Powers from the text: 10.0 ** -5 is not 1e-5, and would fall off the axis' end.
    ticks = [
        float(f"{step:g}e{power}") for power in range(first, last + 1, stride) for step in steps
    ]
    return [tick for tick in ticks if low <= tick <= high] or [low, high]


def _ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.999)
    if isinstance(low, int):
        step = max(1.0, step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _bounds(distribution: Any) -> tuple[float, float, bool]:
    return distribution.low, distribution.high, distribution.log

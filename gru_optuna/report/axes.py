"""Axes: where a value stands on one, and which ticks a person can read."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from optuna.distributions import CategoricalDistribution

from gru_optuna.study_file import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optuna.distributions import BaseDistribution

    from gru_optuna.hyperparameters import Value
    from gru_optuna.study_file import Specification

LOG_RATIO = 30.0
"""From this ratio of worst to best on, an error is read on a log scale."""


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
            return self.ticks[self.labels.index(label(value))]
        return math.log10(float(value)) if self.kind == "log" else float(value)

    def with_absent(self, tick: str) -> Scale:
        """The same axis with one more tick, the first, below all values."""
        below = 1.0 if self.kind == "category" else 0.15 * (self.high - self.low)
        place = self.low - below
        return replace(self, low=place, ticks=[place, *self.ticks], labels=[tick, *self.labels])


def parameter_scale(name: str, distribution: BaseDistribution) -> Scale:
    """The axis of a searched parameter: its whole range, whatever was tried of it."""
    if isinstance(distribution, CategoricalDistribution):
        names = [label(choice) for choice in distribution.choices if choice is not None]
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


def label(value: Value) -> str:
    """A value as an axis and a table show it."""
    if isinstance(value, bool | str):
        return str(value) if isinstance(value, str) else str(value).lower()
    if isinstance(value, int):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    mantissa, _, exponent = f"{value:.3e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def metric_digits(spec: Specification, values: Iterable[float | None]) -> int:
    """Digits behind the point that values of the metric are written with, all of them alike.

    Four of a share; of errors as many as give the smallest value four figures, so that 194.6
    vehicles aren't told to the thousandth.
    """
    if spec.metric in METRICS["classification"] or spec.metric == "r2":
        return 4
    sizes = [abs(value) for value in values if value]
    return min(8, max(0, 3 - math.floor(math.log10(min(sizes))))) if sizes else 4


def duration(seconds: float) -> str:
    """A time as people say it: "45 s", "12 min", "3.5 h", "2 days"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def duration_ticks(seconds: float) -> tuple[list[float], list[str]]:
    """Round times from 0 on, four to nine of them, and their names."""
    units = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next(((n, u) for n, u in units if seconds >= 2 * n), (1, "s"))
    ticks = _ticks(0.0, max(seconds, 1e-3) / size)
    return [tick * size for tick in ticks], [f"{label(tick)} {unit}" for tick in ticks]


def _number_scale(name: str, low: float, high: float, log: bool) -> Scale:
    first, last = (math.log10(low), math.log10(high)) if log else (float(low), float(high))
    if first == last:
        # An axis needs a length.
        only, reach = float(low), abs(low) / 2 or 0.5
        return Scale(name, "linear", only - reach, only + reach, [only], [label(low)])
    ticks = _log_ticks(low, high) if log else _ticks(low, high)
    return Scale(
        name=name,
        kind="log" if log else "linear",
        low=first,
        high=last,
        ticks=[math.log10(tick) for tick in ticks] if log else ticks,
        labels=[label(tick) for tick in ticks],
    )


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, at most seven; with 2 and 5 between them on a short axis."""
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
    """Round numbers, four to nine of them."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.999)
    if isinstance(low, int):
        step = max(1.0, step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _bounds(distribution: Any) -> tuple[float, float, bool]:
    return distribution.low, distribution.high, distribution.log

"""Everything that has a value of the metric, in one list: what there was to beat, and what came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from gru_optuna.report.numbers.answer import Answer, Estimate
    from gru_optuna.spec import Specification


@dataclass(frozen=True)
class Mark:
    """One value."""

    name: str
    kind: Literal["baseline", "validation", "test"]
    value: float
    interval: tuple[float, float] | None
    shown: str  # the value as text
    text: str  # all of it


def standing(answer: Answer, spec: Specification, show: Callable[[float], str]) -> list[Mark]:
    """The values to beat from the worst to the best, then the winner's own.

    Parameters
    ----------
    answer
        Of the study.
    spec
        Its metric.
    show
        A value of the metric as text.
    """
    rows = "test rows" if spec.data.test is not None else "validation rows"
    best_last = sorted(
        answer.baselines.items(), key=lambda one: one[1], reverse=spec.direction == "minimize"
    )
    marks = [
        Mark(name, "baseline", value, None, show(value), f"{name}: {show(value)} ({rows})")
        for name, value in best_last
    ]
    if answer.start:
        name = f"median of the first {answer.start.trials} trials"
        value = answer.start.median
        marks.append(Mark(name, "validation", value, None, show(value), f"{name}: {show(value)}"))
    name = "winner, validation, in the search" if answer.confirmed else "winner, validation"
    marks.append(_mark(name, "validation", answer.validation, show))
    if answer.confirmation and answer.confirmed:
        name = f"winner, validation, {answer.confirmation.seeds} fresh seeds"
        marks.append(_mark(name, "validation", answer.confirmed, show))
    if answer.test:
        marks.append(_mark("winner, test", "test", answer.test, show))
    return marks


def _mark(
    name: str,
    kind: Literal["validation", "test"],
    estimate: Estimate,
    show: Callable[[float], str],
) -> Mark:
    interval = estimate.interval
    sure = f", 95 % interval {show(interval[0])} to {show(interval[1])}" if interval else ""
    shown = show(estimate.value)
    return Mark(name, kind, estimate.value, interval, shown, f"{name}: {shown}{sure}")

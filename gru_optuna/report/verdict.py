"""The answer in a few sentences: how good the winner is, how sure, against what, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.report.trials import is_better

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gru_optuna.report.result import Estimate, Result, Standing
    from gru_optuna.study_file import Specification


def verdict(answer: Result, spec: Specification, show: Callable[[float], str]) -> list[str]:
    """A paragraph on the value, and one on the search.

    Parameters
    ----------
    answer
        Of the study.
    spec
        Its metric and sampler.
    show
        A value of the metric as text.
    """
    measured = answer.measured
    rows = f"{measured.rows:,} " if measured.rows else ""
    part = "test" if answer.test else "validation"
    value = (
        f"On {rows}{part} rows, which {'took no part in' if answer.test else 'decided'} the "
        f"choice, it reaches {spec.metric} {show(measured.value)}{_within(measured, show)}."
    )
    return [" ".join([value, *_against(answer, spec, show)]), *_gain(answer, spec, show)]


def _against(answer: Result, spec: Specification, show: Callable[[float], str]) -> list[str]:
    """Beside the values to beat, which were measured on test rows where there are any."""
    if not answer.baselines or (spec.data.test is not None and answer.test is None):
        return []
    by_standing: dict[Standing, list[str]] = {"worse": [], "equal": [], "better": []}
    for name, value in sorted(answer.baselines.items(), key=lambda one: one[1]):
        standing = answer.measured.beside(value, spec)
        by_standing[standing].append(f"{name} ({show(value)})")
    parts = []
    if by_standing["better"]:
        parts.append(f"better than {_listed(by_standing['better'])}")
    if by_standing["equal"]:
        sure = answer.measured.interval is not None
        words = "not to be told apart from" if sure else "the same as"
        parts.append(f"{words} {_listed(by_standing['equal'])}")
    if by_standing["worse"]:
        parts.append(f"worse than {_listed(by_standing['worse'])}")
    return [f"That is {_listed(parts)}."]


def _gain(answer: Result, spec: Specification, show: Callable[[float], str]) -> list[str]:
    start = answer.start
    if start is None or not is_better(answer.reached, start.median, spec):
        return []
    return [
        f"The search brought the validation {spec.metric} from {show(start.median)}, the median of "
        f"its first {start.trials} trials, to {show(answer.reached)}. Those were drawn "
        f"blindly and stand for a configuration that nobody tuned; one that was pruned counts by "
        f"its best epoch."
    ]


def _within(estimate: Estimate, show: Callable[[float], str]) -> str:
    if estimate.interval is None:
        return ""
    low, high = estimate.interval
    return f" (95 % interval {show(low)} to {show(high)})"


def _listed(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"

"""The result in a few sentences: how good the winner is, how sure, and compared with what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.formatting import format_list, format_metric

if TYPE_CHECKING:
    from gru_optuna.report.result import Result, Standing
    from gru_optuna.study_file import Specification


def write_verdict(result: Result, spec: Specification) -> list[str]:
    """A paragraph about the winner's value, and one about what the search gained."""
    measured = result.measured
    rows = f"{measured.rows:,} " if measured.rows else ""
    part, role = ("test", "were not used") if result.test else ("validation", "were used")
    interval = f" ({measured.sureness})" if measured.interval else ""
    who, alone = "the winner", ""
    if result.ensemble and result.test and result.confirmation:
        who = f"the ensemble of {result.confirmation.members.in_words()}"
        alone = f"; one network alone reaches {format_metric(result.test.value)}"
    value = (
        f"On {rows}{part} rows, which {role} to choose it, {who} reaches {spec.metric} "
        f"{format_metric(measured.value)}{interval}{alone}."
    )
    first = [" ".join(result.compared)] if result.compared else []
    held = result.winner.intervals.in_words() if result.winner.intervals else None
    told = [value, *_comparison(result, spec), *([held] if held else [])]
    return [*first, " ".join(told), *_gain(result, spec)]


def _comparison(result: Result, spec: Specification) -> list[str]:
    """Compares with the values to beat, which are measured on test rows where there are any."""
    # Fitted models are compared row by row, which is sharper than one interval against a value.
    baselines = {n: v for n, v in result.baselines.items() if n not in result.paired}
    if not baselines or (spec.data.test is not None and result.test is None):
        return []
    standings: dict[Standing, list[str]] = {"better": [], "equal": [], "worse": []}
    for name, value in sorted(baselines.items(), key=lambda item: item[1]):
        standings[result.measured.compare(value, spec)].append(f"{name} ({format_metric(value)})")
    equal = "not clearly different from" if result.measured.interval else "equal to"
    words = {"better": "better than", "equal": equal, "worse": "worse than"}
    parts = [f"{words[key]} {format_list(names)}" for key, names in standings.items() if names]
    return [f"That is {format_list(parts)}."]


def _gain(result: Result, spec: Specification) -> list[str]:
    start = result.start
    if start is None or spec.as_loss(result.reached) >= spec.as_loss(start.median):
        return []
    return [
        f"The search improved the validation {spec.metric} from {format_metric(start.median)}, "
        f"the median of its first {start.trials} trials, to {format_metric(result.reached)}. "
        f"Those trials were drawn at random and stand for an untuned configuration; a pruned one "
        f"counts with its best epoch."
    ]

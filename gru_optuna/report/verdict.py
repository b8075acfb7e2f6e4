"""The result in a few sentences: how good the winner is, how sure, and compared with what."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from gru_optuna.formatting import format_list, format_metric

if TYPE_CHECKING:
    from gru_optuna.report.result import Estimate, Result, Standing
    from gru_optuna.study_file import Specification


def write_verdict(result: Result, spec: Specification) -> list[str]:
    """A paragraph about the winner's value, and one about what the search gained."""
    measured = result.measured
    part, role = ("test", "were not used") if result.test else ("validation", "were used")
    interval = f" ({measured.sureness})" if measured.interval else ""
    who, alone = "the winner", ""
    if result.ensemble and result.test and result.confirmation:
        who = f"the ensemble of {result.confirmation.members.in_words()}"
        alone = f"; one network alone reaches {result.test.shown}"
    rows = measured_on(measured, part, spec)
    value = (
        f"On {rows}, which {role} to choose it, {who} reaches {spec.metric} "
        f"{measured.shown}{interval}{alone}."
    )
    first = [" ".join(result.compared)] if result.compared else []
    held = result.winner.intervals.in_words() if result.winner.intervals else None
    about = [value, *_comparison(result, spec), *_shift(result, spec), *([held] if held else [])]
    return [*first, " ".join(about), *_gain(result, spec)]


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


def measured_on(measured: Estimate, part: str, spec: Specification) -> str:
    """What a value was measured on: rows, or windows and the rows that they lie in."""
    count = f"{measured.rows:,} " if measured.rows else ""
    if spec.kind != "series":
        return f"{count}{part} rows"
    horizon = spec.data.horizon or 1
    windows = f"{count}{part} windows of {horizon} step{'' if horizon == 1 else 's'} each"
    steps = spec.data.test if part == "test" else spec.data.validation
    inside = isinstance(steps, int) and not (part == "validation" and spec.data.folds)
    return f"{windows} over {steps:,} rows{_each(spec)}" if inside else windows


def _each(spec: Specification) -> str:
    return " of each series" if spec.data.series else ""


def _shift(result: Result, spec: Specification) -> list[str]:
    """Says so where the same networks do worse or better on test rows than on validation rows.

    The share of the rows in the validation value's uncertainty isn't measured; per row it is taken
    to be that of the test value.
    """
    test, seen, rows = result.test, result.confirmed, result.independent_rows(spec)
    if test is None or seen is None or not test.interval or not test.rows or not rows:
        return []
    low, high = test.interval
    if low <= seen.value <= high:
        return []
    tested = -(-test.rows // (spec.data.horizon or 1))
    by_chance = abs(test.value - seen.value) <= (high - low) / 2 * sqrt(1 + tested / rows)
    harder = "harder" if spec.as_loss(test.value) > spec.as_loss(seen.value) else "easier"
    series = spec.kind == "series"
    them, verb = ("period", "was") if series else ("rows", "are")
    first = (
        f"The test {them} {verb} {harder} than the validation {them}: there, one network reaches "
        f"{seen.shown}."
    )
    if by_chance:
        few = "stretches" if series else "rows"
        return [f"{first} So few {few} can differ that much by chance."]
    return [f"{first} The two periods differ by more than chance." if series else first]


def _gain(result: Result, spec: Specification) -> list[str]:
    start = result.start
    if start is None or start.later is None:
        return []
    first = "first trial" if start.trials == 1 else f"first {start.trials} trials"
    others = "the one" if start.later_trials == 1 else f"the {start.later_trials:,}"
    best, later = format_metric(start.best), format_metric(start.later)
    if spec.as_loss(start.later) < spec.as_loss(start.best):
        return [
            f"In the search, the best validation {spec.metric} of the {first}, which no model "
            f"proposed, was {best}; the best of {others} after them was {later}."
        ]
    return [
        f"In the search, {others} after the {first}, which no model proposed, reached no better "
        f"validation {spec.metric} than the best of these, {best}."
    ]

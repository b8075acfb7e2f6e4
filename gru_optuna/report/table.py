"""The trial table: every trial's numbers as text, with what the page sorts them by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gru_optuna.report import numbers
from gru_optuna.report.scales import label
from gru_optuna.search import space

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study

    from gru_optuna.hyperparameters import Value
    from gru_optuna.spec import Specification

TABLE_ROWS = 1_000
"""More trials than this make a table nobody reads and every browser feels."""

NOTHING = "–"


@dataclass(frozen=True)
class _Cell:
    text: str
    value: str  # what the table sorts by; empty: none
    numeric: bool = False


@dataclass(frozen=True)
class _Line:
    state: str
    best: bool
    cells: list[_Cell]


def trial_table(study: Study, spec: Specification) -> dict[str, Any]:
    """What the page's template needs: ``rows``, ``columns`` (name, numeric), ``table_caption``."""
    rows = numbers.rows(study, spec)
    shown = rows[:TABLE_ROWS]
    names = [name for name in space.searched(spec) if any(name in row.params for row in shown)]
    numeric = {
        name: all(_is_number(row.params[name]) for row in shown if name in row.params)
        for name in names
    }
    one = "The only trial so far"
    every = one if len(rows) == 1 else f"All {len(rows):,} trials, the best first"
    best = f"The best {len(shown):,} of {len(rows):,} trials"
    caption = every if len(rows) == len(shown) else best
    lines = []
    for row in shown:
        cells = [
            _Cell(str(row.number), str(row.number), numeric=True),
            _Cell(row.state, row.state),
            _number_cell(row.value, metric_text),
            _Cell(str(row.epochs), str(row.epochs), numeric=True),
            _number_cell(row.seconds, lambda seconds: f"{seconds:.1f}"),
        ]
        for name in names:
            value = row.params.get(name)
            text = "" if value is None else label(value)
            key = "" if value is None else text if not _is_number(value) else repr(value)
            cells.append(_Cell(text or NOTHING, key, numeric[name]))
        lines.append(_Line(row.state, row.best, [*cells, _Cell(row.outcome, row.outcome)]))
    heads = [("trial", True), ("state", False), (spec.metric, True)]
    heads += [("epochs", True), ("seconds", True)]
    heads += [(name, numeric[name]) for name in names]
    return {
        "rows": lines,
        "columns": [*heads, ("outcome", False)],
        "table_caption": f"{caption}. Click a heading to sort by it.",
    }


def _number_cell(value: float | None, show: Callable[[float], str]) -> _Cell:
    if value is None:
        return _Cell(NOTHING, "", numeric=True)
    return _Cell(show(value), repr(value), numeric=True)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def metric_text(value: float) -> str:
    """A metric's value with the digits that can matter."""
    return f"{value:.4f}" if abs(value) < 1000 else label(value)

"""What a section of the report is made of, and what all of them are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import plotly.graph_objects as go
    from optuna import Study

    from gru_optuna.report.numbers.answer import Answer
    from gru_optuna.report.numbers.health import Health
    from gru_optuna.report.numbers.importance import Importance
    from gru_optuna.report.numbers.savings import Savings
    from gru_optuna.spec import Specification


@dataclass(frozen=True)
class Panel:
    """One plot."""

    figure: go.Figure
    alt: str  # what it shows, for those who can't see it
    title: str = ""
    min_width: int = 0  # pixels; a narrower screen scrolls it
    max_width: int | None = None


@dataclass(frozen=True)
class Section:
    """One figure of the report, or the reason why it isn't there."""

    id: str
    title: str
    nav: str  # the title in a word, for the list of sections
    group: str
    caption: str
    numbers: Any
    panels: list[Panel]
    missing: str | None = None
    small: bool = False  # panels stand side by side


@dataclass(frozen=True)
class Context:
    """What the sections have in common."""

    study: Study
    spec: Specification
    answer: Answer | None
    importance: Importance
    health: Health
    savings: Savings | None
    show: Callable[[float], str]

    @property
    def best(self) -> int | None:
        """The winner's number."""
        return self.answer.winner.number if self.answer else None

    @property
    def better(self) -> str:
        """Which way is better."""
        return "higher" if self.spec.direction == "maximize" else "lower"

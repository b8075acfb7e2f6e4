"""What all figures have in common: a canvas, axes of the metric, marks for few and for many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gru_optuna.report.axes import metric_scale
from gru_optuna.report.theme import QUIET, TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import plotly.graph_objects as go
    from optuna import Study

    from gru_optuna.report.axes import Scale
    from gru_optuna.study_file import Specification


SVG_POINTS = 3_000
"""More points than this are drawn by WebGL: as SVG they would hold the browser up."""


def canvas(height: int, y_title: str = "", **layout: Any) -> go.Figure:
    """An empty figure. What the y axis shows stands above it, to be read without turning."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={"template": TEMPLATE, "height": height, **layout})
    if y_title:
        figure.add_annotation(
            text=y_title,
            xref="paper",
            yref="paper",
            x=0,
            y=1,
            xanchor="left",
            yanchor="bottom",
            yshift=8,
            showarrow=False,
            font={"size": 12.5, "color": QUIET},
        )
    return figure


def scatter(points: int) -> Any:
    """The trace for so many points."""
    import plotly.graph_objects as go

    return go.Scattergl if points > SVG_POINTS else go.Scatter


def opacity(marks: int) -> float:
    """Full for a few, faint for thousands, so that where many lie stays visible."""
    return min(0.9, max(0.15, 12 / math.sqrt(max(marks, 1)) / 2))


def metric_axis(figure: go.Figure, spec: Specification, values: Sequence[float | None]) -> None:
    """A logarithmic one where the worst value would hide the differences between the best."""
    figure.update_yaxes(type=metric_scale(spec, values).kind, tickformat="~g")


def ticks(scale: Scale) -> dict[str, Any]:
    """An axis' range and ticks."""
    margin = 0.5 if scale.kind == "category" else 0.06 * (scale.high - scale.low)
    return {
        "range": [scale.low - margin, scale.high + margin],
        "tickvals": scale.ticks,
        "ticktext": scale.labels,
    }


def spread(number: int) -> float:
    """From -0.25 to 0.25: apart within a category, evenly and the same at every rendering."""
    golden = (math.sqrt(5) - 1) / 2
    return 0.5 * ((number * golden) % 1 - 0.5)


def whole(largest: int) -> dict[str, Any]:
    """No tick at epoch 2.5."""
    return {"dtick": 1} if largest <= 12 else {"tickformat": "d"}


def plain(name: str) -> str:
    """A name from outside as text: plotly reads a little HTML in labels."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


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
    """What every figure is drawn from; numbers that several parts share are passed beside it."""

    study: Study
    spec: Specification
    best: int | None  # the winner's number
    show: Callable[[float], str]  # a value of the metric as text

    @property
    def better(self) -> str:
        """Which values of the metric are better: "higher" or "lower"."""
        return "higher" if self.spec.direction == "maximize" else "lower"

"""What all figures share: a canvas, axes of the metric, marks for few trials and for many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gru_optuna.report.axes import metric_scale
from gru_optuna.report.texts import fill, read_texts
from gru_optuna.report.theme import STYLES, TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import plotly.graph_objects as go
    from optuna import Study

    from gru_optuna.report.axes import Scale
    from gru_optuna.study_file import Specification


_TEXTS = read_texts("figures.toml")

FIGURES = tuple(_TEXTS)
"""Every figure that a report can have, by the name of its files, in the order of reading."""

SVG_POINTS = 3_000
"""More points than this are drawn by WebGL: as SVG they would make the browser unresponsive."""


def canvas(height: int, y_title: str = "", **layout: Any) -> go.Figure:
    """An empty figure. The title of its y axis stands above the axis, so that it is horizontal."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={"template": TEMPLATE, "height": height, **layout})
    if y_title:
        figure.add_annotation(text=y_title, **STYLES["y_title"])
    return figure


def scatter(points: int) -> Any:
    """The class of trace for a number of points."""
    import plotly.graph_objects as go

    return go.Scattergl if points > SVG_POINTS else go.Scatter


def opacity(marks: int) -> float:
    """High for a few marks, low for thousands, so that crowded places stand out."""
    return min(0.9, max(0.15, 12 / math.sqrt(max(marks, 1)) / 2))


def metric_axis(figure: go.Figure, spec: Specification, values: Sequence[float | None]) -> None:
    """Makes the y axis logarithmic if the worst value would hide how the best ones differ."""
    figure.update_yaxes(type=metric_scale(spec, values).kind, tickformat="~g")


def ticks(scale: Scale) -> dict[str, Any]:
    """Plotly's settings for the range and ticks of an axis."""
    margin = 0.5 if scale.kind == "category" else 0.06 * (scale.high - scale.low)
    return {
        "range": [scale.low - margin, scale.high + margin],
        "tickvals": scale.ticks,
        "ticktext": scale.labels,
    }


def spread(number: int) -> float:
    """An offset from -0.25 to 0.25 that separates trials of one category.

    It is evenly distributed, and equal at every rendering.
    """
    golden = (math.sqrt(5) - 1) / 2
    return 0.5 * ((number * golden) % 1 - 0.5)


def whole(largest: int) -> dict[str, Any]:
    """Plotly's settings for ticks at whole numbers only."""
    return {"dtick": 1} if largest <= 12 else {"tickformat": "d"}


def thin(numbers: Sequence[int], most: int, best: int | None) -> list[int]:
    """The indices of at most about `most` trials, evenly chosen, and always the winner's."""
    stride = math.ceil(len(numbers) / most)
    return [index for index, n in enumerate(numbers) if index % stride == 0 or n == best]


def add_diagonal(figure: go.Figure, low: float, high: float, **options: Any) -> None:
    """Adds the dotted line on which both axes have the same value."""
    figure.add_scatter(x=[low, high], y=[low, high], **STYLES["diagonal"], **options)


def plain(name: str) -> str:
    """A user's name as plain text: Plotly interprets some HTML in labels."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(frozen=True)
class Panel:
    """One plot."""

    figure: go.Figure
    alt: str  # what it shows, for screen readers
    title: str = ""
    min_width: int = 0  # pixels; a narrower screen scrolls it
    max_width: int | None = None


@dataclass(frozen=True)
class FigureSection:
    """One figure of the report, or the reason why it is missing."""

    id: str
    title: str
    nav: str  # a short title for the list of sections
    group: str
    caption: str
    numbers: Any
    panels: list[Panel]
    missing: str | None = None
    small: bool = False  # whether panels stand side by side


def section(
    figure: str,
    numbers: Any,
    panels: list[Panel],
    sentences: Mapping[str, bool] | None = None,
    *,
    missing: str | None = None,
    **values: Any,
) -> FigureSection:
    """A figure with its texts from ``templates/figures.toml``.

    Parameters
    ----------
    figure
        Its name there.
    numbers, panels
        What it shows; without panels, the figure is missing.
    sentences
        Those of its caption, in order, and whether each applies; None: the only one.
    missing
        Why it is missing, where the file doesn't say so.
    values
        What the sentences name, besides ``numbers``.
    """
    texts = _TEXTS[figure]
    applying = [key for key, applies in (sentences or {"caption": True}).items() if applies]
    if not panels:
        missing, applying = missing or texts["missing"], []
    caption = " ".join(fill(texts[key], numbers=numbers, **values) for key in applying)
    small = texts.get("small", False)
    titles = (texts["title"], texts["nav"], texts["group"])
    return FigureSection(figure, *titles, caption, numbers, panels, missing, small)


@dataclass(frozen=True)
class Context:
    """What every figure is drawn from; shared numbers are passed separately."""

    study: Study
    spec: Specification
    best: int | None  # the winner's number

    @property
    def words(self) -> dict[str, str]:
        """The metric, and which of its values are better, for captions."""
        better = "higher" if self.spec.direction == "maximize" else "lower"
        return {"metric": self.spec.metric, "better": better}

"""How page and figures look: a light and a dark palette, and one template for all figures.

Figures name colours by role, ``var(--best)``. On the page, ``templates/plots.js`` replaces roles by
the colours of the current theme; `resolved` does so for image files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import plotly.graph_objects as go

# The colours of Okabe and Ito, which every kind of colour vision can distinguish; two are darker on
# a light page. The scale is viridis, its worst end the one that is closest to the page's colour.
LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b1f24",
    "quiet": "#59626d",
    "rule": "#dde1e6",
    "wash": "#f6f7f9",
    "grid": "#e8ebef",
    "axis": "#8b949e",
    "complete": "#0072b2",
    "pruned": "#8a8f98",
    "failed": "#9e3f7f",
    "running": "#00856a",
    "best": "#c65500",
    "best-wash": "#fdf1e8",
    "scale-0": "#dfe06a",
    "scale-1": "#6cc36b",
    "scale-2": "#21918c",
    "scale-3": "#3b528b",
    "scale-4": "#440154",
}
DARK = {
    "paper": "#14171b",
    "ink": "#e6e9ed",
    "quiet": "#9ea7b3",
    "rule": "#333940",
    "wash": "#1c2025",
    "grid": "#282d34",
    "axis": "#707a86",
    "complete": "#56b4e9",
    "pruned": "#858d98",
    "failed": "#d98cb8",
    "running": "#2fc5a0",
    "best": "#f0a53a",
    "best-wash": "#33291a",
    "scale-0": "#553a78",
    "scale-1": "#4a6a9c",
    "scale-2": "#21a08f",
    "scale-3": "#7fd35a",
    "scale-4": "#fde725",
}

COMPLETE, PRUNED, FAILED, BEST = "var(--complete)", "var(--pruned)", "var(--failed)", "var(--best)"
RUNNING, INK, QUIET, GRID, AXIS, PAPER = (
    "var(--running)",
    "var(--ink)",
    "var(--quiet)",
    "var(--grid)",
    "var(--axis)",
    "var(--paper)",
)
STATE_COLOURS = {"complete": COMPLETE, "pruned": PRUNED, "failed": FAILED, "running": RUNNING}
FROM_WORST_TO_BEST = [[step / 4, f"var(--scale-{step})"] for step in range(5)]
FROM_NONE_TO_MANY = [[0.0, PAPER], [1.0, COMPLETE]]

_FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"

_AXIS: dict[str, Any] = {
    "gridcolor": GRID,
    "linecolor": AXIS,
    "zeroline": False,
    "ticks": "",
    "tickfont": {"size": 12, "color": QUIET},
    "automargin": True,
    "title": {"standoff": 12, "font": {"size": 12.5, "color": QUIET}},
}

TEMPLATE: dict[str, Any] = {
    "layout": {
        "font": {"family": _FONT, "size": 12.5, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {**_AXIS, "showgrid": False, "ticks": "outside", "ticklen": 5, "tickcolor": GRID},
        "yaxis": {**_AXIS, "ticklabelstandoff": 6},
        "margin": {"l": 48, "r": 12, "t": 40, "b": 44},
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": PAPER,
            "bordercolor": AXIS,
            "font": {"color": INK, "family": _FONT},
            "align": "left",
        },
        "legend": {
            "orientation": "h",
            "x": 1,
            "y": 1.01,
            "xanchor": "right",
            "yanchor": "bottom",
            "bgcolor": "rgba(0,0,0,0)",
            "font": {"color": QUIET},
            "itemwidth": 30,
        },
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": AXIS, "activecolor": INK},
    }
}


def resolved(figure: go.Figure, palette: Mapping[str, str] = LIGHT) -> go.Figure:
    """A copy of a figure whose colours need no style sheet, on the palette's background."""
    import plotly.graph_objects as go

    colours = {f"var(--{role})": colour for role, colour in palette.items()}

    def replace(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: replace(value) for key, value in part.items()}
        if isinstance(part, list | tuple):
            return [replace(value) for value in part]
        return colours.get(part, part) if isinstance(part, str) else part

    drawn = go.Figure(replace(figure.to_dict()))
    return drawn.update_layout(paper_bgcolor=palette["paper"])

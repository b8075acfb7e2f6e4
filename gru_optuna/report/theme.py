"""How page and figures look: a light and a dark palette, one template, and styles by their names.

All of it is in ``templates/theme.toml``, where figures name colours by role, ``var(--best)``. On
the page, ``templates/plots.js`` replaces roles by the colours of the current theme; `resolved` does
so for image files.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import plotly.graph_objects as go

_THEME = tomllib.loads(
    (Path(__file__).parent / "templates" / "theme.toml").read_text(encoding="utf-8")
)

LIGHT: dict[str, str] = _THEME["light"]
DARK: dict[str, str] = _THEME["dark"]
TEMPLATE: dict[str, Any] = _THEME["template"]
STYLES: dict[str, dict[str, Any]] = _THEME["styles"]

PAUSED = "var(--scale-3)"
COMPLETE, PRUNED, FAILED, BEST = "var(--complete)", "var(--pruned)", "var(--failed)", "var(--best)"
RUNNING, INK, AXIS, PAPER = "var(--running)", "var(--ink)", "var(--axis)", "var(--paper)"
QUIET, GRID = "var(--quiet)", "var(--grid)"
STATE_COLOURS = {
    "complete": COMPLETE,
    "pruned": PRUNED,
    "failed": FAILED,
    "running": RUNNING,
    "paused": PAUSED,
}
FROM_WORST_TO_BEST = [[step / 4, f"var(--scale-{step})"] for step in range(5)]


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

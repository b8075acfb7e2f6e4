"""How the figures look.

Colours are roles, ``var(--…)``: ``templates/page.css`` gives them a value for light and for dark,
and ``templates/plots.js`` puts it in.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

COMPLETE, PRUNED, FAILED, BEST = "var(--complete)", "var(--pruned)", "var(--failed)", "var(--best)"
FROM_WORST_TO_BEST = [[step / 4, f"var(--scale-{step})"] for step in range(5)]

_AXIS: dict[str, Any] = {
    "gridcolor": "var(--grid)",
    "linecolor": "var(--axis)",
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": "var(--axis)",
    "ticklen": 4,
    "automargin": True,
    "title": {"standoff": 10, "font": {"size": 13}},
}

TEMPLATE = go.layout.Template(
    layout={
        "font": {
            "family": "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif",
            "size": 12.5,
            "color": "var(--ink)",
        },
        "paper_bgcolor": "var(--paper)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "margin": {"l": 56, "r": 12, "t": 12, "b": 44},
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": "var(--paper)",
            "bordercolor": "var(--axis)",
            "font": {"color": "var(--ink)"},
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "xanchor": "left",
            "yanchor": "bottom",
            "bgcolor": "rgba(0,0,0,0)",
        },
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": "var(--axis)",
            "activecolor": "var(--ink)",
        },
    }
)

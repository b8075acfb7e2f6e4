"""Who trained what when: a row for each slot, a bar for each trial."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.report.figures.base import canvas, plain
from gru_optuna.report.scales import duration, duration_ticks
from gru_optuna.report.theme import AXIS, INK, QUIET, STATE_COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go

    from gru_optuna.report.numbers.timeline import Bar, Timeline

BARS = 1_500
"""More than this are drawn by WebGL, as lines."""

TALLEST = 640


def draw_timeline(numbers: Timeline) -> go.Figure:
    """Workers below each other, their names at their first row."""
    rows = sum(numbers.workers.values())
    height = min(TALLEST, 96 + 18 * rows)
    figure = canvas(max(190, height), barmode="overlay", bargap=0)
    thickness = max(1.5, 0.72 * (max(190, height) - 96) / rows)
    for state, colour in STATE_COLOURS.items():
        group = [bar for bar in numbers.bars if bar.state == state]
        if not group:
            continue
        if len(numbers.bars) <= BARS:
            figure.add_bar(
                x=[round(bar.end - bar.start, 3) for bar in group],
                base=[round(bar.start, 3) for bar in group],
                y=[bar.lane for bar in group],
                text=[f"trial {bar.number}: {duration(bar.end - bar.start)}" for bar in group],
                orientation="h",
                width=0.72,
                name=state,
                marker={"color": colour, "line": {"width": 0.5, "color": "var(--paper)"}},
                textposition="none",
                hovertemplate="%{text}<extra>" + state + "</extra>",
            )
        else:
            figure.add_scattergl(
                **_lines(group),
                mode="lines",
                name=state,
                line={"color": colour, "width": thickness},
                hovertemplate="trial %{customdata}<extra>" + state + "</extra>",
            )
    first = 0
    names = []
    for worker, lanes in numbers.workers.items():
        name = plain(worker) + (f"<br>{lanes} slots" if lanes > 1 else "")
        names.append((first + (lanes - 1) / 2, name))
        if first:
            figure.add_hline(y=first - 0.5, line={"color": AXIS, "width": 1})
        first += lanes
    for pause in numbers.pauses:
        figure.add_vline(
            x=pause.at,
            line={"color": QUIET, "width": 1, "dash": "dot"},
            annotation={
                "text": f"paused {duration(pause.seconds)}",
                "font": {"size": 11, "color": QUIET},
                "textangle": 0,
                "yanchor": "bottom",
                "y": 1,
            },
        )
    places, labels = duration_ticks(numbers.seconds)
    figure.update_xaxes(
        title="time worked",
        tickvals=places,
        ticktext=labels,
        range=[-0.005 * numbers.seconds, 1.005 * numbers.seconds or 1],
    )
    figure.update_yaxes(
        range=[rows - 0.4, -0.6],
        tickvals=[place for place, _ in names],
        ticktext=[name for _, name in names],
        tickfont={"size": 12, "color": INK},
        showgrid=False,
    )
    return figure


def _lines(bars: Sequence[Bar]) -> dict[str, np.ndarray]:
    """Bars as one line with gaps."""
    x = [place for bar in bars for place in (bar.start, bar.end, math.nan)]
    return {
        "x": np.array(x, dtype=np.float32),
        "y": np.repeat(np.array([bar.lane for bar in bars], dtype=np.int16), 3),
        "customdata": np.repeat(np.array([bar.number for bar in bars], dtype=np.int32), 3),
    }

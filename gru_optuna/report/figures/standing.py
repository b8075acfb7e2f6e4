"""The winner beside what it had to beat, each on a line, with a bar where it isn't sure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.report.figures.base import canvas, plain
from gru_optuna.report.theme import BEST, COMPLETE, GRID, INK, PAPER, PRUNED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go

    from gru_optuna.report.numbers.standing import Mark
    from gru_optuna.spec import Specification

LOG_RATIO = 4.0

_COLOURS = {"baseline": PRUNED, "validation": COMPLETE, "test": BEST}


def draw_standing(marks: Sequence[Mark], spec: Specification) -> go.Figure:
    """The worst on top, the test value last."""
    figure = canvas(
        64 + 46 * len(marks), showlegend=False, margin={"l": 8, "t": 8, "b": 44, "r": 16}
    )
    for row, mark in enumerate(marks):
        colour = _COLOURS[mark.kind]
        # Names lie above their lines: beside them they would take half of a small screen.
        figure.add_annotation(
            text=_label(mark),
            x=0,
            xref="paper",
            xanchor="left",
            y=row,
            yshift=16,
            showarrow=False,
            font={"size": 13, "color": INK},
        )
        if mark.interval:
            figure.add_scatter(
                x=list(mark.interval),
                y=[row, row],
                mode="lines",
                line={"color": colour, "width": 7},
                opacity=0.35,
                hoverinfo="skip",
            )
        figure.add_scatter(
            x=[mark.value],
            y=[row],
            mode="markers",
            marker={
                "size": 13,
                "symbol": "diamond" if mark.kind == "test" else "circle",
                "color": PAPER if mark.kind == "baseline" else colour,
                "line": {"color": colour, "width": 2.5},
            },
            text=[plain(mark.text)],
            hovertemplate="%{text}<extra></extra>",
        )
    values = [mark.value for mark in marks]
    # One hopeless prediction would push all others together.
    wide = spec.direction == "minimize" and 0 < LOG_RATIO * min(values) < max(values)
    figure.update_xaxes(
        type="log" if wide else "linear",
        dtick="D1" if wide else None,
        title=f"{spec.metric}, {'more' if spec.direction == 'maximize' else 'less'} is better",
        tickformat="~g",
        showgrid=True,
        ticks="",
    )
    return figure.update_yaxes(
        range=[len(marks) - 0.6, -0.75],
        tickvals=list(range(len(marks))),
        showticklabels=False,
        gridcolor=GRID,
    )


def _label(mark: Mark) -> str:
    """The name, cut where a small screen would cut it, and the value."""
    name = mark.name if len(mark.name) <= 44 else f"{mark.name[:43]}…"
    return f"{plain(name)}  <b>{mark.shown}</b>"

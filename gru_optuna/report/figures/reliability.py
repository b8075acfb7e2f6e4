"""How often the predicted class is right, by its probability: before temperature scaling, after."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gru_optuna.report.figures.base import Panel, add_diagonal, canvas, section
from gru_optuna.report.theme import BEST, PRUNED
from gru_optuna.study.calibration import read_calibration

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from gru_optuna.report.figures.base import Context, FigureSection
    from gru_optuna.study.calibration import Calibration

_SMALLEST, _LARGEST = 5.0, 22.0  # pixels of marks


def draw_reliability(found: Calibration) -> go.Figure:
    """A line for the probabilities as the networks give them, and one for the scaled ones."""
    figure = canvas(340, "share of rows that are right", margin={"l": 8, "t": 36, "b": 44, "r": 16})
    add_diagonal(figure, 0, 1, showlegend=False)
    lines = (
        ("as predicted", found.before, PRUNED, "circle-open"),
        (f"scaled, T = {found.temperature:.3g}", found.after, BEST, "diamond"),
    )
    for name, measured, colour, symbol in lines:
        most = max(rows for *_, rows in measured.bins)
        figure.add_scatter(
            x=[probability for probability, *_ in measured.bins],
            y=[right for _, right, _ in measured.bins],
            customdata=[rows for *_, rows in measured.bins],
            mode="lines+markers",
            name=name,
            cliponaxis=False,  # most rows stand at the corner
            line={"color": colour, "width": 1.5},
            marker={
                "color": colour,
                "symbol": symbol,
                "size": [
                    max(_SMALLEST, _LARGEST * math.sqrt(rows / most)) for *_, rows in measured.bins
                ],
            },
            hovertemplate="probability %{x:.2f}: %{y:.0%} of %{customdata} rows are right"
            "<extra></extra>",
        )
    figure.update_xaxes(title="probability of the predicted class", range=[0, 1.03])
    return figure.update_yaxes(range=[0, 1.03], tickformat=".0%")


def reliability_section(context: Context) -> list[FigureSection]:
    """How far the winner's probabilities can be trusted; nothing where it wasn't measured."""
    found = None if context.best is None else read_calibration(context.study, context.best)
    if found is None:
        return []
    words = found.in_words()
    panel = Panel(draw_reliability(found), words, max_width=620)
    return [section("reliability", found, [panel], words=words)]

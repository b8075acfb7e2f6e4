"""Importance: a bar for what decides the best tenth, a slim one for what moves the metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.report.figures.base import canvas
from gru_optuna.report.theme import BEST, COMPLETE

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from gru_optuna.report.numbers.importance import Importance


def draw_importance(numbers: Importance) -> go.Figure:
    """The most important parameter by PED-ANOVA on top."""
    names = list(numbers.shares)
    figure = canvas(92 + 34 * len(names), bargap=0.3, barmode="overlay")
    bars = (
        ("what sets the best tenth apart (PED-ANOVA)", numbers.shares, COMPLETE, -0.34, 0.36),
        ("what moves the metric (fANOVA)", numbers.fanova, BEST, 0.06, 0.2),
    )
    for name, shares, colour, offset, width in bars:
        known = [parameter for parameter in names if parameter in shares]
        figure.add_bar(
            x=[shares[parameter] for parameter in known],
            y=[names.index(parameter) for parameter in known],
            customdata=known,
            name=name,
            orientation="h",
            offset=offset,
            width=width,
            marker={"color": colour, "line": {"width": 0}},
            text=[_percent(shares[parameter]) for parameter in known],
            textposition="outside",
            constraintext="none",
            textfont={"size": 11.5},
            cliponaxis=False,
            hovertemplate="%{customdata}: %{x:.1%}<extra>" + name + "</extra>",
        )
    room = 1.12 * max([*numbers.shares.values(), *numbers.fanova.values()])
    figure.update_xaxes(tickformat=".0%", range=[0, room], showgrid=True, ticks="")
    figure.update_yaxes(
        range=[len(names) - 0.45, -0.55],
        tickvals=list(range(len(names))),
        ticktext=names,
        showgrid=False,
        tickfont={"size": 13, "color": "var(--ink)"},
    )
    figure.update_layout(legend={"x": 0, "xanchor": "left"})
    return figure


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "< 1%"

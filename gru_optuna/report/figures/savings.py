"""What pruning saved: how many trials trained each epoch. The area is what was paid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.report.figures.base import canvas, whole
from gru_optuna.report.theme import COMPLETE, PRUNED

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from gru_optuna.report.numbers.savings import Savings


def draw_savings(numbers: Savings) -> go.Figure:
    """Steps down from all trials to those that were trained to the end."""
    figure = canvas(320, "trials that trained this epoch", bargap=0.08, barmode="stack")
    epochs = list(range(1, numbers.most + 1))
    alive = numbers.reached
    figure.add_bar(
        x=epochs,
        y=alive,
        name=f"run: {numbers.run:,} epochs",
        marker={"color": COMPLETE, "line": {"width": 0}},
        hovertemplate="epoch %{x}: %{y} trials<extra></extra>",
    )
    figure.add_bar(
        x=epochs,
        y=[numbers.trials - count for count in alive],
        name="not run, by pruning or by stopping early",
        marker={"color": PRUNED, "opacity": 0.22, "line": {"width": 0}},
        hovertemplate="epoch %{x}: %{y} trials less<extra></extra>",
    )
    figure.update_xaxes(title="epoch", range=[0.4, numbers.most + 0.6], **whole(numbers.most))
    figure.update_yaxes(range=[0, numbers.trials], tickformat="d")
    return figure

"""How training went: learning curves and health."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.report.figures.curves import CURVES, draw_curves
from gru_optuna.report.figures.health import (
    draw_clipping,
    draw_diverged,
    draw_endings,
    draw_gap,
)
from gru_optuna.report.numbers.curves import curves
from gru_optuna.report.sections.base import Panel, Section

if TYPE_CHECKING:
    from gru_optuna.report.sections.base import Context

GROUP = "How training went"


def curves_section(context: Context) -> Section:
    """The metric of every trial by epoch."""
    lines = curves(context.study, context.spec)
    thinned = (
        f" Of more than {CURVES:,} of a kind, an even selection is drawn."
        if len(lines) > CURVES
        else ""
    )
    caption = (
        f"The {context.spec.metric} on validation rows after each epoch; {context.better} is "
        f"better. A cross marks where a trial was pruned. Click a name in the legend to hide its "
        f"curves.{thinned}"
    )
    missing = None if lines else "No trial has reported an epoch yet."
    panels = []
    if lines:
        alt = f"Curves of {len(lines)} trials over up to {max(c.epochs[-1] for c in lines)} epochs."
        panels = [Panel(draw_curves(lines, context.spec), alt)]
    return Section(
        "learning_curves", "Learning curves", "Curves", GROUP, caption, lines, panels, missing
    )


def health_section(context: Context) -> Section:
    """Endings, divergence, overfitting, clipping."""
    health = context.health
    counts = ", ".join(f"{count:,} {ending}" for ending, count in health.endings.items())
    panels = [Panel(draw_endings(health), counts, "How trials ended")] if counts else []
    if health.diverged_in:
        alt = f"{len(health.diverged)} trials diverged."
        panels.append(Panel(draw_diverged(health), alt, "When trials diverged"))
    if any(gap.train_loss > 0 < gap.validation_loss for gap in health.gaps):
        alt = f"Training and validation loss of {len(health.gaps)} trials at their best epochs."
        panels.append(Panel(draw_gap(health), alt, "Training against validation"))
    if any(clip.clip_norm for clip in health.clipping):
        alt = "Share of clipped updates by clip norm."
        panels.append(Panel(draw_clipping(health, context.spec), alt, "Clipping"))
    chance = ""
    if health.chance:
        name, value = health.chance
        chance = (
            f" {len(health.at_chance)} that trained three epochs or more never got past what the "
            f"{name} alone gives ({context.show(value)})."
        )
    caption = (
        f"{counts}.{chance} Above the dotted line validation loss is larger than training loss, "
        f"each trial at its best epoch: the further, the more it overfits. Dropout is on in "
        f"training and off in validation, so a little below the line is usual. A trial whose "
        f"updates are all clipped learns at a rate that the clip norm sets."
    )
    missing = None if counts else "No trial has begun."
    return Section(
        "health", "Training health", "Health", GROUP, caption, health, panels, missing, small=True
    )

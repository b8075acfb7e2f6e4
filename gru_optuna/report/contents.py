"""The report's figures in their order: what each shows, in words, and its numbers."""

from __future__ import annotations

from gru_optuna.report.figures.base import Context, Panel, Section
from gru_optuna.report.figures.comparison import comparison_section
from gru_optuna.report.figures.health import health_section
from gru_optuna.report.figures.history import history_section
from gru_optuna.report.figures.importance import importance_section
from gru_optuna.report.figures.interactions import interactions_section
from gru_optuna.report.figures.learning_curves import curves_section
from gru_optuna.report.figures.parallel_coordinates import parallel_section, slices_section
from gru_optuna.report.figures.predictions import predictions_section
from gru_optuna.report.figures.pruning import pruning_section
from gru_optuna.report.figures.timeline import timeline_section

FIGURES = (
    "standing",
    "predictions",
    "importance",
    "parallel_coordinates",
    "interactions",
    "slices",
    "learning_curves",
    "health",
    "optimization_history",
    "savings",
    "timeline",
)
"""All there can be, by the names of their files."""


def sections(context: Context) -> list[Section]:
    """All figures, in the order in which they are read."""
    return [
        *comparison_section(context),
        *predictions_section(context),
        importance_section(context),
        parallel_section(context),
        interactions_section(context),
        slices_section(context),
        curves_section(context),
        health_section(context),
        history_section(context),
        pruning_section(context),
        timeline_section(context),
    ]


__all__ = ["FIGURES", "Context", "Panel", "Section", "sections"]

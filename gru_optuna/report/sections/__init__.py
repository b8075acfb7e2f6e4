"""The report's figures in their order: what each shows, in words, and its numbers."""

from __future__ import annotations

from gru_optuna.report.sections.base import Context, Panel, Section
from gru_optuna.report.sections.matters import (
    importance_section,
    interactions_section,
    parallel_section,
    slices_section,
)
from gru_optuna.report.sections.search import history_section, savings_section, timeline_section
from gru_optuna.report.sections.training import curves_section, health_section
from gru_optuna.report.sections.winner import predictions_section, standing_section

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
        *standing_section(context),
        *predictions_section(context),
        importance_section(context),
        parallel_section(context),
        interactions_section(context),
        slices_section(context),
        curves_section(context),
        health_section(context),
        history_section(context),
        savings_section(context),
        timeline_section(context),
    ]


__all__ = ["FIGURES", "Context", "Panel", "Section", "sections"]

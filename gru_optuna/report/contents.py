"""The report's figures in the order they are read, and the numbers that several parts share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gru_optuna.report.figures.comparison import comparison_section
from gru_optuna.report.figures.front import front_section
from gru_optuna.report.figures.health import health_section, measure_health
from gru_optuna.report.figures.history import history_section
from gru_optuna.report.figures.importance import importance_section, measure_importance
from gru_optuna.report.figures.interactions import interactions_section
from gru_optuna.report.figures.learning_curves import curves_section
from gru_optuna.report.figures.parallel_coordinates import parallel_section, slices_section
from gru_optuna.report.figures.predictions import future_section, predictions_section
from gru_optuna.report.figures.pruning import measure_pruning, pruning_section
from gru_optuna.report.figures.reliability import reliability_section
from gru_optuna.report.figures.timeline import timeline_section
from gru_optuna.report.result import find_result

if TYPE_CHECKING:
    from optuna import Study

    from gru_optuna.report.figures.base import Context, FigureSection
    from gru_optuna.report.figures.health import Health
    from gru_optuna.report.figures.importance import Importance
    from gru_optuna.report.figures.pruning import PruningSavings
    from gru_optuna.report.result import Result
    from gru_optuna.study.front import FrontMember
    from gru_optuna.study.summary import Summary
    from gru_optuna.study_file import Specification


@dataclass(frozen=True)
class StudyNumbers:
    """Numbers that figures, findings and the page's first lines share; computed once."""

    result: Result | None  # None: no trial is complete
    importance: Importance
    health: Health
    pruning: PruningSavings
    front: list[FrontMember]  # of a study with two goals


def measure_study(
    study: Study, spec: Specification, summary: Summary, shown: Study | None = None
) -> StudyNumbers:
    """Computes the shared numbers of a study.

    What compares trials with each other is computed from those that figures show, if these are
    not all.
    """
    shown = shown or study
    return StudyNumbers(
        result=find_result(study, spec, summary),
        importance=measure_importance(shown),
        health=measure_health(shown, spec),
        pruning=measure_pruning(study, spec),
        front=summary.front,
    )


def draw_sections(context: Context, numbers: StudyNumbers) -> list[FigureSection]:
    """All figures, in the order in which they are read."""
    return [
        *comparison_section(context, numbers.result),
        *front_section(context, numbers.front),
        *predictions_section(context),
        *future_section(context),
        *reliability_section(context),
        importance_section(context, numbers.importance),
        parallel_section(context),
        interactions_section(context, list(numbers.importance.shares)),
        slices_section(context),
        curves_section(context),
        health_section(context, numbers.health),
        history_section(context),
        pruning_section(numbers.pruning),
        timeline_section(context),
    ]

"""What pruning saved: how many trials trained each epoch."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import TrialState

from gru_optuna.report.figures.base import Panel, canvas, section, whole
from gru_optuna.report.theme import STYLES
from gru_optuna.report.trials import trials_in
from gru_optuna.study.trial_attributes import epochs_trained

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from optuna import Study

    from gru_optuna.report.figures.base import FigureSection
    from gru_optuna.study_file import Specification


@dataclass(frozen=True)
class PruningSavings:
    """Epochs, counted over the trials that ended without failing.

    How long a pruned trial would have trained is unknown, since it might have stopped early. It
    is assumed to have trained as long as complete trials do on average, and never less than it did.
    """

    trials: int
    pruned: int
    run: int  # epochs
    unpruned: float  # epochs, an estimate
    typical: float  # epochs of a complete trial, on average; 0 if there is none
    most: int  # the most epochs of a trial, by the study file
    reached: list[int]  # how many of the trials trained epoch 1, 2, …, `most`

    @property
    def comparable(self) -> bool:
        """Whether trials were pruned, and others are complete."""
        return 0 < self.pruned < self.trials

    @property
    def saved(self) -> float:
        """The share of the unpruned search's epochs that weren't run."""
        return 1 - self.run / self.unpruned if self.unpruned else 0.0


def measure_pruning(study: Study, spec: Specification) -> PruningSavings:
    """Counts the epochs that were run, and estimates those without pruning."""
    complete = [epochs_trained(t) for t in trials_in(study, TrialState.COMPLETE)]
    pruned = [epochs_trained(t) for t in trials_in(study, TrialState.PRUNED)]
    typical, every = fmean(complete) if complete else 0.0, sorted(complete + pruned)
    most = max([spec.training.epochs, *every])
    return PruningSavings(
        trials=len(every),
        pruned=len(pruned),
        run=sum(every),
        unpruned=sum(complete) + float(np.maximum(typical, pruned).sum()),
        typical=typical,
        most=most,
        reached=[len(every) - bisect_left(every, epoch) for epoch in range(1, most + 1)],
    )


def draw_pruning(numbers: PruningSavings) -> go.Figure:
    """A bar for each epoch: trials that trained it, and trials that had ended before."""
    figure = canvas(320, "trials", bargap=0.08, barmode="stack")
    epochs = list(range(1, numbers.most + 1))
    alive = numbers.reached
    figure.add_bar(
        x=epochs,
        y=alive,
        name=f"run: {numbers.run:,} epochs",
        **STYLES["epochs_run"],
    )
    figure.add_bar(
        x=epochs,
        y=[numbers.trials - count for count in alive],
        **STYLES["epochs_not_run"],
    )
    figure.update_xaxes(title="epoch", range=[0.4, numbers.most + 0.6], **whole(numbers.most))
    figure.update_yaxes(range=[0, numbers.trials], tickformat="d")
    return figure


def pruning_section(numbers: PruningSavings) -> FigureSection:
    """Epochs that were run, and those that pruning saved."""
    panels = []
    if numbers.comparable:
        alt = f"{numbers.saved:.0%} of the epochs were saved."
        panels = [Panel(draw_pruning(numbers), alt)]
    return section("pruning", numbers, panels)

"""What pruning saved: how many trials trained each epoch. The area is what was paid."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna.report.figures.base import Panel, Section, canvas, whole
from gru_optuna.report.theme import COMPLETE, PRUNED
from gru_optuna.report.trials import epochs_of, trials_in

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from optuna import Study

    from gru_optuna.study_file import Specification


@dataclass(frozen=True)
class PruningSavings:
    """Epochs, counted.

    How long a pruned trial would have trained nobody knows: it may have stopped early. It counts
    as the mean of the complete ones here, and never as less than it trained.
    """

    trials: int  # that are over and didn't fail
    pruned: int
    run: int  # epochs
    unpruned: float  # epochs, an estimate
    typical: float  # epochs of a complete trial, on average
    most: int  # epochs of a trial, as the study file says
    reached: list[int]  # how many of the trials trained epoch 1, 2, …, `most`

    @property
    def saved(self) -> float:
        """The share of the unpruned search's epochs that weren't run."""
        return 1 - self.run / self.unpruned if self.unpruned else 0.0


def measure_pruning(study: Study, spec: Specification) -> PruningSavings | None:
    """None where no trial is complete, or none pruned."""
    complete = [epochs_of(t) for t in trials_in(study, TrialState.COMPLETE)]
    pruned = [epochs_of(t) for t in trials_in(study, TrialState.PRUNED)]
    if not complete or not pruned:
        return None
    typical, every = fmean(complete), complete + pruned
    most = max(spec.training.epochs, *every)
    return PruningSavings(
        trials=len(every),
        pruned=len(pruned),
        run=sum(every),
        unpruned=sum(complete) + sum(max(typical, epochs) for epochs in pruned),
        typical=typical,
        most=most,
        reached=[sum(epochs >= epoch for epochs in every) for epoch in range(1, most + 1)],
    )


def draw_pruning(numbers: PruningSavings) -> go.Figure:
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


def pruning_section(numbers: PruningSavings | None) -> Section:
    """Epochs that were run and that weren't."""
    if numbers is None:
        missing = "Nothing to compare: no trial was pruned, or none is complete."
        return Section(
            "savings", "What pruning saved", "Pruning", "How the search went", "", None, [], missing
        )
    caption = (
        f"{numbers.run:,} epochs were run, about {numbers.unpruned:,.0f} would have been without "
        f"pruning: {numbers.saved:.0%} less. That takes each of the {numbers.pruned:,} pruned "
        f"trials for as long as complete ones are on average, {numbers.typical:.1f} of at most "
        f"{numbers.most} epochs; what one of them would have become, nobody knows."
    )
    panels = [Panel(draw_pruning(numbers), f"{numbers.saved:.0%} of the epochs were saved.")]
    return Section(
        "savings", "What pruning saved", "Pruning", "How the search went", caption, numbers, panels
    )

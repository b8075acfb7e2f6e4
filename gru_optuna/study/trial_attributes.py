"""What a finished trial records about its training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gru_optuna.training.slot import Slot


def trial_attributes(slot: Slot, seconds: float) -> dict[str, object]:
    """The attributes of a trial that has ended: what the report shows beside the metric, which
    Optuna holds itself."""
    progress = slot.progress
    attributes: dict[str, object] = {
        "seconds": round(seconds, 3),
        "network_parameters": slot.network.size(),
    }
    if progress.curve:
        attributes |= {
            "best_epoch": progress.best_epoch,
            "best_validation_loss": progress.best.validation_loss,
            "train_loss": [round(result.train_loss, 6) for result in progress.curve],
            "validation_loss": [round(result.validation_loss, 6) for result in progress.curve],
            "clipped": [round(result.clipped, 4) for result in progress.curve],
        }
    return attributes


def pruned_outcome(epochs: int) -> str:
    """The outcome of a trial that the pruner ended."""
    return f"pruned after epoch {epochs}"


def hours_over(epochs: int) -> str:
    """The outcome of a trial that the budget ended."""
    return f"{pruned_outcome(epochs)}: the study's hours are over"

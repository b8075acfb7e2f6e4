"""A worker's trials, from their claim to their end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gru_optuna.worker.books import COMMIT_SECONDS

if TYPE_CHECKING:
    from optuna import Trial

    from gru_optuna.errors import TrialFailed
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.storage.leases import Claim
    from gru_optuna.training.pool import Slot


@dataclass(frozen=True)
class Admission:
    """A trial that waits for the next epoch to begin."""

    number: int
    trial: Trial
    hyperparameters: Hyperparameters | TrialFailed  # or why it has none
    claim: Claim
    reported: tuple[float, ...]  # what earlier workers have reported


@dataclass
class Running:
    """A trial in its slot."""

    trial: Trial
    slot: Slot
    reported: int  # epochs that earlier workers have reported
    began: float
    seconds_before: float  # that earlier workers trained it
    saved_epoch: int  # of the last checkpoint
    adopted: bool
    suspect: bool  # it trains alone until it is an epoch further

    @property
    def number(self) -> int:
        """Its number in the study."""
        return self.trial.number

    @property
    def unsaved(self) -> bool:
        """Whether it has trained since its last checkpoint."""
        return self.slot.progress.epoch > self.saved_epoch

    @property
    def unproven(self) -> bool:
        """Whether the worker before may have trained these epochs too, and died."""
        return self.adopted and time.monotonic() - self.began < 2 * COMMIT_SECONDS

    @property
    def seconds(self) -> float:
        """How long it has trained, earlier workers' time included."""
        return self.seconds_before + time.monotonic() - self.began


def told(slot: Slot, seconds: float) -> dict[str, object]:
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


def pruned(epochs: int) -> str:
    """The outcome of a trial that the pruner ended."""
    return f"pruned after epoch {epochs}"


def hours_over(epochs: int) -> str:
    """The outcome of a trial that the budget ended."""
    return f"{pruned(epochs)}: the study's hours are over"

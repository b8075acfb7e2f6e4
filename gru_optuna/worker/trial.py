"""A worker's trials, from their claim to their end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gru_optuna.worker.commits import COMMIT_SECONDS

if TYPE_CHECKING:
    from optuna import Trial

    from gru_optuna.errors import TrialFailed
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.storage.workers.leases import Claim
    from gru_optuna.training.slot import Slot


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

"""A worker's trial, from its claim to its end."""

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
    """A claimed trial that gets its slot before the next epoch."""

    number: int
    trial: Trial
    hyperparameters: Hyperparameters | TrialFailed  # or why there are none
    claim: Claim
    reported: tuple[float, ...]  # the metric of the epochs that earlier workers reported


@dataclass
class Running:
    """A trial in its slot."""

    trial: Trial
    slot: Slot
    reported: int  # epochs that earlier workers reported
    began: float
    seconds_before: float  # trained by earlier workers
    saved_epoch: int  # the last checkpoint's
    adopted: bool
    suspect: bool  # it may kill its worker, so it trains alone for an epoch
    until: float  # the last epoch that the budget grants it
    at_rung: bool = False  # whether it has just reached one, and is still to be compared

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
        """Whether it was adopted a moment ago: its earlier worker may have died in these epochs."""
        return self.adopted and time.monotonic() - self.began < 2 * COMMIT_SECONDS

    @property
    def seconds(self) -> float:
        """How long it has trained, earlier workers' time included."""
        return self.seconds_before + time.monotonic() - self.began

"""A trial in a pool: its curve, best epoch and patience, and its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification
    from gru_optuna.training.network import Network


@dataclass(frozen=True)
class EpochResult:
    """One epoch's numbers."""

    train_loss: float  # mean over the rows, augmented, dropout on, without penalties
    validation_loss: float  # the same over validation rows as they are, dropout off
    value: float  # the study's metric on validation rows
    clipped: float = 0.0  # share of the updates whose gradient was longer than the clip norm


@dataclass
class Progress:
    """A trial's curve, best epoch and patience. Epochs count from 1, as Optuna's steps do.

    The best epoch has the best metric. Small validation sets make ties common, so the lower
    validation loss decides between equal metrics, and a loss that still falls renews the patience.
    """

    direction: Literal["minimize", "maximize"]
    epochs: int
    patience: int | None
    curve: list[EpochResult] = field(default_factory=list)
    best_epoch: int = 0

    @classmethod
    def of(cls, spec: Specification) -> Progress:
        """The start of a trial of this study."""
        patience = spec.training.patience
        return cls(spec.direction, spec.training.epochs, None if patience == "off" else patience)

    @property
    def epoch(self) -> int:
        """The number of epochs trained so far."""
        return len(self.curve)

    @property
    def best(self) -> EpochResult:
        """The result of the best epoch."""
        return self.curve[self.best_epoch - 1]

    @property
    def finished(self) -> bool:
        """Whether all epochs are trained."""
        return self.epoch >= self.epochs

    @property
    def out_of_patience(self) -> bool:
        """Whether no epoch was better for as long as the patience lasts."""
        return self.patience is not None and self.epoch - self.best_epoch >= self.patience

    @property
    def ending(self) -> str | None:
        """Why the trial is complete, or None while it isn't."""
        if self.finished:
            return f"trained all {self.epoch} epochs"
        if self.out_of_patience:
            none_better = f"none better since epoch {self.best_epoch}"
            return f"stopped early after epoch {self.epoch}, {none_better}"
        return None

    def record(self, result: EpochResult) -> bool:
        """Appends an epoch and returns whether it is the best so far."""
        better = not self.curve or self._rank(result) < self._rank(self.best)
        self.curve.append(result)
        if better:
            self.best_epoch = self.epoch
        return better

    def _rank(self, result: EpochResult) -> tuple[float, float]:
        """Lower is better."""
        value = result.value if self.direction == "minimize" else -result.value
        return value, result.validation_loss


@dataclass(eq=False)
class Slot:
    """One trial in a pool."""

    hyperparameters: Hyperparameters
    seed: int
    dataset: Dataset  # in the trial's view
    network: Network
    progress: Progress
    # The engine's own: weights, moments, number of updates. In a `FoldedPool`: the folds' slots.
    state: Any
    best_weights: dict[str, Tensor] = field(default_factory=dict)

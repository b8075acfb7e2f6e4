"""What a pool asks of an engine: an epoch of every slot's training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gru_optuna.data.dataset import Split
    from gru_optuna.errors import Quantity
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.training.network import Network
    from gru_optuna.training.slot import Slot


@dataclass(frozen=True)
class EpochOutput:
    """What an engine says of one slot's epoch."""

    train_loss: float  # mean over the rows, dropout on, without penalties
    diverged: Quantity | None = None  # what stopped being finite; the slot is then of no use
    # (N, O) logits, or scaled numbers; None if the epoch failed
    validation_outputs: Tensor | None = None
    error: Exception | None = None  # what the epoch raised; the slot is then of no use
    clipped: float = 0.0  # as in `EpochResult`


class Engine(Protocol):
    """The arithmetic behind a pool. Slots of different networks may be mixed.

    An engine draws what a trial draws exactly as ``reference.Trainer`` does: first weights from
    ``initial_parameters``, each epoch's order, augmentation and dropout from the trial's seed
    and the epoch.
    """

    def start(self, network: Network, hyperparameters: Hyperparameters, seed: int) -> Any:
        """The state of a new slot."""

    def train_epoch(self, slots: Sequence[Slot]) -> list[EpochOutput]:
        """Trains each slot's next epoch (``slot.progress.epoch``, from 0), then predicts the
        validation rows; in the order of `slots`. If it raises, every slot is of no use."""

    def weights(self, slot: Slot) -> dict[str, Tensor]:
        """A copy of a slot's weights, by their names in ``reference.GRU``."""

    def predict(self, slot: Slot, weights: dict[str, Tensor], split: Split) -> Tensor:
        """Logits or scaled numbers (N, O) of a split with these weights, dropout off."""

    def snapshot(self, slot: Slot) -> dict[str, Tensor]:
        """Copies on the CPU, by the names of ``training.snapshots``, without the best weights.

        Taken between epochs and quickly: nothing trains meanwhile.
        """

    def restore(self, network: Network, tensors: dict[str, Tensor]) -> Any:
        """The state of a slot from any engine's snapshot; bit for bit if the dtype is the same."""

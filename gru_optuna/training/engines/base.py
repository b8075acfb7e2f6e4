"""What a pool needs from an engine: training and evaluation of every slot, epoch by epoch."""

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
    """What an engine returns for one slot's epoch. After a failure the slot can't be used."""

    train_loss: float  # mean over the rows, dropout on, without penalties
    diverged: Quantity | None = None  # what stopped being finite
    # (N, O) logits, or scaled numbers; None if the epoch failed
    validation_outputs: Tensor | None = None
    error: Exception | None = None  # what the epoch raised
    clipped: float = 0.0  # as in `EpochResult`


class Engine(Protocol):
    """The arithmetic of a pool, whose slots may have different networks.

    An engine takes random numbers from where ``reference.Trainer`` takes them: first weights
    from ``embeddings.FirstWeights``, the rest of an epoch from ``training.draws``.
    """

    def start(self, network: Network, hyperparameters: Hyperparameters, seed: int) -> Any:
        """The state of a new slot."""

    def train_epoch(self, slots: Sequence[Slot]) -> list[EpochOutput]:
        """Trains each slot's next epoch (``slot.progress.epoch``, from 0) and predicts the
        validation rows. Returns outputs in the order of `slots`; if it raises, all have failed."""

    def weights(self, slot: Slot) -> dict[str, Tensor]:
        """A copy of a slot's weights, by their names in ``reference.GRU``."""

    def predict(self, slot: Slot, weights: dict[str, Tensor], split: Split) -> Tensor:
        """Logits or scaled numbers (N, O) of a split with these weights, without dropout."""

    def snapshot(self, slot: Slot) -> dict[str, Tensor]:
        """Copies on the CPU, by the names in ``training.pool_checkpoints``, without best weights.

        It is called between two epochs and has to be quick: training waits for it.
        """

    def restore(self, network: Network, tensors: dict[str, Tensor]) -> Any:
        """The state of a slot from any engine's snapshot, bit for bit if dtypes are equal."""

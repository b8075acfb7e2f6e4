"""Trials that train together: the pool keeps every slot busy, an engine does the arithmetic.

A slot is one trial's place: its weights, optimiser state, curve, patience. All slots of a pool
train one epoch at a time. When a trial ends its slot is released, and the next trial is admitted
at the next epoch: continuous batching, of trials. What a slot computes is what
``reference.Trainer`` computes, whoever trains beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch.nn import functional as F

from gru_optuna.errors import Diverged
from gru_optuna.training.metrics import classification_metric
from gru_optuna.training.network import Network
from gru_optuna.training.progress import EpochResult, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gru_optuna.data.dataset import Dataset, Split
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.spec import Specification


@dataclass(eq=False)
class Slot:
    """One trial in a pool."""

    hyperparameters: Hyperparameters
    seed: int
    network: Network
    progress: Progress
    state: Any  # the engine's: weights, moments, step count
    best_weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """What an engine says of one slot's epoch."""

    train_loss: float  # mean over the rows, dropout on, without penalties
    diverged: str | None = None  # what stopped being finite; the slot is then of no use
    validation_logits: Tensor | None = None  # (N, O), None if it diverged


class Engine(Protocol):
    """The arithmetic behind a pool. Slots of different networks may be mixed.

    An engine draws what a trial draws exactly as ``reference.Trainer`` does: first weights from
    ``initial_parameters``, each epoch's order and dropout from the trial's seed and the epoch.
    """

    def start(self, network: Network, hyperparameters: Hyperparameters, seed: int) -> Any:
        """The state of a new slot."""

    def train_epoch(self, slots: Sequence[Slot]) -> list[Trained]:
        """Trains each slot's next epoch (``slot.progress.epoch``, from 0), then predicts the
        validation rows; in the order of `slots`."""

    def weights(self, slot: Slot) -> dict[str, Tensor]:
        """A copy of a slot's weights, by their names in ``reference.GRU``."""

    def predict(self, slot: Slot, weights: dict[str, Tensor], split: Split) -> Tensor:
        """Logits (N, O) of a split with these weights, dropout off."""


class Pool:
    """Slots that train together.

    Parameters
    ----------
    spec
        The study.
    dataset
        Its data, on the engine's device.
    engine
        What trains them.
    """

    def __init__(self, spec: Specification, dataset: Dataset, engine: Engine) -> None:
        self.spec = spec
        self.dataset = dataset
        self.engine = engine
        self.slots: list[Slot] = []

    def admit(self, hyperparameters: Hyperparameters, seed: int) -> Slot:
        """Gives a trial a slot; it trains from the next epoch on."""
        network = Network.of(hyperparameters, self.dataset.channels, len(self.dataset.classes))
        state = self.engine.start(network, hyperparameters, seed)
        slot = Slot(hyperparameters, seed, network, Progress.of(self.spec), state)
        self.slots.append(slot)
        return slot

    def train_epoch(self) -> list[tuple[Slot, EpochResult | Diverged]]:
        """Trains one epoch of every slot and measures it on the validation rows.

        Returns
        -------
        list of (Slot, EpochResult or Diverged)
            In the order of admission. A diverged slot is to be released.
        """
        slots = list(self.slots)
        trained = self.engine.train_epoch(slots)
        return [(slot, self._measure(slot, t)) for slot, t in zip(slots, trained, strict=True)]

    def release(self, slot: Slot) -> None:
        """Takes a trial out of the pool."""
        self.slots.remove(slot)

    def _measure(self, slot: Slot, trained: Trained) -> EpochResult | Diverged:
        epoch = slot.progress.epoch + 1
        if trained.diverged is not None or trained.validation_logits is None:
            return Diverged(trained.diverged or "the training", epoch)
        targets = self.dataset.validation.targets
        validation_loss = F.cross_entropy(trained.validation_logits, targets).item()
        if not math.isfinite(validation_loss):
            return Diverged("the validation loss", epoch)
        result = EpochResult(
            train_loss=trained.train_loss,
            validation_loss=validation_loss,
            value=classification_metric(self.spec.metric, trained.validation_logits, targets),
        )
        if slot.progress.record(result):
            slot.best_weights = self.engine.weights(slot)
        return result

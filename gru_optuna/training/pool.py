"""Trials that train together: the pool keeps every slot busy, an engine does the arithmetic.

A slot is one trial's place: its weights, optimizer state, curve and patience. All slots of a pool
train one epoch at a time. When a trial ends, its slot is released and the next trial is admitted
before the next epoch, as in continuous batching. A slot computes what ``reference.Trainer``
computes, whatever trains in the other slots.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from gru_optuna.checkpoints.checkpoint import DamagedCheckpoint
from gru_optuna.data.metrics import measure
from gru_optuna.errors import Crashed, Diverged, OutOfMemory, Quantity, TrialFailed
from gru_optuna.training.engines.base import Engine, EpochOutput
from gru_optuna.training.losses import loss
from gru_optuna.training.network import Network
from gru_optuna.training.pool_checkpoints import make_checkpoint, resume_from
from gru_optuna.training.slot import EpochResult, Progress, Slot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gru_optuna.checkpoints.checkpoint import Checkpoint
    from gru_optuna.data.dataset import Dataset, Split
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification


EpochOutcomes: TypeAlias = list[tuple[Slot, EpochResult | TrialFailed]]
"""The outcome of an epoch of a pool, slot by slot."""

# Not everything that runs out of memory raises MemoryError or torch.OutOfMemoryError: other
# libraries, and torch on the CPU, raise a RuntimeError that says so.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class Pool:
    """Slots that train together.

    Parameters
    ----------
    spec
        The study.
    dataset
        Its data, on the device to train on; each trial reads it in its own view.
    engine
        Trains the slots, on the same dataset.
    """

    def __init__(self, spec: Specification, dataset: Dataset, engine: Engine) -> None:
        self.spec = spec
        self.dataset = dataset
        self.engine = engine
        self.slots: list[Slot] = []

    @property
    def device(self) -> torch.device:
        """The device that the slots train on."""
        return self.dataset.train.device

    def admit(
        self, hyperparameters: Hyperparameters, seed: int, checkpoint: Checkpoint | None = None
    ) -> Slot:
        """Gives a trial a slot; it trains from the next epoch on.

        Parameters
        ----------
        hyperparameters
            The trial's values.
        seed
            The trial's seed.
        checkpoint
            The trial's own, from this study: it continues after the checkpoint's last epoch,
            which may have been the trial's last one, too (``slot.progress``).

        Raises
        ------
        DamagedCheckpoint
            If the checkpoint doesn't fit the trial. The pool is unchanged.
        TrialFailed
            If the slot can't be made. The pool is unchanged.
        """
        progress = Progress.of(self.spec)
        try:
            slot = self._slot(hyperparameters, seed, progress)
            network = slot.network
            if checkpoint is None:
                slot.state = self.engine.start(network, hyperparameters, seed)
            else:
                resume_from(checkpoint, slot)
                slot.state = self.engine.restore(network, checkpoint.tensors)
        except DamagedCheckpoint:
            raise
        except Exception as error:  # whatever a library raises ends this trial alone
            raise _failure(error, progress.epoch + 1) from None
        self.slots.append(slot)
        return slot

    def train_epoch(self, only: Sequence[Slot] | None = None) -> EpochOutcomes:
        """Trains one epoch of every slot and measures it on the validation rows.

        Parameters
        ----------
        only
            The slots to train, while the others pause; None: all.

        Returns
        -------
        list of (Slot, EpochResult or TrialFailed)
            In the order of admission. An exception ends its own trial, or all of them if it
            can't be attributed to one. The caller has to release a slot that failed.
        """
        slots = list(self.slots if only is None else only)
        try:
            trained = self.engine.train_epoch(slots)
        except Exception as error:  # the engine couldn't tell whose it is
            trained = [EpochOutput(math.nan, error=error) for _ in slots]
        return [(slot, self._outcome(slot, one)) for slot, one in zip(slots, trained, strict=True)]

    def snapshot(self, slot: Slot) -> Checkpoint:
        """The checkpoint that `admit` continues from.

        Take it between two epochs; it may be turned into bytes while the next one trains.
        """
        return make_checkpoint(slot, self.engine.snapshot(slot))

    def release(self, slot: Slot) -> None:
        """Takes a trial out of the pool."""
        self.slots.remove(slot)

    def networks(self, slot: Slot) -> list[dict[str, Tensor]]:
        """Copies of the weights after the last epoch, for each network that the trial trains."""
        return [self.engine.weights(slot)]

    def predict(
        self,
        hyperparameters: Hyperparameters,
        networks: Sequence[dict[str, Tensor]],
        part: Literal["validation", "test"],
    ) -> list[tuple[Tensor, Split]]:
        """Predicts a part's rows with each of a trial's networks, given by their weights.

        Returns
        -------
        list of (Tensor, Split)
            Logits or scaled numbers (N, O), and the rows as that network reads them.
        """
        slot = self._slot(hyperparameters, 0, Progress.of(self.spec))
        split = slot.dataset.validation if part == "validation" else slot.dataset.test
        assert split is not None, "a study without test rows has nothing to measure"
        return [(self.engine.predict(slot, weights, split), split) for weights in networks]

    def network(self, hyperparameters: Hyperparameters) -> Network:
        """The network that a trial would train."""
        data = self.dataset.seen_by(hyperparameters)
        return Network.of(hyperparameters, data.channels, data.outputs, data.vocabulary)

    def _slot(self, hyperparameters: Hyperparameters, seed: int, progress: Progress) -> Slot:
        data, network = self.dataset.seen_by(hyperparameters), self.network(hyperparameters)
        return Slot(hyperparameters, seed, data, network, progress, state=None)

    def _outcome(self, slot: Slot, trained: EpochOutput) -> EpochResult | TrialFailed:
        epoch = slot.progress.epoch + 1
        if trained.error is not None:
            return _failure(trained.error, epoch)
        if trained.diverged is not None:
            return Diverged(trained.diverged, epoch)
        try:
            return self._measure(slot, trained)
        except Diverged as diverged:
            return diverged
        except Exception as error:  # whatever a library raises ends this trial alone
            return _failure(error, epoch)

    def _measure(self, slot: Slot, trained: EpochOutput) -> EpochResult:
        outputs, validation = trained.validation_outputs, slot.dataset.validation
        epoch = slot.progress.epoch + 1
        assert outputs is not None
        # Finite losses can have an infinite sum, which a checkpoint's JSON can't hold.
        if not math.isfinite(trained.train_loss):
            raise Diverged(Quantity.TRAINING_LOSS, epoch)
        validation_loss = loss(outputs, validation.targets, self.dataset.class_weights).item()
        if not math.isfinite(validation_loss):
            raise Diverged(Quantity.VALIDATION_LOSS, epoch)
        result = EpochResult(
            train_loss=trained.train_loss,
            validation_loss=validation_loss,
            value=measure(self.spec.metric, outputs, validation),
            clipped=trained.clipped,
        )
        if slot.progress.record(result):
            slot.best_weights = self.engine.weights(slot)
        return result


def _failure(error: Exception, epoch: int) -> TrialFailed:
    if not _is_out_of_memory(error):
        return Crashed(error, epoch)
    # The frames of its traceback would keep the tensors that filled the memory.
    error.__traceback__ = None
    return OutOfMemory(error, epoch)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(w in str(error) for w in _OUT_OF_MEMORY)

"""Trials with one network for each fold of a k-fold cross-validation.

All folds of a trial train an epoch at a time. The epoch's metric, validation loss and training
loss are plain means over the folds, so patience and pruning judge the means after each epoch and
end all folds at once.

Every fold draws from the trial's own seed. This makes the folds no more alike: their rows differ,
and with a vocabulary of its own even the network may.

    fold0/…, fold1/…      a checkpoint's tensors, each fold's named as in ``pool_checkpoints``

The checkpoint's state identifies the trial and holds the curve of means with its best epoch, and
each fold's own state under ``folds``. A fold keeps a curve and best weights of its own, since its
best epoch may differ from the trial's.
"""

from __future__ import annotations

from contextlib import contextmanager
from statistics import fmean
from typing import TYPE_CHECKING, Literal, TypeAlias

from gru_optuna.checkpoints.checkpoint import Checkpoint, DamagedCheckpoint
from gru_optuna.errors import TrialFailed
from gru_optuna.training.pool import Pool
from gru_optuna.training.pool_checkpoints import make_checkpoint, part_of, replay
from gru_optuna.training.slot import EpochResult, Progress, Slot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from torch import Tensor

    from gru_optuna.data.dataset import Split
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification
    from gru_optuna.training.network import Network
    from gru_optuna.training.pool import EpochOutcomes


class FoldedPool:
    """Slots whose trials train one network for each fold, with the methods of `Pool`.

    A slot's ``state`` is the list of its folds' slots and its ``progress`` that of their means.
    Its ``dataset`` and ``network`` are the first fold's, since a trial's size is reported as that
    of one network. It has no ``best_weights``: each fold keeps its own.

    Parameters
    ----------
    spec
        The study.
    pools
        One for each fold, on that fold's data.
    """

    def __init__(self, spec: Specification, pools: Sequence[Pool]) -> None:
        self.spec = spec
        self.pools = list(pools)
        self.slots: list[Slot] = []

    @property
    def device(self) -> torch.device:
        """The device that the folds train on."""
        return self.pools[0].device

    def admit(
        self, hyperparameters: Hyperparameters, seed: int, checkpoint: Checkpoint | None = None
    ) -> Slot:
        """Gives a trial a slot in every fold, all or none, under the terms of `Pool.admit`."""
        count = len(self.pools)
        parts = [None] * count if checkpoint is None else _split(checkpoint, count)
        folds: list[Slot] = []
        try:
            for number, (pool, part) in enumerate(zip(self.pools, parts, strict=True)):
                with _naming(number, count):
                    folds.append(pool.admit(hyperparameters, seed, part))
            progress = Progress.of(self.spec)
            first = folds[0]
            slot = Slot(hyperparameters, seed, first.dataset, first.network, progress, state=folds)
            if checkpoint is not None:
                _resume_means(checkpoint, slot)
        except Exception:
            # Whatever failed in one fold, the folds before it must not keep their slots.
            for pool, fold in zip(self.pools, folds, strict=False):
                pool.release(fold)
            raise
        self.slots.append(slot)
        return slot

    def train_epoch(self, only: Sequence[Slot] | None = None) -> EpochOutcomes:
        """Trains one epoch of every fold and returns the means, as `Pool.train_epoch` does results.

        A trial fails if any of its folds does, for the reason of the first.
        """
        slots = list(self.slots if only is None else only)
        results = {
            fold: result
            for number, pool in enumerate(self.pools)
            for fold, result in pool.train_epoch([slot.state[number] for slot in slots])
        }
        return [(slot, _outcome(slot, [results[fold] for fold in slot.state])) for slot in slots]

    def snapshot(self, slot: Slot) -> Checkpoint:
        """The checkpoint that `admit` continues from, made of the folds' own."""
        parts = [pool.snapshot(fold) for pool, fold in self._folds(slot)]
        tensors = {
            f"fold{number}/{name}": tensor
            for number, part in enumerate(parts)
            for name, tensor in part.tensors.items()
        }
        means = make_checkpoint(slot, {})
        return Checkpoint(tensors, means.state | {"folds": [part.state for part in parts]})

    def release(self, slot: Slot) -> None:
        """Takes a trial out of the pool, in every fold."""
        for pool, fold in self._folds(slot):
            pool.release(fold)
        self.slots.remove(slot)

    def networks(self, slot: Slot) -> list[dict[str, Tensor]]:
        """Copies of each fold's weights after the last epoch."""
        return [weights for pool, fold in self._folds(slot) for weights in pool.networks(fold)]

    def predict(
        self,
        hyperparameters: Hyperparameters,
        networks: Sequence[dict[str, Tensor]],
        part: Literal["validation", "test"],
    ) -> list[tuple[Tensor, Split]]:
        """Predicts a part's rows with each fold's network, as that fold prepares them.

        All folds have the same test rows, but each has validation rows of its own. Of rolling
        origins, the last one alone predicts the test rows.
        """
        folds = list(zip(self.pools, networks, strict=True))
        if part == "test" and self.spec.data.rolling:
            folds = folds[-1:]
        return [
            predicted
            for pool, weights in folds
            for predicted in pool.predict(hyperparameters, [weights], part)
        ]

    def network(self, hyperparameters: Hyperparameters) -> Network:
        """The network that a trial would train in its first fold."""
        return self.pools[0].network(hyperparameters)

    def _folds(self, slot: Slot) -> list[tuple[Pool, Slot]]:
        return list(zip(self.pools, slot.state, strict=True))


TrialPool: TypeAlias = Pool | FoldedPool
"""What a worker fills with trials."""


@contextmanager
def _naming(fold: int, folds: int) -> Iterator[None]:
    """Adds the number of the fold to what is raised."""
    try:
        yield
    except TrialFailed as failed:
        failed.in_fold(fold, folds)
        raise
    except DamagedCheckpoint as damaged:
        raise DamagedCheckpoint(f"fold{fold}: {damaged}") from None


def _outcome(slot: Slot, results: list[EpochResult | TrialFailed]) -> EpochResult | TrialFailed:
    """The mean of the folds' results, recorded in the slot, or the first failure."""
    good: list[EpochResult] = []
    for number, result in enumerate(results):
        if isinstance(result, TrialFailed):
            return result.in_fold(number, len(results))
        good.append(result)
    mean = EpochResult(
        train_loss=fmean(result.train_loss for result in good),
        validation_loss=fmean(result.validation_loss for result in good),
        value=fmean(result.value for result in good),
        clipped=fmean(result.clipped for result in good),
    )
    slot.progress.record(mean)
    return mean


def _split(checkpoint: Checkpoint, folds: int) -> list[Checkpoint]:
    """Each fold's own checkpoint."""
    states = checkpoint.state.get("folds")
    if not isinstance(states, list) or not all(isinstance(state, dict) for state in states):
        raise DamagedCheckpoint("not a checkpoint of a trial with folds")
    if len(states) != folds:
        raise DamagedCheckpoint(f"made with {len(states)} folds, and this study has {folds}")
    parts = [
        Checkpoint(part_of(checkpoint.tensors, f"fold{number}"), state)
        for number, state in enumerate(states)
    ]
    if sum(len(part.tensors) for part in parts) != len(checkpoint.tensors):
        raise DamagedCheckpoint("some tensors belong to no fold")
    return parts


def _resume_means(checkpoint: Checkpoint, slot: Slot) -> None:
    """Gives a new slot, whose folds have resumed, the curve of their means."""
    replay(checkpoint.state, slot)
    for number, fold in enumerate(slot.state):
        if fold.progress.epoch != slot.progress.epoch:
            raise DamagedCheckpoint(
                f"the trial is at epoch {slot.progress.epoch}, "
                f"but fold{number} is at epoch {fold.progress.epoch}"
            )

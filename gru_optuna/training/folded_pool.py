"""Trials of several networks, one for each fold of a k-fold cross-validation.

All folds of a trial train an epoch at a time. What such an epoch is worth, and with it the
trial, is the plain mean over the folds: of the metric, of the validation loss, of the training
loss. So patience and pruning judge the folds' mean, after each epoch, and end all folds at once.

Every fold draws from the trial's own seed. Nothing is lost by that: the folds' rows differ, and
with a vocabulary of its own even the network may.

    fold0/…, fold1/…      a checkpoint's tensors, of each fold as ``training.snapshots`` names them

The state beside them holds whose it is, the curve of means with its best epoch, and in ``folds``
each fold's own state. A fold's curve and best weights are its own: its best epoch may be another
one than the trial's.
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


class FoldedPool:
    """Slots whose trials train one network a fold. To a worker it is a `Pool`.

    A slot's ``state`` is the list of its folds' slots, its ``progress`` that of their means, its
    ``network`` the first fold's: a trial's size is told as that of one network. It has no
    ``best_weights``: each fold keeps its own.

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
        """Where the folds train."""
        return self.pools[0].device

    def admit(
        self, hyperparameters: Hyperparameters, seed: int, checkpoint: Checkpoint | None = None
    ) -> Slot:
        """Gives a trial a slot, and one in each fold; they train from the next epoch on.

        Parameters
        ----------
        hyperparameters
            The trial's values.
        seed
            The trial's seed, and that of each fold.
        checkpoint
            Of the same trial, in this study: it goes on after the checkpoint's last epoch.

        Raises
        ------
        DamagedCheckpoint
            If the checkpoint doesn't fit the trial or its folds. The pool is as before.
        TrialFailed
            If a fold's slot can't be made. The pool is as before.
        """
        count = len(self.pools)
        parts = [None] * count if checkpoint is None else _split(checkpoint, count)
        folds: list[Slot] = []
        try:
            for number, (pool, part) in enumerate(zip(self.pools, parts, strict=True)):
                with _naming(number, count):
                    folds.append(pool.admit(hyperparameters, seed, part))
            progress = Progress.of(self.spec)
            slot = Slot(hyperparameters, seed, folds[0].network, progress, state=folds)
            if checkpoint is not None:
                _go_on_from(checkpoint, slot)
        except Exception:
            for pool, fold in zip(self.pools, folds, strict=False):
                pool.release(fold)
            raise
        self.slots.append(slot)
        return slot

    def train_epoch(
        self, only: Sequence[Slot] | None = None
    ) -> list[tuple[Slot, EpochResult | TrialFailed]]:
        """Trains one epoch of every fold of every slot.

        Parameters
        ----------
        only
            These slots, while the others pause.

        Returns
        -------
        list of (Slot, EpochResult or TrialFailed)
            In the order of admission, the means over the folds. A trial fails as the first of
            its folds that does; its slot is to be released.
        """
        slots = list(self.slots if only is None else only)
        results = {
            fold: result
            for number, pool in enumerate(self.pools)
            for fold, result in pool.train_epoch([slot.state[number] for slot in slots])
        }
        return [(slot, _outcome(slot, [results[fold] for fold in slot.state])) for slot in slots]

    def snapshot(self, slot: Slot) -> Checkpoint:
        """What `admit` goes on from. Between two epochs; turned into bytes it may be later."""
        parts = [pool.snapshot(fold) for pool, fold in self._folds(slot)]
        tensors = {
            f"fold{number}/{name}": tensor
            for number, part in enumerate(parts)
            for name, tensor in part.tensors.items()
        }
        means = make_checkpoint(slot, {})
        return Checkpoint(tensors, means.state | {"folds": [part.state for part in parts]})

    def release(self, slot: Slot) -> None:
        """Takes a trial out of the pool, with all its folds."""
        for pool, fold in self._folds(slot):
            pool.release(fold)
        self.slots.remove(slot)

    def networks(self, slot: Slot) -> list[dict[str, Tensor]]:
        """Copies of the weights after the last epoch, of each fold."""
        return [weights for pool, fold in self._folds(slot) for weights in pool.networks(fold)]

    def tell(
        self,
        hyperparameters: Hyperparameters,
        networks: Sequence[dict[str, Tensor]],
        part: Literal["validation", "test"],
    ) -> list[tuple[Tensor, Split]]:
        """What each fold's network says of a part's rows, as its own fold prepares them.

        The test rows are the same in all folds, the others are not.
        """
        return [
            told
            for pool, one in zip(self.pools, networks, strict=True)
            for told in pool.tell(hyperparameters, [one], part)
        ]

    def _folds(self, slot: Slot) -> list[tuple[Pool, Slot]]:
        return list(zip(self.pools, slot.state, strict=True))


TrialPool: TypeAlias = Pool | FoldedPool
"""What a worker fills with trials."""


@contextmanager
def _naming(fold: int, folds: int) -> Iterator[None]:
    """Says of what is raised in which fold it was."""
    try:
        yield
    except TrialFailed as failed:
        failed.in_fold(fold, folds)
        raise
    except DamagedCheckpoint as damaged:
        raise DamagedCheckpoint(f"fold{fold}: {damaged}") from None


def _outcome(slot: Slot, results: list[EpochResult | TrialFailed]) -> EpochResult | TrialFailed:
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
        raise DamagedCheckpoint("not of a trial of folds")
    if len(states) != folds:
        raise DamagedCheckpoint(f"of {len(states)} folds, this study has {folds}")
    parts = [
        Checkpoint(part_of(checkpoint.tensors, f"fold{number}"), state)
        for number, state in enumerate(states)
    ]
    if sum(len(part.tensors) for part in parts) != len(checkpoint.tensors):
        raise DamagedCheckpoint("with tensors that belong to no fold")
    return parts


def _go_on_from(checkpoint: Checkpoint, slot: Slot) -> None:
    """Gives a new slot, whose folds go on already, the curve of their means."""
    replay(checkpoint.state, slot)
    for number, fold in enumerate(slot.state):
        if fold.progress.epoch != slot.progress.epoch:
            raise DamagedCheckpoint(
                f"after epoch {slot.progress.epoch}, "
                f"and its fold{number} after epoch {fold.progress.epoch}"
            )

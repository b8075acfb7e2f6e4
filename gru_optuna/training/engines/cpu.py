"""The pool's engine on a CPU: compiled loops, several slots at once in threads of one process.

Compiled code holds no lock on the interpreter, so threads do as well as processes (measured in
``benchmarks/LOG.md``) and share one copy of the data, of torch and of everything compiled.

Batches are plain shuffles of all rows; only the rows within a batch are sorted by length, so
that the recurrence drops each row at its end and pays for no padding. An epoch goes in stretches
of some thousand rows: dropout masks and augmented rows are made for one of them at a time, so that
the memory of a slot doesn't grow with the data. Rows that nothing changes are read where they lie.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from gru_optuna.data.dataset import one_after_another
from gru_optuna.training.draws import augmented_batches, augments, masks_of_batches, order_of_rows
from gru_optuna.training.engines.base import EpochOutput
from gru_optuna.training.engines.compiled.compiler import code_folder
from gru_optuna.training.engines.compiled.epoch import DIVERGED, FINE, predict, train_epoch, warm_up
from gru_optuna.training.engines.compiled.slots import RowArrays, SlotArrays, flatten, unflatten
from gru_optuna.training.engines.compiled.updates import Recipe
from gru_optuna.training.engines.compiled.workspace import Workspace
from gru_optuna.training.initializers import initial_parameters
from gru_optuna.training.pool_checkpoints import LEARNED, UPDATES, name_tensors, part_of
from gru_optuna.training.schedules import learning_rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from torch import Tensor

    from gru_optuna.data.dataset import Dataset, Split
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification
    from gru_optuna.training.network import Network
    from gru_optuna.training.slot import Slot

PREDICTED_TOGETHER = 128
"""Rows of a batch when nothing is learned from it."""

STRETCH = 4096
"""Rows of an epoch, at most or one batch, for which masks and augmented rows are held at once."""

_WORKSPACES = 4
"""How many networks' workspaces a thread keeps; a search over sizes would gather them all."""


class CPUEngine:
    """Trains slots with ``training.compiled``; making one compiles it, or loads what was.

    Parameters
    ----------
    spec
        The study.
    dataset
        Its data on the CPU, in float32 or float64, in which it then trains.
    threads
        How many slots train at once.
    """

    def __init__(self, spec: Specification, dataset: Dataset, threads: int = 1) -> None:
        self.threads = threads
        self._epochs = spec.training.epochs
        self._dtype: npt.DTypeLike = torch.empty(0, dtype=dataset.dtype).numpy().dtype
        self._dataset = dataset
        # Here, not in the first epoch: it may take a quarter of a minute.
        warm_up(self._dtype)
        self._executor = ThreadPoolExecutor(threads, "train")
        self._local = threading.local()

    def start(self, network: Network, hyperparameters: Hyperparameters, seed: int) -> SlotArrays:
        """First weights, and moments of zero."""
        parameters = initial_parameters(network, hyperparameters.initializer, seed)
        return SlotArrays.of(flatten(network, parameters, self._dtype))

    def train_epoch(self, slots: Sequence[Slot]) -> list[EpochOutput]:
        """Trains the slots in all threads, the next slot going to the next free thread."""
        return list(self._executor.map(self._try_slot, slots))

    def weights(self, slot: Slot) -> dict[str, Tensor]:
        """Copies, by name."""
        return unflatten(slot.network, slot.state.parameters)

    def predict(self, slot: Slot, weights: dict[str, Tensor], split: Split) -> Tensor:
        """Logits (N, O)."""
        workspace = self._workspace(slot.network, PREDICTED_TOGETHER)
        flat = flatten(slot.network, weights, self._dtype)
        rows = self._rows_of(split).cut(slot.hyperparameters.max_tokens)
        return torch.from_numpy(predict(workspace, flat, rows))

    def snapshot(self, slot: Slot) -> dict[str, Tensor]:
        """Copies of all that was learned."""
        numbers: SlotArrays = slot.state
        flat = (numbers.parameters, numbers.first_moment, numbers.second_moment)
        learned = (unflatten(slot.network, array) for array in flat)
        return name_tensors(*learned, updates=int(numbers.updates[0]))

    def restore(self, network: Network, tensors: dict[str, Tensor]) -> SlotArrays:
        """A slot's numbers as they were, in the dataset's dtype."""
        weights, first, second = (
            flatten(network, part_of(tensors, part), self._dtype) for part in LEARNED
        )
        return SlotArrays.of(weights, first, second, int(tensors[UPDATES]))

    def _try_slot(self, slot: Slot) -> EpochOutput:
        """One slot's exception is its own; the other threads go on."""
        try:
            return self._train_slot(slot)
        except Exception as error:
            return EpochOutput(math.nan, error=error)

    # Both on first use: whoever only predicts test rows needs neither.
    @cached_property
    def _train_rows(self) -> RowArrays:
        return self._rows_of(self._dataset.train)

    @cached_property
    def _validation_rows(self) -> RowArrays:
        return self._rows_of(self._dataset.validation)

    def _train_slot(self, slot: Slot) -> EpochOutput:
        h, epoch = slot.hyperparameters, slot.progress.epoch
        count = len(self._dataset.train)
        workspace = self._workspace(slot.network, min(h.batch_size, count))
        recipe = Recipe.of(h, learning_rate(h, epoch, self._epochs))
        loss, clipped = 0.0, 0
        for rows, order, masks in self._stretches(slot):
            mean, ending = train_epoch(workspace, slot.state, rows, order, recipe, masks)
            if ending != FINE:
                return EpochOutput(mean, diverged=DIVERGED[ending])
            loss += mean * (len(order) / count)
            clipped += int(workspace.buffers.clipped[0])
        validation = self._validation_rows.cut(h.max_tokens)
        logits = predict(workspace, slot.state.parameters, validation)
        share = clipped / math.ceil(count / h.batch_size)
        return EpochOutput(loss, validation_outputs=torch.from_numpy(logits), clipped=share)

    def _stretches(
        self, slot: Slot
    ) -> Iterator[tuple[RowArrays, npt.NDArray[np.int64], npt.NDArray[np.floating] | None]]:
        """The slot's next epoch: rows, the order to train on them, and their dropout masks."""
        h, train = slot.hyperparameters, self._dataset.train
        order, masks = order_of_rows(slot, len(train)), masks_of_batches(slot, len(train))
        batches = augmented_batches(slot, train, order) if augments(h) else None
        as_they_are = self._train_rows.cut(h.max_tokens)
        for some in torch.split(order, stretch_of(h.batch_size)):
            count = math.ceil(len(some) / h.batch_size)
            drawn = self._joined(islice(masks, count))
            if batches is None:
                yield as_they_are, some.numpy(), drawn
            else:
                changed = one_after_another(list(islice(batches, count)))
                yield self._rows_of(changed), np.arange(len(some)), drawn

    def _joined(self, masks: Iterator[Tensor | None]) -> npt.NDArray[np.floating] | None:
        """The masks (L, n, D * H) of all rows of these batches."""
        drawn = [mask for mask in masks if mask is not None]
        if not drawn:
            return None
        return torch.cat(drawn, dim=1).numpy().astype(self._dtype, copy=False)

    def _rows_of(self, split: Split) -> RowArrays:
        return RowArrays.of(split, self._dtype, self._dataset.class_weights)

    def _workspace(self, network: Network, batch_size: int) -> Workspace:
        """This thread's own, large enough."""
        if not hasattr(self._local, "workspaces"):
            self._local.workspaces = OrderedDict()
        kept: OrderedDict[Network, Workspace] = self._local.workspaces
        workspace = kept.pop(network, None)
        if workspace is None or workspace.batch_size < batch_size:
            room = max(batch_size, min(PREDICTED_TOGETHER, len(self._dataset.validation)))
            workspace = Workspace.of(network, room, longest_row(self._dataset), self._dtype)
        kept[network] = workspace
        if len(kept) > _WORKSPACES:
            kept.popitem(last=False)
        return workspace


def stretch_of(batch_size: int) -> int:
    """Rows of a stretch, in whole batches."""
    return batch_size * max(1, STRETCH // batch_size)


def longest_row(dataset: Dataset) -> int:
    """Steps that a workspace has room for."""
    splits = (dataset.train, dataset.validation, dataset.test)
    return max(split.longest for split in splits if split is not None)


def is_compiled() -> bool:
    """Whether this machine has the machine code already; else the first epoch waits for it."""
    return any(code_folder().rglob("*.nbi"))

"""The pool's engine on a CPU: compiled loops, with several slots at once in threads.

Compiled code doesn't hold the interpreter's lock, so threads are as fast as processes (measured
in ``benchmarks/LOG.md``) and share one copy of the data, of torch and of all compiled code.

Batches are plain shuffles of all rows. Only the rows within a batch are sorted by length, so
that the recurrence drops each row at its end and computes no padding. An epoch is trained in
stretches of a few thousand rows: dropout masks and augmented rows exist for one stretch at a
time, so that a slot's memory doesn't grow with the data. Unchanged rows are read where they lie.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch

from gru_optuna.data.dataset import Dataset, one_after_another
from gru_optuna.training.draws import augmented_batches, augments, masks_of_batches, order_of_rows
from gru_optuna.training.embeddings import FirstWeights
from gru_optuna.training.engines.base import EpochOutput
from gru_optuna.training.engines.compiled.compiler import code_folder
from gru_optuna.training.engines.compiled.epoch import DIVERGED, FINE, predict, train_epoch, warm_up
from gru_optuna.training.engines.compiled.slots import RowArrays, SlotArrays, flatten, unflatten
from gru_optuna.training.engines.compiled.updates import Recipe
from gru_optuna.training.engines.compiled.workspace import KernelWorkspace
from gru_optuna.training.pool_checkpoints import LEARNED, UPDATES, name_tensors, part_of
from gru_optuna.training.schedules import learning_rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from torch import Tensor

    from gru_optuna.data.dataset import Split
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification
    from gru_optuna.training.network import Network
    from gru_optuna.training.slot import Slot

PREDICTED_TOGETHER = 128
"""Rows of a batch that is only predicted."""

STRETCH = 4096
"""Most rows for which masks and augmented rows exist at once, unless one batch is larger."""

_WORKSPACES = 4
"""Workspaces that a thread keeps; a search over sizes would otherwise collect one for each."""


class CPUEngine:
    """Trains slots in compiled code, which is compiled, or loaded, when an engine is made.

    Parameters
    ----------
    spec
        The study.
    dataset
        Its data on the CPU; slots train in its dtype, float32 or float64.
    threads
        How many slots train at once.
    """

    def __init__(self, spec: Specification, dataset: Dataset, threads: int = 1) -> None:
        self.threads = threads
        self._epochs = spec.training.epochs
        self._dtype: npt.DTypeLike = torch.empty(0, dtype=dataset.dtype).numpy().dtype
        self._dataset = dataset
        self._first_weights = FirstWeights(dataset)
        # Now, because it may take a quarter of a minute, and the first epoch is timed.
        warm_up(self._dtype)
        # Weak: nothing here keeps a view that no trial reads any more.
        self._rows = WeakKeyDictionary[Dataset, tuple[RowArrays, RowArrays]]()
        self._executor = ThreadPoolExecutor(threads, "train")
        self._local = threading.local()

    def start(self, network: Network, hyperparameters: Hyperparameters, seed: int) -> SlotArrays:
        """First weights and moments of zero."""
        parameters = self._first_weights.draw(network, hyperparameters, seed)
        return SlotArrays.of(flatten(network, parameters, self._dtype))

    def train_epoch(self, slots: Sequence[Slot]) -> list[EpochOutput]:
        """Trains the slots in all threads; a free thread takes the next slot."""
        return list(self._executor.map(self._try_slot, slots))

    def weights(self, slot: Slot) -> dict[str, Tensor]:
        """Copies of the weights by name."""
        return unflatten(slot.network, slot.state.parameters)

    def predict(self, slot: Slot, weights: dict[str, Tensor], split: Split) -> Tensor:
        """Logits or scaled numbers (N, O) of a split."""
        workspace = self._workspace(slot, PREDICTED_TOGETHER)
        flat = flatten(slot.network, weights, self._dtype)
        rows = self._rows_of(split).cut(slot.hyperparameters.max_tokens)
        return torch.from_numpy(predict(workspace, flat, rows))

    def snapshot(self, slot: Slot) -> dict[str, Tensor]:
        """Copies of weights, moments and the number of updates."""
        arrays: SlotArrays = slot.state
        flat = (arrays.parameters, arrays.first_moment, arrays.second_moment)
        learned = (unflatten(slot.network, array) for array in flat)
        return name_tensors(*learned, updates=int(arrays.updates[0]))

    def restore(self, network: Network, tensors: dict[str, Tensor]) -> SlotArrays:
        """A slot's arrays from a snapshot, in the dataset's dtype."""
        weights, first, second = (
            flatten(network, part_of(tensors, part), self._dtype) for part in LEARNED
        )
        return SlotArrays.of(weights, first, second, int(tensors[UPDATES]))

    def _try_slot(self, slot: Slot) -> EpochOutput:
        """Trains a slot; an exception becomes its own output, and the other slots continue."""
        try:
            return self._train_slot(slot)
        except Exception as error:  # raised again in the pool, as this trial's failure
            return EpochOutput(math.nan, error=error)

    def _rows_for(self, dataset: Dataset) -> tuple[RowArrays, RowArrays]:
        """The training and validation rows of a view."""
        if dataset not in self._rows:
            self._rows[dataset] = self._rows_of(dataset.train), self._rows_of(dataset.validation)
        return self._rows[dataset]

    def _train_slot(self, slot: Slot) -> EpochOutput:
        h, epoch = slot.hyperparameters, slot.progress.epoch
        count = len(slot.dataset.train)
        workspace = self._workspace(slot, min(h.batch_size, count))
        recipe = Recipe.of(h, learning_rate(h, epoch, self._epochs))
        loss, clipped = 0.0, 0
        for rows, order, masks in self._stretches(slot):
            mean, ending = train_epoch(workspace, slot.state, rows, order, recipe, masks)
            if ending != FINE:
                return EpochOutput(mean, diverged=DIVERGED[ending])
            loss += mean * (len(order) / count)
            clipped += int(workspace.buffers.clipped[0])
        validation = self._rows_for(slot.dataset)[1].cut(h.max_tokens)
        logits = predict(workspace, slot.state.parameters, validation)
        share = clipped / math.ceil(count / h.batch_size)
        return EpochOutput(loss, validation_outputs=torch.from_numpy(logits), clipped=share)

    def _stretches(
        self, slot: Slot
    ) -> Iterator[tuple[RowArrays, npt.NDArray[np.int64], npt.NDArray[np.floating] | None]]:
        """Stretches of the slot's next epoch: rows, the order to train on, and dropout masks."""
        h, train = slot.hyperparameters, slot.dataset.train
        order, masks = order_of_rows(slot, len(train)), masks_of_batches(slot, len(train))
        batches = augmented_batches(slot, train, order) if augments(h) else None
        unchanged = self._rows_for(slot.dataset)[0].cut(h.max_tokens)
        for stretch in torch.split(order, stretch_of(h.batch_size)):
            count = math.ceil(len(stretch) / h.batch_size)
            drawn = self._joined(islice(masks, count))
            if batches is None:
                yield unchanged, stretch.numpy(), drawn
            else:
                changed = one_after_another(list(islice(batches, count)))
                yield self._rows_of(changed), np.arange(len(stretch)), drawn

    def _joined(self, masks: Iterator[Tensor | None]) -> npt.NDArray[np.floating] | None:
        """The masks (L, n, D * H) of these batches' rows, one batch after another."""
        drawn = [mask for mask in masks if mask is not None]
        if not drawn:
            return None
        return torch.cat(drawn, dim=1).numpy().astype(self._dtype, copy=False)

    def _rows_of(self, split: Split) -> RowArrays:
        return RowArrays.of(split, self._dtype, self._dataset.class_weights)

    def _workspace(self, slot: Slot, batch_size: int) -> KernelWorkspace:
        """This thread's workspace for a slot's network, with room for the batch."""
        if not hasattr(self._local, "workspaces"):
            self._local.workspaces = OrderedDict()
        kept: OrderedDict[Network, KernelWorkspace] = self._local.workspaces
        steps = slot.dataset.longest
        workspace = kept.pop(slot.network, None)
        if workspace is None or workspace.batch_size < batch_size or workspace.steps < steps:
            room = max(batch_size, min(PREDICTED_TOGETHER, len(slot.dataset.validation)))
            workspace = KernelWorkspace.of(slot.network, room, steps, self._dtype)
        kept[slot.network] = workspace
        if len(kept) > _WORKSPACES:
            kept.popitem(last=False)
        return workspace


def stretch_of(batch_size: int) -> int:
    """The number of rows in a stretch: whole batches."""
    return batch_size * max(1, STRETCH // batch_size)


def is_compiled() -> bool:
    """Whether machine code of these sources is cached; otherwise it is compiled at first use."""
    return any(code_folder().rglob("*.nbi"))

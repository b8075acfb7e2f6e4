"""Which rows each slot trains on, step by step of an epoch.

Slots of different batch sizes share one launch: every slot's batches are cut into micro-batches
of one size, and a slot adds up gradients until its batch is complete, which is exact (a batch's
mean is the sum of its rows' losses over their number). One launch for each batch size would be
simpler, but then a search over a range of batch sizes would batch nothing. If all slots have the
same batch size, a micro-batch is a batch.

What isn't filled (the last batch of an epoch is smaller, some slots need fewer steps) is rows
of length 0, which compute nothing but zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import torch

from gru_optuna import seeds
from gru_optuna.training.regularizers import dropout_masks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from torch import Tensor

    from gru_optuna.training.pool import Slot

STEP_IN_ROWS = 64
"""What starting a step costs, in rows of a slot; a guess, on a GPU rather too small."""


@dataclass(frozen=True)
class MicroBatch:
    """One step of K slots. Rows stand in falling order of length."""

    rows: Tensor  # (K, B) int64, row of the split; 0 where nothing is
    lengths: Tensor  # (K, B) int64; 0 where nothing is
    batch_rows: Tensor  # (K,) int64, rows of the whole batch that these are part of, at least 1
    ends: Tensor  # (K,) bool: the batch is complete, update
    masks: Tensor | None  # (K, L, B, F) of dropout
    any_ends: bool  # on the host, as `active`: asking the device would wait for it
    active: list[int]  # (T,) as in `recurrence`


def micro_batch_size(batch_sizes: Collection[int], rows: int) -> int:
    """B for slots of these batch sizes: few steps, little filled up."""

    def cost(size: int) -> int:
        return max(_steps(rows, batch, size) for batch in batch_sizes) * (size + STEP_IN_ROWS)

    return min({min(size, rows) for size in batch_sizes}, key=lambda size: (cost(size), size))


def _steps(rows: int, batch: int, micro: int) -> int:
    """Micro-batches of one epoch."""
    batches, rest = divmod(rows, batch)
    return batches * -(-batch // micro) + -(-rest // micro)


def micro_batches(slots: Sequence[Slot], lengths: Tensor) -> Iterator[MicroBatch]:
    """The next epoch of slots of one network; `lengths` (N,) of the training rows, on the CPU.

    Drawn on the CPU, from each slot's own streams, as in ``reference.Trainer``.
    """
    N = len(lengths)
    B = micro_batch_size([slot.hyperparameters.batch_size for slot in slots], N)
    for parts in zip_longest(*(_parts(slot, N, B) for slot in slots)):
        yield _together(slots, parts, lengths, B)


@dataclass(frozen=True)
class _Part:
    """One slot's share of a step."""

    rows: Tensor  # (n,), n ≤ B
    masks: Tensor | None  # (L, n, F)
    batch_rows: int
    ends: bool


def _parts(slot: Slot, rows: int, micro: int) -> Iterator[_Part]:
    h, epoch = slot.hyperparameters, slot.progress.epoch
    order = torch.randperm(rows, generator=seeds.generator(slot.seed, "shuffle", epoch))
    dropout = seeds.generator(slot.seed, "dropout", epoch)
    for batch in torch.split(order, h.batch_size):
        masks = dropout_masks(slot.network, len(batch), h.dropout, dropout)
        for first in range(0, len(batch), micro):
            yield _Part(
                batch[first : first + micro],
                None if masks is None else masks[:, first : first + micro],
                len(batch),
                first + micro >= len(batch),
            )


def _together(
    slots: Sequence[Slot], parts: Sequence[_Part | None], lengths: Tensor, size: int
) -> MicroBatch:
    K, B, network = len(slots), size, slots[0].network
    rows, steps = torch.zeros(K, B, dtype=torch.int64), torch.zeros(K, B, dtype=torch.int64)
    masks = None
    if any(slot.hyperparameters.dropout > 0 for slot in slots):
        masks = torch.ones(K, network.layers, B, network.features)
    for k, part in enumerate(parts):
        if part is not None:
            count = len(part.rows)
            rows[k, :count] = part.rows
            steps[k, :count] = lengths[part.rows]
            if masks is not None and part.masks is not None:
                masks[k, :, :count] = part.masks
    steps, order = steps.sort(dim=1, descending=True, stable=True)
    if masks is not None:
        masks = masks.gather(2, order[:, None, :, None].expand_as(masks))
    ends = [part is not None and part.ends for part in parts]
    return MicroBatch(
        rows=rows.gather(1, order),
        lengths=steps,
        batch_rows=torch.tensor([1 if part is None else part.batch_rows for part in parts]),
        ends=torch.tensor(ends),
        masks=masks,
        any_ends=any(ends),
        active=active_rows(steps),
    )


def active_rows(lengths: Tensor) -> list[int]:
    """How many rows hold data at each step in any slot: (T,) from falling lengths (K, B)."""
    longest = lengths.amax(0)  # (B,), falling too
    return (longest > torch.arange(int(longest[0])).unsqueeze(1)).sum(1).tolist()

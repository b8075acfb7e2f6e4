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
from itertools import repeat, zip_longest
from typing import TYPE_CHECKING

import torch

from gru_optuna.training.draws import augmented_batches, augments, masks_of_batches, order_of_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from torch import Tensor

    from gru_optuna.data.dataset import Split
    from gru_optuna.training.slot import Slot

STEP_IN_ROWS = 64
"""What starting a step costs, in rows of a slot; a guess, on a GPU rather too small."""


@dataclass(frozen=True)
class MicroBatch:
    """One step of K slots. Rows stand in falling order of length."""

    rows: Tensor  # (K, B) int64, row of the split; 0 where nothing is
    # (K, B, T, C) or (K, B, T), augmented or carried; None: as the split on the device has them
    values: Tensor | None
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


def micro_batches(
    slots: Sequence[Slot], train: Split, carried: bool = False
) -> Iterator[MicroBatch]:
    """The next epoch of slots of one network; `train` is the training split on the CPU.

    Drawn on the CPU, from each slot's own streams, as in ``reference.Trainer``. If any slot
    augments its rows, or if they are to be `carried`, the values of all come from the CPU.
    """
    B = micro_batch_size([slot.hyperparameters.batch_size for slot in slots], len(train))
    carried = carried or any(augments(slot.hyperparameters) for slot in slots)
    for parts in zip_longest(*(_parts(slot, train, B, carried) for slot in slots)):
        yield _together(slots, parts, B)


@dataclass(frozen=True)
class _Part:
    """One slot's share of a step."""

    rows: Tensor  # (n,), n ≤ B
    lengths: Tensor  # (n,)
    values: Tensor | None  # (n, T, C) or (n, T), where they are carried
    masks: Tensor | None  # (L, n, F)
    batch_rows: int
    ends: bool


def _parts(slot: Slot, train: Split, micro: int, carried: bool) -> Iterator[_Part]:
    h, order = slot.hyperparameters, order_of_rows(slot, len(train))
    batches = augmented_batches(slot, train, order) if carried else repeat(None)
    lengths = train.cut(h.max_tokens).lengths
    for index, batch, masks in zip(
        torch.split(order, h.batch_size), batches, masks_of_batches(slot, len(train)), strict=False
    ):
        for first in range(0, len(index), micro):
            some = slice(first, first + micro)
            yield _Part(
                index[some],
                lengths[index[some]] if batch is None else batch.lengths[some],
                None if batch is None else batch.values[some],
                None if masks is None else masks[:, some],
                len(index),
                first + micro >= len(index),
            )


def _together(slots: Sequence[Slot], parts: Sequence[_Part | None], size: int) -> MicroBatch:
    K, B, network = len(slots), size, slots[0].network
    rows, steps = torch.zeros(K, B, dtype=torch.int64), torch.zeros(K, B, dtype=torch.int64)
    values = masks = None
    if own := [part.values for part in parts if part is not None and part.values is not None]:
        longest = max(one.shape[1] for one in own)
        values = own[0].new_zeros(K, B, longest, *own[0].shape[2:])
    if any(slot.hyperparameters.dropout > 0 for slot in slots):
        masks = torch.ones(K, network.layers, B, network.features)
    for k, part in enumerate(parts):
        if part is not None:
            count = len(part.rows)
            rows[k, :count] = part.rows
            steps[k, :count] = part.lengths
            if values is not None and part.values is not None:
                values[k, :count, : part.values.shape[1]] = part.values
            if masks is not None and part.masks is not None:
                masks[k, :, :count] = part.masks
    steps, order = steps.sort(dim=1, descending=True, stable=True)
    if masks is not None:
        masks = masks.gather(2, order[:, None, :, None].expand_as(masks))
    active = active_rows(steps)
    slot_of = torch.arange(K).unsqueeze(1)
    ends = [part is not None and part.ends for part in parts]
    return MicroBatch(
        rows=rows.gather(1, order),
        values=None if values is None else values[slot_of, order, : len(active)],
        lengths=steps,
        batch_rows=torch.tensor([1 if part is None else part.batch_rows for part in parts]),
        ends=torch.tensor(ends),
        masks=masks,
        any_ends=any(ends),
        active=active,
    )


def active_rows(lengths: Tensor) -> list[int]:
    """How many rows hold data at each step in any slot: (T,) from falling lengths (K, B)."""
    longest = lengths.amax(0)  # (B,), falling too
    return (longest > torch.arange(int(longest[0])).unsqueeze(1)).sum(1).tolist()

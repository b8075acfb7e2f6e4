"""The rows that each slot trains on in every step of an epoch.

Slots with different batch sizes train together: all batches are cut into micro-batches of one
size, and a slot sums gradients until its batch is complete. That is exact, because a batch's mean
loss is the sum of its rows' losses divided by their number. One launch for each batch size would
be simpler, but a search over a range of batch sizes would then batch nothing. If all slots have
the same batch size, a micro-batch is a batch.

Places that stay empty (the last batch of an epoch is smaller, and some slots need fewer steps)
are rows of length 0, which compute zeros.
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
"""The cost of starting a step, in rows of a slot: a guess, and probably too low for a GPU."""


@dataclass(frozen=True)
class MicroBatch:
    """One step of K slots, with rows in falling order of length."""

    rows: Tensor  # (K, B) int64, rows of the split; 0 in an empty place
    # (K, B, T, C) or (K, B, T), augmented or carried; None: taken from the split on the device
    values: Tensor | None
    lengths: Tensor  # (K, B) int64; 0 in an empty place
    batch_rows: Tensor  # (K,) int64, rows of the whole batch that these are part of, at least 1
    ends: Tensor  # (K,) bool, whether the batch is complete and the slot updates
    masks: Tensor | None  # (K, L, B, F) of dropout
    # Both on the host, because reading them from the device would wait for it.
    any_ends: bool
    active: list[int]  # (T,) as in `recurrence`


def micro_batch_size(batch_sizes: Collection[int], rows: int) -> int:
    """B for slots of these batch sizes: a compromise of few steps and few empty places."""

    def cost(size: int) -> int:
        return max(_steps(rows, batch, size) for batch in batch_sizes) * (size + STEP_IN_ROWS)

    return min({min(size, rows) for size in batch_sizes}, key=lambda size: (cost(size), size))


def _steps(rows: int, batch: int, micro: int) -> int:
    """The number of micro-batches in one epoch."""
    batches, rest = divmod(rows, batch)
    return batches * -(-batch // micro) + -(-rest // micro)


def micro_batches(
    slots: Sequence[Slot], train: Split, carried: bool = False
) -> Iterator[MicroBatch]:
    """The next epoch of slots of one network; `train` is the training split on the CPU.

    If any slot augments its rows, or if the split's steps are `carried` from the host, all
    values come from the CPU.
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
            part = slice(first, first + micro)
            yield _Part(
                index[part],
                lengths[index[part]] if batch is None else batch.lengths[part],
                None if batch is None else batch.values[part],
                None if masks is None else masks[:, part],
                len(index),
                first + micro >= len(index),
            )


def _together(slots: Sequence[Slot], parts: Sequence[_Part | None], size: int) -> MicroBatch:
    K, B, network = len(slots), size, slots[0].network
    rows, steps = torch.zeros(K, B, dtype=torch.int64), torch.zeros(K, B, dtype=torch.int64)
    values = masks = None
    if carried := [part.values for part in parts if part is not None and part.values is not None]:
        longest = max(part_values.shape[1] for part_values in carried)
        values = carried[0].new_zeros(K, B, longest, *carried[0].shape[2:])
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
    # Rows that still run at a step are then the first ones: the recurrence computes no others.
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
    """The rows that hold data at each step in any slot: (T,) from falling lengths (K, B)."""
    longest = lengths.amax(0)  # (B,), falling too
    return (longest > torch.arange(int(longest[0])).unsqueeze(1)).sum(1).tolist()

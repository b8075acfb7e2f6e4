"""Everything random in a trial's epoch: the order of rows, augmentation and dropout masks.

It is drawn on the CPU from the trial's own streams, batch by batch, exactly as
``reference.Trainer`` draws it. So engines and devices agree on every random number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gru_optuna import seeds
from gru_optuna.training.augmentation import augment
from gru_optuna.training.regularizers import dropout_masks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from gru_optuna.data.dataset import Batch, Split
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.training.slot import Slot


STRENGTHS = (
    "token_insertion",
    "token_deletion",
    "token_swap",
    "word_dropout",
    "jitter",
    "scaling",
    "time_masking",
)
"""The hyperparameters of augmentation; each changes nothing at 0 or None."""


def augments(hyperparameters: Hyperparameters) -> bool:
    """Whether the trial changes rows at all; if not, they are read where they lie."""
    return any(getattr(hyperparameters, name) for name in STRENGTHS)


def order_of_rows(slot: Slot, rows: int) -> Tensor:
    """The order (N,) of the training rows in the slot's next epoch."""
    return torch.randperm(
        rows, generator=seeds.generator(slot.seed, "shuffle", slot.progress.epoch)
    )


def augmented_batches(slot: Slot, train: Split, order: Tensor) -> Iterator[Batch]:
    """The batches of the slot's next epoch, augmented; `train` lies on the CPU."""
    h = slot.hyperparameters
    generator = seeds.generator(slot.seed, "augment", slot.progress.epoch)
    for batch in train.cut(h.max_tokens).batches(h.batch_size, order):
        yield augment(batch, h, slot.network.vocabulary, generator)


def masks_of_batches(slot: Slot, rows: int) -> Iterator[Tensor | None]:
    """The dropout masks (L, B, D * H) of each batch of the slot's next epoch of `rows` rows."""
    h = slot.hyperparameters
    generator = seeds.generator(slot.seed, "dropout", slot.progress.epoch)
    for start in range(0, rows, h.batch_size):
        count = min(h.batch_size, rows - start)
        yield dropout_masks(slot.network, count, h.dropout, generator)

"""What training sees: tensors, and nothing about where they came from.

Letters, here and in ``training``: N rows, B rows of a batch, T steps, C channels, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Rows that are used together: for training, validation, or the test."""

    values: Tensor  # (N, T, C), zero behind each row's length
    lengths: Tensor  # (N,) int64, steps that hold data, at least 1
    targets: Tensor  # (N,) int64, index into the classes

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, index: Tensor) -> Split:
        """The rows of `index` (B,), padded no further than the longest of them."""
        lengths = self.lengths[index]
        return Split(self.values[index, : int(lengths.max())], lengths, self.targets[index])

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Split]:
        """All rows, `size` at a time, in the given order (N,); the last batch may be smaller."""
        order = torch.arange(len(self)) if order is None else order
        for index in torch.split(order, size):
            yield self.rows(index.to(self.targets.device))

    def to(self, device: torch.device, dtype: torch.dtype) -> Split:
        """The same rows elsewhere, values in `dtype`."""
        return Split(
            self.values.to(device, dtype), self.lengths.to(device), self.targets.to(device)
        )


@dataclass(frozen=True)
class Dataset:
    """One study's data, split and scaled."""

    train: Split
    validation: Split
    test: Split | None
    classes: tuple[str, ...]
    fingerprint: str  # of the raw rows: equal data, equal fingerprint, whatever the path

    @property
    def channels(self) -> int:
        """C, the input size of the network."""
        return self.train.values.shape[2]

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Dataset:
        """The same data elsewhere, values in `dtype`."""
        return replace(
            self,
            train=self.train.to(device, dtype),
            validation=self.validation.to(device, dtype),
            test=self.test.to(device, dtype) if self.test else None,
        )

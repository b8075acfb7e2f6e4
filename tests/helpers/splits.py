"""Splits for tests, written as people see them: side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gru_optuna.data.dataset import Batch, Split, Units, one_after_another

if TYPE_CHECKING:
    from torch import Tensor


def split_of_rows(
    values: Tensor,
    lengths: Tensor,
    targets: Tensor,
    units: Units | None = None,
    groups: Tensor | None = None,
) -> Split:
    """Rows (N, T, C), or (N, T), with whatever stands behind their lengths."""
    split = one_after_another([Batch(values, lengths, targets)])
    return replace(split, units=units, groups=groups)

"""What keeps a trial from learning its training rows by heart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from gru_optuna.training.network import Network


def penalty(kernels: Iterable[Tensor], l1: float, l2: float) -> Tensor:
    """``l1 * sum |w| + l2 * sum w²`` over the weight matrices, to be added to the loss."""
    terms = [l1 * kernel.abs().sum() + l2 * kernel.square().sum() for kernel in kernels]
    return torch.stack(terms).sum()


def dropout_masks(
    network: Network, rows: int, rate: float, generator: torch.Generator
) -> Tensor | None:
    """Masks for the outputs of all layers in one batch: (L, B, D * H), or None at rate 0.

    One mask a sequence, the same at all its steps (Gal & Ghahramani 2016), scaled so that the
    expectation stays. It doesn't depend on lengths, so neither does a result on padding.
    """
    if rate == 0:
        return None
    drawn = torch.rand(network.layers, rows, network.features, generator=generator)
    return (drawn >= rate) / (1 - rate)

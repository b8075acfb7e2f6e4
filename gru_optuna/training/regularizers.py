"""Penalties and dropout, which keep a network from memorizing its training rows."""

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

    A sequence has one mask for all its steps (Gal & Ghahramani 2016), scaled so that the
    expectation stays the same. Masks don't depend on lengths, so results don't depend on padding.
    """
    if rate == 0:
        return None
    drawn = torch.rand(network.layers, rows, network.features, generator=generator)
    return (drawn >= rate) / (1 - rate)

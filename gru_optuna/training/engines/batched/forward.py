"""From values to logits, for many slots of one network. Letters: the package's docstring."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from gru_optuna.training.engines.batched.recurrence import Layer, recurrence, reverse
from gru_optuna.training.network import EMBEDDING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from gru_optuna.training.network import Network


def flatten(network: Network, parameters: Mapping[str, Tensor]) -> Tensor:
    """All parameters of one slot as one tensor (Q,)."""
    return torch.cat([parameters[name].reshape(-1) for name in network.shapes()])


def unflatten(network: Network, flat: Tensor) -> dict[str, Tensor]:
    """The parameters by name, as views of (..., Q): the inverse of `flatten`."""
    shapes = network.shapes()
    # One split and not a slice each: its gradient is one concatenation.
    pieces = torch.split(flat, [math.prod(shape) for shape in shapes.values()], dim=-1)
    return {
        name: piece.view(*piece.shape[:-1], *shape)
        for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }


def forward(
    network: Network,
    flat: Tensor,
    values: Tensor,
    lengths: Tensor,
    active: Sequence[int],
    masks: Tensor | None = None,
) -> Tensor:
    """Logits of K slots, or the numbers they predict.

    Parameters
    ----------
    network
        Theirs.
    flat
        (K, Q), each slot's parameters.
    values
        (K, B, T, C). Steps behind a row's length may hold anything. Or tokens (K, B, T), any
        tokens there.
    lengths
        (K, B), falling. 0 is allowed: such a row only fills up, its logits are the head's bias.
    active
        (T,) as in `recurrence`.
    masks
        (K, L, B, F) of ``dropout_masks``, or None.

    Returns
    -------
    Tensor
        (K, B, O)
    """
    D = network.directions
    parameters = unflatten(network, flat)
    if network.vocabulary:
        values = _embed(values, parameters[EMBEDDING])
    # Both directions run together: the second one is K more slots, on rows turned around.
    ends = lengths.repeat(D, 1)  # (J, B)
    steps = torch.arange(values.shape[2], device=values.device).view(-1, 1)
    valid = steps < ends.unsqueeze(1)  # (J, T, B)
    inputs = values.transpose(1, 2)  # (K, T, B, C)
    inputs = inputs.masked_fill(~valid[: len(lengths)].unsqueeze(-1), 0).contiguous()
    states = inputs  # of a layer: (J, T + 1, B, H)
    for layer in range(network.layers):
        if layer > 0:
            forth, *back = states[:, 1:].chunk(D)
            inputs = torch.cat([forth, *(reverse(one, lengths) for one in back)], dim=-1)
            if masks is not None:
                inputs = inputs * masks[:, layer - 1].unsqueeze(1)
        if network.bidirectional:
            inputs = torch.cat([inputs, reverse(inputs, lengths)])
        states = recurrence(inputs, _layer(parameters, layer, D), valid, active)
    if network.pooling == "last":
        H = network.hidden_size
        at_end = ends[:, None, :, None].expand(-1, -1, -1, H)
        pooled = states.gather(1, at_end).squeeze(1)  # (J, B, H)
    else:
        pooled = states.sum(1) / ends.clamp(min=1).unsqueeze(-1)
    pooled = torch.cat(pooled.chunk(D), dim=-1)  # (K, B, F)
    if masks is not None:
        pooled = pooled * masks[:, -1]  # one mask for all steps, so also for their mean
    bias = parameters["head.bias"].unsqueeze(1)
    return torch.baddbmm(bias, pooled, parameters["head.weight"].mT)


def _embed(tokens: Tensor, embedding: Tensor) -> Tensor:
    """Each slot's tokens (K, B, T) by its own embedding (K, V, C): (K, B, T, C)."""
    K, V, _ = embedding.shape
    # One table of K * V tokens: the gradient is one sum by token, in one launch.
    first = V * torch.arange(K, device=tokens.device).view(K, 1, 1)
    return F.embedding(tokens + first, embedding.flatten(0, 1))


def _layer(parameters: Mapping[str, Tensor], layer: int, directions: int) -> Layer:
    def both(kind: str) -> Tensor:
        name = f"layers.{layer}.{kind}_l0"
        return torch.cat([parameters[name + d] for d in ("", "_reverse")[:directions]])

    return Layer(both("weight_ih"), both("weight_hh"), both("bias_ih"), both("bias_hh"))

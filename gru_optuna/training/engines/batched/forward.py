"""From values to logits for many slots of one network; letters as in the package's docstring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from gru_optuna.training.engines.batched.recurrence import Layer, recurrence, reverse
from gru_optuna.training.network import EMBEDDING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from gru_optuna.training.network import Network


def forward(
    network: Network,
    flat: Tensor,
    values: Tensor,
    lengths: Tensor,
    active: Sequence[int],
    masks: Tensor | None = None,
) -> Tensor:
    """Logits, or predicted numbers, of K slots.

    Parameters
    ----------
    network
        The network of all slots.
    flat
        (K, Q), each slot's parameters.
    values
        (K, B, T, C), or tokens (K, B, T). Steps after a row's end may hold anything, but tokens
        have to be in the vocabulary there, too.
    lengths
        (K, B), falling. A row of length 0 is an empty place: its logits are the head's bias.
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
    parameters = network.unflatten(flat)
    if network.vocabulary:
        values = _embed(values, parameters[EMBEDDING])
    # Both directions run together: the second is K more slots that read each row in reverse.
    ends = lengths.repeat(D, 1)  # (J, B)
    steps = torch.arange(values.shape[2], device=values.device).view(-1, 1)
    valid = steps < ends.unsqueeze(1)  # (J, T, B)
    inputs = values.transpose(1, 2)  # (K, T, B, C)
    inputs = inputs.masked_fill(~valid[: len(lengths)].unsqueeze(-1), 0).contiguous()
    states = inputs  # of a layer: (J, T + 1, B, H)
    for layer in range(network.layers):
        if layer > 0:
            forward_states, *reverse_states = states[:, 1:].chunk(D)
            back = (reverse(of_direction, lengths) for of_direction in reverse_states)
            inputs = torch.cat([forward_states, *back], dim=-1)
            if masks is not None:
                inputs = inputs * masks[:, layer - 1].unsqueeze(1)
        if network.bidirectional:
            inputs = torch.cat([inputs, reverse(inputs, lengths)])
        states = recurrence(inputs, _layer(parameters, layer, D), valid, active)
    if network.pooling == "last":
        H = network.hidden_size
        at_end = ends[:, None, :, None].expand(-1, -1, -1, H)
        pools = [states.gather(1, at_end).squeeze(1)]  # (J, B, H)
    else:
        pools = []
        if network.pooling != "max":
            pools.append(states.sum(1) / ends.clamp(min=1).unsqueeze(-1))
        if network.pooling != "mean":
            forward_states, *reverse_states = states[:, 1:].chunk(D)
            # In the order of the row's steps: of equal maxima the first gets the gradient.
            turned = [reverse(of_direction, lengths) for of_direction in reverse_states]
            in_order = torch.cat([forward_states, *turned])
            held = in_order.masked_fill(~valid.unsqueeze(-1), -torch.inf)
            # An empty place has no steps, and minus infinity times a mask's 0 would be NaN.
            pools.append(held.max(dim=1).values.masked_fill((ends == 0).unsqueeze(-1), 0))
    by_row = [torch.cat(pool.chunk(D), dim=-1) for pool in pools]  # (K, B, F) each
    if masks is not None:
        # All steps have one mask, and it isn't negative, so it may follow their mean or maximum.
        by_row = [pool * masks[:, -1] for pool in by_row]
    pooled = torch.cat(by_row, dim=-1)
    bias = parameters["head.bias"].unsqueeze(1)
    return torch.baddbmm(bias, pooled, parameters["head.weight"].mT)


def _embed(tokens: Tensor, embedding: Tensor) -> Tensor:
    """Looks up each slot's tokens (K, B, T) in its own embedding (K, V, C): (K, B, T, C)."""
    K, V, _ = embedding.shape
    # As one table of K * V tokens, so that the gradient is summed by token in a single launch.
    first = V * torch.arange(K, device=tokens.device).view(K, 1, 1)
    return F.embedding(tokens + first, embedding.flatten(0, 1))


def _layer(parameters: Mapping[str, Tensor], layer: int, directions: int) -> Layer:
    def both(kind: str) -> Tensor:
        name = f"layers.{layer}.{kind}_l0"
        return torch.cat([parameters[name + d] for d in ("", "_reverse")[:directions]])

    return Layer(both("weight_ih"), both("weight_hh"), both("bias_ih"), both("bias_hh"))

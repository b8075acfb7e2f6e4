"""From gradients to the next weights: penalties, clipping, Adam or RMSprop, for each slot its own.

A slot that must not be updated is skipped by ``torch.where`` and never by a product with zero:
0 * NaN is NaN, and Adam's moments move a weight even if its gradient is zero. Constants are
filled in by ``masked_fill``: ``where`` would copy them to the device and wait for that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gru_optuna.training.network import is_kernel
from gru_optuna.training.schedules import learning_rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gru_optuna.training.network import Network
    from gru_optuna.training.slot import Slot

# The defaults of torch.optim for Adam (Kingma & Ba 2015) and RMSprop (Tieleman & Hinton 2012).
ADAM_BETAS = (0.9, 0.999)
RMSPROP_ALPHA = 0.99
EPSILON = 1e-8
CLIP_EPSILON = 1e-6
"""The term in ``torch.nn.utils.clip_grad_norm_`` that keeps it from dividing by zero."""


@dataclass(eq=False)
class State:
    """Weights and moments of a slot; of K slots, with a dimension K in front."""

    weights: Tensor  # (Q,)
    first: Tensor  # (Q,) Adam's first moment; RMSprop leaves it zero
    second: Tensor  # (Q,) Adam's second moment, or RMSprop's mean square
    updates: Tensor  # () float64, the number of updates made

    @classmethod
    def of(cls, weights: Tensor) -> State:
        """The state before the first update."""
        updates = torch.zeros((), dtype=torch.float64, device=weights.device)
        return cls(weights, torch.zeros_like(weights), torch.zeros_like(weights), updates)

    @classmethod
    def stack(cls, states: Sequence[State]) -> State:
        """Stacks the states of slots, which become views of the result.

        So a slot that leaves, or is checkpointed, needs no copying back.
        """
        stacked = cls(
            torch.stack([state.weights for state in states]),
            torch.stack([state.first for state in states]),
            torch.stack([state.second for state in states]),
            torch.stack([state.updates for state in states]),
        )
        for k, state in enumerate(states):
            state.weights, state.first = stacked.weights[k], stacked.first[k]
            state.second, state.updates = stacked.second[k], stacked.updates[k]
        return stacked


@dataclass(frozen=True)
class Recipes:
    """The hyperparameters of K slots in one epoch: (K, 1), in the weights' dtype."""

    learning_rate: Tensor  # float64
    clip_norm: Tensor  # infinity clips nothing
    l1: Tensor  # (K, Q), zero for biases; so l2
    l2: Tensor
    adam: Tensor  # bool; RMSprop otherwise
    decay: Tensor  # of the second moment
    label_smoothing: Tensor | None  # None if no slot smooths

    @classmethod
    def of(cls, network: Network, slots: Sequence[Slot], epochs: int, like: Tensor) -> Recipes:
        """Collects them for each slot's next epoch, on the device and in the dtype of `like`."""
        hs = [slot.hyperparameters for slot in slots]
        rates = [learning_rate(slot.hyperparameters, slot.progress.epoch, epochs) for slot in slots]

        def column(values: Sequence[float], dtype: torch.dtype = like.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype).unsqueeze(1).to(like.device)

        kernels = torch.cat(
            [
                torch.full((math.prod(shape),), float(is_kernel(name)), dtype=like.dtype)
                for name, shape in network.shapes().items()
            ]
        ).to(like.device)
        smoothings = [h.label_smoothing or 0.0 for h in hs]
        decays = [ADAM_BETAS[1] if h.optimizer == "adam" else RMSPROP_ALPHA for h in hs]
        return cls(
            learning_rate=column(rates, torch.float64),
            clip_norm=column([h.clip_norm or math.inf for h in hs]),
            l1=column([h.l1 for h in hs]) * kernels,
            l2=column([h.l2 for h in hs]) * kernels,
            adam=column([h.optimizer == "adam" for h in hs], torch.bool),
            decay=column(decays, torch.float64),
            label_smoothing=column(smoothings) if any(smoothings) else None,
        )


def add_penalty(gradient: Tensor, weights: Tensor, recipes: Recipes) -> Tensor:
    """Adds the derivatives of ``regularizers.penalty`` to the gradient (K, Q) of a whole batch."""
    return gradient + recipes.l1 * weights.sign() + 2 * recipes.l2 * weights


def clip(gradient: Tensor, norm: Tensor, recipes: Recipes) -> Tensor:
    """Clips each slot's gradient (K, Q) by its own norm (K,).

    With a joint norm, one diverged trial would shrink the updates of all others.
    """
    factor = recipes.clip_norm / (norm.unsqueeze(1) + CLIP_EPSILON)
    return gradient * factor.clamp(max=1)


def update(
    state: State,
    gradient: Tensor,  # (K, Q), clipped
    recipes: Recipes,
    moving: Tensor,  # (K,) bool: which slots to update
) -> None:
    """Makes one update of K slots, in place."""
    dtype, adam, moves = gradient.dtype, recipes.adam, moving.unsqueeze(1)
    # Scalars are float64, like the Python numbers in torch.optim; moments are computed as there.
    count = state.updates.unsqueeze(1) + 1
    correction1 = (1 - ADAM_BETAS[0] ** count).masked_fill(~adam, 1)
    correction2 = (1 - ADAM_BETAS[1] ** count).masked_fill(~adam, 1).sqrt().to(dtype)
    step = (recipes.learning_rate / correction1).to(dtype)

    first = state.first.lerp(gradient, 1 - ADAM_BETAS[0]).masked_fill(~adam, 0)
    rest = (1 - recipes.decay).to(dtype)
    second = state.second * recipes.decay.to(dtype) + rest * gradient.square()
    direction = torch.where(adam, first, gradient)
    weights = state.weights - step * direction / (second.sqrt() / correction2 + EPSILON)

    torch.where(moves, weights, state.weights, out=state.weights)
    torch.where(moves, first, state.first, out=state.first)
    torch.where(moves, second, state.second, out=state.second)
    torch.where(moving, count.squeeze(1), state.updates, out=state.updates)

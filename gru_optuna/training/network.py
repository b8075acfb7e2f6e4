"""The shape of a network, shared by every implementation.

Letters: C input channels, H hidden size, D directions (1 or 2), L layers, O outputs, V token ids,
Q numbers that the network learns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gru_optuna.hyperparameters import Hyperparameters, Pooling

GATES = 3
"""Reset, update, new: the order in which torch stacks a GRU's kernels."""

EMBEDDING = "embedding.weight"
"""The table with one row for each token id; the row of padding is never read."""


@dataclass(frozen=True)
class Network:
    """What decides the shape of every tensor: structural hyperparameters and the data's sizes."""

    inputs: int  # C of the first layer: the channels, or the size of a token's embedding
    hidden_size: int
    layers: int
    bidirectional: bool
    pooling: Pooling
    outputs: int
    vocabulary: int = 0  # V; 0: the inputs are numbers, and nothing is embedded

    @classmethod
    def of(
        cls, hyperparameters: Hyperparameters, channels: int, outputs: int, vocabulary: int = 0
    ) -> Network:
        """The network of one trial, for a dataset's channels, outputs and vocabulary."""
        h = hyperparameters
        inputs = (h.embedding_size or 0) if vocabulary else channels
        return cls(inputs, h.hidden_size, h.layers, h.bidirectional, h.pooling, outputs, vocabulary)

    @property
    def directions(self) -> int:
        """D."""
        return 2 if self.bidirectional else 1

    @property
    def features(self) -> int:
        """D * H, the width of each layer's output."""
        return self.directions * self.hidden_size

    @property
    def pooled(self) -> int:
        """The width of the vector that the head reads: D * H, or twice that for two poolings."""
        return self.features * (2 if self.pooling == "mean_max" else 1)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all parameters by their names in ``reference.GRU``, in the order of drawing."""
        H, shapes = self.hidden_size, dict[str, tuple[int, ...]]()
        if self.vocabulary:
            shapes[EMBEDDING] = (self.vocabulary, self.inputs)
        for layer in range(self.layers):
            inputs = self.inputs if layer == 0 else self.features
            for direction in ("", "_reverse")[: self.directions]:
                shapes[f"layers.{layer}.weight_ih_l0{direction}"] = (GATES * H, inputs)
                shapes[f"layers.{layer}.weight_hh_l0{direction}"] = (GATES * H, H)
                shapes[f"layers.{layer}.bias_ih_l0{direction}"] = (GATES * H,)
                shapes[f"layers.{layer}.bias_hh_l0{direction}"] = (GATES * H,)
        shapes["head.weight"] = (self.outputs, self.pooled)
        shapes["head.bias"] = (self.outputs,)
        return shapes

    def size(self) -> int:
        """How many numbers the network learns."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    def flatten(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """All parameters as one tensor (Q,), in the order of `shapes`.

        Raises
        ------
        ValueError
            If one has another shape.
        """
        for name, shape in self.shapes().items():
            if parameters[name].shape != shape:
                raise ValueError(f"{name}: got {tuple(parameters[name].shape)}, need {shape}")
        return torch.cat([parameters[name].reshape(-1) for name in self.shapes()])

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """The parameters by name, as views of (..., Q): the inverse of `flatten`."""
        shapes = self.shapes()
        # One split instead of a slice for each: its gradient is a single concatenation.
        pieces = torch.split(flat, [math.prod(shape) for shape in shapes.values()], dim=-1)
        return {
            name: piece.view(*piece.shape[:-1], *shape)
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }


def is_kernel(name: str) -> bool:
    """Whether a parameter is a weight matrix: initialized, and penalized by L1 and L2.

    An embedding is a table rather than a matrix to multiply by. Most of its rows aren't in a
    given batch, yet a penalty would move them towards zero all the same.
    """
    return "weight" in name and name != EMBEDDING

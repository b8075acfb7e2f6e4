"""The shape of the network, shared by every implementation of it.

Letters: C input channels, H hidden size, D directions (1 or 2), L layers, O outputs, V token ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gru_optuna.hyperparameters import Hyperparameters, Pooling

GATES = 3
"""Reset, update, new: the order in which torch stacks a GRU's kernels."""

EMBEDDING = "embedding.weight"
"""One row a token id; that of padding is never read."""


@dataclass(frozen=True)
class Network:
    """What decides the shape of every tensor: the structural hyperparameters and the data."""

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
        """D * H, what a layer hands to the next one and the last to the head."""
        return self.directions * self.hidden_size

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter by name, as ``reference.GRU`` has them, in the order of drawing."""
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
        shapes["head.weight"] = (self.outputs, self.features)
        shapes["head.bias"] = (self.outputs,)
        return shapes

    def size(self) -> int:
        """How many numbers the network learns."""
        return sum(_product(shape) for shape in self.shapes().values())


def is_kernel(name: str) -> bool:
    """Whether a parameter is a weight matrix: initialised, and penalised by L1 and L2.

    An embedding is no matrix that anything is multiplied by, but a table: most of its rows are
    in no batch, and a penalty would move them towards zero all the same.
    """
    return "weight" in name and name != EMBEDDING


def _product(shape: tuple[int, ...]) -> int:
    rows, *columns = shape
    return rows * (columns[0] if columns else 1)

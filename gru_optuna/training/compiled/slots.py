"""What a slot holds and what it learns from, as arrays that compiled code reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from gru_optuna.training.compiled.workspace import aligned_zeros

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from torch import Tensor

    from gru_optuna.data.dataset import Split
    from gru_optuna.training.compiled.vectors import Array
    from gru_optuna.training.network import Network


class Slot(NamedTuple):
    """One trial's numbers, trained in place. A checkpoint that holds all four holds it all."""

    parameters: Array  # (Q,) as `flatten` orders them
    first_moment: Array  # (Q,) Adam's; RMSprop leaves it zero
    second_moment: Array  # (Q,) Adam's, or RMSprop's mean square
    updates: Array  # (1,) int64, updates done

    @classmethod
    def of(
        cls,
        parameters: Array,
        first_moment: Array | None = None,
        second_moment: Array | None = None,
        updates: int = 0,
    ) -> Slot:
        """A slot with copies of these, in the kind of `parameters`; a new one from those alone."""

        def copy(source: Array | None) -> Array:
            made = aligned_zeros(parameters.shape, parameters.dtype)
            if source is not None:
                made[:] = source
            return made

        count = np.array([updates], np.int64)
        return cls(copy(parameters), copy(first_moment), copy(second_moment), count)


class Rows(NamedTuple):
    """A split. Labels are empty in regression, targets in classification."""

    values: Array  # (N, T, C); what lies behind a row's length is never read
    lengths: Array  # (N,) int64, at least 1
    labels: Array  # (N,) int64
    targets: Array  # (N, O)

    @classmethod
    def of(cls, split: Split, dtype: npt.DTypeLike = np.float32) -> Rows:
        """The rows of a split on the CPU; without copying where the kind is the same.

        Whole numbers among ``split.targets`` are classes, (N,); fractions are to be met, (N,)
        or (N, O).
        """
        values = _array(split.values, dtype)
        lengths = _array(split.lengths, np.int64)
        if lengths.min() < 1 or lengths.max() > values.shape[1]:
            raise ValueError(f"lengths reach from {lengths.min()} to {lengths.max()}, "
                             f"values have 1 to {values.shape[1]} steps")  # fmt: skip
        if split.targets.is_floating_point():
            targets = _array(split.targets, dtype).reshape(len(split), -1)
            return cls(values, lengths, np.zeros(0, np.int64), targets)
        return cls(values, lengths, _array(split.targets, np.int64), np.zeros((0, 0), dtype))


def flatten(
    network: Network, parameters: Mapping[str, Tensor], dtype: npt.DTypeLike = np.float32
) -> Array:
    """All parameters (Q,), in the order of ``network.shapes()``, matrices row by row."""
    for name, shape in network.shapes().items():
        if parameters[name].shape != shape:
            raise ValueError(f"{name}: got {tuple(parameters[name].shape)}, need {shape}")
    return np.concatenate([_array(parameters[name], dtype).ravel() for name in network.shapes()])


def unflatten(network: Network, flat: Array) -> dict[str, Tensor]:
    """The parameters by name, as views of one copy: the inverse of `flatten`."""
    if flat.shape != (network.size(),):
        raise ValueError(f"flat parameters: got {flat.shape}, need ({network.size()},)")
    shapes = network.shapes()
    sizes = [math.prod(shape) for shape in shapes.values()]
    pieces = torch.split(torch.tensor(flat), sizes)
    return {
        name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }


def _array(tensor: Tensor, dtype: npt.DTypeLike) -> Array:
    return np.require(tensor.detach().cpu().numpy(), dtype, ["C", "W"])

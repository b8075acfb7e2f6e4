"""A slot and the rows that it learns from, as arrays for compiled code."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from gru_optuna.training.engines.compiled.workspace import aligned_zeros

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from torch import Tensor

    from gru_optuna.data.dataset import Split
    from gru_optuna.training.engines.compiled.vectors import Array
    from gru_optuna.training.network import Network


class SlotArrays(NamedTuple):
    """All numbers of one trial, trained in place."""

    parameters: Array  # (Q,) as `flatten` orders them
    first_moment: Array  # (Q,) Adam's; RMSprop leaves it zero
    second_moment: Array  # (Q,) Adam's, or RMSprop's mean square
    updates: Array  # (1,) int64, the number of updates made

    @classmethod
    def of(
        cls,
        parameters: Array,
        first_moment: Array | None = None,
        second_moment: Array | None = None,
        updates: int = 0,
    ) -> SlotArrays:
        """A slot with copies of these, in the dtype of `parameters`; moments default to zero."""

        def copy(source: Array | None) -> Array:
            made = aligned_zeros(parameters.shape, parameters.dtype)
            if source is not None:
                made[:] = source
            return made

        count = np.array([updates], np.int64)
        return cls(copy(parameters), copy(first_moment), copy(second_moment), count)


class RowArrays(NamedTuple):
    """A split's rows. An array that its task doesn't use is empty in every dimension."""

    values: Array  # (M, C) numbers, the steps of all rows
    tokens: Array  # (M,) int64 of texts
    starts: Array  # (N,) int64, the first step of each row
    lengths: Array  # (N,) int64, at least 1
    labels: Array  # (N,) int64
    targets: Array  # (N, O) of regression; one that isn't finite counts as predicted exactly
    class_weights: Array  # (O,) of classification with weights
    vocabulary: int  # one more than the highest token, so that later checks needn't look again

    @classmethod
    def of(
        cls,
        split: Split,
        dtype: npt.DTypeLike = np.float32,
        class_weights: Tensor | None = None,
    ) -> RowArrays:
        """The rows of a split on the CPU, copied only if the dtype changes.

        Integers in ``split.steps`` are tokens, (M,). Integers in ``split.targets`` are classes,
        (N,), and floating-point numbers are values to predict, (N,) or (N, O).

        Raises
        ------
        ValueError
            If a row is empty or reaches outside the steps, or a token is negative. Compiled code
            doesn't check what it reads.
        """
        starts, lengths = _array(split.starts, np.int64), _array(split.lengths, np.int64)
        first, end = starts.min(), (starts + lengths).max()
        if lengths.min() < 1 or first < 0 or end > len(split.steps):
            raise ValueError(f"rows of {lengths.min()} steps or more reach from step {first} to "
                             f"{end}, and there are {len(split.steps)}")  # fmt: skip
        values, tokens = np.zeros((0, 0), dtype), np.zeros(0, np.int64)
        labels, targets = np.zeros(0, np.int64), np.zeros((0, 0), dtype)
        if split.steps.is_floating_point():
            values = _array(split.steps, dtype)
        else:
            tokens = _array(split.steps, np.int64)
            if tokens.min(initial=0) < 0:
                raise ValueError(f"token {tokens.min()}, need at least 0")
        if split.targets.is_floating_point():
            targets = _array(split.targets, dtype).reshape(len(split), -1)
        else:
            labels = _array(split.targets, np.int64)
        weights = np.zeros(0, dtype) if class_weights is None else _array(class_weights, dtype)
        vocabulary = int(tokens.max(initial=-1)) + 1
        return cls(values, tokens, starts, lengths, labels, targets, weights, vocabulary)

    def cut(self, steps: int | None) -> RowArrays:
        """The rows, each ending after at most `steps` steps, as ``Split.cut`` has it."""
        return self if steps is None else self._replace(lengths=self.lengths.clip(max=steps))


def flatten(
    network: Network, parameters: Mapping[str, Tensor], dtype: npt.DTypeLike = np.float32
) -> Array:
    """All parameters as an array (Q,), as ``Network.flatten`` orders them."""
    return _array(network.flatten(parameters), dtype)


def unflatten(network: Network, flat: Array) -> dict[str, Tensor]:
    """The parameters by name, as views of one copy: the inverse of `flatten`.

    Raises
    ------
    ValueError
        If there are more or fewer than the network has.
    """
    if flat.shape != (network.size(),):
        raise ValueError(f"flat parameters: got {flat.shape}, need ({network.size()},)")
    return network.unflatten(torch.tensor(flat))


def _array(tensor: Tensor, dtype: npt.DTypeLike) -> Array:
    return np.require(tensor.detach().cpu().numpy(), dtype, ["C", "W"])

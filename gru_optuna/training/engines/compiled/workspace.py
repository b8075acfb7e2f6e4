"""Buffers for compiled training: each thread has a set, which every slot and step reuses.

Fresh memory causes page faults, which cost more than the arithmetic (measured). Nothing in a
workspace belongs to a trial: what the trial before left there, NaN included, changes no result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np

from gru_optuna.hyperparameters import Pooling
from gru_optuna.training.engines.compiled.vectors import Array, lanes_of
from gru_optuna.training.network import GATES, Network, is_kernel

if TYPE_CHECKING:
    import numpy.typing as npt

CACHE_LINE = 64
LAST, MEAN, MAX, MEAN_MAX = range(4)  # in the order of `Pooling`


class Structure(NamedTuple):
    """A `Network` as integers, for compiled code."""

    inputs: int
    hidden_size: int
    layers: int
    directions: int
    outputs: int
    pooling: int  # one of LAST, MEAN, MAX, MEAN_MAX
    vocabulary: int  # token ids; 0: inputs are numbers

    @classmethod
    def of(cls, network: Network) -> Structure:
        """The structure of a network."""
        n, pooling = network, get_args(Pooling).index(network.pooling)
        return cls(
            n.inputs, n.hidden_size, n.layers, n.directions, n.outputs, pooling, n.vocabulary
        )


class Buffers(NamedTuple):
    """The arrays of a workspace; the package's docstring defines the letters."""

    starts: Array  # (T + 1,)
    rows: Array  # (B,) the batch's rows, sorted by falling length
    tokens: Array  # (S,), or (0,) where inputs are numbers
    x: Array  # (S, C)
    d_x: Array  # (S, C rounded up to two vectors), or (0, 0) where inputs are numbers
    mask: Array  # (L, B, W)
    output: Array  # (L, S, W)
    d_output: Array  # (2, S, W) of the layer at work and of the one below
    previous: Array  # (L, D, S, P)
    gates: Array  # (L, D, J, S, 4, V)
    w: Array  # (L, D, room for the widest layer's (J, C, 3, V))
    w_back: Array  # (L, D, G, 3 P, 2 V)
    u: Array  # (L, D, J, H, 3, V)
    u_back: Array  # (L, D, G, 3 P, 2 V)
    bias: Array  # (L, D, J, 4, V)
    d_w: Array  # as one direction of w
    d_u: Array  # (J, H, 3, V)
    d_bias: Array  # (J, 4, V)
    d_state: Array  # (B, P rounded up to two vectors)
    scratch: Array  # (2, B, 3 V)
    pooled: Array  # (B, W), or (B, 2 W): the means, then the maxima
    d_pooled: Array  # as pooled
    highest: Array  # (B, W) int64, the cells of the maxima
    logits: Array  # (B, O)
    gradient: Array  # (Q,)
    clipped: Array  # (1,) int64, updates of the last epoch whose gradient was clipped
    kernels: Array  # (M, 2) where each weight matrix starts and ends among Q


@dataclass(frozen=True)
class KernelWorkspace:
    """Room for batches of up to `batch_size` rows of up to `steps` steps.

    One thread uses it at a time.
    """

    network: Network
    batch_size: int
    steps: int
    structure: Structure
    buffers: Buffers

    @classmethod
    def of(
        cls, network: Network, batch_size: int, steps: int, dtype: npt.DTypeLike = np.float32
    ) -> KernelWorkspace:
        """Allocates a workspace of `workspace_bytes`."""
        arrays = {
            name: aligned_zeros(shape, kind)
            for name, (shape, kind) in _layout(network, batch_size, steps, dtype).items()
        }
        kernels = np.array(_kernel_spans(network), np.int64)
        buffers = Buffers(**arrays, kernels=kernels)
        return cls(network, batch_size, steps, Structure.of(network), buffers)

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """The dtype of its floating-point arrays."""
        dtype: np.dtype[np.floating] = self.buffers.x.dtype
        return dtype


def workspace_bytes(
    network: Network, batch_size: int, steps: int, dtype: npt.DTypeLike = np.float32
) -> int:
    """The bytes that ``KernelWorkspace.of`` allocates."""
    layout = _layout(network, batch_size, steps, dtype).values()
    kernels = np.array(_kernel_spans(network), np.int64).nbytes
    return kernels + sum(_nbytes(shape, kind) + CACHE_LINE for shape, kind in layout)


def aligned_zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Zeros that start on a cache line: a vector load that spans two lines takes twice as long."""
    nbytes = _nbytes(shape, dtype)
    raw = np.zeros(nbytes + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + nbytes].view(dtype).reshape(shape)


def _layout(
    network: Network, batch_size: int, steps: int, dtype: npt.DTypeLike
) -> dict[str, tuple[tuple[int, ...], npt.DTypeLike]]:
    """Shape and dtype of every buffer but `kernels`."""
    B, L, D, H = batch_size, network.layers, network.directions, network.hidden_size
    C, O, V = network.inputs, network.outputs, lanes_of(dtype)  # noqa: E741 (letters as declared)
    S, P, pair = B * steps, _round_up(H, V), 2 * V
    J, W = P // V, _round_up(D * P, pair)
    pools = network.pooled // network.features
    widest = max(C, D * P if L > 1 else 0)
    # Numbers need no gradient, the embeddings of tokens do.
    embedded, embedding = (S, _round_up(C, pair)) if network.vocabulary else (0, 0)
    widest_back = max(embedding, W if L > 1 else 0)
    shapes: dict[str, tuple[int, ...]] = {
        "x": (S, C),
        "d_x": (embedded, embedding),
        "mask": (L, B, W),
        "output": (L, S, W),
        "d_output": (2, S, W),
        "previous": (L, D, S, P),
        "gates": (L, D, J, S, 4, V),
        "w": (L, D, J * widest * GATES * V),
        "w_back": (L, D, widest_back // pair, GATES * P, pair),
        "u": (L, D, J, H, GATES, V),
        "u_back": (L, D, _round_up(P, pair) // pair, GATES * P, pair),
        "bias": (L, D, J, 4, V),
        "d_w": (J * widest * GATES * V,),
        "d_u": (J, H, GATES, V),
        "d_bias": (J, 4, V),
        "d_state": (B, _round_up(P, pair)),
        "scratch": (2, B, GATES * V),
        "pooled": (B, pools * W),
        "d_pooled": (B, pools * W),
        "logits": (B, O),
        "gradient": (network.size(),),
    }
    whole = {
        "starts": (steps + 1,),
        "rows": (B,),
        "tokens": (embedded,),
        "highest": (B, W),
        "clipped": (1,),
    }
    return {name: (shape, np.int64) for name, shape in whole.items()} | {
        name: (shape, dtype) for name, shape in shapes.items()
    }


def _kernel_spans(network: Network) -> list[tuple[int, int]]:
    """Where each weight matrix starts and ends (exclusive) among the flat parameters."""
    spans, at = [], 0
    for name, shape in network.shapes().items():
        end = at + int(np.prod(shape))
        if is_kernel(name):
            spans.append((at, end))
        at = end
    return spans


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _nbytes(shape: tuple[int, ...], dtype: npt.DTypeLike) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize

"""The four shapes that training is measured on, and ``torch.nn.GRU`` at its best on them.

It gets rows of equal length, which need no packing, tensors ready in memory, fused Adam, and
either layout. On CUDA that lets cuDNN take its persistent kernels for small networks: they
want input that isn't packed, and a GRU of at most 192 units.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

from gru_optuna.data.dataset import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

OUTPUTS, LEARNING_RATE, CLIP_NORM = 9, 1e-3, 1.0


class Shape(NamedTuple):
    """The size of one training step."""

    batch: int
    time: int
    inputs: int
    hidden: int

    def flops(self) -> int:
        """Floating-point operations of a step: forward, and backward to weights and inputs."""
        return 2 * self.batch * self.time * 3 * self.hidden * (self.inputs + self.hidden) * 3


SHAPES = [
    Shape(16, 24, 8, 32),
    Shape(32, 50, 16, 64),
    Shape(16, 50, 64, 64),
    Shape(64, 100, 64, 128),
]


def draw_rows(shape: Shape, count: int, seed: int = 0) -> Batch:
    """`count` random rows of equal length, with classes."""
    drawn = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randn(count, shape.time, shape.inputs, generator=drawn),
        torch.full((count,), shape.time),
        torch.randint(0, OUTPUTS, (count,), generator=drawn),
    )


def torch_step(shape: Shape, batch: Batch, *, batch_first: bool) -> Callable[[], None]:
    """One update of one network by autograd, on the device that holds the batch."""
    device = batch.values.device
    torch.manual_seed(0)
    gru = torch.nn.GRU(shape.inputs, shape.hidden, batch_first=batch_first).to(device)
    head = torch.nn.Linear(shape.hidden, OUTPUTS).to(device)
    parameters = [*gru.parameters(), *head.parameters()]
    # "capturable" counts updates on the device, which a CUDA graph needs.
    optimizer = torch.optim.Adam(
        parameters, LEARNING_RATE, fused=True, capturable=device.type == "cuda"
    )
    values = batch.values if batch_first else batch.values.transpose(0, 1).contiguous()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        _, last = gru(values)
        F.cross_entropy(head(last[-1]), batch.targets).backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()

    return step


def timed(function: Callable[[], object], repeats: int) -> float:
    """Seconds of one call, over `repeats` of them."""
    wait_for_device()
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    wait_for_device()
    return (time.perf_counter() - start) / repeats


def wait_for_device() -> None:
    """Lets a GPU finish what was sent to it: calls return before their work is done."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()

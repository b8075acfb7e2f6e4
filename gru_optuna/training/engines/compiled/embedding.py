"""Tokens to the first layer's input, and its derivatives to the embedding's gradient.

The embedding is the first of the flat parameters, (vocabulary, C) row by row. Its gradient is
as large, and so is its update, though a batch reads a few rows: Adam moves the others too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.training.engines.compiled.compiler import inlined

if TYPE_CHECKING:
    from gru_optuna.training.engines.compiled.vectors import Array
    from gru_optuna.training.engines.compiled.workspace import Buffers, Structure


@inlined
def embed(structure: Structure, parameters: Array, buffers: Buffers, steps: int) -> None:
    """Looks up the batch's tokens, into ``buffers.x``."""
    size = structure.inputs
    for cell in range(buffers.starts[steps]):
        at = buffers.tokens[cell] * size
        for k in range(size):
            buffers.x[cell, k] = parameters[at + k]


@inlined
def embed_backward(structure: Structure, buffers: Buffers, steps: int) -> None:
    """Adds ``buffers.d_x`` up by token, cell after cell: always in the same order."""
    size = structure.inputs
    buffers.gradient[: structure.vocabulary * size] = 0
    for cell in range(buffers.starts[steps]):
        at = buffers.tokens[cell] * size
        for k in range(size):
            buffers.gradient[at + k] += buffers.d_x[cell, k]

"""From tokens to the first layer's input, and from its derivatives to the embedding's gradient.

The embedding comes first among the flat parameters, (vocabulary, C) row by row. Its gradient and
update cover all rows although a batch reads only a few, because Adam moves every row whose
moments aren't zero. (Updating rows when a batch next reads them was tried: nearly all of them
have to catch up at every step. See ``benchmarks/LOG.md``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.training.engines.compiled.compiler import inlined

if TYPE_CHECKING:
    from gru_optuna.training.engines.compiled.vectors import Array
    from gru_optuna.training.engines.compiled.workspace import Buffers, Structure


@inlined
def embed(structure: Structure, parameters: Array, buffers: Buffers, steps: int) -> None:
    """Looks up the embeddings of the batch's tokens, into ``buffers.x``."""
    size = structure.inputs
    for cell in range(buffers.starts[steps]):
        at = buffers.tokens[cell] * size
        for k in range(size):
            buffers.x[cell, k] = parameters[at + k]


@inlined
def embed_backward(structure: Structure, buffers: Buffers, steps: int) -> None:
    """Sums ``buffers.d_x`` by token, in the order of the cells: results must not vary."""
    size = structure.inputs
    buffers.gradient[: structure.vocabulary * size] = 0
    for cell in range(buffers.starts[steps]):
        at = buffers.tokens[cell] * size
        for k in range(size):
            buffers.gradient[at + k] += buffers.d_x[cell, k]

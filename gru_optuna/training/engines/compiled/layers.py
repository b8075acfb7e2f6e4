"""All layers over one batch: laying out its rows, forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.training.engines.compiled.compiler import inlined
from gru_optuna.training.engines.compiled.panels import pack_direction, unpack_gradient
from gru_optuna.training.engines.compiled.recurrence import backward_direction, forward_direction

if TYPE_CHECKING:
    from gru_optuna.training.engines.compiled.slots import RowArrays
    from gru_optuna.training.engines.compiled.vectors import Array
    from gru_optuna.training.engines.compiled.workspace import Buffers, Structure


@inlined
def gather(structure: Structure, rows: RowArrays, chosen: Array, buffers: Buffers) -> int:
    """Sorts the batch by falling length and copies its cells, step after step.

    The cells hold tokens of texts, and otherwise the first layer's input. Rows that are running
    at a step are then neighbours in memory, and the first of those that ran a step earlier.

    Returns the number of steps of the longest row.
    """
    lengths, starts = rows.lengths, buffers.starts
    steps = 0
    for b in range(chosen.shape[0]):
        steps = max(steps, lengths[chosen[b]])
    starts[: steps + 1] = 0
    # A counting sort, which is stable: rows of equal length keep their drawn order.
    for b in range(chosen.shape[0]):
        starts[lengths[chosen[b]]] += 1
    place = 0
    for length in range(steps, 0, -1):
        count = starts[length]
        starts[length] = place
        place += count
    for b in range(chosen.shape[0]):
        length = lengths[chosen[b]]
        buffers.rows[starts[length]] = b
        starts[length] += 1
    # Now starts[length] is the number of rows at least that long, the cells of step length - 1.
    starts[0] = 0
    for t in range(steps):
        starts[t + 1] += starts[t]
        for b in range(starts[t + 1] - starts[t]):
            step = rows.starts[chosen[buffers.rows[b]]] + t
            if structure.vocabulary > 0:
                buffers.tokens[starts[t] + b] = rows.tokens[step]
            else:
                for k in range(structure.inputs):
                    buffers.x[starts[t] + b, k] = rows.values[step, k]
    return steps


@inlined
def pack(structure: Structure, parameters: Array, buffers: Buffers) -> None:
    """Copies the weights of all layers into panels."""
    D, H, P = structure.directions, structure.hidden_size, buffers.previous.shape[3]
    J, V = buffers.bias.shape[2], buffers.bias.shape[4]
    for layer in range(structure.layers):
        below = layer > 0
        inputs = D * H if below else structure.inputs
        columns = D * P if below else structure.inputs
        group, room = (H, P) if below else (inputs, inputs)
        for d in range(D):
            w = buffers.w[layer, d, : J * columns * 3 * V].reshape((J, columns, 3, V))
            pack_direction(
                parameters, buffers.kernels[2 * (layer * D + d), 0], inputs, H, group, room,
                w, buffers.u[layer, d], buffers.bias[layer, d],
                buffers.w_back[layer, d], buffers.u_back[layer, d],
                below or structure.vocabulary > 0,
            )  # fmt: skip


@inlined
def forward(
    structure: Structure,
    buffers: Buffers,
    steps: int,
    masks: Array,  # (L, B, D * H), or (0, 0, 0) for none
) -> None:
    """Runs all layers; their masked outputs are left in ``buffers.output``."""
    D, H, P = structure.directions, structure.hidden_size, buffers.previous.shape[3]
    J, V = buffers.bias.shape[2], buffers.bias.shape[4]
    starts = buffers.starts[: steps + 1]
    batch = starts[1]
    for layer in range(structure.layers):
        if masks.shape[0] == 0:
            buffers.mask[layer, :batch] = 1
        else:
            for b in range(batch):
                for d in range(D):
                    for k in range(H):
                        buffers.mask[layer, b, d * P + k] = masks[layer, buffers.rows[b], d * H + k]
        x = buffers.x if layer == 0 else buffers.output[layer - 1]
        columns = D * P if layer > 0 else structure.inputs
        for d in range(D):
            w = buffers.w[layer, d, : J * columns * 3 * V].reshape((J, columns, 3, V))
            forward_direction(
                x, starts, d == 1, H, w, buffers.u[layer, d], buffers.bias[layer, d],
                buffers.previous[layer, d], buffers.gates[layer, d], buffers.output[layer],
                buffers.mask[layer], d, buffers.scratch,
            )  # fmt: skip


@inlined
def backward(structure: Structure, buffers: Buffers, steps: int) -> None:
    """Computes the gradient of all layers from the derivatives of the last one's outputs.

    Those are in ``buffers.d_output[(L - 1) % 2]``: two buffers take turns, one for the layer at
    work and one for the layer below. Derivatives of embedded tokens are left in ``buffers.d_x``.
    """
    D, H, P = structure.directions, structure.hidden_size, buffers.previous.shape[3]
    J, V = buffers.bias.shape[2], buffers.bias.shape[4]
    starts = buffers.starts[: steps + 1]
    for layer in range(structure.layers - 1, -1, -1):
        below = layer > 0
        x = buffers.x if layer == 0 else buffers.output[layer - 1]
        d_x = buffers.d_x if layer == 0 else buffers.d_output[(layer + 1) % 2]
        inputs = D * H if below else structure.inputs
        columns = D * P if below else structure.inputs
        pairs = (columns + 2 * V - 1) // (2 * V)  # d_x is computed two vectors at a time
        group, room = (H, P) if below else (inputs, inputs)
        d_w = buffers.d_w[: J * columns * 3 * V].reshape((J, columns, 3, V))
        for d in range(D):
            backward_direction(
                x, starts, d == 1, H, buffers.u_back[layer, d], buffers.w_back[layer, d, :pairs],
                buffers.previous[layer, d], buffers.gates[layer, d], buffers.d_output[layer % 2],
                buffers.mask[layer], d, buffers.d_state, d_w, buffers.d_u, buffers.d_bias,
                d_x, below or structure.vocabulary > 0, d == 1,
            )  # fmt: skip
            unpack_gradient(
                buffers.gradient, buffers.kernels[2 * (layer * D + d), 0], inputs, H,
                group, room, d_w, buffers.d_u, buffers.d_bias,
            )  # fmt: skip

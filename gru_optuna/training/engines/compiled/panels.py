"""The layout of weights and gates for vector code.

A panel is a group of V units with their gates side by side, so that one tile of ``tiles`` yields
all three gates of V units, ready to be combined in registers:

``w (J, C, 3, V)``, ``u (J, H, 3, V)``
    W and U transposed; gates of ``w`` in the order n, r, z, of ``u`` in the order r, z, n.
``bias (J, 4, V)``
    ``b_r + c_r``, ``b_z + c_z``, ``b_n``, ``c_n``.
``gates (J, S, 4, V)``
    forward: r, z, n and ``U_n h + c_n``. The backward pass overwrites them with derivatives of
    the pre-activations: n, r, z, and r * n for what stands behind r in n. Columns 0:3 then are
    W's and columns 1:4 are U's, both without a gap: hence the two orders of gates.
``w_back (G, 3 P, 2 V)``, ``u_back (G, 3 P, 2 V)``
    W and U as torch stores them, with gate rows in the order of panels and columns in G groups
    of two vectors: derivatives of x and h are products from the other side.

``b_r`` and ``c_r`` are only ever added up, and so are ``b_z`` and ``c_z``; ``c_n`` is apart
because r multiplies it. Units after H have zero weights: their states and derivatives stay zero.
"""

from __future__ import annotations

from gru_optuna.training.engines.compiled.compiler import compiled
from gru_optuna.training.engines.compiled.vectors import Array, lanes


@compiled()
def pack_direction(
    parameters: Array,  # flat, torch's order: weight_ih, weight_hh, bias_ih, bias_hh
    at: int,  # where weight_ih starts
    inputs: int,  # C
    hidden: int,  # H
    group: int,  # columns of one direction of the layer below (H), or of all the input (C)
    padded: int,  # the columns that such a group occupies in the input buffer (P, or C)
    w: Array,
    u: Array,
    bias: Array,
    w_back: Array,
    u_back: Array,
    input_gradient: bool,
) -> None:
    """Copies one direction's parameters into panels."""
    size = lanes(parameters)
    at_u = at + 3 * hidden * inputs
    at_b = at_u + 3 * hidden * hidden
    at_c = at_b + 3 * hidden
    width = 2 * size
    for unit in range(hidden):
        j, lane = unit // size, unit % size
        for gate in range(3):
            row = gate * hidden + unit
            place = (gate + 1) % 3  # n, r, z
            for k in range(inputs):
                column = k // group * padded + k % group
                w[j, column, place, lane] = parameters[at + row * inputs + k]
            for k in range(hidden):
                u[j, k, gate, lane] = parameters[at_u + row * hidden + k]
                u_back[k // width, (j * 3 + gate) * size + lane, k % width] = u[j, k, gate, lane]
            if input_gradient:
                for k in range(inputs):
                    column = k // group * padded + k % group
                    w_back[column // width, (j * 3 + place) * size + lane, column % width] = (
                        parameters[at + row * inputs + k]
                    )
        bias[j, 0, lane] = parameters[at_b + unit] + parameters[at_c + unit]
        bias[j, 1, lane] = parameters[at_b + hidden + unit] + parameters[at_c + hidden + unit]
        bias[j, 2, lane] = parameters[at_b + 2 * hidden + unit]
        bias[j, 3, lane] = parameters[at_c + 2 * hidden + unit]


@compiled()
def unpack_gradient(
    gradient: Array,  # flat, as `pack_direction` reads parameters
    at: int,
    inputs: int,
    hidden: int,
    group: int,
    padded: int,
    d_w: Array,
    d_u: Array,
    d_bias: Array,
) -> None:
    """Copies one direction's gradients out of their panels."""
    size = lanes(gradient)
    at_u = at + 3 * hidden * inputs
    at_b = at_u + 3 * hidden * hidden
    at_c = at_b + 3 * hidden
    for unit in range(hidden):
        j, lane = unit // size, unit % size
        for gate in range(3):
            row = gate * hidden + unit
            place = (gate + 1) % 3
            for k in range(inputs):
                column = k // group * padded + k % group
                gradient[at + row * inputs + k] = d_w[j, column, place, lane]
            for k in range(hidden):
                gradient[at_u + row * hidden + k] = d_u[j, k, gate, lane]
            gradient[at_b + row] = d_bias[j, place, lane]
            # After n, r and z, d_bias holds r * n, which is the derivative of c_n.
            gradient[at_c + row] = d_bias[j, place if gate < 2 else 3, lane]

"""One direction of one layer over one batch: forward, and backward by hand.

The reset-after GRU of cuDNN and ``torch.nn.GRU``, a form of Cho et al. 2014 in which r multiplies
the product ``U_n h + c_n`` instead of h, so that all three products with h are one::

    r = sigmoid(W_r x + b_r + U_r h + c_r)
    z = sigmoid(W_z x + b_z + U_z h + c_z)
    n = tanh(W_n x + b_n + r * (U_n h + c_n))
    h' = (1 - z) * n + z * h

Backward, with d the derivative of h' and sigmoid' = s (1 - s), tanh' = 1 - n²::

    d_n = d (1 - z) (1 - n²)        by the argument of tanh
    d_r = d_n (U_n h + c_n) r (1 - r)      by those of the sigmoids
    d_z = d (h - n) z (1 - z)
    d_h = d z + U_r' d_r + U_z' d_z + U_n' (d_n r)

``panels`` describes how weights and gates lie in memory.
"""

from __future__ import annotations

from gru_optuna.training.engines.compiled.compiler import compiled
from gru_optuna.training.engines.compiled.tiles import multiply_by_three, multiply_by_two
from gru_optuna.training.engines.compiled.vectors import (
    Array,
    lanes,
    load,
    sigmoid,
    splat,
    store,
    tanh,
)

# Derivatives of this many cells are collected before they are added to the weights' gradient:
# enough to pay for reading and writing it, and few enough to be in the second-level cache still.
CELLS_PER_UPDATE = 128


@compiled()
def _gates_forward(
    from_input: Array,  # (B, 3 V) W x, in the order n, r, z
    from_state: Array,  # (B, 3 V) U h, in the order r, z, n
    bias: Array,
    previous: Array,
    gates: Array,
    output: Array,
    mask: Array,
    j: int,
    start: int,
    rows: int,
    next_start: int,  # of the next step processed
    next_rows: int,
    column: int,  # of the panel's first unit in `output`
) -> None:
    size = lanes(gates)
    width = previous.shape[1]
    one = splat(gates, 1.0)
    b_r, b_z = load(bias, j * 4 * size), load(bias, (j * 4 + 1) * size)
    b_n, c_n = load(bias, (j * 4 + 2) * size), load(bias, (j * 4 + 3) * size)
    for i in range(rows):
        x = s = 3 * size * i
        at = (j * gates.shape[1] + start + i) * 4 * size
        state = load(previous, (start + i) * width + j * size)
        r = sigmoid(gates, load(from_input, x + size) + load(from_state, s) + b_r)
        z = sigmoid(gates, load(from_input, x + 2 * size) + load(from_state, s + size) + b_z)
        # c_n stays inside: r multiplies it (see above).
        hidden_n = load(from_state, s + 2 * size) + c_n
        n = tanh(gates, load(from_input, x) + b_n + r * hidden_n)
        state = (one - z) * n + z * state
        store(gates, at, r)
        store(gates, at + size, z)
        store(gates, at + 2 * size, n)
        store(gates, at + 3 * size, hidden_n)
        # The mask is for what the next layer reads; the recurrence itself goes on without it.
        dropped = state * load(mask, i * mask.shape[1] + column)
        store(output, (start + i) * output.shape[1] + column, dropped)
        # Rows are sorted by length, so those that continue are the first.
        if i < next_rows:
            store(previous, (next_start + i) * width + j * size, state)


@compiled()
def forward_direction(
    x: Array,  # (S, C)
    starts: Array,  # (T + 1,)
    reverse: bool,  # from each row's last step to its first
    hidden: int,
    w: Array,
    u: Array,
    bias: Array,
    previous: Array,  # (S, P) out: the state before each cell's step
    gates: Array,  # (J, S, 4, V) out
    output: Array,  # (S, W) out: states times mask
    mask: Array,  # (B, W) dropout, one draw a row and feature
    direction: int,
    scratch: Array,  # (2, B, 3 V)
) -> None:
    """Runs one direction over all steps and keeps what `backward_direction` needs.

    In reverse, a row joins at its own last step with a zero state. That reverses each row within
    its length, without moving any data.
    """
    panels, size = w.shape[0], lanes(gates)
    width, panel = panels * size, 3 * size
    inputs = w.shape[1]
    from_input, from_state = scratch[0], scratch[1]
    steps = starts.shape[0] - 1
    for s in range(steps):
        t = steps - 1 - s if reverse else s
        start, rows = starts[t], starts[t + 1] - starts[t]
        next_start, next_rows = 0, 0
        if s + 1 < steps:
            following = t - 1 if reverse else t + 1
            next_start, next_rows = starts[following], starts[following + 1] - starts[following]
        joined = 0
        if s > 0:
            joined = min(rows, starts[t + 2] - starts[t + 1]) if reverse else rows
        previous[start + joined : start + rows] = 0
        next_rows = min(next_rows, rows)
        for j in range(panels):
            # One panel of weights at a time goes over all rows, and stays in the first-level
            # cache meanwhile. At H = 128 a panel of w and one of u together exceed its 32 KB.
            multiply_by_three(
                from_input, 0, panel, x, start * x.shape[1], x.shape[1], 1, 0,
                w, j * inputs * panel, panel, rows, 1, inputs, False,
            )  # fmt: skip
            multiply_by_three(
                from_state, 0, panel, previous, start * width, width, 1, 0,
                u, j * hidden * panel, panel, rows, 1, hidden, False,
            )  # fmt: skip
            _gates_forward(
                from_input, from_state, bias, previous, gates, output, mask, j, start, rows,
                next_start, next_rows, direction * width + j * size,
            )  # fmt: skip


@compiled()
def _gates_backward(
    gates: Array,
    previous: Array,
    d_state: Array,  # (B, P) or wider; in: by h after the step, out: by h before, through z alone
    d_output: Array,  # (S, W)
    mask: Array,
    d_bias: Array,  # (J, 4, V) in the order n, r, z, r * n
    j: int,
    start: int,
    rows: int,
    column: int,
) -> None:
    size = lanes(gates)
    one = splat(gates, 1.0)
    at_bias = j * 4 * size
    sum_n, sum_r = load(d_bias, at_bias), load(d_bias, at_bias + size)
    sum_z, sum_hidden = load(d_bias, at_bias + 2 * size), load(d_bias, at_bias + 3 * size)
    for i in range(rows):
        cell = start + i
        at = (j * gates.shape[1] + cell) * 4 * size
        r, z = load(gates, at), load(gates, at + size)
        n, hidden_n = load(gates, at + 2 * size), load(gates, at + 3 * size)
        state = load(previous, cell * previous.shape[1] + j * size)
        at_state = i * d_state.shape[1] + j * size
        d = load(d_state, at_state) + (
            load(d_output, cell * d_output.shape[1] + column)
            * load(mask, i * mask.shape[1] + column)
        )
        d_n = d * (one - z) * (one - n * n)
        d_r = d_n * hidden_n * r * (one - r)
        d_z = d * (state - n) * z * (one - z)
        d_hidden = d_n * r
        store(gates, at, d_n)
        store(gates, at + size, d_r)
        store(gates, at + 2 * size, d_z)
        store(gates, at + 3 * size, d_hidden)
        store(d_state, at_state, d * z)
        sum_n, sum_r = sum_n + d_n, sum_r + d_r
        sum_z, sum_hidden = sum_z + d_z, sum_hidden + d_hidden
    store(d_bias, at_bias, sum_n)
    store(d_bias, at_bias + size, sum_r)
    store(d_bias, at_bias + 2 * size, sum_z)
    store(d_bias, at_bias + 3 * size, sum_hidden)


@compiled()
def backward_direction(
    x: Array,
    starts: Array,
    reverse: bool,
    hidden: int,
    u_back: Array,
    w_back: Array,
    previous: Array,
    gates: Array,  # in: from the forward pass, out: derivatives
    d_output: Array,  # (S, W) dL/d output of this layer, after dropout
    mask: Array,
    direction: int,
    d_state: Array,  # (B, P rounded up to two vectors) work space
    d_w: Array,  # (J, C, 3, V) out
    d_u: Array,  # (J, H, 3, V) out
    d_bias: Array,  # (J, 4, V) out
    d_x: Array,  # (S, W) of the layer below, or of the embedded tokens, out
    input_gradient: bool,
    add_input_gradient: bool,  # the second direction adds to the first one's
) -> None:
    """Backpropagates one direction through time.

    The steps go backward one by one, since each needs the derivative of its own state from the
    step after. The gradients of weights and input don't: they are larger products over the cells
    of several steps, which lie one after another.
    """
    panels, size = d_w.shape[0], lanes(gates)
    width, panel, unit = panels * size, 3 * size, 4 * size
    inputs = d_w.shape[1]
    stride = gates.shape[1] * unit  # from panel to panel
    steps = starts.shape[0] - 1
    d_state[:] = 0
    d_bias[:] = 0
    gathered = 0  # cells whose derivatives aren't in the gradients yet
    updated = False
    for s in range(steps):
        t = s if reverse else steps - 1 - s
        start, rows = starts[t], starts[t + 1] - starts[t]
        for j in range(panels):
            _gates_backward(
                gates, previous, d_state, d_output, mask, d_bias, j, start, rows,
                direction * width + j * size,
            )  # fmt: skip
        last = s + 1 == steps
        if not last:
            # A row that wasn't running one step earlier began with a constant state, zero.
            earlier = t + 1 if reverse else t - 1
            continuing = min(rows, starts[earlier + 1] - starts[earlier])
            for c in range(u_back.shape[0]):
                multiply_by_two(
                    d_state, c * 2 * size, d_state.shape[1],
                    gates, start * unit + size, unit, 1, stride,
                    u_back, c * panels * panel * 2 * size, 2 * size,
                    continuing, panels, panel, True,
                )  # fmt: skip
        gathered += rows
        if gathered < CELLS_PER_UPDATE and not last:
            continue
        first = starts[t + 1] - gathered if reverse else start
        for j in range(panels):
            at = j * stride + first * unit
            multiply_by_three(
                d_w, j * inputs * panel, panel, x, first * x.shape[1], 1, x.shape[1], 0,
                gates, at, unit, inputs, 1, gathered, updated,
            )  # fmt: skip
            multiply_by_three(
                d_u, j * hidden * panel, panel, previous, first * width, 1, width, 0,
                gates, at + size, unit, hidden, 1, gathered, updated,
            )  # fmt: skip
        if input_gradient:
            for c in range(w_back.shape[0]):
                multiply_by_two(
                    d_x, first * d_x.shape[1] + c * 2 * size, d_x.shape[1],
                    gates, first * unit, unit, 1, stride,
                    w_back, c * panels * panel * 2 * size, 2 * size,
                    gathered, panels, panel, add_input_gradient,
                )  # fmt: skip
        gathered = 0
        updated = True

"""Pooling, linear head and loss, forward and backward.

Plain loops: they take a few per cent of a step, because they run once for each row instead of
once for each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.training.engines.compiled.compiler import compiled, inlined
from gru_optuna.training.engines.compiled.workspace import LAST, MAX, MEAN, MEAN_MAX

if TYPE_CHECKING:
    from gru_optuna.training.engines.compiled.slots import RowArrays
    from gru_optuna.training.engines.compiled.updates import Recipe
    from gru_optuna.training.engines.compiled.vectors import Array
    from gru_optuna.training.engines.compiled.workspace import Buffers, Structure


@compiled()
def _length(starts: Array, steps: int, b: int) -> int:
    """The length of the batch's row `b`: step t has a cell for it while t is less."""
    t = steps
    while starts[t] - starts[t - 1] <= b:
        t -= 1
    return t


@inlined
def pool(structure: Structure, buffers: Buffers, steps: int) -> None:
    """Reduces the last layer's outputs to one vector a row, as the network's pooling says."""
    padded = buffers.previous.shape[3]
    width = structure.directions * padded
    output = buffers.output[structure.layers - 1]
    if structure.pooling == LAST:
        _pool_last(buffers, output, steps, padded, width)
    elif structure.pooling == MEAN:
        _pool_mean(buffers, output, steps, width)
    elif structure.pooling == MAX:
        _pool_max(buffers, output, steps, width, 0)
    else:
        _pool_mean(buffers, output, steps, width)
        _pool_max(buffers, output, steps, width, width)


@inlined
def pool_backward(structure: Structure, buffers: Buffers, steps: int) -> None:
    """Distributes ``d_pooled`` among the cells that `pool` read."""
    padded = buffers.previous.shape[3]
    width = structure.directions * padded
    d_output = buffers.d_output[(structure.layers - 1) % 2]
    if structure.pooling == LAST:
        _last_backward(buffers, d_output, steps, padded, width)
    elif structure.pooling == MEAN:
        _mean_backward(buffers, d_output, steps, width)
    elif structure.pooling == MAX:
        d_output[: buffers.starts[steps]] = 0
        _max_backward(buffers, d_output, width, 0)
    else:
        _mean_backward(buffers, d_output, steps, width)
        _max_backward(buffers, d_output, width, width)


@compiled()
def _pool_last(buffers: Buffers, output: Array, steps: int, padded: int, width: int) -> None:
    starts = buffers.starts
    for b in range(starts[1]):
        cell = starts[_length(starts, steps, b) - 1] + b
        for k in range(padded):
            buffers.pooled[b, k] = output[cell, k]
        # The backward direction has read the whole row when it arrives at step 0.
        for k in range(padded, width):
            buffers.pooled[b, k] = output[b, k]


@compiled()
def _last_backward(buffers: Buffers, d_output: Array, steps: int, padded: int, width: int) -> None:
    starts = buffers.starts
    d_output[: starts[steps]] = 0
    for b in range(starts[1]):
        cell = starts[_length(starts, steps, b) - 1] + b
        for k in range(padded):
            d_output[cell, k] = buffers.d_pooled[b, k]
        for k in range(padded, width):
            d_output[b, k] = buffers.d_pooled[b, k]


@compiled()
def _pool_mean(buffers: Buffers, output: Array, steps: int, width: int) -> None:
    starts = buffers.starts
    buffers.pooled[: starts[1], :width] = 0
    for t in range(steps):
        for b in range(starts[t + 1] - starts[t]):
            for k in range(width):
                buffers.pooled[b, k] += output[starts[t] + b, k]
    for b in range(starts[1]):
        length = _length(starts, steps, b)
        for k in range(width):
            buffers.pooled[b, k] /= length


@compiled()
def _mean_backward(buffers: Buffers, d_output: Array, steps: int, width: int) -> None:
    starts = buffers.starts
    for b in range(starts[1]):
        length = _length(starts, steps, b)
        for k in range(width):
            buffers.d_pooled[b, k] /= length
    for t in range(steps):
        for b in range(starts[t + 1] - starts[t]):
            for k in range(width):
                d_output[starts[t] + b, k] = buffers.d_pooled[b, k]


@compiled()
def _pool_max(buffers: Buffers, output: Array, steps: int, width: int, first: int) -> None:
    """Writes the maxima into ``pooled``, from column `first` on, and remembers their cells."""
    starts = buffers.starts
    for b in range(starts[1]):
        for k in range(width):
            buffers.pooled[b, first + k] = output[b, k]
            buffers.highest[b, k] = b
    for t in range(1, steps):
        for b in range(starts[t + 1] - starts[t]):
            cell = starts[t] + b
            for k in range(width):
                # Not "greater": a state that is NaN has to reach the loss.
                if not output[cell, k] <= buffers.pooled[b, first + k]:
                    buffers.pooled[b, first + k] = output[cell, k]
                    buffers.highest[b, k] = cell


@compiled()
def _max_backward(buffers: Buffers, d_output: Array, width: int, first: int) -> None:
    for b in range(buffers.starts[1]):
        for k in range(width):
            d_output[buffers.highest[b, k], k] += buffers.d_pooled[b, first + k]


@compiled(fastmath={"reassoc", "contract"})
def head(structure: Structure, parameters: Array, buffers: Buffers) -> None:
    """Computes the logits of the batch, whose rows are sorted by length."""
    H, padded = structure.hidden_size, buffers.previous.shape[3]
    # Of a row's pooled vector: both directions' means, then both directions' maxima.
    blocks = structure.directions * (2 if structure.pooling == MEAN_MAX else 1)
    at, at_bias = buffers.kernels[-1]
    for b in range(buffers.starts[1]):
        for o in range(structure.outputs):
            total = parameters[at_bias + o]
            for d in range(blocks):
                weight = at + (o * blocks + d) * H
                for k in range(H):
                    total += buffers.pooled[b, d * padded + k] * parameters[weight + k]
            buffers.logits[b, o] = total


@compiled(fastmath={"contract"})
def head_backward(structure: Structure, parameters: Array, buffers: Buffers) -> None:
    """Turns the derivatives in ``logits`` into the head's gradient and ``d_pooled``."""
    H, padded = structure.hidden_size, buffers.previous.shape[3]
    # Of a row's pooled vector: both directions' means, then both directions' maxima.
    blocks = structure.directions * (2 if structure.pooling == MEAN_MAX else 1)
    at, at_bias = buffers.kernels[-1]
    buffers.gradient[at:] = 0
    buffers.d_pooled[: buffers.starts[1]] = 0
    for b in range(buffers.starts[1]):
        for o in range(structure.outputs):
            d_logit = buffers.logits[b, o]
            buffers.gradient[at_bias + o] += d_logit
            for d in range(blocks):
                weight = at + (o * blocks + d) * H
                for k in range(H):
                    buffers.gradient[weight + k] += d_logit * buffers.pooled[b, d * padded + k]
                    buffers.d_pooled[b, d * padded + k] += d_logit * parameters[weight + k]


@inlined
def batch_loss(
    structure: Structure, recipe: Recipe, rows: RowArrays, chosen: Array, buffers: Buffers
) -> float:
    """Returns the batch's mean loss and replaces ``logits`` by its derivatives.

    The loss is that of ``losses.loss``: cross entropy for labels, squared error for targets.
    """
    if rows.targets.shape[0] > 0:
        total = _squared_errors(structure.outputs, rows, chosen, buffers)
    else:
        total = _cross_entropies(structure.outputs, recipe, rows, chosen, buffers)
    mean: float = total / chosen.shape[0]
    return mean


@inlined
def _squared_errors(outputs: int, rows: RowArrays, chosen: Array, buffers: Buffers) -> float:
    logits, batch = buffers.logits, chosen.shape[0]
    total = 0.0
    scale = 2.0 / (batch * outputs)
    for b in range(batch):
        for o in range(outputs):
            target = rows.targets[chosen[buffers.rows[b]], o]
            if not np.isfinite(target):  # missing: counts as predicted exactly
                logits[b, o] = 0
                continue
            error = logits[b, o] - target
            total += error * error
            logits[b, o] = scale * error
    return total / outputs


@inlined
def _cross_entropies(
    outputs: int, recipe: Recipe, rows: RowArrays, chosen: Array, buffers: Buffers
) -> float:
    logits, batch, weights = buffers.logits, chosen.shape[0], rows.class_weights
    weighted = weights.shape[0] > 0
    smoothing = recipe.label_smoothing
    spread = smoothing / outputs  # the share of the target that every class gets
    all_weights = weights.sum() if weighted else float(outputs)
    total = 0.0
    for b in range(batch):
        label = rows.labels[chosen[buffers.rows[b]]]
        weight = 1.0
        if weighted:
            weight = weights[label]
        weight *= 1 - smoothing
        # Less the highest logit, exp can't overflow; softmax stays the same.
        highest = logits[b, 0]
        for o in range(1, outputs):
            highest = max(highest, logits[b, o])
        true_logit = logits[b, label] - highest
        mass = 0.0
        for o in range(outputs):
            mass += np.exp(logits[b, o] - highest)
        total += weight * (np.log(mass) - true_logit)
        for o in range(outputs):
            share = np.exp(logits[b, o] - highest) / mass
            d_logit = weight * (share - (1.0 if o == label else 0.0))
            if smoothing > 0:
                of_class = 1.0
                if weighted:
                    of_class = weights[o]
                total += spread * of_class * (np.log(mass) - (logits[b, o] - highest))
                d_logit += spread * (all_weights * share - of_class)
            logits[b, o] = d_logit / batch
    return total

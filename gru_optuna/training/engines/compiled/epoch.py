"""The functions that Python calls: an epoch of one slot, and predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from gru_optuna.data.dataset import Split
from gru_optuna.errors import Quantity
from gru_optuna.training.engines.compiled.compiler import compile_once, entry
from gru_optuna.training.engines.compiled.embedding import embed, embed_backward
from gru_optuna.training.engines.compiled.head import (
    batch_loss,
    head,
    head_backward,
    pool,
    pool_backward,
)
from gru_optuna.training.engines.compiled.layers import backward, forward, gather, pack
from gru_optuna.training.engines.compiled.slots import RowArrays, SlotArrays
from gru_optuna.training.engines.compiled.updates import Recipe, penalize, update
from gru_optuna.training.engines.compiled.workspace import Buffers, KernelWorkspace, Structure
from gru_optuna.training.network import Network

if TYPE_CHECKING:
    import numpy.typing as npt

    from gru_optuna.training.engines.compiled.vectors import Array

FINE, LOSS, GRADIENT = 0, 1, 2
DIVERGED = {LOSS: Quantity.TRAINING_LOSS, GRADIENT: Quantity.GRADIENT}
"""What stopped being finite, by how an epoch ended."""


def train_epoch(
    workspace: KernelWorkspace,
    slot: SlotArrays,
    rows: RowArrays,
    order: npt.NDArray[np.int64],
    recipe: Recipe,
    masks: Array | None = None,
) -> tuple[float, int]:
    """Trains a slot on the rows of `order`, once each, without the interpreter's lock.

    Parameters
    ----------
    workspace
        For the slot's network and dtype, and not in use by another thread.
    slot
        Trained in place.
    rows
        The training split.
    order
        (N,) int64, the rows in the order to train on, or a part of them.
    recipe
        The slot's hyperparameters in this epoch.
    masks
        (L, N, D * H) dropout masks as ``regularizers.dropout_masks`` makes them, where row n
        belongs to the row ``order[n]``; None without dropout.

    Returns
    -------
    float
        Mean loss over the rows, without penalties, each before its batch's update.
    int
        `FINE`; or `LOSS` or `GRADIENT` if that wasn't finite. Training then ended before that
        update, and the loss isn't the epoch's.

    Raises
    ------
    ValueError
        If something doesn't fit: compiled code would write outside its arrays.
    """
    order = np.require(order, np.int64, ["C", "W"])
    structure, dtype = workspace.structure, workspace.dtype
    none = np.zeros((0, 0, 0), dtype)
    masks = none if masks is None else np.require(masks, dtype, ["C", "W"])
    features = structure.directions * structure.hidden_size
    expected = (structure.layers, len(order), features)
    _check(recipe.batch_size >= 1, f"batch_size = {recipe.batch_size}, need at least 1")
    _check(masks is none or masks.shape == expected, f"masks: {masks.shape}, need {expected}")
    _check_rows(workspace, rows, order, min(recipe.batch_size, len(order)))
    for array in (slot.parameters, slot.first_moment, slot.second_moment):
        _check_parameters(workspace, array)
    _check_targets(rows, structure.outputs)
    logits = np.zeros((0, 0), dtype)
    return _run(structure, workspace.buffers, slot, recipe.exact(), rows, order, masks, logits)


def predict(workspace: KernelWorkspace, parameters: Array, rows: RowArrays) -> Array:
    """Logits (N, O) of a split, in its order, without dropout or the interpreter's lock."""
    structure, dtype = workspace.structure, workspace.dtype
    order = np.arange(len(rows.lengths))
    _check_rows(workspace, rows, order, min(workspace.batch_size, len(order)))
    _check_parameters(workspace, parameters)
    parameters = np.require(parameters, requirements=["C", "W"])
    logits = np.zeros((len(order), structure.outputs), dtype)
    # Predicting reads and writes no moments; they only have to be there.
    slot = SlotArrays(parameters, parameters, parameters, np.zeros(1, np.int64))
    recipe, masks = Recipe(workspace.batch_size, 0.0).exact(), np.zeros((0, 0, 0), dtype)
    _run(structure, workspace.buffers, slot, recipe, rows, order, masks, logits)
    return logits


def warm_up(dtype: npt.DTypeLike = np.float32) -> None:
    """Compiles for `dtype`, or loads what another process compiled.

    The first call on a machine takes 15 to 20 seconds for each dtype, later ones half a second.
    One compilation serves all networks, recipes and kinds of rows.
    """
    network = Network(1, 1, 1, False, "last", 1)
    workspace = KernelWorkspace.of(network, 1, 1, dtype)
    slot = SlotArrays.of(np.zeros(network.size(), dtype))
    zero = torch.zeros(1, dtype=torch.int64)
    rows = RowArrays.of(Split(torch.zeros(1, 1), zero, zero + 1, zero), dtype)
    compile_once(
        np.dtype(dtype).name,
        lambda: train_epoch(workspace, slot, rows, zero.numpy(), Recipe(1, 0.0)),
    )


@entry
def _run(
    structure: Structure,
    buffers: Buffers,
    slot: SlotArrays,
    recipe: Recipe,
    rows: RowArrays,
    order: Array,
    masks: Array,  # (L, N, D * H), or (0, 0, 0)
    logits: Array,  # (N, O) to predict, (0, 0) to train
) -> tuple[float, int]:
    # One function for training and predicting: what they share would be compiled twice otherwise.
    training = logits.shape[0] == 0
    if training:
        buffers.clipped[0] = 0
    total = 0.0
    for start in range(0, order.shape[0], recipe.batch_size):
        chosen = order[start : start + recipe.batch_size]
        steps = gather(structure, rows, chosen, buffers)
        if structure.vocabulary > 0:
            embed(structure, slot.parameters, buffers, steps)
        if training or start == 0:  # weights change with every update, but not in a prediction
            pack(structure, slot.parameters, buffers)
        forward(structure, buffers, steps, masks[:, start : start + recipe.batch_size])
        pool(structure, buffers, steps)
        head(structure, slot.parameters, buffers)
        if not training:
            for b in range(chosen.shape[0]):
                for o in range(structure.outputs):
                    logits[start + buffers.rows[b], o] = buffers.logits[b, o]
            continue
        loss = batch_loss(structure, recipe, rows, chosen, buffers)
        if not np.isfinite(loss):
            return loss, LOSS
        total += loss * chosen.shape[0]
        head_backward(structure, slot.parameters, buffers)
        pool_backward(structure, buffers, steps)
        backward(structure, buffers, steps)
        if structure.vocabulary > 0:
            embed_backward(structure, buffers, steps)
        norm = penalize(recipe, slot.parameters, buffers)
        if not np.isfinite(norm):
            return total, GRADIENT
        buffers.clipped[0] += update(slot, recipe, buffers.gradient, norm)
    return total / order.shape[0], FINE


def _check_rows(workspace: KernelWorkspace, rows: RowArrays, order: Array, batch_size: int) -> None:
    room, dtype = workspace.steps, workspace.dtype
    _check(len(order) > 0, "order: no rows")
    count = len(rows.lengths)
    _check(len(rows.starts) == count, f"starts of {len(rows.starts)} rows, lengths of {count}")
    _check(rows.values.dtype == dtype, f"values are {rows.values.dtype}, workspace is {dtype}")
    inputs, vocabulary = workspace.network.inputs, workspace.network.vocabulary
    _check(_within(order, count), f"order names rows outside [0, {count})")
    end = int((rows.starts[order] + rows.lengths[order]).max())
    if vocabulary:
        fits = len(rows.tokens) >= end and rows.vocabulary <= vocabulary
        _check(fits, f"tokens: need {end}, in [0, {vocabulary})")
    else:
        (steps, channels) = rows.values.shape
        _check(steps >= end, f"values of {steps} steps, rows reach to {end}")
        _check(channels == inputs, f"values have {channels} channels, network reads {inputs}")
    longest = int(rows.lengths[order].max())
    _check(longest <= room, f"rows have up to {longest} steps, workspace has room for {room}")
    _check(batch_size <= workspace.batch_size,
           f"batches of {batch_size}, workspace has room for {workspace.batch_size}")  # fmt: skip


def _check_targets(rows: RowArrays, outputs: int) -> None:
    count = len(rows.lengths)
    if len(rows.targets):
        got = rows.targets.shape
        _check(got == (count, outputs), f"targets: {got}, need ({count}, {outputs})")
    else:
        classes = len(rows.labels) == count and _within(rows.labels, outputs)
        _check(classes, f"labels: need one a row, in [0, {outputs})")
        weights = rows.class_weights.shape
        _check(weights in ((0,), (outputs,)), f"class_weights: {weights}, need ({outputs},)")


def _check_parameters(workspace: KernelWorkspace, array: Array) -> None:
    size, dtype = workspace.buffers.gradient.size, workspace.dtype
    _check(array.shape == (size,) and array.dtype == dtype,
           f"got {array.dtype} {array.shape}, need {dtype} ({size},)")  # fmt: skip


def _within(numbers: Array, end: int) -> bool:
    return bool(numbers.min() >= 0 and numbers.max() < end)


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)

"""Compiled training on texts, and losses of every kind, against the reference."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
import torch
from helpers.compiled_reference import (
    NETWORK,
    RECIPE,
    Reference,
    assert_same_training,
    split_of,
    weights_of,
)

from gru_optuna.data.dataset import one_after_another
from gru_optuna.hyperparameters import Pooling
from gru_optuna.training.engines.compiled.epoch import train_epoch
from gru_optuna.training.engines.compiled.slots import RowArrays, SlotArrays, flatten, unflatten
from gru_optuna.training.engines.compiled.updates import ADAM, RMSPROP, Recipe
from gru_optuna.training.engines.compiled.workspace import KernelWorkspace
from gru_optuna.training.network import EMBEDDING, Network

if TYPE_CHECKING:
    from torch import Tensor

TEXTS = replace(NETWORK, vocabulary=11)


@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_network_trains_as_the_reference(
    layers: int, bidirectional: bool, pooling: str
) -> None:
    network = Network(5, 9, layers, bidirectional, pooling, 3, vocabulary=11)
    assert_same_training(network, RECIPE, split_of(network), dropout=0.3)


# Either side of one vector, of a pair of them, and of the width of a layer.
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("size", [1, 7, 8, 16, 17, 40])
def test_any_embedding_size_trains_as_the_reference(size: int, layers: int) -> None:
    network = replace(TEXTS, inputs=size, layers=layers, bidirectional=True)
    assert_same_training(network, RECIPE, split_of(network), epochs=2)


@pytest.mark.parametrize("clip_norm", [math.inf, 0.01])
@pytest.mark.parametrize("optimizer", [ADAM, RMSPROP])
def test_every_recipe_trains_as_the_reference(optimizer: int, clip_norm: float) -> None:
    """The embedding counts in the norm, and no penalty counts in the embedding."""
    recipe = Recipe(4, 0.01, optimizer, clip_norm, 1e-3, 1e-2)
    assert_same_training(TEXTS, recipe, split_of(TEXTS))


def test_tokens_that_no_batch_holds_move_on_their_moments() -> None:
    """As torch's dense updates do: Adam is not to be lazy."""
    split = split_of(TEXTS, rows=2, steps=1)
    split.steps[:] = torch.tensor([3, 4])
    assert_same_training(TEXTS, RECIPE._replace(batch_size=1), split)
    reference = Reference(TEXTS, RECIPE._replace(batch_size=1))
    reference.epoch(split, torch.tensor([0]), None)
    before = reference.model.embedding.weight[3].detach().clone()
    reference.epoch(split, torch.tensor([1]), None)
    assert not torch.equal(reference.model.embedding.weight[3], before)


def test_a_token_that_was_never_read_stays_as_it_was() -> None:
    split = split_of(TEXTS)
    split.steps[split.steps == 7] = 8
    slot = SlotArrays.of(flatten(TEXTS, weights_of(TEXTS)))
    workspace = KernelWorkspace.of(TEXTS, 8, 9)
    train_epoch(workspace, slot, RowArrays.of(split), np.arange(13), RECIPE)
    after = unflatten(TEXTS, slot.parameters)[EMBEDDING]
    moved = (after != weights_of(TEXTS)[EMBEDDING].float()).any(dim=1)
    assert moved.tolist() == [row != 7 for row in range(11)]


def test_more_cells_than_one_update_of_the_weight_gradients_gathers() -> None:
    network = replace(TEXTS, bidirectional=True)
    recipe = RECIPE._replace(batch_size=40)
    assert_same_training(network, recipe, split_of(network, rows=40, steps=30), epochs=2)


def test_rows_that_are_cut_train_as_shorter_rows() -> None:
    split = split_of(TEXTS)
    rows, order = RowArrays.of(split).cut(4), np.arange(13)
    shorter = RowArrays.of(one_after_another([split.cut(4).batch()]))
    ends = []
    for steps, data in ((9, rows), (4, shorter)):
        slot = SlotArrays.of(flatten(TEXTS, weights_of(TEXTS)))
        train_epoch(KernelWorkspace.of(TEXTS, 8, steps), slot, data, order, RECIPE)
        ends.append(slot.parameters)
    np.testing.assert_array_equal(*ends)


# --- losses ---


@pytest.mark.parametrize("network", [NETWORK, TEXTS])
def test_class_weights_train_as_the_reference(network: Network) -> None:
    weights = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)
    assert_same_training(network, RECIPE, split_of(network), class_weights=weights)


@pytest.mark.parametrize("vocabulary", [0, 11])
@pytest.mark.parametrize("outputs", [1, 24])
def test_targets_that_are_not_numbers_count_as_met(outputs: int, vocabulary: int) -> None:
    network = replace(NETWORK, outputs=outputs, vocabulary=vocabulary)
    split = split_of(network, regression=True)
    split.targets[::3, -1] = math.nan
    assert_same_training(network, RECIPE, split)


# --- what does not fit ---


def text_rows(**changed: Tensor) -> RowArrays:
    return RowArrays.of(replace(split_of(TEXTS), **changed), np.float64)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (text_rows(steps=torch.full((117,), 11)), r"tokens: need 115, in \[0, 11\)"),
        (text_rows()._replace(tokens=np.zeros(114, np.int64)), "tokens: need 115"),
        (text_rows()._replace(class_weights=np.ones(2)), r"class_weights: \(2,\), need \(3,\)"),
        (RowArrays.of(split_of(NETWORK), np.float64), "tokens: need 115"),
    ],
)
def test_what_does_not_fit_is_refused_before_compiled_code_sees_it(
    rows: RowArrays, message: str
) -> None:
    slot = SlotArrays.of(flatten(TEXTS, weights_of(TEXTS), np.float64))
    workspace = KernelWorkspace.of(TEXTS, 8, 9, np.float64)
    with pytest.raises(ValueError, match=message):
        train_epoch(workspace, slot, rows, np.arange(13), RECIPE)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": torch.full((117,), -1)}, "token -1"),
        ({"steps": torch.zeros(114, dtype=torch.int64)}, "reach from step 0 to 115"),
        ({"starts": torch.full((13,), -1)}, "from step -1"),
        ({"lengths": torch.zeros(13, dtype=torch.int64)}, "rows of 0 steps"),
    ],
)
def test_rows_that_lie_elsewhere_are_refused(changed: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        text_rows(**changed)


def test_a_network_of_numbers_refuses_tokens() -> None:
    slot = SlotArrays.of(flatten(NETWORK, weights_of(NETWORK), np.float64))
    workspace = KernelWorkspace.of(NETWORK, 8, 9, np.float64)
    with pytest.raises(ValueError, match="values of 0 steps, rows reach to 115"):
        train_epoch(workspace, slot, text_rows(), np.arange(13), RECIPE)

"""What tests of compiled training share: rows, and the reference step by step.

Letters as in ``training.engines.compiled``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from gru_optuna.training.engines.compiled.epoch import FINE, predict, train_epoch
from gru_optuna.training.engines.compiled.slots import RowArrays, SlotArrays, flatten
from gru_optuna.training.engines.compiled.updates import ADAM, Recipe
from gru_optuna.training.engines.compiled.workspace import KernelWorkspace
from gru_optuna.training.losses import loss
from gru_optuna.training.network import Network, is_kernel
from gru_optuna.training.optimizers import make_optimizer
from gru_optuna.training.reference import GRU
from gru_optuna.training.regularizers import dropout_masks, penalty
from helpers.splits import split_of_rows

if TYPE_CHECKING:
    from torch import Tensor

    from gru_optuna.data.dataset import Split
    from gru_optuna.training.engines.compiled.vectors import Array

NETWORK = Network(5, 7, 1, False, "last", 3)
RECIPE = Recipe(batch_size=8, learning_rate=0.01)


def split_of(
    network: Network, rows: int = 13, steps: int = 9, regression: bool = False, seed: int = 0
) -> Split:
    """Random rows of lengths from 1 to `steps`, in float64.

    Behind their ends not-a-number, or tokens like any other: reading them would show.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, steps + 1, (rows,), generator=generator)
    lengths[0] = steps
    if network.vocabulary:
        values = torch.randint(0, network.vocabulary, (rows, steps), generator=generator)
    else:
        values = torch.randn(rows, steps, network.inputs, generator=generator, dtype=torch.float64)
        values[torch.arange(steps) >= lengths.unsqueeze(1)] = math.nan
    if regression:
        targets = torch.randn(rows, network.outputs, generator=generator, dtype=torch.float64)
    else:
        targets = torch.randint(0, network.outputs, (rows,), generator=generator)
    return split_of_rows(values, lengths, targets)


def weights_of(network: Network, seed: int = 0) -> dict[str, Tensor]:
    """Random parameters in float64, biases included: zeros would hide a mix-up of theirs."""
    generator = torch.Generator().manual_seed(seed)
    scale = network.hidden_size**-0.5
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) * scale
        for name, shape in network.shapes().items()
    }


@dataclass
class Reference:
    """Batches through ``reference.GRU``, autograd and torch.optim."""

    network: Network
    recipe: Recipe
    class_weights: Tensor | None = None

    def __post_init__(self) -> None:
        self.model = GRU(self.network).double()
        self.model.load_state_dict(weights_of(self.network))
        name = "adam" if self.recipe.optimizer == ADAM else "rmsprop"
        rate = self.recipe.learning_rate
        self.optimizer = make_optimizer(name, self.model.parameters(), rate)

    def loss(self, batch: Split, masks: Tensor | None) -> Tensor:
        outputs = self.model(batch.values, batch.lengths, masks)
        return loss(outputs, batch.targets, self.class_weights)

    def epoch(self, split: Split, order: Tensor, masks: Tensor | None) -> float:
        """What ``reference.Trainer.train_epoch`` does, on one given order and set of masks."""
        total, start, self.clipped = 0.0, 0, 0
        for batch in split.batches(self.recipe.batch_size, order):
            of_batch = None if masks is None else masks[:, start : start + len(batch)]
            start += len(batch)
            plain = self.loss(batch, of_batch)
            kernels = [w for name, w in self.model.named_parameters() if is_kernel(name)]
            self.optimizer.zero_grad()
            (plain + penalty(kernels, self.recipe.l1, self.recipe.l2)).backward()
            clip = self.recipe.clip_norm
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
            self.clipped += int(norm > clip)
            self.optimizer.step()
            total += plain.item() * len(batch)
        return total / len(order)

    def flat(self) -> Array:
        return flatten(self.network, dict(self.model.named_parameters()), np.float64)

    def logits(self, split: Split) -> Array:
        with torch.no_grad():
            return self.model(split.batch().values, split.lengths).numpy()


def masks_for(network: Network, rows: int, rate: float, seed: int = 0) -> Tensor | None:
    masks = dropout_masks(network, rows, rate, torch.Generator().manual_seed(seed))
    return None if masks is None else masks.double()


def assert_same_training(
    network: Network,
    recipe: Recipe,
    split: Split,
    dropout: float = 0.0,
    epochs: int = 3,
    class_weights: Tensor | None = None,
) -> None:
    """Losses, weights after each epoch and final logits equal the reference's to 1e-9."""
    reference = Reference(network, recipe, class_weights)
    rows = RowArrays.of(split, np.float64, class_weights)
    room = min(recipe.batch_size, len(split))
    workspace = KernelWorkspace.of(network, room, int(split.lengths.max()), np.float64)
    slot = SlotArrays.of(reference.flat())
    for number in range(epochs):
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(number))
        masks = masks_for(network, len(split), dropout, number)
        expected = reference.epoch(split, order, masks)
        mean, diverged = train_epoch(
            workspace, slot, rows, order.numpy(), recipe, None if masks is None else masks.numpy()
        )
        assert diverged == FINE
        assert mean == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert workspace.buffers.clipped[0] == reference.clipped
        np.testing.assert_allclose(slot.parameters, reference.flat(), rtol=0, atol=1e-9)
    logits = predict(workspace, slot.parameters, rows)
    np.testing.assert_allclose(logits, reference.logits(split), rtol=0, atol=1e-8)

"""From the gradient to the next weights: penalties, clipping, Adam and RMSprop.

All of it is one pass over the parameters after another, in place: a small network's parameters,
gradient and moments stay in the cache between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gru_optuna.training.engines.compiled.compiler import compiled

if TYPE_CHECKING:
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.training.engines.compiled.slots import SlotArrays
    from gru_optuna.training.engines.compiled.vectors import Array
    from gru_optuna.training.engines.compiled.workspace import Buffers

ADAM, RMSPROP = 0, 1
_OPTIMIZERS = {"adam": ADAM, "rmsprop": RMSPROP}

# torch.optim's defaults.
BETA_1, BETA_2, ALPHA, EPSILON = 0.9, 0.999, 0.99, 1e-8


class Recipe(NamedTuple):
    """The hyperparameters with which one slot learns in one epoch."""

    batch_size: int
    learning_rate: float
    optimizer: int = ADAM
    clip_norm: float = np.inf  # infinite: off
    l1: float = 0.0
    l2: float = 0.0
    label_smoothing: float = 0.0

    @classmethod
    def of(cls, hyperparameters: Hyperparameters, learning_rate: float) -> Recipe:
        """A trial's recipe at the learning rate of the epoch at hand."""
        h = hyperparameters
        clip_norm = h.clip_norm or np.inf
        optimizer = _OPTIMIZERS[h.optimizer]
        smoothing = h.label_smoothing or 0.0
        return cls(h.batch_size, learning_rate, optimizer, clip_norm, h.l1, h.l2, smoothing)

    def exact(self) -> Recipe:
        """The recipe in exact types: numba would compile everything again for an int as a float."""
        return Recipe(int(self.batch_size), float(self.learning_rate), int(self.optimizer),
                      float(self.clip_norm), float(self.l1), float(self.l2),
                      float(self.label_smoothing))  # fmt: skip


@compiled(fastmath={"reassoc", "contract"})
def penalize(recipe: Recipe, parameters: Array, buffers: Buffers) -> float:
    """Adds the derivatives of ``regularizers.penalty`` to the gradient and returns its norm."""
    gradient = buffers.gradient
    if recipe.l1 != 0.0 or recipe.l2 != 0.0:
        # In the parameters' dtype: float64 constants would turn the loop into float64.
        l1, twice_l2 = parameters.dtype.type(recipe.l1), parameters.dtype.type(2 * recipe.l2)
        for m in range(buffers.kernels.shape[0]):
            for i in range(buffers.kernels[m, 0], buffers.kernels[m, 1]):
                weight = parameters[i]
                gradient[i] += l1 * np.sign(weight) + twice_l2 * weight
    squares = 0.0
    for i in range(gradient.shape[0]):
        squares += gradient[i] * gradient[i]
    norm: float = np.sqrt(squares)
    return norm


@compiled(fastmath={"contract"})
def update(slot: SlotArrays, recipe: Recipe, gradient: Array, norm: float) -> int:
    """Clips the gradient and updates the parameters, with torch.optim's defaults.

    Returns 1 if it clipped and 0 otherwise.
    """
    kind = gradient.dtype.type
    slot.updates[0] += 1
    parameters, first, second = slot.parameters, slot.first_moment, slot.second_moment
    # As torch.nn.utils.clip_grad_norm_ has it, its 1e-6 included.
    factor, epsilon = kind(min(1.0, recipe.clip_norm / (norm + 1e-6))), kind(EPSILON)
    if recipe.optimizer == RMSPROP:
        alpha, rest, rate = kind(ALPHA), kind(1 - ALPHA), kind(recipe.learning_rate)
        for i in range(gradient.shape[0]):
            g = gradient[i] * factor
            second[i] = alpha * second[i] + rest * g * g
            parameters[i] -= rate * g / (np.sqrt(second[i]) + epsilon)
    else:
        # Kingma & Ba 2015, algorithm 1, with the bias corrections where torch puts them: epsilon
        # is added to the corrected root.
        correction_1 = 1 - BETA_1 ** slot.updates[0]
        correction_2 = 1 - BETA_2 ** slot.updates[0]
        rate, root = kind(recipe.learning_rate / correction_1), kind(1 / np.sqrt(correction_2))
        beta_1, rest_1 = kind(BETA_1), kind(1 - BETA_1)
        beta_2, rest_2 = kind(BETA_2), kind(1 - BETA_2)
        for i in range(gradient.shape[0]):
            g = gradient[i] * factor
            first[i] = beta_1 * first[i] + rest_1 * g
            second[i] = beta_2 * second[i] + rest_2 * g * g
            parameters[i] -= rate * first[i] / (np.sqrt(second[i]) * root + epsilon)
    return 1 if norm > recipe.clip_norm else 0

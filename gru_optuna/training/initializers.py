"""First weights, drawn matrix by matrix, and a GRU's kernels gate by gate.

A GRU stacks its three gates into one matrix, but fans and orthogonality are properties of a
single gate. Biases start at zero. An embedding is a table, which has no fans: it is drawn the
same way under every initializer.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn import init

from gru_optuna import seeds
from gru_optuna.data.dataset import PADDING
from gru_optuna.training.network import EMBEDDING, GATES, Network, is_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from gru_optuna.hyperparameters import Initializer

NORMAL_DEVIATION = 0.05
"""Standard deviation of "normal", as in Keras; torch's own 1.0 saturates every gate."""

EMBEDDING_RANGE = 0.1
"""Tokens start between -0.1 and 0.1, as in Merity et al. 2018. Torch's own deviation of 1 costs
several points of accuracy with a few thousand texts: updates are small in comparison."""

_DRAW: dict[Initializer, Callable[..., Tensor]] = {
    "normal": partial(init.normal_, std=NORMAL_DEVIATION),
    "xavier_uniform": init.xavier_uniform_,
    "xavier_normal": init.xavier_normal_,
    "he_uniform": partial(init.kaiming_uniform_, nonlinearity="relu"),
    "he_normal": partial(init.kaiming_normal_, nonlinearity="relu"),
    "orthogonal": init.orthogonal_,
}
"""Each draws one matrix (outputs, inputs) in place: Glorot & Bengio 2010 (xavier), He et al. 2015
(he), Saxe et al. 2014 (orthogonal)."""


def initial_parameters(network: Network, initializer: Initializer, seed: int) -> dict[str, Tensor]:
    """All parameters of a new trial.

    They are drawn on the CPU in float32, whatever the trial trains on, so that it starts from
    the same weights everywhere.
    """
    generator = seeds.generator(seed, "initializer")
    parameters: dict[str, Tensor] = {}
    for name, shape in network.shapes().items():
        parameters[name] = torch.zeros(shape)
        if name == EMBEDDING:
            init.uniform_(parameters[name], -EMBEDDING_RANGE, EMBEDDING_RANGE, generator=generator)
            parameters[name][PADDING] = 0
        elif is_kernel(name):
            gates = 1 if name.startswith("head") else GATES
            for gate in parameters[name].chunk(gates):
                _DRAW[initializer](gate, generator=generator)
    return parameters

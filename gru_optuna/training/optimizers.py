"""Adam and RMSprop, as torch has them: Kingma & Ba 2015, Tieleman & Hinton 2012."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from gru_optuna.hyperparameters import Optimizer


def make_optimizer(
    name: Optimizer, parameters: Iterable[Tensor], learning_rate: float
) -> torch.optim.Optimizer:
    """An optimizer with torch's defaults; L2 is a penalty on the loss, not weight decay."""
    match name:
        case "adam":
            return torch.optim.Adam(parameters, lr=learning_rate)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=learning_rate)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Changes the learning rate of all parameters, from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate

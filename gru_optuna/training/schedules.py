"""Learning-rate decays: one value for each epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gru_optuna.hyperparameters import Hyperparameters


def learning_rate(hyperparameters: Hyperparameters, epoch: int, epochs: int) -> float:
    """The learning rate of one epoch.

    Parameters
    ----------
    hyperparameters
        ``learning_rate``, ``decay`` and the parameters of that decay.
    epoch
        Counted from 0, so that every decay starts at the full learning rate.
    epochs
        The most that a trial may train: half a period of the cosine.

    Notes
    -----
    ========== =======================================================
    constant   ``lr``
    time       ``lr / (1 + rate * epoch)``
    step       ``lr * drop ** (epoch // every)``
    exponential ``lr * gamma ** epoch``
    cosine     from ``lr`` to ``lr * floor``, Loshchilov & Hutter 2017 (eq. 5) without restarts
    ========== =======================================================
    """
    h, lr = hyperparameters, hyperparameters.learning_rate
    match h.decay:
        case "constant":
            return lr
        case "time":
            assert h.decay_rate is not None
            return lr / (1 + h.decay_rate * epoch)
        case "step":
            assert h.decay_drop is not None
            assert h.decay_every is not None
            return float(lr * h.decay_drop ** (epoch // h.decay_every))
        case "exponential":
            assert h.decay_gamma is not None
            return float(lr * h.decay_gamma**epoch)
        case "cosine":
            assert h.decay_floor is not None
            lowest = lr * h.decay_floor
            return lowest + (lr - lowest) * (1 + math.cos(math.pi * epoch / epochs)) / 2

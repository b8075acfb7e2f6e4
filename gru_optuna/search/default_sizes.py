"""How large networks and how long trials may be, so that a study ends while someone waits.

By arithmetic alone: a GRU with H units that reads C channels multiplies 3 · H · (C + H) times at
each step, two operations each, and the backward pass costs twice as much as the forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rows = Literal["texts", "sequences", "windows"]

TRIALS = 30
MINUTES = 4
"""The time that `TRIALS` trials may take."""

# The pool's benchmarks have this rate for small networks on two cores. The other share of the time
# goes into embeddings, output layers, evaluation and starting up.
_OPERATIONS_A_SECOND = 25e9
_SHARE_FOR_TRAINING = 0.6
# The share of epochs that pruning and early stopping leave.
_SHARE_TRAINED = 0.45
_FEWEST_EPOCHS = 4
# The most epochs, and the patience that goes with them. Measured on a dozen data sets: the best
# epoch of sequences and windows is often beyond the 45th, and their losses rest for long in
# between; a network that reads texts has learned them by heart after a dozen.
_MOST_EPOCHS: dict[Rows, tuple[int, int]] = {
    "texts": (15, 4),
    "sequences": (150, 40),
    "windows": (80, 15),
}
_ENOUGH_EPOCHS = 10  # with fewer, smaller networks are preferred
_SIZES = ([32, 64, 128], [32, 64], [16, 32], [8, 16])


@dataclass(frozen=True)
class DefaultSizes:
    """Sizes to choose from and a number of epochs that fit into the time."""

    sizes: list[int]
    epochs: int
    patience: int  # epochs without improvement before a trial stops
    minutes: float  # that the study will take, roughly


def choose_default_sizes(kind: Rows, rows: int, steps: int, channels: int | None) -> DefaultSizes:
    """Chooses the largest networks that leave time for enough epochs.

    Parameters
    ----------
    kind
        What the rows are: how long a trial may train depends on it.
    rows
        Training rows, or windows.
    steps
        Steps of a row, including padding.
    channels
        Channels of a step; None for tokens, whose embeddings grow with the network.
    """
    for sizes in _SIZES:
        seconds = _seconds(rows, steps, channels, sizes)
        if _epochs(seconds) >= _ENOUGH_EPOCHS:
            break
    most, patience = _MOST_EPOCHS[kind]
    epochs = max(_FEWEST_EPOCHS, min(most, _epochs(seconds)))
    minutes = TRIALS * epochs * _SHARE_TRAINED * seconds / 60 / _SHARE_FOR_TRAINING
    # Where time allows fewer epochs, a trial has to show sooner that it is worth them.
    return DefaultSizes(sizes, epochs, max(3, round(patience * epochs / most)), minutes)


def _seconds(rows: int, steps: int, channels: int | None, sizes: list[int]) -> float:
    """The duration of one epoch, for the mean of the sizes."""
    hidden = sum(sizes) / len(sizes)
    products = 3 * hidden * ((channels if channels is not None else hidden) + hidden)
    return rows * steps * 2 * products * 3 / _OPERATIONS_A_SECOND


def _epochs(seconds: float) -> int:
    return int(MINUTES * 60 * _SHARE_FOR_TRAINING / (TRIALS * _SHARE_TRAINED * seconds))

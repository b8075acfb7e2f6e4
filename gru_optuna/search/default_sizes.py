"""How large and how long trials may be, for a study to end while someone waits.

Arithmetic alone: a GRU of H units that reads C channels multiplies 3 · H · (C + H) times a step,
two operations each, and going back costs twice as much as going forward.
"""

from __future__ import annotations

from dataclasses import dataclass

TRIALS = 30
MINUTES = 4
"""That `TRIALS` trials may take."""

# Of two cores, as the pool's benchmarks have it for small networks, and a share for the rest:
# embeddings, output layers, evaluation, starting up.
_OPERATIONS_A_SECOND = 25e9
_SHARE_FOR_TRAINING = 0.6
# Of all epochs, what pruning and early stopping leave.
_SHARE_TRAINED = 0.45
_FEWEST_EPOCHS, _MOST_EPOCHS = 4, 40
_ENOUGH_EPOCHS = 10  # to prefer a larger network
_SIZES = ([32, 64, 128], [32, 64], [16, 32], [8, 16])


@dataclass(frozen=True)
class DefaultSizes:
    """Sizes to choose from, and epochs, that fit."""

    sizes: list[int]
    epochs: int
    minutes: float  # that it will take, roughly


def choose_default_sizes(rows: int, steps: int, channels: int | None) -> DefaultSizes:
    """The largest networks that leave enough epochs.

    Parameters
    ----------
    rows
        Training rows, or windows.
    steps
        Of a row, padding counted.
    channels
        Of a step; None for tokens, whose embeddings grow with the network.
    """
    for sizes in _SIZES:
        seconds = _seconds(rows, steps, channels, sizes)
        if _epochs(seconds) >= _ENOUGH_EPOCHS:
            break
    epochs = max(_FEWEST_EPOCHS, min(_MOST_EPOCHS, _epochs(seconds)))
    minutes = TRIALS * epochs * _SHARE_TRAINED * seconds / 60 / _SHARE_FOR_TRAINING
    return DefaultSizes(sizes, epochs, minutes)


def _seconds(rows: int, steps: int, channels: int | None, sizes: list[int]) -> float:
    """Of one epoch, in the middle of the sizes."""
    hidden = sum(sizes) / len(sizes)
    products = 3 * hidden * ((channels if channels is not None else hidden) + hidden)
    return rows * steps * 2 * products * 3 / _OPERATIONS_A_SECOND


def _epochs(seconds: float) -> int:
    return int(MINUTES * 60 * _SHARE_FOR_TRAINING / (TRIALS * _SHARE_TRAINED * seconds))

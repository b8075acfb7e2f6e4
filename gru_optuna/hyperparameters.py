"""What may be searched, and the values of one trial.

In a study file a hyperparameter is one value (fixed), a list (choices), or a table (a range):

    dropout = 0.2
    dropout = [0.0, 0.2, 0.5]
    dropout = { low = 0.0, high = 0.6 }

The three stay what they are: a plain value, a list, a `Range`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Value: TypeAlias = bool | int | float | str

Pooling = Literal["last", "mean"]
Optimizer = Literal["adam", "rmsprop"]
Decay = Literal["constant", "time", "step", "exponential", "cosine"]
Initializer = Literal[
    "normal", "xavier_uniform", "xavier_normal", "he_uniform", "he_normal", "orthogonal"
]

DECAY_PARAMETERS: dict[Decay, tuple[str, ...]] = {
    "constant": (),
    "time": ("decay_rate",),
    "step": ("decay_drop", "decay_every"),
    "exponential": ("decay_gamma",),
    "cosine": ("decay_floor",),
}
"""The hyperparameters that exist under one decay only."""

OFF = "off"


@dataclass(frozen=True)
class Hyperparameters:
    """The values one trial trains with.

    Parameters of a decay are None under every other decay, and so is `clip_norm` where
    clipping is off, and whatever the kind of rows has no use for.
    """

    hidden_size: int
    layers: int
    bidirectional: bool
    pooling: Pooling
    learning_rate: float
    optimizer: Optimizer
    decay: Decay
    clip_norm: float | None
    initializer: Initializer
    l1: float
    l2: float
    dropout: float
    batch_size: int
    decay_rate: float | None = None
    decay_drop: float | None = None
    decay_every: int | None = None
    decay_gamma: float | None = None
    decay_floor: float | None = None
    embedding_size: int | None = None
    vocabulary: int | None = None
    max_tokens: int | None = None
    token_insertion: float | None = None
    token_deletion: float | None = None
    token_swap: float | None = None
    jitter: float | None = None
    scaling: float | None = None
    time_masking: float | None = None

    def configuration(self) -> dict[str, Value]:
        """Every hyperparameter that applies, by its name in the study file and as written there."""
        values = vars(self) | {"clip_norm": OFF if self.clip_norm is None else self.clip_norm}
        return {name: value for name, value in values.items() if value is not None}

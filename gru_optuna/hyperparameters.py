"""The hyperparameters of one trial, and the named values that some may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Value: TypeAlias = bool | int | float | str

Pooling = Literal["last", "mean", "max", "mean_max"]
Optimizer = Literal["adam", "rmsprop"]
Decay = Literal["constant", "time", "step", "exponential", "cosine"]
Initializer = Literal[
    "normal", "xavier_uniform", "xavier_normal", "he_uniform", "he_normal", "orthogonal"
]
EmbeddingInitializer = Literal["uniform", "ppmi"]

Normalization = Literal["channel", "none", "row", "row_stats"]
Residual = Literal["none", "last", "season", "level", "drift", "yearly"]

VIEW_KEYS = ("normalize", "differences", "patch", "spectrum", "residual", "log")
"""The hyperparameters that decide how a trial reads the data."""

DECAY_PARAMETERS: dict[Decay, tuple[str, ...]] = {
    "constant": (),
    "time": ("decay_rate",),
    "step": ("decay_drop", "decay_every"),
    "exponential": ("decay_gamma",),
    "cosine": ("decay_floor",),
}
"""The hyperparameters that exist only with one decay."""

OFF = "off"


@dataclass(frozen=True)
class Hyperparameters:
    """The values that one trial trains with.

    Parameters of a decay are None with every other decay. So are `clip_norm` where clipping is
    off, and hyperparameters that the kind of rows doesn't use.
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
    embedding_initializer: EmbeddingInitializer | None = None
    vocabulary: int | None = None
    max_tokens: int | None = None
    label_smoothing: float | None = None
    normalize: Normalization | None = None
    differences: int | None = None
    patch: int | None = None
    spectrum: bool | None = None
    residual: Residual | None = None
    log: bool | None = None
    token_insertion: float | None = None
    token_deletion: float | None = None
    token_swap: float | None = None
    word_dropout: float | None = None
    jitter: float | None = None
    scaling: float | None = None
    time_masking: float | None = None

    def configuration(self) -> dict[str, Value]:
        """All hyperparameters that apply, with their names and values in the study file."""
        values = vars(self) | {"clip_norm": OFF if self.clip_norm is None else self.clip_norm}
        return {name: value for name, value in values.items() if value is not None}

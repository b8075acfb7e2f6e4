"""Every random number, from the study's seed, the trial's number and what it is for.

A stream is addressed, not advanced: the masks of epoch 7 come from ``(seed, "dropout", 7)``
whether epochs 1 to 6 were trained here, elsewhere, or before an interruption. So a checkpoint
needs no generator state, and no trial depends on another's draws.

Mixing is numpy's ``SeedSequence`` (O'Neill 2015), whose children are independent streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

Purpose = Literal[
    "split", "sampler", "initializer", "shuffle", "dropout", "augment", "bootstrap", "prior"
]

# Fixed numbers, so that adding a purpose changes no other stream.
_PURPOSES: dict[Purpose, int] = {
    "split": 1,
    "sampler": 2,
    "initializer": 3,
    "shuffle": 4,
    "dropout": 5,
    "augment": 7,
    "bootstrap": 9,
    "prior": 10,
}
_TRIAL = 6
_CONFIRMATION = 8


def trial_seed(study_seed: int, number: int) -> int:
    """The seed of trial `number`: all that its training draws comes from it."""
    return _draw(study_seed, _TRIAL, number)


def confirmation_seed(study_seed: int, number: int, index: int) -> int:
    """The seed of run `index` (from 0) that confirms trial `number`; no trial has it."""
    return _draw(study_seed, _CONFIRMATION, number, index)


def seed_for(seed: int, purpose: Purpose, index: int = 0) -> int:
    """A 63-bit seed for one purpose; `index` tells epochs (or trials) apart."""
    return _draw(seed, _PURPOSES[purpose], index)


def generator(seed: int, purpose: Purpose, index: int = 0) -> torch.Generator:
    """A fresh CPU generator of torch for one purpose."""
    import torch

    return torch.Generator().manual_seed(seed_for(seed, purpose, index))


def _draw(*key: int) -> int:
    high, low = np.random.SeedSequence(key).generate_state(2, np.uint32)
    # 63 bits: a signed integer to every library and database column it meets.
    return int(high) << 31 | int(low) >> 1

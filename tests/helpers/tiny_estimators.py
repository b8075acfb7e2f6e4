"""Settings with which an estimator fits in seconds."""

from __future__ import annotations

from typing import Any

TINY: dict[str, Any] = {
    "space": {
        "hidden_size": 8,
        "learning_rate": [0.05],
        "decay": "constant",
        "optimizer": "adam",
        "initializer": "orthogonal",
        "clip_norm": 1.0,
        "dropout": 0,
        "l1": 0,
        "l2": 0,
        "batch_size": [16, 32],
    },
    "trials": 1,
    "epochs": 20,
    "n_jobs": 1,
    "progress": False,
}

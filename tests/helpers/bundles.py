"""What tests of bundles share: networks of each task, trained for a moment on the real data."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gru_optuna import study_file
from gru_optuna.bundle.build import MemberNetwork, make_bundle
from gru_optuna.data.load import load_dataset
from gru_optuna.training.engines.cpu import CPUEngine
from gru_optuna.training.pool import Pool
from helpers.workspaces import PLAIN, REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from gru_optuna.bundle.bundle import Bundle
    from gru_optuna.data.dataset import Dataset
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification

DATA = REPOSITORY / "studies" / "data"


@dataclass(frozen=True)
class Model:
    """Networks in memory, and the bundle that was made of them."""

    spec: Specification
    dataset: Dataset
    networks: list[MemberNetwork]
    outputs: list[Tensor]  # of each network, of the test rows, as the trial's own engine says
    bundle: Bundle


def train(
    study: Path | str, trial: Hyperparameters = PLAIN, networks: int = 1, *overrides: str
) -> Model:
    """Trains one epoch of each network and makes a bundle of them."""
    path = REPOSITORY / "studies" / study
    spec = study_file.load(path, overrides)
    every = load_dataset(spec, path.parent)
    data = every.seen_by(trial)
    if spec.kind == "texts":
        trial = replace(trial, embedding_size=8)
    pool = Pool(spec, every, CPUEngine(spec, every))
    slots = [pool.admit(trial, seed) for seed in range(networks)]
    pool.train_epoch()
    trained = [
        MemberNetwork(slot.best_weights, data.preprocessing, slot.seed, 1, slot.progress.best.value)
        for slot in slots
    ]
    assert data.test is not None
    outputs = [pool.engine.predict(slot, slot.best_weights, data.test) for slot in slots]
    bundle = make_bundle(spec, 3, trial, trained, fingerprint=data.fingerprint, metrics={})
    return Model(spec, data, trained, outputs, bundle)


def in_json(name: str, **changes: Any) -> Callable[[dict[str, bytes]], None]:
    """Changes keys of a JSON file; "a__0__b" is the key b of the first object in a."""

    def change(files: dict[str, bytes]) -> None:
        content = json.loads(files[name])
        for path, value in changes.items():
            *tables, key = path.split("__")
            table = content
            for step in tables:
                table = table[int(step) if step.isdecimal() else step]
            table[key] = value
        files[name] = json.dumps(content).encode()

    return change

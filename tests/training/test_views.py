"""Trials of different views in one pool: each trains as it would alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from helpers.pools import BASE, CPU, assert_close, reference

from gru_optuna import study_file
from gru_optuna.checkpoints.checkpoint import DamagedCheckpoint
from gru_optuna.data.load import load_dataset, load_folds
from gru_optuna.errors import TrialFailed
from gru_optuna.training.engines.batched import BatchedEngine
from gru_optuna.training.engines.cpu import CPUEngine
from gru_optuna.training.pool import Pool
from gru_optuna.training.pool_factory import pool_of
from gru_optuna.training.sizing import choose_size

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification

EPOCHS = 3

VIEWS: dict[str, Hyperparameters] = {
    "plain": BASE,
    "rows": replace(BASE, normalize="row"),
    "statistics": replace(BASE, normalize="row_stats", differences=1),
    "differences": replace(BASE, normalize="none", differences=2),
    # As many channels as "one difference", so the networks are equal, but the rows are shorter.
    "patches": replace(BASE, patch=2),
    "spectra": replace(BASE, patch=2, normalize="row_stats", spectrum=True),
    "one difference": replace(BASE, differences=1),
    "noise in patches": replace(BASE, patch=4, normalize="row", jitter=0.2, time_masking=0.3),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Specification, Path]:
    """Rows of 3 to 20 steps, whose class is a bend that stands at any level and in any size."""
    folder, random = tmp_path_factory.mktemp("bends"), np.random.default_rng(0)
    lines = []
    for _ in range(120):
        length, label = int(random.integers(3, 21)), int(random.integers(2))
        bend = np.linspace(-1, 1, length) ** 2 * (1 if label else -1)
        row = random.normal() * 5 + random.uniform(0.5, 2) * (bend + random.normal(size=length) / 5)
        other = random.normal(size=length)
        values = ":".join(",".join(f"{v:.4f}" for v in channel) for channel in (row, other))
        lines.append(f"{values}:{'ud'[label]}")
    (folder / "bends.ts").write_text("\n".join(["@classLabel true d u", "@data", *lines]) + "\n")
    data = {
        "train": "bends.ts",
        "normalize": ["channel", "none", "row", "row_stats"],
        "differences": [0, 1, 2],
        "patch": [1, 2, 4],
        "spectrum": [False, True],
    }
    content = {
        "name": "bends",
        "metric": "log_loss",
        "data": data,
        "training": {"epochs": EPOCHS},
        "search": {"jitter": [0.0, 0.2], "time_masking": [0.0, 0.3]},
    }
    return study_file.parse(content, source="bends.toml"), folder


@pytest.mark.parametrize("engine", [CPUEngine, BatchedEngine])
def test_every_view_trains_as_the_reference_does(
    study: tuple[Specification, Path], engine: type[CPUEngine] | type[BatchedEngine]
) -> None:
    spec, folder = study
    dataset = load_dataset(spec, folder).to(CPU, torch.float64)
    pool = Pool(spec, dataset, engine(spec, dataset))
    slots = [pool.admit(trial, seed) for seed, trial in enumerate(VIEWS.values())]
    for _ in range(EPOCHS):
        assert not any(isinstance(result, TrialFailed) for _, result in pool.train_epoch())
    for slot in slots:
        trainer = reference(spec, dataset, slot.hyperparameters, slot.seed, EPOCHS)
        assert_close(slot, trainer, 1e-9)
        ((outputs, split),) = pool.predict(slot.hyperparameters, [slot.best_weights], "validation")
        trainer.model.load_state_dict(trainer.best_weights)
        torch.testing.assert_close(outputs, trainer.predict(split), rtol=1e-9, atol=1e-9)


def test_views_of_a_fold_know_its_training_rows_alone(study: tuple[Specification, Path]) -> None:
    spec, folder = study
    content = spec.model_dump(mode="json", exclude_unset=True)
    content["data"] |= {"folds": 3}
    folded = study_file.parse(content, source="bends.toml")
    trial = VIEWS["statistics"]
    datasets = load_folds(folded, folder)
    scales = {str(one.seen_by(trial).preprocessing["added"]) for one in datasets}
    assert len(scales) == 3
    pool = pool_of(folded, datasets, [CPUEngine(folded, one) for one in datasets])
    slot = pool.admit(trial, 5)
    ((_, result),) = pool.train_epoch()
    assert not isinstance(result, TrialFailed)
    assert slot.network.inputs == 2 * 2 + 4


def test_a_checkpoint_of_another_view_is_refused(study: tuple[Specification, Path]) -> None:
    spec, folder = study
    dataset = load_dataset(spec, folder)
    pool = Pool(spec, dataset, CPUEngine(spec, dataset))
    slot = pool.admit(VIEWS["rows"], 1)
    pool.train_epoch()
    checkpoint = pool.snapshot(slot)
    resumed = pool.admit(VIEWS["rows"], 1, checkpoint)
    assert resumed.progress.curve == slot.progress.curve
    # The networks have the same shape: only the view tells them apart.
    with pytest.raises(DamagedCheckpoint, match="belongs to another trial"):
        pool.admit(replace(BASE, normalize="none"), 1, checkpoint)


def test_memory_is_planned_for_the_largest_view(study: tuple[Specification, Path]) -> None:
    spec, folder = study
    dataset = load_dataset(spec, folder)
    alone = replace(dataset, views=None)
    several = choose_size(spec, [dataset], threads=1, slots=4).memory
    plain = choose_size(spec, [alone], threads=1, slots=4).memory
    assert several is not None
    assert plain is not None
    assert several > plain

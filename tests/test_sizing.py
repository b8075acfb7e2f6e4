"""Threads, slots and memory: chosen for the machine, bounded, and left alone where given."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import joblib
import pytest
from conftest import REPOSITORY, TINY_STUDY

from gru_optuna import spec as study_file
from gru_optuna.data.sequences import load_sequences
from gru_optuna.errors import UserError
from gru_optuna.training import sizing
from gru_optuna.training.cpu import CPUEngine
from gru_optuna.training.pool import Pool

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.spec import Specification


def load(folder: Path, *overrides: str) -> tuple[Specification, Dataset]:
    path = folder / "tiny.toml"
    path.write_text(TINY_STUDY)
    spec = study_file.load(path, overrides)
    return spec, load_sequences(spec, REPOSITORY / "studies")


def test_what_is_measured_fits_the_machine(tmp_path: Path) -> None:
    size = sizing.choose_size(*load(tmp_path))
    assert 1 <= size.threads <= joblib.cpu_count()
    assert size.slots == sizing.SLOTS_A_THREAD * size.threads


def test_what_is_given_stays(tmp_path: Path) -> None:
    size = sizing.choose_size(*load(tmp_path), threads=3, slots=5)
    assert (size.threads, size.slots) == (3, 5)


def test_a_range_is_sized_by_its_largest_network(tmp_path: Path) -> None:
    spec, _ = load(
        tmp_path, "model.hidden_size={low=8,high=96}", "model.layers=[1,3]",
        "model.bidirectional=[false,true]", "search.batch_size=[16,128]",
    )  # fmt: skip
    largest = sizing.largest_hyperparameters(spec)
    assert (largest.hidden_size, largest.layers) == (96, 3)
    assert (largest.bidirectional, largest.batch_size) == (True, 128)


def test_the_memory_that_is_said_is_enough(tmp_path: Path) -> None:
    spec, dataset = load(tmp_path, "model.hidden_size=256", "search.dropout=0.5")
    size = sizing.choose_size(spec, dataset, threads=1, slots=4)
    engine = CPUEngine(spec, dataset, threads=1)
    tracemalloc.start()
    pool = Pool(spec, dataset, engine)
    for seed in range(4):
        pool.admit(sizing.largest_hyperparameters(spec), seed)
    pool.train_epoch()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # numpy tells tracemalloc what it holds; the best weights are torch's, and count besides.
    assert 0.3 * size.memory < used <= size.memory


def test_networks_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "MEMORY_SHARE", 1e-6)
    with pytest.raises(UserError, match=r"hidden_size = 8, layers = 1\) needs .* MiB a thread"):
        sizing.choose_size(*load(tmp_path), threads=1)

"""Threads, slots and memory: chosen for the machine, bounded, and left alone where given."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING

import joblib
import pytest
import torch
from helpers.pools import CPU, some_numbers, some_texts
from helpers.workspaces import REPOSITORY, TINY_STUDY

from gru_optuna import machine, study_file
from gru_optuna.data.load import load_dataset
from gru_optuna.errors import UserError
from gru_optuna.training import sizing
from gru_optuna.training.engines.cpu import CPUEngine
from gru_optuna.training.folded_pool import FoldedPool
from gru_optuna.training.pool import Pool
from gru_optuna.training.pool_factory import size_for_search

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.study_file import Specification


def load(folder: Path, *overrides: str) -> tuple[Specification, Dataset]:
    path = folder / "tiny.toml"
    path.write_text(TINY_STUDY)
    spec = study_file.load(path, overrides)
    return spec, load_dataset(spec, REPOSITORY / "studies")


def test_what_is_measured_fits_the_machine(tmp_path: Path) -> None:
    spec, dataset = load(tmp_path)
    size = sizing.choose_size(spec, [dataset])
    assert 1 <= size.threads <= joblib.cpu_count()
    assert size.slots == sizing.SLOTS_A_THREAD * size.threads


def test_what_is_given_stays(tmp_path: Path) -> None:
    spec, dataset = load(tmp_path)
    size = sizing.choose_size(spec, [dataset], threads=3, slots=5)
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
    used, size = used_and_said(*load(tmp_path, "model.hidden_size=256", "search.dropout=0.5"))
    # numpy tells tracemalloc what it holds; the best weights are torch's, and count besides.
    assert 0.3 * size.memory < used <= size.memory


def test_the_memory_that_is_said_is_enough_for_all_folds(tmp_path: Path) -> None:
    spec, dataset = load(tmp_path, "model.hidden_size=256", "search.dropout=0.5")
    few = replace(dataset, train=dataset.train.rows(torch.arange(100)))
    used, size = used_and_said(spec, few, dataset, few)
    assert 0.3 * size.memory < used <= size.memory
    assert size.memory > 2 * sizing.choose_size(spec, [dataset], threads=1, slots=4).memory


def used_and_said(spec: Specification, *datasets: Dataset) -> tuple[int, sizing.Size]:
    """Bytes that four slots on one thread took at most, and what was chosen for them."""
    size = sizing.choose_size(spec, datasets, threads=1, slots=4)
    engines = [CPUEngine(spec, dataset, threads=1) for dataset in datasets]
    tracemalloc.start()
    pool = FoldedPool(spec, [Pool(spec, *own) for own in zip(datasets, engines, strict=True)])
    for seed in range(4):
        pool.admit(sizing.largest_hyperparameters(spec), seed)
    pool.train_epoch()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used, size


TEXTS = (
    "data.train='reviews.csv'", "data.text='review'", "data.label='verdict'", "data.test=0.2",
    "model.embedding_size=[8,48]", "model.hidden_size=16", "data.max_tokens={low=5,high=9}",
)  # fmt: skip


def load_texts(folder: Path, *overrides: str) -> tuple[Specification, Dataset]:
    """A study of texts, and 2,000 of 9 tokens each from a vocabulary of 5,000."""
    path = folder / "tiny.toml"
    path.write_text(TINY_STUDY)
    spec = study_file.load(path, [*TEXTS, *overrides])
    return spec, some_texts(vocabulary=5000, rows=2000).to(CPU, torch.float32)


def test_the_largest_network_of_a_text_study_has_the_largest_embedding(tmp_path: Path) -> None:
    largest = sizing.largest_hyperparameters(load_texts(tmp_path)[0])
    assert (largest.embedding_size, largest.max_tokens) == (48, 9)
    assert (largest.token_swap, largest.jitter) == (0.0, None)


def test_threads_are_measured_on_texts_too(tmp_path: Path) -> None:
    spec, dataset = load_texts(tmp_path, "search.token_deletion={low=0.0,high=0.3}")
    size = sizing.choose_size(spec, [dataset])
    assert 1 <= size.threads <= joblib.cpu_count()


def test_threads_are_measured_on_numbers_to_predict_too(tmp_path: Path) -> None:
    spec, _ = load(tmp_path)
    spec = spec.model_copy(update={"task": "regression", "metric": "rmse"})
    size = sizing.choose_size(spec, [some_numbers(2).to(CPU, torch.float32)])
    assert 1 <= size.threads <= joblib.cpu_count()


def test_rows_that_are_augmented_take_memory(tmp_path: Path) -> None:
    spec, dataset = load_texts(tmp_path)
    still = sizing.choose_size(spec, [dataset], threads=2, slots=1)
    spec, _ = load_texts(tmp_path, "search.token_swap=[0.0,0.2]")
    augmented = sizing.choose_size(spec, [dataset], threads=2, slots=1)
    assert augmented.memory - still.memory >= 2 * dataset.train.nbytes


@pytest.mark.parametrize("swap", ["0.0", "[0.0,0.2]"])
def test_the_memory_that_is_said_is_enough_for_texts(tmp_path: Path, swap: str) -> None:
    used, size = used_and_said(*load_texts(tmp_path, f"search.token_swap={swap}"))
    assert 0.3 * size.memory < used <= size.memory


def test_networks_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "MEMORY_SHARE", 1e-6)
    spec, dataset = load(tmp_path)
    with pytest.raises(UserError, match=r"hidden_size = 8, layers = 1\) needs .* MiB per thread"):
        sizing.choose_size(spec, [dataset], threads=1)


def test_the_limit_of_a_container_bounds_the_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, dataset = load(tmp_path)
    eight, nine = (sizing.choose_size(spec, [dataset], 2, slots).memory for slots in (8, 9))
    a_slot = nine - eight
    room = (eight - 5 * a_slot) / sizing.MEMORY_SHARE
    monkeypatch.setattr(machine, "_room_in_containers", lambda: [int(room) + 1])
    assert sizing.choose_size(spec, [dataset], threads=2).slots == 3


@pytest.mark.parametrize(
    ("pruner", "trials", "workers", "threads", "slots"),
    [
        ("thaw", 100, 1, 2, 8),  # an eighth would be more than there are slots
        ("thaw", 60, 1, 2, 7),
        ("thaw", 30, 1, 2, 4),  # two for each thread
        ("thaw", 30, 1, 8, 10),  # a third of the trials
        ("thaw", 30, 2, 2, 4),
        ("thaw", 30, 4, 2, 2),
        ("asha", 30, 1, 2, 8),
        ("asha", 12, 1, 2, 4),  # a third of the trials
        ("asha", 30, 4, 2, 2),
        ("asha", 2, 1, 2, 2),  # no thread idles
    ],
)
def test_a_search_by_few_trials_learns_before_most_have_begun(
    tmp_path: Path, pruner: str, trials: int, workers: int, threads: int, slots: int
) -> None:
    spec, _ = load(tmp_path, f"pruner.name={pruner}", f"budget.trials={trials}")
    size = sizing.Size(threads, sizing.SLOTS_A_THREAD * threads, None)
    assert size_for_search(spec, size, CPU, workers).slots == slots


def test_a_gpu_keeps_its_slots_up_to_a_third_of_the_trials(tmp_path: Path) -> None:
    spec, _ = load(tmp_path, "pruner.name=thaw", "budget.trials=90")
    size = sizing.Size(1, 128, None)
    assert size_for_search(spec, size, torch.device("cuda")).slots == 30


def test_a_search_without_a_number_of_trials_fills_all_slots(tmp_path: Path) -> None:
    spec, _ = load(tmp_path, "pruner.name=thaw", "budget.trials=4", "budget={hours=1}")
    size = sizing.Size(2, 8, None)
    assert size_for_search(spec, size, CPU) == size


@pytest.mark.parametrize("pooling", ["'last'", "['mean_max']"])
def test_constraints_that_no_network_satisfies_are_refused(tmp_path: Path, pooling: str) -> None:
    sizes = ("model.hidden_size={low=5,high=9}", "model.layers=[2,1]", f"model.pooling={pooling}")
    pooled = 5 if pooling == "'last'" else 10
    # 12 channels and 9 classes: three gates with two biases each, and the head.
    smallest = 3 * 5 * (12 + 5 + 2) + 9 * (pooled + 1)
    for limit in (smallest, smallest - 1):
        spec, dataset = load(tmp_path, *sizes, f"constraints=['network_parameters <= {limit}']")
        if limit == smallest:
            sizing.refuse_impossible_constraints(spec, dataset)
            continue
        with pytest.raises(UserError) as refused:
            sizing.refuse_impossible_constraints(spec, dataset)
    assert str(refused.value) == (
        f"the smallest network of this study (hidden_size = 5, layers = 1) learns {smallest} "
        f"parameters, and its constraints allow {smallest - 1}. Raise the limit, or search "
        f"smaller networks."
    )


def test_a_study_without_constraints_is_never_refused_for_them(tmp_path: Path) -> None:
    sizing.refuse_impossible_constraints(*load(tmp_path))

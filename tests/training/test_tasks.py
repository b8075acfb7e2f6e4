"""Texts, numbers to predict, augmented rows: either engine trains what the reference trains."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.pools import (
    CPU,
    EPOCHS,
    NUMBER_KINDS,
    TEXT_KINDS,
    TRIALS,
    assert_close,
    curve_of,
    make_spec,
    reference,
    some_numbers,
    some_texts,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_optuna.errors import TrialFailed
from gru_optuna.training.engines.batched import BatchedEngine
from gru_optuna.training.engines.cpu import CPUEngine
from gru_optuna.training.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Metric, Specification
    from gru_optuna.training.slot import Slot

ENGINES: list[type[CPUEngine] | type[BatchedEngine]] = [CPUEngine, BatchedEngine]

TASKS: dict[str, tuple[Metric, Dataset, Mapping[str, Hyperparameters]]] = {
    "texts": ("macro_f1", some_texts(), TEXT_KINDS),
    "one number": ("rmse", some_numbers(1), NUMBER_KINDS),
    "numbers of a day": ("mase", some_numbers(24), NUMBER_KINDS),
}


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Specification]:
    folder = tmp_path_factory.mktemp("study")
    return {task: make_spec(folder, metric) for task, (metric, _, _) in TASKS.items()}


def train(pool: Pool, epochs: int) -> None:
    for _ in range(epochs):
        for _, result in pool.train_epoch():
            assert not isinstance(result, TrialFailed), result


def assert_pool_agrees(
    pool: Pool, trials: Mapping[str, Hyperparameters], epochs: int, tolerance: float
) -> None:
    """All trials in one pool, trial n with seed n, and each of them alone by the reference."""
    slots = [pool.admit(trial, seed) for seed, trial in enumerate(trials.values())]
    train(pool, epochs)
    for slot in slots:
        trainer = reference(pool.spec, pool.dataset, slot.hyperparameters, slot.seed, epochs)
        assert_close(slot, trainer, tolerance)
        last = pool.engine.weights(slot)
        for name, weight in trainer.model.state_dict().items():
            torch.testing.assert_close(last[name], weight, rtol=tolerance, atol=tolerance)
        # The test rows, later, are predicted as the validation rows are.
        rows = pool.dataset.train
        outputs = pool.engine.predict(slot, slot.best_weights, rows)
        trainer.model.load_state_dict(trainer.best_weights)
        expected = trainer.predict(rows)
        torch.testing.assert_close(outputs, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_trial_agrees_with_the_reference(
    specs: dict[str, Specification], task: str, engine: Any
) -> None:
    _, dataset, trials = TASKS[task]
    pool = Pool(specs[task], dataset, engine(specs[task], dataset))
    assert_pool_agrees(pool, trials, epochs=4, tolerance=1e-9)
    losses = {tuple(r.train_loss for r in slot.progress.curve) for slot in pool.slots}
    assert len(losses) == len(trials), "kinds that change nothing"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("task", TASKS)
def test_in_single_precision_they_agree_over_a_few_steps(
    specs: dict[str, Specification], task: str, engine: Any
) -> None:
    _, dataset, trials = TASKS[task]
    single = dataset.to(CPU, torch.float32)
    pool = Pool(specs[task], single, engine(specs[task], single))
    assert_pool_agrees(pool, trials, epochs=1, tolerance=1e-4)


SHARES = st.sampled_from([None, 0.0, 0.2, 1.0])
TEXT_TRIALS = st.builds(
    replace,
    TRIALS,
    embedding_size=st.sampled_from([1, 4, 17]),
    max_tokens=st.sampled_from([None, 1, 5, 20]),
    token_insertion=SHARES,
    token_deletion=SHARES,
    token_swap=SHARES,
    word_dropout=SHARES,
    label_smoothing=st.sampled_from([None, 0.0, 0.1, 0.9]),
    embedding_initializer=st.sampled_from([None, "uniform", "ppmi"]),
)


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=15)
@given(
    trials=st.lists(TEXT_TRIALS, min_size=1, max_size=3),
    vocabulary=st.sampled_from([3, 4, 50]),
    rows=st.integers(2, 12),
)
def test_any_mix_of_text_trials_agrees(
    specs: dict[str, Specification],
    engine: Any,
    trials: list[Hyperparameters],
    vocabulary: int,
    rows: int,
) -> None:
    dataset, spec = some_texts(vocabulary, rows), specs["texts"]
    pool = Pool(spec, dataset, engine(spec, dataset))
    # As in test_pool: RMSprop magnifies rounding.
    assert_pool_agrees(pool, dict(enumerate(trials)), epochs=2, tolerance=1e-7)


# --- neighbours: to the last bit, in the precision trials train in ---


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["base", "all of it"])
def test_neighbours_slot_and_threads_change_nothing(
    specs: dict[str, Specification], threads: int, kind: str
) -> None:
    spec, single = specs["texts"], some_texts().to(CPU, torch.float32)
    alone = Pool(spec, single, CPUEngine(spec, single))
    slot = alone.admit(TEXT_KINDS[kind], seed=77)
    train(alone, 3)
    crowded = Pool(spec, single, CPUEngine(spec, single, threads))
    for seed, other in enumerate(["swap", "wide embedding", "cut", "rmsprop"]):
        crowded.admit(TEXT_KINDS[other], seed)
    beside = crowded.admit(TEXT_KINDS[kind], seed=77)
    train(crowded, 3)
    assert_same_bits(beside, slot)


def assert_same_bits(slot: Slot, expected: Slot) -> None:
    assert curve_of(slot) == curve_of(expected)
    assert slot.best_weights.keys() == expected.best_weights.keys()
    for name, weight in expected.best_weights.items():
        assert torch.equal(slot.best_weights[name], weight)


def test_augmented_rows_change_from_epoch_to_epoch_and_the_data_do_not(
    specs: dict[str, Specification],
) -> None:
    spec, dataset = specs["texts"], some_texts()
    before = dataset.train.batch().values.clone()
    still = replace(TEXT_KINDS["deletion"], learning_rate=1e-30, dropout=0.0)
    pool = Pool(spec, dataset, CPUEngine(spec, dataset))
    slot = pool.admit(still, seed=1)
    train(pool, 2)
    first, second = (result.train_loss for result in slot.progress.curve)
    assert first != pytest.approx(second, rel=1e-6)
    assert torch.equal(dataset.train.batch().values, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("task", TASKS)
def test_cuda_trains_the_same_trials(specs: dict[str, Specification], task: str) -> None:
    _, dataset, trials = TASKS[task]
    there = dataset.to(torch.device("cuda"), torch.float64)
    pools = [Pool(specs[task], data, BatchedEngine(specs[task], data)) for data in (dataset, there)]
    for pool in pools:
        for seed, trial in enumerate(trials.values()):
            pool.admit(trial, seed)
        train(pool, EPOCHS)
    for on_cpu, on_cuda in zip(pools[0].slots, pools[1].slots, strict=True):
        for one, other in zip(curve_of(on_cpu), curve_of(on_cuda), strict=True):
            assert other.train_loss == pytest.approx(one.train_loss, rel=1e-9)
            assert other.value == pytest.approx(one.value, rel=1e-9)

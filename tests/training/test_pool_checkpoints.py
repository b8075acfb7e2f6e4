"""A trial that was interrupted goes on where it was, bit for bit, in either engine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from helpers.pools import (
    BASE,
    CPU,
    EPOCHS,
    KINDS,
    TEXT_KINDS,
    TRIALS,
    assert_close,
    curve_of,
    reference,
    some_texts,
)
from helpers.splits import split_of_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_optuna.checkpoints.checkpoint import Checkpoint, DamagedCheckpoint
from gru_optuna.data.dataset import Dataset
from gru_optuna.training.engines.batched import BatchedEngine
from gru_optuna.training.engines.cpu import CPUEngine
from gru_optuna.training.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification
    from gru_optuna.training.slot import Slot

ENGINES: list[type[CPUEngine] | type[BatchedEngine]] = [CPUEngine, BatchedEngine]


def assert_equal(pool: Pool, slot: Slot, expected_pool: Pool, expected: Slot) -> None:
    """To the last bit: the curve, the best epoch, the last weights and the best ones."""
    assert curve_of(slot) == curve_of(expected)
    assert slot.progress.best_epoch == expected.progress.best_epoch
    last = expected_pool.engine.weights(expected)
    assert slot.best_weights.keys() == expected.best_weights.keys() == last.keys()
    for name, weight in pool.engine.weights(slot).items():
        assert torch.equal(weight, last[name])
        assert torch.equal(slot.best_weights[name], expected.best_weights[name])


@pytest.fixture(scope="module")
def uninterrupted(spec: Specification, single: Dataset) -> tuple[Pool, list[Slot]]:
    """A slot of each kind, trained to its end; trial n has seed n."""
    pool = Pool(spec, single, CPUEngine(spec, single, 2))
    slots = [pool.admit(trial, seed) for seed, trial in enumerate(KINDS.values())]
    for _ in range(EPOCHS):
        pool.train_epoch()
    return pool, slots


@pytest.fixture(scope="module")
def checkpoints(spec: Specification, single: Dataset) -> list[list[bytes]]:
    """Of each kind, in another run of the same: before the first epoch, and after each."""
    pool = Pool(spec, single, CPUEngine(spec, single, 2))
    slots = [pool.admit(trial, seed) for seed, trial in enumerate(KINDS.values())]
    kept = [[pool.snapshot(slot).to_bytes() for slot in slots]]
    for _ in range(EPOCHS):
        pool.train_epoch()
        kept.append([pool.snapshot(slot).to_bytes() for slot in slots])
    return kept


@pytest.mark.parametrize("after", range(EPOCHS + 1))
def test_a_trial_interrupted_after_any_epoch_arrives_where_it_would_have(
    spec: Specification,
    single: Dataset,
    uninterrupted: tuple[Pool, list[Slot]],
    checkpoints: list[list[bytes]],
    after: int,
) -> None:
    """Of every kind, from bytes, in a new engine, in another order and beside a stranger."""
    pool = Pool(spec, single, CPUEngine(spec, single, 2))
    pool.admit(replace(BASE, hidden_size=5), seed=99)
    trials = list(enumerate(KINDS.values()))
    gone_on = {
        seed: pool.admit(trial, seed, Checkpoint.from_bytes(checkpoints[after][seed]))
        for seed, trial in reversed(trials)
    }
    assert all(slot.progress.epoch == after for slot in gone_on.values())
    for _ in range(EPOCHS - after):
        pool.train_epoch()
    expected_pool, expected = uninterrupted
    for seed, slot in gone_on.items():
        assert_equal(pool, slot, expected_pool, expected[seed])


def test_a_trial_whose_worker_dies_after_every_epoch_arrives_too(
    spec: Specification, single: Dataset, uninterrupted: tuple[Pool, list[Slot]]
) -> None:
    checkpoint = None
    for _ in range(EPOCHS):
        pool = Pool(spec, single, CPUEngine(spec, single))
        slot = pool.admit(BASE, 0, checkpoint)
        pool.train_epoch()
        checkpoint = Checkpoint.from_bytes(pool.snapshot(slot).to_bytes())
    expected_pool, expected = uninterrupted
    assert_equal(pool, slot, expected_pool, expected[0])


@pytest.mark.parametrize("after", [0, 2])
def test_a_text_trial_that_was_interrupted_arrives_where_it_would_have(
    spec: Specification, after: int
) -> None:
    """Of every kind, its embedding and that one's moments included."""
    single = some_texts().to(CPU, torch.float32)
    through = Pool(spec, single, CPUEngine(spec, single))
    gone_on = Pool(spec, single, CPUEngine(spec, single, 2))
    expected = [through.admit(trial, seed) for seed, trial in enumerate(TEXT_KINDS.values())]
    for epoch in range(4):
        if epoch == after:
            for slot in expected:
                content = through.snapshot(slot).to_bytes()
                checkpoint = Checkpoint.from_bytes(content)
                assert "second_moment/embedding.weight" in checkpoint.tensors
                gone_on.admit(slot.hyperparameters, slot.seed, checkpoint)
        through.train_epoch()
        gone_on.train_epoch()
    for slot, other in zip(gone_on.slots, expected, strict=True):
        assert_equal(gone_on, slot, through, other)


VOWEL_KINDS = ["base", "rmsprop", "two layers", "bidirectional", "cosine decay", "tight clipping"]


@pytest.mark.parametrize("texts", [False, True])
def test_a_checkpoint_of_either_engine_goes_on_in_the_other(
    spec: Specification, vowels: Dataset, texts: bool
) -> None:
    """In float64, within the 1e-9 that the engines agree to."""
    trials = [KINDS[kind] for kind in VOWEL_KINDS]
    dataset = vowels
    if texts:
        dataset, trials = some_texts(), [TEXT_KINDS["base"], TEXT_KINDS["all of it"]]
    for first in ENGINES:
        for second in ENGINES:
            before = Pool(spec, dataset, first(spec, dataset))
            slots = [before.admit(trial, seed) for seed, trial in enumerate(trials)]
            before.train_epoch()
            before.train_epoch()
            after = Pool(spec, dataset, second(spec, dataset))
            for slot in reversed(slots):
                content = before.snapshot(slot).to_bytes()
                after.admit(slot.hyperparameters, slot.seed, Checkpoint.from_bytes(content))
            after.train_epoch()
            after.train_epoch()
            for slot in after.slots:
                trainer = reference(spec, dataset, slot.hyperparameters, slot.seed, epochs=4)
                assert_close(slot, trainer, tolerance=1e-9)
                last = after.engine.weights(slot)
                for name, weight in trainer.model.state_dict().items():
                    torch.testing.assert_close(last[name], weight, rtol=1e-9, atol=1e-9)


@settings(max_examples=25)
@given(
    trial=TRIALS, epochs=st.integers(0, 2), engine=st.sampled_from(ENGINES), single=st.booleans()
)
def test_what_is_restored_has_the_checkpoint_it_came_from(
    spec: Specification,
    trial: Hyperparameters,
    epochs: int,
    engine: type[CPUEngine] | type[BatchedEngine],
    single: bool,
) -> None:
    """Of every shape, to the last byte; and either engine, given the other's, returns it."""
    dtype = torch.float32 if single else torch.float64
    values = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)
    split = split_of_rows(values, torch.tensor([4, 1, 3, 2, 4, 4]), torch.arange(6) % 3)
    dataset = Dataset(split, split, None, ("a", "b", "c"), fingerprint="drawn")
    pool = Pool(spec, dataset, engine(spec, dataset))
    slot = pool.admit(trial, 1)
    for _ in range(epochs):
        pool.train_epoch()
    content = pool.snapshot(slot).to_bytes()
    for other in ENGINES:
        again = Pool(spec, dataset, other(spec, dataset))
        restored = again.admit(trial, 1, Checkpoint.from_bytes(content))
        assert again.snapshot(restored).to_bytes() == content


@pytest.mark.parametrize("engine", ENGINES)
def test_a_snapshot_stays_what_it_was_while_training_goes_on(
    spec: Specification, single: Dataset, engine: type[CPUEngine] | type[BatchedEngine]
) -> None:
    """So it may be turned into bytes beside the next epoch."""
    pool = Pool(spec, single, engine(spec, single))
    slot = pool.admit(BASE, seed=1)
    pool.train_epoch()
    checkpoint = pool.snapshot(slot)
    content = checkpoint.to_bytes()
    pool.train_epoch()
    assert slot.progress.best_epoch == 2
    assert checkpoint.to_bytes() == content
    assert pool.snapshot(slot).to_bytes() != content


@pytest.mark.parametrize("engine", ENGINES)
def test_the_best_weights_of_a_checkpoint_predict_as_they_did(
    spec: Specification, single: Dataset, engine: type[CPUEngine] | type[BatchedEngine]
) -> None:
    pool = Pool(spec, single, engine(spec, single))
    slot = pool.admit(BASE, seed=1)
    pool.train_epoch()
    again = Pool(spec, single, engine(spec, single))
    restored = again.admit(BASE, 1, pool.snapshot(slot))
    rows = single.validation
    logits = again.engine.predict(restored, restored.best_weights, rows)
    assert torch.equal(logits, pool.engine.predict(slot, slot.best_weights, rows))


def test_names_that_a_version_has_for_nothing_make_no_other_trial(
    spec: Specification, single: Dataset
) -> None:
    """A hyperparameter that is added later must not cost running trials their checkpoints."""
    pool = Pool(spec, single, CPUEngine(spec, single))
    slot = pool.admit(BASE, seed=1)
    pool.train_epoch()
    checkpoint = pool.snapshot(slot)
    checkpoint.state["hyperparameters"] |= {"added_later": None}
    assert pool.admit(BASE, 1, checkpoint).progress.epoch == 1


UNFIT: dict[str, tuple[Callable[[Checkpoint], object], str]] = {
    "another learning rate": (
        lambda c: c.state["hyperparameters"].update(learning_rate=0.5),
        "belongs to another trial: hyperparameters",
    ),
    "another seed": (lambda c: c.state.update(seed=2), "belongs to another trial: seed = 2"),
    "no curve": (lambda c: c.state.pop("curve"), "the curve can't be read"),
    "a curve of words": (lambda c: c.state.update(curve=["abc"]), "the curve can't be read"),
    "an epoch without metric": (
        lambda c: c.state["curve"][0].__delitem__(slice(2, None)),
        "the curve can't be read",
    ),
    "more epochs than there are": (
        lambda c: c.state.update(curve=c.state["curve"] * 6),
        "6 epochs, and a trial has 5",
    ),
    "another best epoch": (lambda c: c.state.update(best_epoch=3), "best_epoch = 3, but epoch 1"),
    "no moment": (
        lambda c: c.tensors.pop("first_moment/head.bias"),
        "first_moment/head.bias missing",
    ),
    "no best weights": (
        lambda c: c.tensors.pop("best_weights/head.bias"),
        "best_weights/head.bias missing",
    ),
    "another shape": (
        lambda c: c.tensors.update({"weights/head.bias": torch.zeros(1, 9)}),
        "weights/head.bias: ",
    ),
    "whole numbers": (
        lambda c: c.tensors.update({"weights/head.bias": torch.zeros(9, dtype=torch.int64)}),
        "weights/head.bias: torch.int64",
    ),
    "a tensor too many": (
        lambda c: c.tensors.update({"weights/tail": torch.zeros(1)}),
        "weights/tail, which no trial has",
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_checkpoint_that_does_not_fit_is_refused_and_the_pool_stays_as_it_was(
    spec: Specification, single: Dataset, kind: str
) -> None:
    pool = Pool(spec, single, CPUEngine(spec, single))
    slot = pool.admit(BASE, seed=1)
    pool.train_epoch()
    checkpoint = Checkpoint.from_bytes(pool.snapshot(slot).to_bytes())
    change, reason = UNFIT[kind]
    change(checkpoint)
    with pytest.raises(DamagedCheckpoint, match=reason):
        pool.admit(BASE, 1, checkpoint)
    assert pool.slots == [slot]

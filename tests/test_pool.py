"""The pool computes what the reference computes, whoever trains beside a trial."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest
import torch
from conftest import PLAIN, REPOSITORY, TINY_STUDY
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_optuna import spec as study_file
from gru_optuna.data.dataset import Dataset, Split
from gru_optuna.data.sequences import load_sequences
from gru_optuna.errors import Diverged
from gru_optuna.hyperparameters import Hyperparameters, Initializer
from gru_optuna.training.cpu import CPUEngine
from gru_optuna.training.pool import Pool
from gru_optuna.training.reference import Trainer

if TYPE_CHECKING:
    from gru_optuna.spec import Specification
    from gru_optuna.training.pool import Slot
    from gru_optuna.training.progress import EpochResult

BASE = replace(PLAIN, hidden_size=12, l1=1e-5, l2=1e-4, dropout=0.3, batch_size=32)

EXPLODING = replace(BASE, learning_rate=1e30, l2=1.0, clip_norm=None)

KINDS = {
    "base": BASE,
    "time decay": replace(BASE, decay="time", decay_rate=0.5),
    "step decay": replace(BASE, decay="step", decay_drop=0.3, decay_every=2),
    "exponential decay": replace(BASE, decay="exponential", decay_gamma=0.7),
    "cosine decay": replace(BASE, decay="cosine", decay_floor=0.1),
    "rmsprop": replace(BASE, optimizer="rmsprop", learning_rate=0.003),
    "tight clipping": replace(BASE, clip_norm=0.05),
    "no clipping": replace(BASE, clip_norm=None),
    "strong l1": replace(BASE, l1=1e-2),
    "strong l2": replace(BASE, l2=1e-1),
    "no penalty": replace(BASE, l1=0.0, l2=0.0),
    "no dropout": replace(BASE, dropout=0.0),
    "small batches": replace(BASE, batch_size=7),
    "one batch": replace(BASE, batch_size=1000),
    "mean pooling": replace(BASE, pooling="mean"),
    "two layers": replace(BASE, layers=2),
    "bidirectional": replace(BASE, bidirectional=True, layers=2, pooling="mean"),
    **{name: replace(BASE, initializer=name) for name in get_args(Initializer)},
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Specification:
    path = tmp_path_factory.mktemp("study") / "tiny.toml"
    path.write_text(TINY_STUDY)
    return study_file.load(path, ["training.epochs=5", "training.patience='off'"])


@pytest.fixture(scope="module")
def vowels(spec: Specification) -> Dataset:
    """A part of the real data, in float64."""
    whole = load_sequences(spec, REPOSITORY / "studies")
    some = replace(
        whole,
        train=whole.train.rows(torch.arange(0, len(whole.train), 3)),
        validation=whole.validation.rows(torch.arange(0, len(whole.validation), 2)),
    )
    return some.to(torch.device("cpu"), torch.float64)


def reference(
    spec: Specification, dataset: Dataset, trial: Hyperparameters, seed: int, epochs: int
) -> Trainer:
    trainer = Trainer(spec, dataset, trial, seed)
    for _ in range(epochs):
        trainer.train_epoch()
    return trainer


def pooled(
    spec: Specification,
    dataset: Dataset,
    trials: list[Hyperparameters],
    epochs: int,
    threads: int = 2,
) -> list[Slot]:
    """Trains all trials together; trial n has seed n."""
    pool = Pool(spec, dataset, CPUEngine(spec, dataset, threads))
    slots = [pool.admit(trial, seed) for seed, trial in enumerate(trials)]
    for _ in range(epochs):
        for slot, result in pool.train_epoch():
            if isinstance(result, Diverged):
                pool.release(slot)
    return slots


def assert_close(slot: Slot, trainer: Trainer, tolerance: float) -> None:
    assert len(slot.progress.curve) == len(trainer.progress.curve)
    for ours, theirs in zip(slot.progress.curve, trainer.progress.curve, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=tolerance)
        assert ours.validation_loss == pytest.approx(theirs.validation_loss, rel=tolerance)
        assert ours.value == pytest.approx(theirs.value, rel=tolerance)
    assert slot.progress.best_epoch == trainer.progress.best_epoch
    for name, weight in trainer.best_weights.items():
        torch.testing.assert_close(slot.best_weights[name], weight, rtol=tolerance, atol=tolerance)


def test_every_kind_of_hyperparameter_agrees_with_the_reference(
    spec: Specification, vowels: Dataset
) -> None:
    """All kinds in one pool, in float64 to 1e-9 over four epochs, dropout on."""
    slots = pooled(spec, vowels, list(KINDS.values()), epochs=4)
    for seed, (kind, slot) in enumerate(zip(KINDS, slots, strict=True)):
        trainer = reference(spec, vowels, KINDS[kind], seed, epochs=4)
        assert_close(slot, trainer, tolerance=1e-9)


def test_in_single_precision_it_agrees_over_a_few_steps(
    spec: Specification, vowels: Dataset
) -> None:
    """Sums are taken in another order, so rounding differs: 1e-4 after six steps."""
    single = vowels.to(torch.device("cpu"), torch.float32)
    trials = [BASE, KINDS["bidirectional"], KINDS["rmsprop"], KINDS["one batch"]]
    for seed, slot in enumerate(pooled(spec, single, trials, epochs=2)):
        trainer = reference(spec, single, trials[seed], seed, epochs=2)
        for ours, theirs in zip(slot.progress.curve, trainer.progress.curve, strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)


ROWS = st.lists(st.integers(1, 9), min_size=2, max_size=12)
TRIALS = st.builds(
    Hyperparameters,
    hidden_size=st.integers(1, 20),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    pooling=st.sampled_from(["last", "mean"]),
    learning_rate=st.floats(1e-4, 1e-2),
    optimizer=st.sampled_from(["adam", "rmsprop"]),
    decay=st.just("exponential"),
    decay_gamma=st.floats(0.5, 1.0),
    clip_norm=st.none() | st.floats(0.01, 10),
    initializer=st.sampled_from(get_args(Initializer)),
    l1=st.floats(0, 1e-2),
    l2=st.floats(0, 1e-1),
    dropout=st.floats(0, 0.9),
    batch_size=st.integers(1, 14),
)


@settings(max_examples=25, deadline=None)
@given(lengths=ROWS, trials=st.lists(TRIALS, min_size=1, max_size=4), channels=st.integers(1, 19))
def test_any_mix_of_shapes_lengths_and_hyperparameters_agrees(
    spec_of_properties: Specification,
    lengths: list[int],
    trials: list[Hyperparameters],
    channels: int,
) -> None:
    draw = torch.Generator().manual_seed(sum(lengths))
    values = torch.randn(len(lengths), max(lengths), channels, generator=draw, dtype=torch.float64)
    targets = torch.arange(len(lengths)) % 3
    split = Split(values, torch.tensor(lengths), targets)
    dataset = Dataset(split, split, None, ("a", "b", "c"), fingerprint="drawn")
    for seed, slot in enumerate(pooled(spec_of_properties, dataset, trials, epochs=2)):
        trainer = reference(spec_of_properties, dataset, trials[seed], seed, epochs=2)
        # RMSprop divides by the root of what may be nearly nothing, which magnifies rounding.
        assert_close(slot, trainer, tolerance=1e-7)


@pytest.fixture(scope="module")
def spec_of_properties(spec: Specification) -> Specification:
    return spec.model_copy(update={"metric": "log_loss"})


# --- neighbours: to the last bit, in the precision trials train in ---


@pytest.fixture(scope="module")
def single(vowels: Dataset) -> Dataset:
    return vowels.to(torch.device("cpu"), torch.float32)


def curve_of(slot: Slot) -> list[EpochResult]:
    return slot.progress.curve


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_neighbours_slot_and_threads_change_nothing(
    spec: Specification, single: Dataset, threads: int
) -> None:
    engine = CPUEngine(spec, single, threads)
    alone = Pool(spec, single, CPUEngine(spec, single, 1))
    slot = alone.admit(BASE, seed=77)
    for _ in range(3):
        alone.train_epoch()
    crowded = Pool(spec, single, engine)
    for seed, trial in enumerate([KINDS["two layers"], KINDS["small batches"], BASE]):
        crowded.admit(trial, seed)
    beside = crowded.admit(BASE, seed=77)
    crowded.admit(KINDS["bidirectional"], seed=9)
    for _ in range(3):
        crowded.train_epoch()
    assert curve_of(beside) == curve_of(slot)
    for name, weight in slot.best_weights.items():
        assert torch.equal(beside.best_weights[name], weight)


def test_a_refilled_slot_starts_from_nothing(spec: Specification, single: Dataset) -> None:
    pool = Pool(spec, single, CPUEngine(spec, single, 1))
    first = pool.admit(replace(BASE, optimizer="rmsprop"), seed=1)
    for _ in range(3):
        pool.train_epoch()
    pool.release(first)
    refilled = pool.admit(BASE, seed=2)
    for _ in range(3):
        pool.train_epoch()
    fresh_pool = Pool(spec, single, CPUEngine(spec, single, 1))
    fresh = fresh_pool.admit(BASE, seed=2)
    for _ in range(3):
        fresh_pool.train_epoch()
    assert curve_of(refilled) == curve_of(fresh)
    assert len(curve_of(first)) == 3  # a released slot is left alone


def test_a_diverging_neighbour_harms_nobody(spec: Specification, single: Dataset) -> None:
    quiet = pooled(spec, single, [BASE, BASE, BASE], epochs=3, threads=1)
    loud = pooled(spec, single, [BASE, EXPLODING, BASE], epochs=3, threads=1)
    assert curve_of(loud[0]) == curve_of(quiet[0])
    assert curve_of(loud[2]) == curve_of(quiet[2])
    assert len(curve_of(loud[1])) < 3


def test_divergence_is_told_as_the_reference_tells_it(spec: Specification, single: Dataset) -> None:
    pool = Pool(spec, single, CPUEngine(spec, single))
    slot = pool.admit(EXPLODING, seed=0)
    told = None
    for _ in range(5):
        ((_, told),) = pool.train_epoch()
        if isinstance(told, Diverged):
            break
    with pytest.raises(Diverged) as raised:
        reference(spec, single, EXPLODING, 0, epochs=5)
    assert str(told) == str(raised.value)
    assert slot in pool.slots  # until it is released


def test_padding_costs_nothing_and_changes_nothing(spec: Specification, single: Dataset) -> None:
    """Whatever stands behind a row's length, and however much of it."""
    values = single.train.values
    garbage = torch.full((len(values), 40, values.shape[2]), float("nan"))
    for row, length in enumerate(single.train.lengths.tolist()):
        garbage[row, :length] = values[row, :length]
    padded = replace(single, train=replace(single.train, values=garbage))
    (plain,) = pooled(spec, single, [BASE], epochs=2)
    (other,) = pooled(spec, padded, [BASE], epochs=2)
    assert curve_of(other) == curve_of(plain)


def test_predictions_with_the_best_weights_are_those_of_the_best_epoch(
    spec: Specification, single: Dataset
) -> None:
    engine = CPUEngine(spec, single)
    pool = Pool(spec, single, engine)
    slot = pool.admit(replace(BASE, learning_rate=0.1, optimizer="rmsprop"), seed=3)
    for _ in range(5):
        pool.train_epoch()
    logits = engine.predict(slot, slot.best_weights, single.validation)
    loss = torch.nn.functional.cross_entropy(logits, single.validation.targets).item()
    assert loss == slot.progress.best.validation_loss

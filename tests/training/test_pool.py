"""The pool computes what the reference computes, whoever trains beside a trial."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from helpers.pools import (
    BASE,
    EXPLODING,
    KINDS,
    TRIALS,
    assert_close,
    curve_of,
    reference,
)
from helpers.splits import split_of_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_optuna.data.dataset import Dataset
from gru_optuna.errors import Crashed, Diverged, OutOfMemory, TrialFailed
from gru_optuna.training.engines import cpu
from gru_optuna.training.engines.base import EpochOutput
from gru_optuna.training.engines.batched import BatchedEngine
from gru_optuna.training.engines.cpu import CPUEngine
from gru_optuna.training.pool import Pool
from gru_optuna.training.schedules import learning_rate
from gru_optuna.training.slot import EpochResult

if TYPE_CHECKING:
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification
    from gru_optuna.training.slot import Slot


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
            if isinstance(result, TrialFailed):
                pool.release(slot)
    return slots


def test_every_kind_of_hyperparameter_agrees_with_the_reference(
    spec: Specification, vowels: Dataset
) -> None:
    """All kinds in one pool, in float64 to 1e-9 over four epochs, dropout on."""
    slots = pooled(spec, vowels, list(KINDS.values()), epochs=4)
    for seed, (kind, slot) in enumerate(zip(KINDS, slots, strict=True)):
        trainer = reference(spec, vowels, KINDS[kind], seed, epochs=4)
        assert_close(slot, trainer, tolerance=1e-9)


def test_an_epoch_of_many_stretches_agrees_with_the_reference(
    spec: Specification, vowels: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks and augmented rows of some batches at a time; so many rows are 8 to 56 stretches."""
    monkeypatch.setattr(cpu, "STRETCH", 10)
    slots = pooled(spec, vowels, list(KINDS.values()), epochs=2)
    for seed, (kind, slot) in enumerate(zip(KINDS, slots, strict=True)):
        trainer = reference(spec, vowels, KINDS[kind], seed, epochs=2)
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


@settings(max_examples=25)
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
    split = split_of_rows(values, torch.tensor(lengths), targets)
    dataset = Dataset(split, split, None, ("a", "b", "c"), fingerprint="drawn")
    for seed, slot in enumerate(pooled(spec_of_properties, dataset, trials, epochs=2)):
        trainer = reference(spec_of_properties, dataset, trials[seed], seed, epochs=2)
        # RMSprop divides by the root of what may be nearly nothing, which magnifies rounding.
        assert_close(slot, trainer, tolerance=1e-7)


@pytest.fixture(scope="module")
def spec_of_properties(spec: Specification) -> Specification:
    return spec.model_copy(update={"metric": "log_loss"})


# --- neighbours: to the last bit, in the precision trials train in ---


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


def test_a_diverging_neighbour_harms_no_other_slot(spec: Specification, single: Dataset) -> None:
    quiet = pooled(spec, single, [BASE, BASE, BASE], epochs=3, threads=1)
    loud = pooled(spec, single, [BASE, EXPLODING, BASE], epochs=3, threads=1)
    assert curve_of(loud[0]) == curve_of(quiet[0])
    assert curve_of(loud[2]) == curve_of(quiet[2])
    assert len(curve_of(loud[1])) < 3


def test_divergence_is_reported_as_the_reference_reports_it(
    spec: Specification, single: Dataset
) -> None:
    pool = Pool(spec, single, CPUEngine(spec, single))
    slot = pool.admit(EXPLODING, seed=0)
    result = None
    for _ in range(5):
        ((_, result),) = pool.train_epoch()
        if isinstance(result, Diverged):
            break
    with pytest.raises(Diverged) as raised:
        reference(spec, single, EXPLODING, 0, epochs=5)
    assert str(result) == str(raised.value)
    assert slot in pool.slots  # until it is released


def test_padding_costs_nothing_and_changes_nothing(spec: Specification, single: Dataset) -> None:
    """Whatever stands behind a row's length, and however much of it."""
    values = single.train.batch().values
    garbage = torch.full((len(values), 40, values.shape[2]), float("nan"))
    for row, length in enumerate(single.train.lengths.tolist()):
        garbage[row, :length] = values[row, :length]
    padded = replace(
        single, train=split_of_rows(garbage, single.train.lengths, single.train.targets)
    )
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


# --- what an epoch raises ---

ERRORS: list[tuple[Exception, type[TrialFailed], str]] = [
    (MemoryError(), OutOfMemory, "epoch 2 ran out of memory"),
    (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee the manual"),
        OutOfMemory,
        "epoch 2 ran out of memory: CUDA out of memory. Tried to allocate 2 GiB.",
    ),
    (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        OutOfMemory,
        "epoch 2 ran out of memory: DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 9 bytes",
    ),
    (
        RuntimeError("not enough memory"),
        OutOfMemory,
        "epoch 2 ran out of memory: not enough memory",
    ),
    (RuntimeError("shapes differ"), Crashed, "epoch 2 raised RuntimeError: shapes differ"),
    (ValueError("out of memory lane"), Crashed, "epoch 2 raised ValueError: out of memory lane"),
    (AssertionError(), Crashed, "epoch 2 raised AssertionError"),
]


def fail_for(monkeypatch: pytest.MonkeyPatch, trial: Hyperparameters, error: BaseException) -> None:
    """Epochs of this trial raise from now on, on the CPU engine."""
    real = learning_rate

    def rate(h: Hyperparameters, epoch: int, epochs: int) -> float:
        if h is trial:
            raise error
        return real(h, epoch, epochs)

    monkeypatch.setattr(cpu, "learning_rate", rate)


@pytest.mark.parametrize(("error", "kind", "message"), ERRORS)
def test_what_one_slot_raises_ends_its_trial_and_no_other(
    spec: Specification,
    single: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: type[TrialFailed],
    message: str,
) -> None:
    quiet = pooled(spec, single, [BASE, BASE, BASE], epochs=3)
    pool = Pool(spec, single, CPUEngine(spec, single, 2))
    failing = replace(BASE)
    slots = [pool.admit(trial, seed) for seed, trial in enumerate([BASE, failing, BASE])]
    pool.train_epoch()
    fail_for(monkeypatch, failing, error)
    (_, first), (slot, result), (_, last) = pool.train_epoch()
    assert (type(result), str(result)) == (kind, message)
    assert slot is slots[1]
    assert isinstance(first, EpochResult)
    assert isinstance(last, EpochResult)
    pool.release(slot)
    pool.train_epoch()
    assert curve_of(slots[0]) == curve_of(quiet[0])
    assert curve_of(slots[2]) == curve_of(quiet[2])


def test_a_crash_keeps_its_cause_and_a_lack_of_memory_lets_go_of_it(
    spec: Specification, single: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of a traceback hold what the epoch had allocated."""
    for error, frames in ((ValueError("no"), True), (MemoryError(), False)):
        with monkeypatch.context() as patched:
            pool = Pool(spec, single, CPUEngine(spec, single))
            slot = pool.admit(BASE, seed=0)
            fail_for(patched, slot.hyperparameters, error)
            ((_, result),) = pool.train_epoch()
        assert isinstance(result, TrialFailed)
        assert (error.__traceback__ is not None) == (result.__cause__ is error) == frames


def test_what_an_engine_raises_as_a_whole_ends_every_trial(
    spec: Specification, single: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = BatchedEngine(spec, single)
    pool = Pool(spec, single, engine)
    slots = [pool.admit(BASE, seed) for seed in (1, 2)]

    def train_epoch(slots: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(engine, "train_epoch", train_epoch)
    results = pool.train_epoch()
    assert [slot for slot, _ in results] == slots
    assert [str(result) for _, result in results] == [
        "epoch 1 ran out of memory: CUDA error: out of memory"
    ] * 2


@pytest.mark.parametrize(
    ("train_loss", "logit", "what"),
    [
        (math.inf, 0.0, "training loss"),
        (0.5, math.inf, "validation loss"),
        (0.5, math.nan, "validation loss"),
    ],
)
def test_a_loss_that_is_not_finite_is_divergence(
    spec: Specification,
    single: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    train_loss: float,
    logit: float,
    what: str,
) -> None:
    """As in single precision a sum can be: a curve holds finite numbers only."""
    engine = BatchedEngine(spec, single)
    pool = Pool(spec, single, engine)
    slot = pool.admit(BASE, seed=1)
    logits = torch.full((len(single.validation), len(single.classes)), logit)
    trained = [EpochOutput(train_loss, validation_outputs=logits)]
    monkeypatch.setattr(engine, "train_epoch", lambda slots: trained)
    ((_, result),) = pool.train_epoch()
    assert str(result) == f"diverged in epoch 1: the {what} is not finite"
    assert slot.progress.curve == []
    assert slot.best_weights == {}


def test_the_best_weights_are_those_of_the_best_epoch_and_measured_as_they_are(
    spec: Specification, single: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three epochs, the second is right about every row and the third about none."""
    engine = BatchedEngine(spec, single)
    pool = Pool(spec, single, engine)
    slot = pool.admit(BASE, seed=1)
    right = torch.nn.functional.one_hot(single.validation.targets, len(single.classes)).double()
    outputs = [0 * right, right, -right]
    kept = []
    for number, logits in enumerate(outputs, start=1):
        trained = [EpochOutput(number / 8, validation_outputs=logits, clipped=number / 4)]
        monkeypatch.setattr(engine, "train_epoch", lambda slots, trained=trained: trained)
        monkeypatch.setattr(engine, "weights", lambda slot, n=number: {"n": torch.tensor(n)})
        pool.train_epoch()
        kept.append(int(slot.best_weights["n"]))
    assert kept == [1, 2, 2]
    assert [(r.train_loss, r.clipped) for r in slot.progress.curve] == [
        (0.125, 0.25), (0.25, 0.5), (0.375, 0.75),
    ]  # fmt: skip
    assert [result.value for result in slot.progress.curve][1:] == [1.0, 0.0]
    losses = [torch.nn.functional.cross_entropy(o, single.validation.targets) for o in outputs]
    assert [result.validation_loss for result in slot.progress.curve] == [
        loss.item() for loss in losses
    ]


@pytest.mark.parametrize("order", [KeyboardInterrupt, SystemExit])
def test_an_order_to_stop_is_no_failure(
    spec: Specification,
    single: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    order: type[BaseException],
) -> None:
    pool = Pool(spec, single, CPUEngine(spec, single))
    pool.admit(BASE, seed=0)
    fail_for(monkeypatch, BASE, order())
    with pytest.raises(order):
        pool.train_epoch()

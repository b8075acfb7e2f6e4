"""The batched engine: what a pool trains with it is what the reference trains, trial by trial.

Sums round by the shapes they are batched into, so nothing here is equal bit for bit; in float64
it is equal to 1e-9, curves and weights, over all epochs. After each row's end there is NaN.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import pytest
import torch
from helpers.splits import split_of_rows
from helpers.workspaces import PLAIN, TINY_STUDY
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_optuna import study_file
from gru_optuna.data.dataset import Dataset, Split
from gru_optuna.errors import Diverged
from gru_optuna.hyperparameters import Hyperparameters, Pooling
from gru_optuna.seeds import generator
from gru_optuna.training.engines.batched import BatchedEngine
from gru_optuna.training.engines.batched.batches import active_rows, micro_batch_size, micro_batches
from gru_optuna.training.engines.batched.recurrence import Layer, Recurrence, recurrence, reverse
from gru_optuna.training.pool import Pool
from gru_optuna.training.reference import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gru_optuna.study_file import Specification
    from gru_optuna.training.slot import Slot

EPOCHS = 5
CPU = torch.device("cpu")
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}

BASE = replace(PLAIN, hidden_size=6, learning_rate=0.02, clip_norm=None, batch_size=16)
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "time decay": {"decay": "time", "decay_rate": 0.5},
    "step decay": {"decay": "step", "decay_drop": 0.5, "decay_every": 2},
    "exponential decay": {"decay": "exponential", "decay_gamma": 0.7},
    "cosine decay": {"decay": "cosine", "decay_floor": 0.1},
    "rmsprop": {"optimizer": "rmsprop"},
    "rmsprop, clipped, decaying": {
        "optimizer": "rmsprop",
        "clip_norm": 0.2,
        "decay": "exponential",
        "decay_gamma": 0.5,
    },
    "clipped at each step": {"clip_norm": 0.05},
    "clipped at some steps": {"clip_norm": 1.0},
    "normal": {"initializer": "normal"},
    "xavier_normal": {"initializer": "xavier_normal"},
    "he_uniform": {"initializer": "he_uniform"},
    "he_normal": {"initializer": "he_normal"},
    "orthogonal": {"initializer": "orthogonal"},
    "l1": {"l1": 1e-3},
    "l2": {"l2": 1e-2},
    "dropout": {"dropout": 0.4},
    "all penalties": {"l1": 1e-4, "l2": 1e-3, "dropout": 0.2, "clip_norm": 0.5},
    "batches of 1": {"batch_size": 1, "dropout": 0.2},
    "batches of 7": {"batch_size": 7, "l2": 1e-2},
    "batches of 23": {"batch_size": 23, "dropout": 0.3, "optimizer": "rmsprop"},
    "one batch": {"batch_size": 1000, "clip_norm": 0.1},
    "mean": {"pooling": "mean"},
    "maximum": {"pooling": "max", "dropout": 0.3},
    "mean and maximum, both directions": {"pooling": "mean_max", "bidirectional": True, "l2": 1e-3},
    "two layers": {"layers": 2, "dropout": 0.3},
    "two layers, another batch size": {"layers": 2, "batch_size": 10},
    "bidirectional": {"bidirectional": True, "dropout": 0.3},
    "bidirectional mean": {"bidirectional": True, "pooling": "mean", "l1": 1e-4},
    "two layers, both directions": {"layers": 2, "bidirectional": True, "dropout": 0.3},
    "two layers, both directions, mean": {
        "layers": 2,
        "bidirectional": True,
        "pooling": "mean",
        "dropout": 0.2,
        "hidden_size": 5,
        "optimizer": "rmsprop",
    },
}
"""What differs from BASE. Most of them share one network and so one launch."""


def made(kind: str, **more: Any) -> Hyperparameters:
    return replace(BASE, **(KINDS[kind] | more))


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Specification:
    path = tmp_path_factory.mktemp("study") / "tiny.toml"
    path.write_text(TINY_STUDY)
    return study_file.load(path, [f"training.epochs={EPOCHS}"])


def make_split(lengths: Sequence[int], channels: int, classes: int, seed: int) -> Split:
    """Noise that its class shifts; NaN after each row's end."""
    drawn = torch.Generator().manual_seed(seed)
    steps = torch.tensor(lengths)
    targets = torch.randint(classes, (len(lengths),), generator=drawn)
    values = torch.randn(len(lengths), max(lengths), channels, generator=drawn)
    values += 0.5 * targets[:, None, None]
    values[torch.arange(max(lengths)) >= steps.unsqueeze(1)] = float("nan")
    return split_of_rows(values, steps, targets)


def make_dataset(
    train: Sequence[int], validation: Sequence[int], channels: int = 3, classes: int = 4
) -> Dataset:
    """Rows of these lengths, in float64."""
    splits = (
        make_split(lengths, channels, classes, i) for i, lengths in enumerate([train, validation])
    )
    dataset = Dataset(*splits, test=None, classes=tuple("abcdefgh"[:classes]), fingerprint="")
    return dataset.to(CPU, torch.float64)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    lengths = torch.randint(1, 12, (80,), generator=torch.Generator().manual_seed(0)).tolist()
    return make_dataset(lengths[:50], lengths[50:])


def make_pool(spec: Specification, dataset: Dataset) -> Pool:
    return Pool(spec, dataset, BatchedEngine(spec, dataset))


def train(pool: Pool, epochs: int = EPOCHS) -> None:
    for _ in range(epochs):
        for _, result in pool.train_epoch():
            assert not isinstance(result, Diverged), result


def reference(
    spec: Specification, dataset: Dataset, h: Hyperparameters, seed: int, epochs: int = EPOCHS
) -> Trainer:
    trainer = Trainer(spec, dataset, h, seed)
    for _ in range(epochs):
        trainer.train_epoch()
    return trainer


def numbers(slot: Slot | Trainer) -> torch.Tensor:
    """(epochs, 4): training loss, validation loss, metric, share of clipped updates."""
    curve = slot.progress.curve
    return torch.tensor(
        [[e.train_loss, e.validation_loss, e.value, e.clipped] for e in curve]
    ).double()


def assert_same(pool: Pool, slot: Slot, trainer: Trainer, **tolerance: Any) -> None:
    """The curve, the last weights and the best ones."""
    tolerance = tolerance or EXACT
    torch.testing.assert_close(numbers(slot), numbers(trainer), **tolerance)
    weights = pool.engine.weights(slot)
    torch.testing.assert_close(weights, dict(trainer.model.state_dict()), **tolerance)
    torch.testing.assert_close(slot.best_weights, trainer.best_weights, **tolerance)


# --- against the reference ---


@pytest.fixture(scope="module")
def everything(spec: Specification, dataset: Dataset) -> tuple[Pool, dict[str, Slot]]:
    """One pool with a slot of each kind, trained to its end."""
    pool = make_pool(spec, dataset)
    slots = {kind: pool.admit(made(kind), seed=100 + i) for i, kind in enumerate(KINDS)}
    train(pool)
    return pool, slots


@pytest.mark.parametrize("kind", KINDS)
def test_in_one_pool_every_kind_trains_what_the_reference_trains(
    spec: Specification, dataset: Dataset, everything: tuple[Pool, dict[str, Slot]], kind: str
) -> None:
    pool, slots = everything
    slot = slots[kind]
    trainer = reference(spec, dataset, slot.hyperparameters, slot.seed)
    assert_same(pool, slot, trainer)
    logits = pool.engine.predict(slot, slot.best_weights, dataset.train)
    trainer.model.load_state_dict(trainer.best_weights)
    torch.testing.assert_close(logits, trainer.predict(dataset.train), **EXACT)


def test_kinds_change_what_is_trained(everything: tuple[Pool, dict[str, Slot]]) -> None:
    """Otherwise the comparison with the reference would see little."""
    losses = [tuple(numbers(slot)[:, 0].tolist()) for slot in everything[1].values()]
    assert len(set(losses)) == len(KINDS)


def test_float32_stays_within_1e_4_over_an_epoch(spec: Specification, dataset: Dataset) -> None:
    """Of a few steps: rounding grows with each, most where Adam divides small by small."""
    single = dataset.to(CPU, torch.float32)
    pool = make_pool(spec, single)
    kinds = [kind for kind in KINDS if kind != "batches of 1"]
    slots = [pool.admit(made(kind), seed=i) for i, kind in enumerate(kinds)]
    train(pool, 1)
    for slot in slots:
        trainer = reference(spec, single, slot.hyperparameters, slot.seed, 1)
        assert_same(pool, slot, trainer, rtol=1e-4, atol=1e-4)


hyperparameters = st.builds(
    Hyperparameters,
    hidden_size=st.sampled_from([1, 4]),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    pooling=st.sampled_from(get_args(Pooling)),
    learning_rate=st.sampled_from([1e-3, 0.02]),
    optimizer=st.sampled_from(["adam", "rmsprop"]),
    decay=st.sampled_from(["constant", "exponential"]),
    decay_gamma=st.just(0.6),
    clip_norm=st.sampled_from([None, 0.1, 10.0]),
    initializer=st.sampled_from(["normal", "he_normal", "orthogonal"]),
    l1=st.sampled_from([0.0, 1e-3]),
    l2=st.sampled_from([0.0, 1e-2]),
    dropout=st.sampled_from([0.0, 0.5]),
    batch_size=st.integers(1, 12),
)
lengths_of_rows = st.lists(st.integers(1, 7), min_size=1, max_size=10)


@settings(max_examples=30)
@given(
    train_lengths=lengths_of_rows,
    validation_lengths=lengths_of_rows,
    channels=st.integers(1, 3),
    classes=st.integers(2, 4),
    trials=st.lists(hyperparameters, min_size=1, max_size=4),
    seed=st.integers(0, 2**40),
)
def test_any_mix_on_any_data_trains_what_the_reference_trains(
    spec: Specification,
    train_lengths: list[int],
    validation_lengths: list[int],
    channels: int,
    classes: int,
    trials: list[Hyperparameters],
    seed: int,
) -> None:
    drawn = make_dataset(train_lengths, validation_lengths, channels, classes)
    pool = make_pool(spec, drawn)
    for i, h in enumerate(trials):
        # The first trial's network twice, so that two slots share a launch.
        pool.admit(h, seed + i)
        first = trials[0]
        pool.admit(
            replace(
                h,
                hidden_size=first.hidden_size,
                layers=first.layers,
                bidirectional=first.bidirectional,
                pooling=first.pooling,
            ),
            seed,
        )
    train(pool, 2)
    for slot in pool.slots:
        assert_same(pool, slot, reference(spec, drawn, slot.hyperparameters, slot.seed, 2))


# --- neighbours ---

WATCHED = made("all penalties")


@pytest.fixture(scope="module")
def alone(spec: Specification, dataset: Dataset) -> Slot:
    """A trial in a pool of its own."""
    pool = make_pool(spec, dataset)
    slot = pool.admit(WATCHED, seed=7)
    train(pool)
    return slot


@pytest.mark.parametrize("before", [0, 1, 6])
@pytest.mark.parametrize("after", [0, 3])
def test_neighbours_their_number_and_the_place_among_them_change_nothing(
    spec: Specification, dataset: Dataset, alone: Slot, before: int, after: int
) -> None:
    pool = make_pool(spec, dataset)
    others = [made(kind) for kind in ("batches of 7", "rmsprop", "batches of 23", "one batch")]
    for i in range(before):
        pool.admit(others[i % len(others)], seed=i)
    slot = pool.admit(WATCHED, seed=7)
    for i in range(after):
        pool.admit(others[i % len(others)], seed=50 + i)
    train(pool)
    torch.testing.assert_close(numbers(slot), numbers(alone), **EXACT)
    torch.testing.assert_close(slot.best_weights, alone.best_weights, **EXACT)


def test_a_refilled_slot_starts_from_zero_and_the_others_go_on(
    spec: Specification, dataset: Dataset, alone: Slot
) -> None:
    pool = make_pool(spec, dataset)
    first = pool.admit(made("batches of 7", learning_rate=0.1), seed=1)
    stays = pool.admit(made("rmsprop"), seed=2)
    train(pool, 2)
    pool.release(first)
    left_with = pool.engine.weights(first)
    refilled = pool.admit(WATCHED, seed=7)
    train(pool, EPOCHS - 2)
    assert_same(pool, stays, reference(spec, dataset, stays.hyperparameters, 2))
    pool.release(stays)
    train(pool, 2)
    torch.testing.assert_close(numbers(refilled), numbers(alone), **EXACT)
    torch.testing.assert_close(refilled.best_weights, alone.best_weights, **EXACT)
    # Whoever has left keeps what it left with.
    assert all(torch.equal(w, left_with[n]) for n, w in pool.engine.weights(first).items())


def test_slots_are_stacked_anew_only_when_they_change(
    spec: Specification, dataset: Dataset
) -> None:
    pool = make_pool(spec, dataset)
    stays, leaves = (pool.admit(BASE, seed) for seed in (1, 2))
    train(pool, 1)
    place = stays.state.weights.data_ptr()
    train(pool, 1)
    assert stays.state.weights.data_ptr() == place
    pool.release(leaves)
    train(pool, 1)
    assert stays.state.weights.data_ptr() != place


# --- divergence ---

EXPLODING = {
    "the training loss": made("plain", learning_rate=1e308),
    "the gradient": made("plain", l2=1e200),
    "the validation loss": made("one batch", learning_rate=1e308, clip_norm=None),
}


@pytest.mark.parametrize("what", EXPLODING)
def test_a_slot_diverges_as_the_reference_does_and_disturbs_no_other(
    spec: Specification, dataset: Dataset, alone: Slot, what: str
) -> None:
    pool = make_pool(spec, dataset)
    diverging = pool.admit(EXPLODING[what], seed=3)
    slot = pool.admit(WATCHED, seed=7)
    trainer = Trainer(spec, dataset, EXPLODING[what], seed=3)
    with pytest.raises(Diverged) as expected:
        trainer.train_epoch()
    (_, diverged), (_, result) = pool.train_epoch()
    assert isinstance(diverged, Diverged)
    assert what in str(diverged)
    assert str(diverged) == str(expected.value)
    # Not updated since: NaN beside NaN, and infinities of the same sign.
    torch.testing.assert_close(
        pool.engine.weights(diverging),
        dict(trainer.model.state_dict()),
        rtol=1e-9,
        atol=1e-9,
        equal_nan=True,
    )
    # Left in the pool, it disturbs no other slot.
    assert not isinstance(result, Diverged)
    for _ in range(EPOCHS - 1):
        pool.train_epoch()
    torch.testing.assert_close(numbers(slot), numbers(alone), **EXACT)


@pytest.mark.parametrize(("place", "what"), [(0, "the training loss"), (-1, "the gradient")])
def test_the_first_fault_of_an_epoch_is_told(
    spec: Specification, dataset: Dataset, place: int, what: str
) -> None:
    """Every batch's gradient overflows, and one row, in the first batch or the last, is NaN."""
    h, train_rows = made("plain", l2=1e200), dataset.train
    order = torch.randperm(len(train_rows), generator=generator(3, "shuffle", 0))
    steps, row = train_rows.steps.clone(), order[place]
    steps[train_rows.starts[row] : train_rows.starts[row] + train_rows.lengths[row]] = float("nan")
    broken = replace(dataset, train=replace(train_rows, steps=steps))
    pool = make_pool(spec, broken)
    slot = pool.admit(h, seed=3)
    before = pool.engine.weights(slot)
    ((_, diverged),) = pool.train_epoch()
    with pytest.raises(Diverged, match=what):
        reference(spec, broken, h, seed=3)
    assert what in str(diverged)
    assert all(torch.equal(w, before[name]) for name, w in pool.engine.weights(slot).items())


# --- the recurrence ---


def make_layer(J: int, C: int, H: int) -> Layer:
    drawn = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=drawn, dtype=torch.float64).requires_grad_()

    return Layer(draw(J, 3 * H, C), draw(J, 3 * H, H), draw(J, 3 * H), draw(J, 3 * H))


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


LENGTHS = torch.tensor([[5, 3, 3, 1], [4, 4, 0, 0]])
VALID = torch.arange(5).view(5, 1) < LENGTHS.unsqueeze(1)


@pytest.mark.parametrize("active", [active_rows(LENGTHS), [4] * 5])
def test_the_backward_pass_is_the_forward_passs_gradient(active: list[int]) -> None:
    inputs = noise(2, 5, 4, 2).requires_grad_()
    assert torch.autograd.gradcheck(
        Recurrence.apply, (inputs, *make_layer(2, 2, 3), VALID, active), check_batched_grad=False
    )


def test_reversing_rows_is_its_own_inverse_and_has_its_gradient() -> None:
    values = noise(2, 5, 4, 2).requires_grad_()
    backward = reverse(values, LENGTHS)
    assert torch.equal(backward[0, :3, 1], values[0, :3, 1].flip(0))
    assert torch.equal(reverse(backward, LENGTHS), values)
    assert torch.autograd.gradcheck(lambda v: reverse(v, LENGTHS), (values,))


@contextmanager
def nan_in_new_memory() -> Iterator[None]:
    """torch fills every ``empty`` with NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan()
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def test_memory_after_a_rows_end_is_never_read(spec: Specification, dataset: Dataset) -> None:
    inputs, layer = noise(2, 5, 4, 2), make_layer(2, 2, 3)

    def states_and_gradients(active: list[int]) -> tuple[torch.Tensor, ...]:
        states = recurrence(inputs, layer, VALID, active)
        weights = torch.arange(states.numel(), dtype=torch.float64).view_as(states)
        return states, *torch.autograd.grad((states * weights).sum(), list(layer))

    expected = states_and_gradients([4] * 5)
    with nan_in_new_memory():
        torch.testing.assert_close(states_and_gradients(active_rows(LENGTHS)), expected, **EXACT)
        pool = make_pool(spec, dataset)
        slot = pool.admit(made("two layers, both directions"), seed=4)
        pool.admit(made("two layers, both directions", batch_size=3), seed=5)
        train(pool, 1)
    trainer = reference(spec, dataset, slot.hyperparameters, 4, 1)
    assert_same(pool, slot, trainer)


@pytest.mark.parametrize("largest", [1e308, -1e308])
def test_padding_that_overflows_leaves_no_trace(largest: float) -> None:
    """Weights near the largest float: going on behind a row's length makes infinities, then NaN."""
    layer = make_layer(1, 1, 32)
    large = torch.full_like(layer.weight_hh, largest, requires_grad=True)
    layer = layer._replace(weight_hh=large)
    inputs = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    padded = torch.cat([inputs, torch.zeros(1, 4, 1, 1, dtype=torch.float64)], dim=1)

    def last_and_gradients(inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        steps = inputs.shape[1]
        valid = (torch.arange(steps) < 1).view(1, steps, 1)
        states = recurrence(inputs, layer, valid, [1] * steps)
        return states[:, 1], *torch.autograd.grad(states.sum(), list(layer))

    torch.testing.assert_close(last_and_gradients(padded), last_and_gradients(inputs), **EXACT)


# --- micro-batches ---


def test_slots_of_one_batch_size_take_whole_batches() -> None:
    assert micro_batch_size([32, 32], 270) == 32
    assert micro_batch_size([500], 270) == 270
    assert micro_batch_size([16, 17], 270) == 17  # 16 would cut 17 into 16 and 1
    assert micro_batch_size([1, 128], 270) == 1  # the slot of 1 needs 270 steps anyway


def test_every_slot_sees_each_of_its_batches_once_and_whole(
    spec: Specification, dataset: Dataset
) -> None:
    pool = make_pool(spec, dataset)
    slots = [pool.admit(made("plain", batch_size=size), seed=size) for size in (7, 16, 100)]
    lengths, seen = dataset.train.lengths, [[list[int]()] for _ in slots]
    for batch in micro_batches(slots, dataset.train):
        assert (batch.lengths.diff(dim=1) <= 0).all()
        assert batch.active == [
            max(int((row > t).sum()) for row in batch.lengths) for t in range(len(batch.active))
        ]
        for k, batches in enumerate(seen):
            rows = batch.rows[k][batch.lengths[k] > 0]
            assert torch.equal(batch.lengths[k][: len(rows)], lengths[rows])
            batches[-1].extend(rows.tolist())
            if batch.ends[k]:
                assert int(batch.batch_rows[k]) == len(batches[-1])
                batches.append([])
    assert [[len(rows) for rows in batches] for batches in seen] == [
        [7] * 7 + [1, 0],
        [16] * 3 + [2, 0],
        [50, 0],
    ]
    for batches in seen:
        assert sorted(row for batch_rows in batches for row in batch_rows) == list(range(50))


# --- a GPU ---


def test_rows_that_come_batch_by_batch_train_the_same_trials(
    spec: Specification, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those do that are too many for a GPU; here the host is the device, too."""
    curves = []
    for carried in (False, True):
        monkeypatch.setattr(Split, "carried", carried)
        pool = make_pool(spec, dataset)
        for i, kind in enumerate(KINDS):
            pool.admit(made(kind), seed=i)
        train(pool, 2)
        curves.append([slot.progress.curve for slot in pool.slots])
    assert curves[0] == curves[1]


def test_steps_that_would_fill_a_device_stay_on_the_host(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On torch's device without memory, which no number could be read back from."""
    meta = torch.device("meta")
    steps = sum(split.nbytes for split in (dataset.train, dataset.validation))
    for room, stays in ((steps, False), (steps - 1, True)):
        monkeypatch.setattr("gru_optuna.data.dataset._room_on", lambda _, room=room: room)
        there = dataset.to(meta, torch.float64)
        assert there.train.device == there.validation.device == meta
        assert there.train.carried == there.validation.carried == stays


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("room", [0, math.inf])
def test_cuda_trains_the_same_trials(
    spec: Specification,
    dataset: Dataset,
    dtype: torch.dtype,
    room: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "gru_optuna.data.dataset._room_on", lambda device: room if device.type == "cuda" else 1e9
    )
    pools = [make_pool(spec, dataset.to(device, dtype)) for device in (CPU, torch.device("cuda"))]
    for pool in pools:
        for i, kind in enumerate(KINDS):
            pool.admit(made(kind), seed=i)
        train(pool, 3 if dtype == torch.float64 else 1)
    tolerance = EXACT if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-3}
    for on_cpu, on_cuda in zip(pools[0].slots, pools[1].slots, strict=True):
        torch.testing.assert_close(numbers(on_cuda), numbers(on_cpu), **tolerance)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nothing_within_a_step_waits_for_the_device(spec: Specification, dataset: Dataset) -> None:
    from gru_optuna.training.engines.batched.engine import EpochSums, to_device, train_step
    from gru_optuna.training.engines.batched.updates import Recipes, State

    there = dataset.to(torch.device("cuda"), torch.float32)
    pool = make_pool(spec, there)
    slots = [pool.admit(made(kind), seed=1) for kind in ("dropout", "rmsprop", "batches of 7")]
    network, state = slots[0].network, State.stack([slot.state for slot in slots])
    recipes = Recipes.of(network, slots, EPOCHS, state.weights)
    sums = EpochSums.of(state.weights)
    for batch in micro_batches(slots, dataset.train):
        sent = to_device(batch, state.weights)
        torch.cuda.set_sync_debug_mode("error")
        try:
            train_step(network, state, recipes, sums, there.train, sent)
        finally:
            torch.cuda.set_sync_debug_mode("default")

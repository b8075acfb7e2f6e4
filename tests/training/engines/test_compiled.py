"""Compiled training against the reference: autograd through ``reference.GRU``, step by step.

Letters as in ``training.engines.compiled``. All padding is NaN, so that reading it would show.
"""

from __future__ import annotations

import math
import os
import runpy
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
import torch
from helpers.compiled_reference import (
    NETWORK,
    RECIPE,
    assert_same_training,
    masks_for,
    split_of,
    weights_of,
)
from helpers.workspaces import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from gru_optuna.hyperparameters import Hyperparameters, Pooling
from gru_optuna.training.engines.compiled import compiler, epoch
from gru_optuna.training.engines.compiled.compiler import code_folder
from gru_optuna.training.engines.compiled.epoch import (
    DIVERGED,
    FINE,
    LOSS,
    predict,
    train_epoch,
    warm_up,
)
from gru_optuna.training.engines.compiled.slots import RowArrays, SlotArrays, flatten, unflatten
from gru_optuna.training.engines.compiled.updates import ADAM, RMSPROP, Recipe
from gru_optuna.training.engines.compiled.vectors import lanes, load, sigmoid, store, tanh
from gru_optuna.training.engines.compiled.workspace import KernelWorkspace, workspace_bytes
from gru_optuna.training.network import Network

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.training.engines.compiled.vectors import Array


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_network_trains_as_the_reference(
    layers: int, bidirectional: bool, pooling: str, dropout: float
) -> None:
    # 9 units are more than a vector of 8 float64 and fill no second one.
    network = Network(5, 9, layers, bidirectional, pooling, 3)
    assert_same_training(network, RECIPE, split_of(network), dropout)


@pytest.mark.parametrize("penalties", [(0.0, 0.0), (1e-3, 0.0), (0.0, 1e-2), (1e-3, 1e-2)])
@pytest.mark.parametrize("clip_norm", [math.inf, 0.1])
@pytest.mark.parametrize("optimizer", [ADAM, RMSPROP])
def test_every_recipe_trains_as_the_reference(
    optimizer: int, clip_norm: float, penalties: tuple[float, float]
) -> None:
    recipe = Recipe(8, 0.01, optimizer, clip_norm, *penalties)
    network = replace(NETWORK, layers=2, bidirectional=True)
    assert_same_training(network, recipe, split_of(network), dropout=0.2)


@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("outputs", [1, 4])
def test_regression_trains_as_the_reference(outputs: int, pooling: str) -> None:
    network = replace(NETWORK, outputs=outputs, pooling=pooling)
    assert_same_training(network, RECIPE, split_of(network, regression=True))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 13, 50])
def test_any_batch_size_trains_as_the_reference(batch_size: int) -> None:
    recipe = RECIPE._replace(batch_size=batch_size)
    assert_same_training(NETWORK, recipe, split_of(NETWORK), dropout=0.2)


@pytest.mark.parametrize("hidden_size", [1, 8, 16, 33, 64])
def test_any_hidden_size_trains_as_the_reference(hidden_size: int) -> None:
    network = replace(NETWORK, hidden_size=hidden_size, bidirectional=True, layers=2)
    assert_same_training(network, RECIPE, split_of(network), epochs=2)


def test_more_cells_than_one_update_of_the_weight_gradients_gathers() -> None:
    network = replace(NETWORK, bidirectional=True)
    recipe = RECIPE._replace(batch_size=40)
    assert_same_training(network, recipe, split_of(network, rows=40, steps=30), epochs=2)


@settings(max_examples=40, derandomize=True)
@given(st.data())
def test_drawn_settings_train_as_the_reference(data: st.DataObject) -> None:
    def whole(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    network = Network(
        inputs=whole(1, 18),
        hidden_size=whole(1, 20),
        layers=whole(1, 3),
        bidirectional=data.draw(st.booleans()),
        pooling=data.draw(st.sampled_from(get_args(Pooling))),
        outputs=whole(1, 5),
        vocabulary=data.draw(st.sampled_from([0, 0, 3, 30])),
    )
    recipe = Recipe(
        batch_size=whole(1, 12),
        # From zero moments Adam's first steps are sign-like: a rounding of a gradient near zero
        # grows to a step, so steps are kept small.
        learning_rate=1e-4,
        optimizer=data.draw(st.sampled_from([ADAM, RMSPROP])),
        clip_norm=data.draw(st.sampled_from([math.inf, 1.0, 0.01])),
        l1=data.draw(st.sampled_from([0.0, 1e-4])),
        l2=data.draw(st.sampled_from([0.0, 1e-3])),
    )
    split = split_of(network, whole(1, 10), whole(1, 7), data.draw(st.booleans()), whole(0, 99))
    dropout = data.draw(st.sampled_from([0.0, 0.4]))
    assert_same_training(network, recipe, split, dropout, epochs=2)


@pytest.mark.parametrize("vocabulary", [0, 5])
@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_gradient_equals_differences_of_the_loss(pooling: str, vocabulary: int) -> None:
    """Without autograd: the gradient is what the loss does when a weight moves."""
    network = Network(3, 5, 2, True, pooling, 3, vocabulary)
    rows = RowArrays.of(split_of(network, rows=4, steps=4), np.float64)
    workspace = KernelWorkspace.of(network, 4, 4, np.float64)
    masks = masks_for(network, 4, 0.3)
    start = flatten(network, weights_of(network), np.float64)
    recipe = Recipe(batch_size=4, learning_rate=0.0)

    def loss_at(parameters: Array) -> float:
        slot = SlotArrays.of(parameters)
        return train_epoch(workspace, slot, rows, np.arange(4), recipe, masks.numpy())[0]

    loss_at(start)
    gradient = workspace.buffers.gradient.copy()
    for i in (*range(vocabulary * 3), *range(vocabulary * 3, network.size(), 3)):
        nudge = np.zeros_like(start)
        nudge[i] = 1e-5
        slope = (loss_at(start + nudge) - loss_at(start - nudge)) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("hidden_size", [7, 16, 40, 64])
def test_float32_follows_float64(hidden_size: int) -> None:
    """To 1e-4 over 6 steps. Later ones part: rounding grows in any recurrence that learns."""
    network = Network(5, hidden_size, 2, True, "mean", 3)
    split, start = split_of(network), weights_of(network)
    recipe = Recipe(5, 1e-3, RMSPROP, 1.0, 1e-4, 1e-4)
    losses, ends = [], []
    for dtype in (np.float32, np.float64):
        workspace = KernelWorkspace.of(network, 5, 9, dtype)
        slot, rows = SlotArrays.of(flatten(network, start, dtype)), RowArrays.of(split, dtype)
        for _ in range(2):
            loss, _ = train_epoch(workspace, slot, rows, np.arange(13), recipe)
        losses.append(loss)
        ends.append(predict(workspace, slot.parameters, rows))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("vocabulary", [0, 6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_workspace_carries_nothing_from_trial_to_trial(dtype: type, vocabulary: int) -> None:
    """The same numbers bit for bit in a fresh workspace, a used one and a larger one."""
    network = Network(5, 20, 2, True, "last", 3, vocabulary)
    split = split_of(network)
    rows, order = RowArrays.of(split, dtype), np.arange(13)
    start = flatten(network, weights_of(network), dtype)
    masks = masks_for(network, 13, 0.5).numpy().astype(dtype)
    ends = []
    for batch_size, steps, used in ((8, 9, False), (8, 9, True), (20, 30, True)):
        workspace = KernelWorkspace.of(network, batch_size, steps, dtype)
        if used:
            diverged = SlotArrays.of(np.full_like(start, np.nan))
            train_epoch(workspace, diverged, rows, order, RECIPE)
            for name, buffer in workspace.buffers._asdict().items():
                # The padding of panels stays zero, that of masks is one or zero.
                if buffer.dtype == dtype and name != "mask":
                    buffer[buffer != 0] = np.nan
        slot = SlotArrays.of(start)
        for _ in range(2):
            loss, diverged_in = train_epoch(workspace, slot, rows, order, RECIPE, masks)
        assert diverged_in == FINE
        ends.append([[loss], slot.parameters, predict(workspace, slot.parameters, rows)])
    for other in ends[1:]:
        for expected, result in zip(ends[0], other, strict=True):
            np.testing.assert_array_equal(expected, result)


def test_a_diverged_step_is_reported_and_leaves_the_slot_as_it_was() -> None:
    split = split_of(NETWORK)
    split.steps[split.starts[9], 0] = math.nan
    rows, order = RowArrays.of(split, np.float64), np.arange(13)
    workspace = KernelWorkspace.of(NETWORK, 13, 9, np.float64)
    start = flatten(NETWORK, weights_of(NETWORK), np.float64)

    slot = SlotArrays.of(start)
    _, diverged = train_epoch(workspace, slot, rows, order, RECIPE._replace(batch_size=13))
    assert DIVERGED[diverged] == "the training loss"
    np.testing.assert_array_equal(slot.parameters, start)
    assert slot.updates[0] == 0
    assert not slot.first_moment.any()
    assert not slot.second_moment.any()

    # Batches of 4: the third holds row 9, the two before it are applied.
    _, diverged = train_epoch(workspace, slot, rows, order, RECIPE._replace(batch_size=4))
    assert diverged == LOSS
    assert slot.updates[0] == 2
    assert np.isfinite(slot.parameters).all()


def test_a_diverged_gradient_is_distinguished_from_a_diverged_loss() -> None:
    network = replace(NETWORK, outputs=1)
    split = split_of(network, regression=True)
    rows = RowArrays.of(replace(split, targets=split.targets * 1e18))
    workspace = KernelWorkspace.of(network, 13, 9)
    start = flatten(network, weights_of(network))
    # A loss of 1e36 and its gradient fit into float32; a penalty's derivative of 1e39 doesn't.
    slot = SlotArrays.of(start)
    recipe = Recipe(13, 0.01, l1=1e39)
    _, diverged = train_epoch(workspace, slot, rows, np.arange(13), recipe)
    assert DIVERGED[diverged] == "the gradient"
    np.testing.assert_array_equal(slot.parameters, start)
    assert slot.updates[0] == 0


def test_a_restored_slot_goes_on_as_if_never_interrupted() -> None:
    rows, order = RowArrays.of(split_of(NETWORK)), np.arange(13)
    workspace = KernelWorkspace.of(NETWORK, 8, 9)
    through = SlotArrays.of(flatten(NETWORK, weights_of(NETWORK)))
    train_epoch(workspace, through, rows, order, RECIPE)
    restored = SlotArrays.of(
        through.parameters, through.first_moment, through.second_moment, int(through.updates[0])
    )
    for slot in (through, restored):
        train_epoch(workspace, slot, rows, order, RECIPE)
    for expected, result in zip(through, restored, strict=True):
        np.testing.assert_array_equal(expected, result)


def test_flat_parameters_are_in_the_networks_order() -> None:
    network = Network(5, 7, 2, True, "last", 3)
    weights = weights_of(network)
    flat = flatten(network, weights, np.float64)
    assert flat[: weights["layers.0.weight_ih_l0"].numel()].tolist() == (
        weights["layers.0.weight_ih_l0"].flatten().tolist()
    )
    assert flat[-3:].tolist() == weights["head.bias"].tolist()
    back = unflatten(network, flat)
    assert list(back) == list(network.shapes())
    for name, weight in weights.items():
        assert torch.equal(back[name], weight)
    flat[:] = 0
    assert back["head.bias"].any(), "unflatten shares memory with what is trained in place"


def test_threads_with_workspaces_of_their_own_do_not_disturb_each_other() -> None:
    rows, order = RowArrays.of(split_of(NETWORK)), np.arange(13)
    start = flatten(NETWORK, weights_of(NETWORK))
    warm_up()
    slots = [SlotArrays.of(start) for _ in range(4)]

    def train(slot: SlotArrays) -> None:
        workspace = KernelWorkspace.of(NETWORK, 8, 9)
        for _ in range(50):
            train_epoch(workspace, slot, rows, order, RECIPE)

    threads = [threading.Thread(target=train, args=(slot,)) for slot in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for slot in slots[1:]:
        np.testing.assert_array_equal(slot.parameters, slots[0].parameters)


@pytest.mark.parametrize("vocabulary", [0, 50])
def test_a_workspaces_memory_is_known_beforehand(vocabulary: int) -> None:
    network = Network(5, 20, 2, True, "last", 3, vocabulary)
    workspace = KernelWorkspace.of(network, 8, 9)
    owned = [array if array.base is None else array.base for array in workspace.buffers]
    assert workspace_bytes(network, 8, 9) == sum(array.nbytes for array in owned)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": np.array([13])}, r"order names rows outside \[0, 13\)"),
        ({"order": np.array([-1])}, "order names rows outside"),
        ({"order": np.array([], np.int64)}, "no rows"),
        ({"recipe": RECIPE._replace(batch_size=9)}, "batches of 9, workspace has room for 8"),
        ({"recipe": RECIPE._replace(batch_size=0)}, "need at least 1"),
        ({"masks": np.ones((1, 12, 7))}, r"masks: \(1, 12, 7\), need \(1, 13, 7\)"),
        ({"slot": SlotArrays.of(np.zeros(5))}, "got float64"),
        ({"workspace": KernelWorkspace.of(NETWORK, 8, 8, np.float64)}, "up to 9 steps"),
        ({"workspace": KernelWorkspace.of(NETWORK, 8, 9)}, "values are float64"),
        (
            {"workspace": KernelWorkspace.of(replace(NETWORK, outputs=2), 8, 9, np.float64)},
            "got float64",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_compiled_code_sees_it(
    change: dict[str, object], message: str
) -> None:
    fitting: dict[str, object] = {
        "workspace": KernelWorkspace.of(NETWORK, 8, 9, np.float64),
        "slot": SlotArrays.of(flatten(NETWORK, weights_of(NETWORK), np.float64)),
        "rows": RowArrays.of(split_of(NETWORK), np.float64),
        "order": np.arange(13),
        "recipe": RECIPE,
    }
    with pytest.raises(ValueError, match=message):
        train_epoch(**(fitting | change))


def test_a_class_that_the_head_lacks_is_refused() -> None:
    rows = RowArrays.of(split_of(NETWORK), np.float64)
    rows.labels[3] = 3
    slot = SlotArrays.of(flatten(NETWORK, weights_of(NETWORK), np.float64))
    workspace = KernelWorkspace.of(NETWORK, 8, 9, np.float64)
    with pytest.raises(ValueError, match=r"labels: need one a row, in \[0, 3\)"):
        train_epoch(workspace, slot, rows, np.arange(13), RECIPE)


def test_a_recipe_is_read_from_hyperparameters() -> None:
    hyperparameters = Hyperparameters(
        16, 1, False, "last", 0.5, "rmsprop", "constant", None, "he_normal", 0.0, 1e-4, 0.2, 32
    )
    recipe = Recipe(32, 0.01, RMSPROP, math.inf, 0.0, 1e-4)
    assert Recipe.of(hyperparameters, 0.01) == recipe
    assert Recipe.of(replace(hyperparameters, clip_norm=2.0), 0.01).clip_norm == 2.0


def test_activations() -> None:
    @njit
    def both(x: Array, t: Array, s: Array) -> None:
        for at in range(0, x.size, lanes(x)):
            store(t, at, tanh(x, load(x, at)))
            store(s, at, sigmoid(x, load(x, at)))

    x = np.linspace(-30, 30, 600_000).astype(np.float32)
    t, s = np.zeros_like(x), np.zeros_like(x)
    both(x, t, s)
    wide = x.astype(np.float64)
    assert np.abs(t - np.tanh(wide)).max() < 3e-7
    assert np.abs(s - 1 / (1 + np.exp(-wide))).max() < 2e-7
    x = np.repeat(np.array([np.nan, np.inf, -np.inf], np.float32), 16)
    t, s = np.zeros_like(x), np.zeros_like(x)
    both(x, t, s)
    assert np.isnan(t[:16]).all()
    assert np.isnan(s[:16]).all()
    assert (t[16:32] > 0.999999).all()
    assert (s[32:] < 1e-6).all()


def test_one_compilation_a_dtype_serves_everything() -> None:
    """Each further signature would cost its user another quarter of a minute."""
    for dtype in (np.float32, np.float64):
        warm_up(dtype)
        rows, order = RowArrays.of(split_of(NETWORK), dtype), np.arange(13)[::-1].copy()
        order.flags.writeable = False
        workspace = KernelWorkspace.of(NETWORK, 8, 9, dtype)
        slot = SlotArrays.of(flatten(NETWORK, weights_of(NETWORK), dtype))
        train_epoch(workspace, slot, rows, order, Recipe(8, 1, ADAM, 1, 0, 0))
        train_epoch(workspace, slot, rows, order, RECIPE, np.ones((7, 13, 1)).T)
        texts = replace(NETWORK, vocabulary=4)
        workspace = KernelWorkspace.of(texts, 8, 9, dtype)
        slot = SlotArrays.of(flatten(texts, weights_of(texts), dtype))
        rows = RowArrays.of(split_of(texts), dtype, class_weights=torch.ones(3))
        train_epoch(workspace, slot, rows, order, RECIPE)
    assert len(epoch._run.signatures) == 2


def test_machine_code_is_kept_apart_by_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    now = code_folder()
    assert now.parent == tmp_path
    source = tmp_path / "sources" / "compiler.py"
    source.parent.mkdir()
    source.write_text("an edit")
    monkeypatch.setattr(compiler, "__file__", str(source))
    assert code_folder() != now


def test_machine_code_of_one_environment_serves_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    hits = []
    for place in ("one", "another"):
        source = tmp_path / place / "increase.py"
        source.parent.mkdir()
        source.write_text("def increase(x):\n    return x + 1\n")
        increase = compiler.entry(runpy.run_path(str(source))["increase"])
        assert increase(1) == 2
        hits.append(sum(increase.stats.cache_hits.values()))  # type: ignore[attr-defined]
    assert hits == [0, 1]


def test_of_several_processes_one_compiles_while_the_others_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    begun, others, compiled = threading.Barrier(4), [], threading.Event()

    def compile_or_load() -> None:
        others.append(compiled.is_set())
        time.sleep(0 if compiled.is_set() else 0.2)  # so that the others come meanwhile
        compiled.set()

    def process() -> None:
        begun.wait()
        compiler.compile_once("float32", compile_or_load)

    threads = [threading.Thread(target=process) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert others == [False, True, True, True]


def test_nobody_else_may_place_code_in_the_users_own_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = os.umask(0)
    try:
        compiler.compile_once("float32", lambda: None)
    finally:
        os.umask(before)
    folders = {code_folder(), code_folder().parent}
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}


def test_without_a_writable_folder_each_process_compiles_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(in_the_way))
    assert compiler.entry(lambda x: x + 1)(1) == 2


def test_the_same_code_runs_uncompiled() -> None:
    """``NUMBA_DISABLE_JIT=1`` is how it is debugged; two ways through `vectors` and `tiles`."""
    program = """
import numpy as np, torch
import helpers.compiled_reference as t
network = t.Network(3, 5, 2, True, "mean", 2)
t.assert_same_training(network, t.RECIPE, t.split_of(network, 4, 3), 0.3, epochs=1)
network = t.Network(3, 4, 1, False, "last", 2, vocabulary=4)
t.assert_same_training(network, t.RECIPE, t.split_of(network, 2, 2), epochs=1)
"""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    environment["PYTHONPATH"] = str(REPOSITORY / "tests")
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)

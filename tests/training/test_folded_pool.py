"""Trials of folds: means of networks that train as each would alone, and end together."""

from __future__ import annotations

import threading
from statistics import fmean
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import torch
from helpers.pools import (
    BASE,
    CPU,
    EPOCHS,
    KINDS,
    TEXT,
    TEXT_KINDS,
    curve_of,
    some_texts,
)
from helpers.workspaces import REPOSITORY, TINY_STUDY
from optuna.trial import TrialState

from gru_optuna import seeds, study_file
from gru_optuna.checkpoints.checkpoint import Checkpoint, DamagedCheckpoint
from gru_optuna.data.load import load_folds
from gru_optuna.errors import Crashed, Diverged, OutOfMemory, Quantity, TrialFailed
from gru_optuna.training.engines.base import EpochOutput
from gru_optuna.training.engines.cpu import CPUEngine
from gru_optuna.training.folded_pool import FoldedPool
from gru_optuna.training.pool import Pool
from gru_optuna.training.slot import EpochResult
from gru_optuna.tuning.tune import tune
from gru_optuna.worker.events import EpochTrained, TrialStarted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification
    from gru_optuna.training.network import Network
    from gru_optuna.training.slot import Slot
    from gru_optuna.tuning.tune import TuningResult
    from gru_optuna.worker.events import WorkerEvent

FOLDS = 3

TRIALS = [KINDS[kind] for kind in ("base", "rmsprop", "two layers", "cosine decay", "no dropout")]


def write_study(folder: Path) -> Path:
    """The tiny study, with its data where they lie."""
    path = folder / "studies" / "tiny.toml"
    path.parent.mkdir(parents=True)
    path.write_text(TINY_STUDY.replace('"data/', f'"{REPOSITORY}/studies/data/'))
    return path


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Specification:
    path = write_study(tmp_path_factory.mktemp("study"))
    own = [f"data.folds={FOLDS}", f"training.epochs={EPOCHS}", "training.patience='off'"]
    return study_file.load(path, own)


@pytest.fixture(scope="module")
def vowels(spec: Specification) -> list[Dataset]:
    return [fold.to(CPU) for fold in load_folds(spec, REPOSITORY)]


@pytest.fixture(scope="module")
def texts() -> list[Dataset]:
    """Folds with vocabularies of their own."""
    return [some_texts(vocabulary, 30 + vocabulary).to(CPU) for vocabulary in (23, 31, 27)]


def folded(spec: Specification, datasets: Sequence[Dataset]) -> FoldedPool:
    return FoldedPool(spec, [Pool(spec, data, CPUEngine(spec, data, 2)) for data in datasets])


def alone(
    spec: Specification, dataset: Dataset, trial: Hyperparameters, seed: int, epochs: int
) -> tuple[Pool, Slot]:
    """A trial in a pool of its own."""
    pool = Pool(spec, dataset, CPUEngine(spec, dataset))
    slot = pool.admit(trial, seed)
    for _ in range(epochs):
        pool.train_epoch()
    return pool, slot


def mean_curve(
    spec: Specification, datasets: Sequence[Dataset], trial: Hyperparameters, seed: int
) -> list[EpochResult]:
    """What a trial of folds is to reach."""
    curves = [curve_of(alone(spec, data, trial, seed, EPOCHS)[1]) for data in datasets]
    return [
        EpochResult(
            fmean(fold.train_loss for fold in epoch),
            fmean(fold.validation_loss for fold in epoch),
            fmean(fold.value for fold in epoch),
            fmean(fold.clipped for fold in epoch),
        )
        for epoch in zip(*curves, strict=True)
    ]


def test_all_folds_are_of_the_same_data(vowels: list[Dataset]) -> None:
    assert len(vowels) == FOLDS
    assert len({fold.fingerprint for fold in vowels}) == 1


def test_a_curve_is_the_mean_of_the_folds_curves(
    spec: Specification, vowels: list[Dataset]
) -> None:
    """To the last bit, of each trial, whoever trains beside it."""
    pool = folded(spec, vowels)
    slots = [pool.admit(trial, seed) for seed, trial in enumerate(TRIALS)]
    for _ in range(EPOCHS):
        trained = pool.train_epoch()
        assert [slot for slot, _ in trained] == slots
        assert [result for _, result in trained] == [slot.progress.curve[-1] for slot in slots]
    for seed, slot in enumerate(slots):
        curve = mean_curve(spec, vowels, slot.hyperparameters, seed)
        assert curve_of(slot) == curve
        best = max(range(EPOCHS), key=lambda e: (curve[e].value, -curve[e].validation_loss))
        assert slot.progress.best_epoch == best + 1


def test_trials_that_wait_are_not_trained(spec: Specification, vowels: list[Dataset]) -> None:
    """As while a trial that may have killed its workers trains alone."""
    pool = folded(spec, vowels)
    waits, trains = pool.admit(BASE, seed=0), pool.admit(BASE, seed=1)
    ((slot, _),) = pool.train_epoch([trains])
    assert slot is trains
    assert [each.progress.epoch for each in (waits, *waits.state)] == [0] * (1 + FOLDS)
    assert [each.progress.epoch for each in (trains, *trains.state)] == [1] * (1 + FOLDS)


def test_folds_may_have_vocabularies_of_their_own(
    spec: Specification, texts: list[Dataset]
) -> None:
    pool = folded(spec, texts)
    slot = pool.admit(TEXT, seed=1)
    assert len({fold.network.vocabulary for fold in slot.state}) == FOLDS
    assert slot.network == slot.state[0].network
    for _ in range(EPOCHS):
        pool.train_epoch()
    assert curve_of(slot) == mean_curve(spec, texts, TEXT, 1)


@pytest.mark.parametrize("after", range(EPOCHS + 1))
@pytest.mark.parametrize("kind", ["vowels", "texts"])
def test_a_trial_interrupted_after_any_epoch_arrives_where_it_would_have(
    request: pytest.FixtureRequest, spec: Specification, kind: str, after: int
) -> None:
    """From bytes, in a new pool, in another order: its last checkpoint is the same file."""
    datasets: list[Dataset] = request.getfixturevalue(kind)
    trials = TRIALS if kind == "vowels" else [TEXT, TEXT_KINDS["all of it"]]
    through, gone_on = folded(spec, datasets), folded(spec, datasets)
    expected = [through.admit(trial, seed) for seed, trial in enumerate(trials)]
    for _ in range(after):
        through.train_epoch()
    arrived = {}
    for slot in reversed(expected):
        checkpoint = Checkpoint.from_bytes(through.snapshot(slot).to_bytes())
        arrived[slot] = gone_on.admit(slot.hyperparameters, slot.seed, checkpoint)
    for _ in range(EPOCHS - after):
        through.train_epoch()
        gone_on.train_epoch()
    for slot, again in arrived.items():
        assert gone_on.snapshot(again).to_bytes() == through.snapshot(slot).to_bytes()
        assert again.progress == slot.progress


UNFIT: dict[str, tuple[Callable[[Checkpoint], object], str]] = {
    "a fold less": (lambda c: c.state["folds"].pop(), "made with 2 folds, and this study has 3"),
    "a fold more": (
        lambda c: c.state["folds"].append(c.state["folds"][0]),
        "made with 4 folds, and this study has 3",
    ),
    "no folds": (lambda c: c.state.pop("folds"), "not a checkpoint of a trial with folds"),
    "folds of words": (
        lambda c: c.state.update(folds=["a"] * 3),
        "not a checkpoint of a trial with folds",
    ),
    "another seed": (lambda c: c.state.update(seed=2), "belongs to another trial: seed = 2"),
    "a fold of another seed": (
        lambda c: c.state["folds"][2].update(seed=2),
        "fold2: belongs to another trial: seed = 2",
    ),
    "no moment": (
        lambda c: c.tensors.pop("fold1/first_moment/head.bias"),
        "fold1: first_moment/head.bias missing",
    ),
    "a tensor of no fold": (
        lambda c: c.tensors.update({"fold3/updates": torch.tensor(1)}),
        "some tensors belong to no fold",
    ),
    "no curve": (lambda c: c.state.pop("curve"), "the curve can't be read"),
    "a mean less": (
        lambda c: c.state.update(curve=[], best_epoch=0),
        "the trial is at epoch 0, but fold0 is at epoch 1",
    ),
    "another best epoch": (lambda c: c.state.update(best_epoch=3), "best_epoch = 3, but epoch 1"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_checkpoint_that_does_not_fit_is_refused_and_the_pool_stays_as_it_was(
    spec: Specification, vowels: list[Dataset], kind: str
) -> None:
    pool = folded(spec, vowels)
    slot = pool.admit(BASE, seed=1)
    pool.train_epoch()
    checkpoint = Checkpoint.from_bytes(pool.snapshot(slot).to_bytes())
    change, reason = UNFIT[kind]
    change(checkpoint)
    with pytest.raises(DamagedCheckpoint, match=reason):
        pool.admit(BASE, 1, checkpoint)
    assert pool.slots == [slot]
    assert [own.slots for own in pool.pools] == [[fold] for fold in slot.state]


def test_checkpoints_with_and_without_folds_are_not_mistaken(
    spec: Specification, vowels: list[Dataset]
) -> None:
    pool = folded(spec, vowels)
    plain, slot = alone(spec, vowels[0], BASE, seed=1, epochs=1)
    with pytest.raises(DamagedCheckpoint, match="not a checkpoint of a trial with folds"):
        pool.admit(BASE, 1, plain.snapshot(slot))
    trial = pool.admit(BASE, 1)
    with pytest.raises(DamagedCheckpoint, match=r"first_moment/.* missing"):
        plain.admit(BASE, 1, pool.snapshot(trial))


class Failing(CPUEngine):
    """Lets one trial fail in its second epoch, or at its start."""

    failure: Exception | Quantity = Quantity.GRADIENT
    seed = 1

    def start(self, network: Network, hyperparameters: Hyperparameters, seed: int) -> Any:
        if seed == 99:
            raise MemoryError("no room")
        return super().start(network, hyperparameters, seed)

    def train_epoch(self, slots: Sequence[Slot]) -> list[EpochOutput]:
        return [
            self._failed() if slot.seed == self.seed and slot.progress.epoch == 1 else output
            for slot, output in zip(slots, super().train_epoch(slots), strict=True)
        ]

    def _failed(self) -> EpochOutput:
        if isinstance(self.failure, Quantity):
            return EpochOutput(0.0, diverged=self.failure)
        return EpochOutput(0.0, error=self.failure)


def with_a_failing_fold(spec: Specification, vowels: list[Dataset]) -> tuple[FoldedPool, Failing]:
    """The second fold's engine fails."""
    pool = folded(spec, vowels)
    engine = Failing(spec, vowels[1])
    pool.pools[1].engine = engine
    return pool, engine


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (Quantity.GRADIENT, Diverged, "diverged in epoch 2: the gradient is not finite"),
        (ValueError("odd"), Crashed, "epoch 2 raised ValueError: odd"),
        (MemoryError("full"), OutOfMemory, "epoch 2 ran out of memory: full"),
    ],
)
def test_a_fold_that_fails_ends_its_trial_and_no_other(
    spec: Specification,
    vowels: list[Dataset],
    failure: Exception | Quantity,
    kind: type[TrialFailed],
    message: str,
) -> None:
    pool, engine = with_a_failing_fold(spec, vowels)
    engine.failure = failure
    other, failing = pool.admit(BASE, seed=0), pool.admit(BASE, seed=1)
    assert pool.device == CPU
    pool.train_epoch()
    (_, good), (slot, failed) = pool.train_epoch()
    assert slot is failing
    assert isinstance(good, EpochResult)
    assert type(failed) is kind
    assert str(failed) == f"fold 2 of 3: {message}"
    assert failing.progress.epoch == 1
    pool.release(failing)
    assert pool.slots == [other]
    for _ in range(2, EPOCHS):
        pool.train_epoch()
    assert curve_of(other) == mean_curve(spec, vowels, BASE, 0)
    assert [len(own.slots) for own in pool.pools] == [1] * FOLDS


def test_a_fold_without_room_leaves_the_pool_as_it_was(
    spec: Specification, vowels: list[Dataset]
) -> None:
    pool, _ = with_a_failing_fold(spec, vowels)
    with pytest.raises(OutOfMemory, match="fold 2 of 3: epoch 1 ran out of memory: no room"):
        pool.admit(BASE, seed=99)
    assert not any([pool.slots, *(own.slots for own in pool.pools)])


# --- whole studies ---


def run(
    path: Path, *overrides: str, stop_at: tuple[int, int] | None = None, slots: int = 1
) -> tuple[TuningResult, optuna.Study, list[WorkerEvent]]:
    """Tunes; stops when the epoch (trial, epoch) is trained."""
    stop, events = threading.Event(), []

    def on_event(event: WorkerEvent) -> None:
        events.append(event)
        if isinstance(event, EpochTrained) and (event.number, event.epoch) == stop_at:
            stop.set()

    url = f"sqlite:///{path.parent / 'study.db'}"
    one_run = ("confirmation.candidates=1", "confirmation.seeds=1")
    result = tune(
        path, storage=url, device="cpu", threads=1, slots=slots, stop=stop, on_event=on_event,
        overrides=[f"data.folds={FOLDS}", *one_run, *overrides], report=path.parent / "report",
    )  # fmt: skip
    return result, optuna.load_study(study_name="tiny", storage=url), events


def curves(study: optuna.Study) -> list[dict[int, float]]:
    return [trial.intermediate_values for trial in study.trials]


def test_a_study_of_folds_that_is_stopped_ends_as_one_that_never_was(tmp_path: Path) -> None:
    whole, expected, _ = run(write_study(tmp_path / "whole"))
    path = write_study(tmp_path / "broken")
    stopped, broken, _ = run(path, stop_at=(1, 2))
    assert stopped.interrupted
    assert [trial.state for trial in broken.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    result, resumed, events = run(path)
    assert any(isinstance(e, TrialStarted) and e.adopted and e.epochs == 2 for e in events)
    assert curves(resumed) == curves(expected)
    assert [trial.params for trial in resumed.trials] == [trial.params for trial in expected.trials]
    assert result.best == whole.best
    assert result.best is not None


def test_what_is_reported_and_measured_is_the_folds_mean(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    result, study, _ = run(path, "budget.trials=2")
    spec = study_file.load(path, [f"data.folds={FOLDS}", "budget.trials=2"])
    datasets = load_folds(spec, path.parent)
    best = result.best
    assert best is not None
    seed = seeds.trial_seed(spec.seed, best.number)
    folds = [
        alone(spec, data.to(CPU), best.hyperparameters, seed, best.best_epoch) for data in datasets
    ]
    values = [slot.progress.curve[-1].value for _, slot in folds]
    assert best.value == study.trials[best.number].value == fmean(values)
    for pool, slot in folds:
        ((outputs, rows),) = pool.predict(best.hyperparameters, pool.networks(slot), "test")
        expected = pool.engine.predict(slot, slot.best_weights, rows)
        torch.testing.assert_close(outputs, expected, rtol=0, atol=0)
    names = datasets[0].baselines
    assert names
    assert result.summary.baselines == {
        name: fmean(data.baselines[name] for data in datasets) for name in names
    }


def test_folds_are_pruned_together_by_their_mean(tmp_path: Path) -> None:
    _, study, _ = run(
        write_study(tmp_path), "pruner.name=asha", "pruner.min_resource=1", "budget.trials=6",
        slots=2,
    )  # fmt: skip
    pruned = study.get_trials(states=[TrialState.PRUNED])
    assert pruned
    for trial in pruned:
        assert trial.user_attrs["outcome"] == f"pruned after epoch {trial.last_step}"
        assert trial.user_attrs["epochs"] == trial.last_step


def test_patience_is_that_of_the_mean(tmp_path: Path) -> None:
    _, study, _ = run(
        write_study(tmp_path), "training.patience=1", "training.epochs=60", "pruner.name=none",
        "budget.trials=1", "search.learning_rate=0.2",
    )  # fmt: skip
    (trial,) = study.trials
    assert trial.state == TrialState.COMPLETE
    assert trial.value == max(trial.intermediate_values.values())
    assert trial.last_step == trial.user_attrs["best_epoch"] + 1


def test_a_trial_that_failed_says_in_which_fold(tmp_path: Path) -> None:
    _, study, _ = run(
        write_study(tmp_path), "search.learning_rate=1e30", "search.l2=1.0",
        "search.clip_norm='off'", "budget.trials=1",
    )  # fmt: skip
    (trial,) = study.trials
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["outcome"].startswith("fold 1 of 3: diverged in epoch")

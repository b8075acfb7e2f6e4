"""The loop, on real trials in a real database: endings, interruptions, exact budgets."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.workspaces import REPOSITORY, TINY_STUDY
from optuna.trial import TrialState

from gru_optuna import study_file
from gru_optuna.data.load import load_dataset
from gru_optuna.errors import StudyFailed
from gru_optuna.search import space
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.study import create_or_resume
from gru_optuna.study.summary import find_winner
from gru_optuna.training.engines.cpu import CPUEngine
from gru_optuna.training.pool import Pool
from gru_optuna.training.sizing import Size
from gru_optuna.worker.events import (
    BudgetChanged,
    EpochTrained,
    StandingBy,
    TrialEnded,
    TrialStarted,
)
from gru_optuna.worker.run import WorkerSettings, work

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.study_file import Specification
    from gru_optuna.worker.events import WorkerEvent


def parse(folder: Path, *overrides: str) -> Specification:
    path = folder / "tiny.toml"
    path.write_text(TINY_STUDY)
    return study_file.load(path, overrides)


@pytest.fixture(scope="module")
def vowels(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    spec = parse(tmp_path_factory.mktemp("study"))
    return load_dataset(spec, REPOSITORY / "studies")


def opened(folder: Path, spec: Specification, vowels: Dataset) -> Study:
    storage = open_storage(url_in(folder), create=True)
    return create_or_resume(storage, spec, vowels.fingerprint)


def url_in(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    return f"sqlite:///{folder / 'study.db'}"


def run(
    folder: Path,
    spec: Specification,
    vowels: Dataset,
    stop_at: tuple[int, int] | None = None,
    slots: int = 1,
) -> tuple[Study, list[WorkerEvent]]:
    """Runs a worker; stops it when the epoch (trial, epoch) is trained."""
    study = opened(folder, spec, vowels)
    stop, events = threading.Event(), []

    def on_event(event: WorkerEvent) -> None:
        events.append(event)
        if isinstance(event, EpochTrained) and (event.number, event.epoch) == stop_at:
            stop.set()

    pool = Pool(spec, vowels, CPUEngine(spec, vowels, threads=2))
    size, settings = Size(2, slots, None), WorkerSettings(lease_seconds=1)
    work(study, url_in(folder), spec, pool, size, settings, stop, on_event)
    return study, events[1:]


def curves(study: Study) -> list[dict[int, float]]:
    return [trial.intermediate_values for trial in study.trials]


def test_a_trial_reports_its_metric_each_epoch(tmp_path: Path, vowels: Dataset) -> None:
    study, events = run(tmp_path, parse(tmp_path, "pruner.name=none"), vowels)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    for trial in study.trials:
        assert list(trial.intermediate_values) == [1, 2, 3]
        assert trial.value == max(trial.intermediate_values.values())
        best = trial.user_attrs["best_epoch"]
        assert trial.intermediate_values[best] == trial.value
        assert trial.user_attrs["outcome"] == "trained all 3 epochs"
        assert len(trial.user_attrs["train_loss"]) == 3
    kinds = [type(event) for event in events]
    assert kinds == [TrialStarted, *[EpochTrained] * 3, TrialEnded] * 3


def test_the_study_opens_in_plain_optuna(tmp_path: Path, vowels: Dataset) -> None:
    run(tmp_path, parse(tmp_path), vowels)
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert set(study.best_trial.params) == {"learning_rate", "dropout"}
    assert study.best_value > 0.2


def test_a_network_that_the_constraints_forbid_is_never_trained(
    tmp_path: Path, vowels: Dataset
) -> None:
    spec = parse(
        tmp_path, "model.hidden_size={low=2, high=40}", "pruner.name=none", "budget.trials=6",
        "training.epochs=1", "constraints=['network_parameters <= 1000']",
    )  # fmt: skip
    study = opened(tmp_path, spec, vowels)
    study.enqueue_trial({"hidden_size": 30})
    study, _ = run(tmp_path, spec, vowels)
    (forbidden,) = study.get_trials(states=[TrialState.FAIL])
    assert forbidden.number == 0
    # 12 channels, 9 classes: three gates with two biases each, and the head.
    parameters = 3 * 30 * (12 + 30 + 2) + 9 * (30 + 1)
    assert forbidden.user_attrs["outcome"] == (
        f"its network would learn {parameters:,} parameters, and the study's constraints allow "
        f"1,000"
    )
    allowed = study.get_trials(states=[TrialState.COMPLETE])
    assert len(allowed) == 5
    assert all(trial.user_attrs["network_parameters"] <= 1000 for trial in allowed)


def test_pruned_trials_keep_their_curve(tmp_path: Path, vowels: Dataset) -> None:
    spec = parse(tmp_path, "pruner.name=asha", "pruner.min_resource=1", "budget.trials=6")
    study, _ = run(tmp_path, spec, vowels)
    pruned = study.get_trials(states=[TrialState.PRUNED])
    assert pruned
    for trial in pruned:
        assert trial.user_attrs["outcome"] == f"pruned after epoch {trial.last_step}"
        assert trial.user_attrs["epochs"] == trial.last_step


def test_patience_ends_a_trial_as_complete(tmp_path: Path, vowels: Dataset) -> None:
    spec = parse(
        tmp_path, "training.patience=1", "training.epochs=60", "pruner.name=none",
        "budget.trials=1", "search.learning_rate=0.2",
    )  # fmt: skip
    (trial,) = run(tmp_path, spec, vowels)[0].trials
    assert trial.state == TrialState.COMPLETE
    best, last = trial.user_attrs["best_epoch"], trial.last_step
    assert last == best + 1
    assert trial.user_attrs["outcome"] == (
        f"stopped early after epoch {last}, none better since epoch {best}"
    )


def test_a_diverged_trial_fails_with_its_reason_and_the_study_goes_on(
    tmp_path: Path, vowels: Dataset
) -> None:
    spec = parse(
        tmp_path, "search.learning_rate=[0.01, 1e30]", "search.l2=1.0", "search.clip_norm='off'",
        "pruner.name=none", "sampler.name=grid", "search.dropout=[0.0, 0.1]", "budget.trials=4",
    )  # fmt: skip
    study, _ = run(tmp_path, spec, vowels)
    by_rate = {trial.params["learning_rate"]: trial for trial in study.trials}
    assert len(study.trials) == 4
    assert by_rate[1e30].state == TrialState.FAIL
    assert "diverged in epoch" in by_rate[1e30].user_attrs["outcome"]
    assert by_rate[0.01].state == TrialState.COMPLETE


def test_a_study_whose_trials_all_fail_stops_with_the_reason(
    tmp_path: Path, vowels: Dataset
) -> None:
    spec = parse(
        tmp_path,
        "search.learning_rate=1e30",
        "search.l2=1.0",
        "search.clip_norm='off'",
        "budget.trials=50",
    )
    with pytest.raises(StudyFailed, match="all 10 trials failed, the last one: diverged"):
        run(tmp_path, spec, vowels)


def test_an_interrupted_study_ends_as_one_that_never_stopped(
    tmp_path: Path, vowels: Dataset
) -> None:
    """Same trials, same numbers, same curves; nothing lost, nothing twice."""
    spec = parse(tmp_path, "search.dropout=0.3")
    whole, _ = run(tmp_path / "whole", spec, vowels)

    broken, _ = run(tmp_path / "broken", spec, vowels, stop_at=(1, 2))
    assert [t.state for t in broken.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert list(broken.trials[1].intermediate_values) == [1, 2]
    resumed, events = run(tmp_path / "broken", spec, vowels)

    assert (events[0].number, events[0].adopted) == (1, True)
    assert curves(resumed) == curves(whole)
    assert [t.params for t in resumed.trials] == [t.params for t in whole.trials]
    assert [t.value for t in resumed.trials] == [t.value for t in whole.trials]


@pytest.mark.parametrize("slots", [2, 5])
def test_a_pool_finds_what_one_slot_finds_interrupted_or_not(
    tmp_path: Path, vowels: Dataset, slots: int
) -> None:
    """With proposals that don't depend on results, all of a study is the same."""
    spec = parse(
        tmp_path, "sampler.name=random", "pruner.name=none", "budget.trials=7",
        "search.batch_size=[16, 64]", "model.hidden_size=[8, 24]",
    )  # fmt: skip
    alone, _ = run(tmp_path / "alone", spec, vowels)
    run(tmp_path / "pool", spec, vowels, stop_at=(2, 2), slots=slots)
    pool, events = run(tmp_path / "pool", spec, vowels, slots=slots)
    assert any(isinstance(event, TrialStarted) and event.adopted for event in events)
    assert curves(pool) == curves(alone)
    assert [t.params for t in pool.trials] == [t.params for t in alone.trials]


def test_a_freed_slot_is_refilled_while_the_others_train(tmp_path: Path, vowels: Dataset) -> None:
    spec = parse(
        tmp_path, "training.epochs=6", "pruner.name=asha", "pruner.min_resource=1",
        "budget.trials=12",
    )  # fmt: skip
    _, events = run(tmp_path, spec, vowels, slots=3)
    running: set[int] = set()
    most = 0
    for event in events:
        if isinstance(event, TrialStarted):
            running.add(event.number)
        if isinstance(event, TrialEnded):
            running.remove(event.number)
        most = max(most, len(running))
    assert most == 3
    assert [e.number for e in events if isinstance(e, TrialStarted)] == list(range(12))
    ends = [e.number for e in events if isinstance(e, TrialEnded)]
    assert sorted(ends) == list(range(12))
    assert ends != sorted(ends)  # one that was pruned made room before an older one ended


def test_the_search_is_the_same_at_each_run(tmp_path: Path, vowels: Dataset) -> None:
    spec = parse(tmp_path, "budget.trials=14", "pruner.min_resource=1", "training.epochs=4")
    first, _ = run(tmp_path / "first", spec, vowels, slots=4)
    again, _ = run(tmp_path / "again", spec, vowels, slots=4)
    assert [t.params for t in first.trials] == [t.params for t in again.trials]
    assert curves(first) == curves(again)


def test_a_trial_killed_between_its_parameters_is_adopted_with_the_same_ones(
    tmp_path: Path, vowels: Dataset
) -> None:
    spec = parse(tmp_path, "budget.trials=1")
    whole, _ = run(tmp_path / "whole", spec, vowels)
    study = opened(tmp_path / "killed", spec, vowels)
    study.ask().suggest_float("learning_rate", 1e-3, 3e-2, log=True)  # and here it died
    adopted, events = run(tmp_path / "killed", spec, vowels)
    assert isinstance(events[0], StandingBy)  # until it is sure that no worker trains it
    assert (events[-5].number, events[-5].adopted) == (0, True)
    assert [t.params for t in adopted.trials] == [t.params for t in whole.trials]


def test_a_raised_budget_runs_exactly_the_difference(tmp_path: Path, vowels: Dataset) -> None:
    run(tmp_path, parse(tmp_path, "budget.trials=2"), vowels)
    study, events = run(tmp_path, parse(tmp_path, "budget.trials=5"), vowels)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3, 4]
    assert sum(isinstance(event, TrialEnded) for event in events) == 3
    assert run(tmp_path, parse(tmp_path, "budget.trials=5"), vowels)[1] == []


def test_a_time_budget_ends_within_an_epoch(tmp_path: Path, vowels: Dataset) -> None:
    spec = parse(
        tmp_path, "budget.hours=0.0001", "budget.trials=1000", "training.epochs=1000",
        "training.patience='off'", "confirmation.candidates=0",  # it would be left time
    )  # fmt: skip
    study, _ = run(tmp_path, spec, vowels)
    assert not study.get_trials(states=[TrialState.RUNNING])
    assert "the study's hours are spent" in study.trials[-1].user_attrs["outcome"]
    assert study.user_attrs["worked_seconds"] < 0.36 + 2
    before = len(study.trials)
    assert len(run(tmp_path, spec, vowels)[0].trials) == before


def test_the_winner_of_equal_trials_has_the_lower_validation_loss(
    tmp_path: Path, vowels: Dataset
) -> None:
    spec = parse(tmp_path)
    study = opened(tmp_path, spec, vowels)
    params = {"learning_rate": 0.01, "dropout": 0.1}
    for value, loss in ((0.9, 0.1), (1.0, 0.4), (1.0, 0.2), (1.0, 0.3)):
        study.enqueue_trial(params)
        asked = study.ask()
        space.suggest(asked, spec)
        asked.set_user_attr("best_epoch", 1)
        asked.set_user_attr("best_validation_loss", loss)
        study.tell(asked, value)
    winner = find_winner(study, spec)
    assert winner is not None
    assert winner.number == 2


@pytest.mark.parametrize("pruner", ["none", "thaw"])
def test_a_limit_of_epochs_that_is_set_meanwhile_holds_for_trials_in_their_slots(
    tmp_path: Path, vowels: Dataset, pruner: str
) -> None:
    spec = parse(
        tmp_path, f"pruner.name={pruner}", "budget.trials=6", "training.epochs=100000",
        "training.patience='off'", "confirmation.candidates=1",
    )  # fmt: skip
    study = opened(tmp_path, spec, vowels)
    limited = spec.budget.model_copy(update={"epochs": 30}).model_dump(mode="json")
    other = optuna.load_study(study_name="tiny", storage=url_in(tmp_path))
    trained: list[EpochTrained] = []
    heard: list[int] = []

    def on_event(event: WorkerEvent) -> None:
        if isinstance(event, EpochTrained):
            trained.append(event)
            if len(trained) == 8:  # another command limits the study
                other.set_user_attr("budget", limited)
        elif isinstance(event, BudgetChanged):
            heard.append(len(trained))

    pool = Pool(spec, vowels, CPUEngine(spec, vowels, threads=2))
    settings = WorkerSettings(lease_seconds=1)
    work(
        study, url_in(tmp_path), spec, pool, Size(2, 2, None), settings, threading.Event(), on_event
    )
    ended = study.get_trials()
    epochs = sum(len(trial.intermediate_values) for trial in ended)
    assert all(trial.state.is_finished() for trial in ended)
    # A worker hears of a limit when it commits, about once a second. Then the epoch in flight ends.
    assert heard[0] >= 8
    assert 30 <= epochs == len(trained) <= max(30, heard[0] + 2 * 2)
    # Each curve goes on where it was, although its trial has left its slot.
    assert all(
        list(trial.intermediate_values) == list(range(1, len(trial.intermediate_values) + 1))
        for trial in ended
    )

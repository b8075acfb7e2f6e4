"""The best few on fresh seeds: which one wins, what is recorded, and what a second look costs."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.raw_folds import small_study
from helpers.small_studies import write_study
from helpers.workspaces import REPOSITORY, TINY_STUDY, write_tiny_study

from gru_optuna import study_file, tune
from gru_optuna.attributes import CALIBRATION, CONFIRMATION, TEST
from gru_optuna.bundle.onnx import to_onnx
from gru_optuna.data.intervals import student_interval
from gru_optuna.data.load import load_dataset
from gru_optuna.data.metrics import combined, mean_metric
from gru_optuna.data.readers.sequence_files import read_sequences
from gru_optuna.errors import BundleError, StudyError
from gru_optuna.seeds import trial_seed
from gru_optuna.storage.database.open import open_storage
from gru_optuna.storage.workers.run_leases import run_name
from gru_optuna.study import confirmation
from gru_optuna.study.confirmation import Decision, Run, finalists, read_decision
from gru_optuna.study.ensemble import Ensemble
from gru_optuna.study.fitted_baselines import read_fitted
from gru_optuna.study.study import load_study
from gru_optuna.study.summary import find_winner
from gru_optuna.training.engines.cpu import CPUEngine
from gru_optuna.training.pool import Pool
from gru_optuna.tuning.confirm import Place, confirm, confirm_study
from gru_optuna.tuning.export import make_winner
from gru_optuna.tuning.retrain import Abandoned, FinishedRun, PlannedRun, train_again
from gru_optuna.worker.events import Confirming, ConfirmingElsewhere
from gru_optuna.worker.run import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from optuna import Study

    from gru_optuna.study_file import Specification
    from gru_optuna.training.engines.base import EpochOutput
    from gru_optuna.training.slot import Slot
    from gru_optuna.tuning.tune import TuningResult
    from gru_optuna.worker.events import WorkerEvent

THREE = ("confirmation.candidates=3", "confirmation.seeds=3")


def url_of(path: Path) -> str:
    return f"sqlite:///{path.parent / 'study.db'}"


def run(
    path: Path, *overrides: str, stop_after: int | None = None
) -> tuple[TuningResult, list[Confirming]]:
    """Tunes, and stops after this many runs of the confirmation."""
    stop, events = threading.Event(), []

    def on_event(event: WorkerEvent) -> None:
        if isinstance(event, Confirming):
            events.append(event)
            if event.done == stop_after:
                stop.set()

    result = tune(
        path, storage=url_of(path), device="cpu", threads=1, slots=2, stop=stop,
        on_event=on_event, overrides=[*THREE, *overrides], report=path.parent / "report",
    )  # fmt: skip
    return result, events


def opened(path: Path) -> tuple[Study, Specification]:
    return load_study(open_storage(url_of(path)), "tiny")


def decision(path: Path) -> Decision:
    found = read_decision(opened(path)[0])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study ``tiny``, tuned and confirmed."""
    path = write_tiny_study(tmp_path_factory.mktemp("confirmed") / "study")
    run(path, "training.epochs=12")
    return path


# --- what is recorded ---


def test_the_best_trials_are_trained_again_on_seeds_that_no_trial_had(tuned: Path) -> None:
    study, spec = opened(tuned)
    found = decision(tuned)
    assert [candidate.number for candidate in found.candidates] == [
        trial.number for trial in confirmation.ranked(study, spec)
    ]
    for candidate in found.candidates:
        assert len(candidate.values) == 3
        assert candidate.mean == fmean(v for v in candidate.values if v is not None)
        assert candidate.search_value == study.trials[candidate.number].value
    taken = {PlannedRun.of(spec, n, i, None).seed for n in range(3) for i in range(3)}  # type: ignore[arg-type]
    assert len(taken) == 9
    assert not taken & {trial_seed(spec.seed, number) for number in range(100)}


def test_a_value_is_that_of_the_runs_best_epoch(tuned: Path) -> None:
    """And the networks that look at the test are those of that epoch."""
    study, spec = opened(tuned)
    found = decision(tuned)
    data = load_dataset(spec, tuned.parent)
    pool = Pool(spec, data, CPUEngine(spec, data))
    again = runs_of_the_winner(tuned)
    hyperparameters = again[0].run.hyperparameters
    trained = train_again(pool, again, 2, threading.Event())
    assert [value for _, value in trained] == found.won.values
    predictions = [pool.predict(hyperparameters, networks, "test") for networks, _ in trained]
    assert found.test is not None
    assert found.test.value == mean_metric("accuracy", predictions)
    assert found.test.ensemble is not None
    assert found.test.ensemble["value"] == mean_metric("accuracy", [combined(predictions)])
    assert study.user_attrs[TEST] == {"number": found.winner, "value": found.test.value}


def runs_of_the_winner(path: Path) -> list[FinishedRun]:
    """The winner's runs on fresh seeds, up to their best epochs."""
    study, spec = opened(path)
    found = decision(path)
    (hyperparameters,) = (
        h for trial, h in confirmation.finalists(study, spec) if trial.number == found.winner
    )
    return [
        FinishedRun(PlannedRun.of(spec, found.winner, index, hyperparameters), epochs)
        for index, epochs in enumerate(found.won.best_epochs)
    ]


def test_if_memory_runs_out_fewer_networks_train_together(tuned: Path) -> None:
    together: list[int] = []

    class SmallMachine(CPUEngine):
        def train_epoch(self, slots: Sequence[Slot]) -> list[EpochOutput]:
            together.append(len(slots))
            if len(slots) > 1:
                raise MemoryError
            return super().train_epoch(slots)

    _, spec = opened(tuned)
    data = load_dataset(spec, tuned.parent)
    pool = Pool(spec, data, SmallMachine(spec, data))
    trained = train_again(pool, runs_of_the_winner(tuned), 2, threading.Event())
    assert [value for _, value in trained] == decision(tuned).won.values
    assert together[0] == 2
    assert set(together[1:]) == {1}


def test_a_long_epoch_does_not_hold_up_who_leaves(
    tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gru_optuna.worker.loop.LEAVE_SECONDS", 0.2)
    stop, left = threading.Event(), threading.Event()

    class Slow(CPUEngine):
        def train_epoch(self, slots: Sequence[Slot]) -> list[EpochOutput]:
            stop.set()
            assert left.wait(60)
            return super().train_epoch(slots)

    _, spec = opened(tuned)
    data = load_dataset(spec, tuned.parent)
    pool = Pool(spec, data, Slow(spec, data))
    with pytest.raises(Abandoned):
        train_again(pool, runs_of_the_winner(tuned), 2, stop)
    assert not left.is_set()  # the epoch is still in flight
    left.set()


def test_a_later_training_on_seeds_not_used_before_agrees(tuned: Path) -> None:
    study, spec = opened(tuned)
    found = decision(tuned)
    assert found.test is not None
    assert found.test.interval is not None
    low, high = found.test.interval
    data = load_dataset(spec, tuned.parent)
    pool = Pool(spec, data, CPUEngine(spec, data))
    (hyperparameters,) = (
        h for trial, h in confirmation.finalists(study, spec) if trial.number == found.winner
    )
    unused = [
        FinishedRun(
            PlannedRun.of(spec, found.winner, index, hyperparameters), found.won.usual_epochs
        )
        for index in range(3, 8)
    ]
    trained = train_again(pool, unused, 4, threading.Event())
    values = [
        mean_metric("accuracy", [pool.predict(hyperparameters, networks, "test")])
        for networks, _ in trained
    ]
    interval = student_interval(values, "accuracy")
    assert interval is not None
    assert interval[0] <= found.test.value <= interval[1]
    assert low <= fmean(values) <= high


def test_the_result_shows_the_searchs_value_and_the_confirmed_one(tuned: Path) -> None:
    result, events = run(tuned, "training.epochs=12")
    found = decision(tuned)
    assert not events  # nothing was trained again
    assert result.best is not None
    assert result.best.number == found.winner
    assert result.best.value == found.won.search_value
    assert result.best.test == found.test.value if found.test else None
    shown = result.best.as_json()["confirmed"]
    assert shown["mean"] == found.won.mean
    assert shown["test_uses"] == 1


# --- the test rows ---


def test_another_look_at_the_test_is_counted(tmp_path: Path) -> None:
    path = write_tiny_study(tmp_path / "study")
    run(path, "budget.trials=1")
    first = decision(path)
    assert first.test_uses == 1
    # More trials, other candidates: it is confirmed again. Finished runs stay.
    _, events = run(path, "budget.trials=4", "confirmation.candidates=2")
    second = decision(path)
    kept = any(candidate.number == 0 for candidate in second.candidates)
    assert (events[0].done, events[0].of) == (3 if kept else 0, 6)
    same = second.winner == first.winner
    assert second.test_uses == (1 if same else 2)
    if same:
        assert second.test == first.test


def test_a_study_without_test_rows_says_what_that_means(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gru_optuna.cli.output import print_best

    text = TINY_STUDY.replace('test = "data/japanese_vowels_test.ts"\n', "")
    result, _ = run(write_tiny_study(tmp_path / "study", text), "budget.trials=1")
    assert result.best is not None
    assert result.best.confirmed is not None
    assert result.best.confirmed.test is None
    print_best(result.summary)
    assert "no test rows: its value on rows that weren't used to choose it is unknown" in (
        capsys.readouterr().out
    )


def test_no_candidates_no_look(tmp_path: Path) -> None:
    path = write_tiny_study(tmp_path / "study")
    result, events = run(path, "budget.trials=1", "confirmation.candidates=0")
    assert result.best is not None
    assert (events, result.best.test, result.best.confirmed) == ([], None, None)
    # What was left out is made up for at any time.
    settings = WorkerSettings("cpu", 1, 2)
    place = Place(url_of(path), path.parent, settings)
    _, _, found = confirm_study("tiny", place, None, 2, threading.Event())
    assert found is not None
    assert (found.seeds, found.test_uses) == (2, 1)


# --- interruptions ---


def test_a_stopped_confirmation_trains_the_rest_alone(tmp_path: Path, tuned: Path) -> None:
    path = write_tiny_study(tmp_path / "study")
    stopped, _ = run(path, "training.epochs=12", stop_after=4)
    assert stopped.interrupted
    assert opened(path)[0].user_attrs.get("confirmation") is None
    _, events = run(path, "training.epochs=12")
    assert events[0].done >= 4
    assert decision(path) == decision(tuned)


def test_whom_the_intervals_leave_behind_trains_no_further(tmp_path: Path) -> None:
    path = write_tiny_study(tmp_path / "study")
    run(path, "confirmation.candidates=0")  # the search alone
    study, spec = opened(path)
    overrides = ("confirmation.candidates=2", "confirmation.seeds=5")
    two = spec.model_copy(
        update={"confirmation": spec.confirmation.model_copy(update={"candidates": 2, "seeds": 5})}
    )
    best, other = (trial.number for trial, _ in finalists(study, two))
    # Three runs of each, as if they had been trained: apart, so that two runs are left of ten.
    found = {(best, seed): Run(0.99 + seed / 1000, 1, 3) for seed in range(3)}
    found |= {(other, seed): Run(0.01 + seed / 1000, 1, 3) for seed in range(3)}
    study.set_user_attr(
        "confirmation_runs", {run_name(key): run.as_json() for key, run in found.items()}
    )
    result, events = run(path, *overrides)
    done = [(event.done, event.of) for event in events]
    assert (done[0], done[-1], {of for _, of in done}) == ((6, 8), (8, 8), {8})
    assert events[0].expected is not None
    made = decision(path)
    assert (made.winner, made.seeds, made.asked_seeds) == (best, 5, 5)
    assert {c.number: len(c.values) for c in made.candidates} == {best: 5, other: 3}
    assert 0 < result.confirmation_seconds < result.worked_seconds
    again, events = run(path, *overrides)  # the decision holds
    assert not events
    assert again.confirmation_seconds == result.confirmation_seconds


def test_one_that_dies_leaves_its_finished_runs(tmp_path: Path) -> None:
    path = write_tiny_study(tmp_path / "study")

    def dies(event: WorkerEvent) -> None:
        if isinstance(event, Confirming) and event.done >= 5:
            raise MemoryError

    with pytest.raises(MemoryError):
        tune(
            path, storage=url_of(path), device="cpu", threads=1, slots=1, on_event=dies,
            overrides=THREE, report=tmp_path / "report",
        )  # fmt: skip
    _, events = run(path)
    assert events[0].done == 5
    assert decision(path).test_uses == 1


def test_two_at_once_share_the_runs_and_one_decides(tmp_path: Path) -> None:
    path = write_tiny_study(tmp_path / "study")
    run(path, "budget.trials=2", "confirmation.candidates=0")
    settings = WorkerSettings("cpu", 1, 1)
    place = Place(url_of(path), path.parent, settings)
    events: dict[str, list[WorkerEvent]] = {"first": [], "second": []}
    inside, go_on = threading.Event(), threading.Event()

    def first(event: WorkerEvent) -> None:
        events["first"].append(event)
        inside.set()
        go_on.wait(60)

    def second(event: WorkerEvent) -> None:
        events["second"].append(event)
        if isinstance(event, Confirming) and event.done >= 2:
            go_on.set()

    def confirm(on_event: object) -> None:
        confirm_study("tiny", place, 2, 2, threading.Event(), on_event)  # type: ignore[arg-type]

    one = threading.Thread(target=confirm, args=(first,))
    one.start()
    assert inside.wait(60)
    confirm(second)
    one.join()
    assert events["second"][:2] == [ConfirmingElsewhere(), events["first"][0]]
    last = events["first"][-1]
    assert isinstance(last, Confirming)
    assert (last.done, last.of) == (4, 4)
    assert decision(path).test_uses == 1
    assert not list(path.parent.rglob("*run*.safetensors"))  # stored for the first


def test_on_every_database_one_goes_on_with_what_another_began(
    tmp_path: Path, database_url: str
) -> None:
    path = write_tiny_study(tmp_path / "study")
    stop = threading.Event()

    def leaves(event: WorkerEvent) -> None:
        if isinstance(event, Confirming) and event.done:
            stop.set()

    overrides = [*THREE, "budget.trials=1"]
    tune(
        path, storage=database_url, device="cpu", threads=1, slots=1, stop=stop, on_event=leaves,
        overrides=overrides, report=tmp_path / "report",
    )  # fmt: skip
    study, _ = load_study(open_storage(database_url), "tiny")
    assert len(confirmation.read_runs(study)) == 1
    events: list[WorkerEvent] = []
    place = Place(database_url, path.parent, WorkerSettings("cpu", 1, 1))
    _, _, found = confirm_study("tiny", place, 3, 3, threading.Event(), events.append)
    assert found is not None
    assert found.test_uses == 1
    assert [event.done for event in events if isinstance(event, Confirming)] == [1, 2, 3]


def test_hours_end_it_and_what_has_finished_by_then_decides(tmp_path: Path) -> None:
    path = write_tiny_study(tmp_path / "study")
    run(path, "confirmation.candidates=0")
    study, spec = opened(path)
    spec = study_file.load(path, THREE)
    data = load_dataset(spec, path.parent)
    pool = Pool(spec, data, CPUEngine(spec, data))

    def confirm_until(runs: int) -> tuple[Decision | None, list[WorkerEvent]]:
        """Time is over as soon as so many runs have finished."""
        events: list[WorkerEvent] = []
        found = confirm(
            study, url_of(path), spec, pool, 2, threading.Event(), events.append,
            seconds_left=lambda: float(len(confirmation.read_runs(study)) < runs),
        )  # fmt: skip
        return found, events

    best, *_ = confirmation.ranked(study, spec)
    assert confirm_until(0)[0] is None  # not even one
    winner = find_winner(study, spec)
    assert winner is not None
    assert (winner.number, winner.confirmed) == (best.number, None)

    one, _ = confirm_until(1)  # one candidate has had a seed, and others have begun theirs
    assert one is not None
    had = sorted(len(candidate.values) for candidate in one.candidates)
    assert (had[0], had[-1]) == (0, 1)
    assert len(one.won.values) == 1
    assert one.won.interval is None
    again, events = confirm_until(1)
    assert again == one  # and the test isn't looked at again
    assert [e.done for e in events if isinstance(e, Confirming)] == [sum(had)]
    more, _ = confirm_until(1000)
    assert more is not None
    assert (more.seeds, more.asked_seeds, {len(c.values) for c in more.candidates}) == (3, 3, {3})


def test_hours_leave_time_for_it(tmp_path: Path) -> None:
    from gru_optuna.study.budget import seconds_for_confirmation, seconds_left

    path = write_tiny_study(tmp_path / "study")
    run(path, "confirmation.candidates=0")
    study, _ = opened(path)
    spec = study_file.load(path, [*THREE, "budget.hours=1"])
    took = fmean(trial.user_attrs["seconds"] for trial in study.trials)
    assert seconds_left(spec, 600) == 3000
    assert seconds_for_confirmation(study, spec, slots=2) == pytest.approx(took * 9 / 2)
    short = study_file.load(path, [*THREE, f"budget.hours={took / 1500}"])
    kept = seconds_for_confirmation(study, short, slots=2)
    assert 0 < kept < seconds_left(short, 0)  # half of the hours are the search's
    shorter = study_file.load(path, [*THREE, f"budget.hours={took / 2000}"])
    assert seconds_for_confirmation(study, shorter, slots=2) == 0  # not one run would finish


def test_folds_confirm_by_their_means(tmp_path: Path) -> None:
    path = write_tiny_study(tmp_path / "study")
    result, _ = run(path, "data.folds=2", "budget.trials=2", "confirmation.seeds=2")
    assert result.best is not None
    found = result.best.confirmed
    assert found is not None
    assert found.test is not None
    assert found.test.interval is not None
    assert found.test.interval[0] <= found.test.value <= found.test.interval[1]

    # Taken away, each fold's network reads rows as its own fold does.
    place = Place(url_of(path), path.parent, WorkerSettings("cpu", 1, 2))
    bundle = make_winner("tiny", place, threading.Event(), ensemble=False)
    assert [member.preprocessing for member in bundle.manifest.members] == [
        "preprocessing/0.json", "preprocessing/1.json"
    ]  # fmt: skip
    together = make_winner("tiny", place, threading.Event())
    assert len(together.networks) == 2 * len(found.members.networks)
    assert found.members.rows == 270  # each row is validated once
    test = REPOSITORY / "studies" / "data" / "japanese_vowels_test.ts"
    # The mean is taken before the temperature.
    bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"temperature": 1.0}))
    alone = [
        replace(bundle, networks=(network,)).predict_proba(test) for network in bundle.networks
    ]
    np.testing.assert_array_equal(bundle.predict_proba(test), (alone[0] + alone[1]) / 2)
    with pytest.raises(
        BundleError, match="Export with --single, and a study with folds with --refit"
    ):
        to_onnx(bundle)
    refitted = make_winner("tiny", place, threading.Event(), refit=True)
    assert len(refitted.networks) == len(found.members.networks)
    assert {member.preprocessing for member in refitted.manifest.members} == {
        "preprocessing/0.json"
    }
    assert to_onnx(refitted)


def test_the_last_of_rolling_origins_is_tested_and_taken_away(tmp_path: Path) -> None:
    """As if there were no others: it has the parts of a study without folds."""
    tests, bundles = [], []
    for name, folds in (("one", None), ("three", 3)):
        spec = small_study(tmp_path, "series", folds=folds, known=[])
        content = spec.model_dump(mode="json", exclude_unset=True, exclude_none=True) | {
            "name": name,
            "model": {"hidden_size": 4},
            "search": {"learning_rate": 0.01, "optimizer": "adam", "decay": "constant",
                       "clip_norm": 1.0, "initializer": "orthogonal", "l1": 0, "l2": 0,
                       "dropout": 0, "batch_size": 16},
            "training": {"epochs": 1, "patience": 1},
            "budget": {"trials": 1},
            "confirmation": {"candidates": 1, "seeds": 2},
        }  # fmt: skip
        result, _ = run(write_study(tmp_path / f"{name}.toml", content))
        assert result.best is not None
        assert result.best.confirmed is not None
        tests.append(result.best.confirmed.test)
        place = Place(f"sqlite:///{tmp_path / 'study.db'}", tmp_path, WorkerSettings("cpu", 1, 2))
        bundles.append(make_winner(name, place, threading.Event()))
        study, _ = load_study(open_storage(place.url), name)
        fitted = read_fitted(study)
        assert fitted is not None
        assert fitted.comparison is not None
        assert fitted.comparison.rows == 38  # windows of 3 steps in the 40 test rows
    assert tests[0] == tests[1]
    assert [len(bundle.networks) for bundle in bundles] == [3, 3]
    rows = tmp_path / "series.csv"
    np.testing.assert_array_equal(bundles[0].predict(rows), bundles[1].predict(rows))


def test_what_is_taken_away_reaches_what_was_recorded(tuned: Path) -> None:
    place = Place(url_of(tuned), tuned.parent, WorkerSettings("cpu", 1, 2))
    bundle = make_winner("tiny", place, threading.Event())
    found = decision(tuned)
    # 54 validation rows are too few to select members on.
    assert found.ensemble == Ensemble.average(found.winner, found.won.values, rows=54)
    assert [member.validation for member in bundle.manifest.members] == found.won.values
    assert found.test is not None
    assert found.test.ensemble is not None
    rows = read_sequences(REPOSITORY / "studies" / "data" / "japanese_vowels_test.ts")
    assert rows.labels is not None
    right = bundle.predict(rows.values) == np.array(list(rows.labels))
    assert right.mean() == pytest.approx(found.test.ensemble["value"])


def test_studies_that_were_confirmed_before_ensembles_average_their_winners_networks(
    tuned: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(tuned.parent, tmp_path / "old") / tuned.name
    study, _ = opened(path)
    content = decision(path).as_json()
    del content["ensemble"]
    study.set_user_attr(CONFIRMATION, content)
    study.set_user_attr(CALIBRATION, None)
    old = decision(path)
    assert old.ensemble is None
    assert old.members.networks == decision(tuned).members.networks
    place = Place(url_of(path), path.parent, WorkerSettings("cpu", 1, 2))
    bundle = make_winner("tiny", place, threading.Event())
    assert [member.validation for member in bundle.manifest.members] == old.won.values
    assert (bundle.manifest.format, bundle.manifest.temperature) == (1, 1.0)


def test_a_single_network_that_is_taken_away_is_the_typical_one(tuned: Path) -> None:
    place = Place(url_of(tuned), tuned.parent, WorkerSettings("cpu", 1, 2))
    bundle = make_winner("tiny", place, threading.Event(), ensemble=False)
    won = decision(tuned).won
    (member,) = bundle.manifest.members
    assert member.validation == won.values[won.typical] == sorted(filter(None, won.values))[1]
    assert member.epochs == won.best_epochs[won.typical]
    assert bundle.manifest.metrics["confirmed"]["values"] == won.values


def test_without_a_confirmation_the_best_trials_network_is_taken(tmp_path: Path) -> None:
    path = write_tiny_study(tmp_path / "study")
    result, _ = run(path, "confirmation.candidates=0")
    place = Place(url_of(path), path.parent, WorkerSettings("cpu", 1, 2))
    bundle = make_winner("tiny", place, threading.Event())
    assert result.best is not None
    assert bundle.manifest.members[0].validation == result.best.value
    assert bundle.manifest.members[0].seed == trial_seed(0, result.best.number)
    with pytest.raises(StudyError, match="Try: gru-optuna confirm tiny"):
        make_winner("tiny", place, threading.Event(), ensemble=True)

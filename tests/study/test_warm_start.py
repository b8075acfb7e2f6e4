"""Starting from another study: what is taken, what is left, once, and never beyond the budget."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from helpers.workspaces import TINY_STUDY, Workspace
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

import gru_optuna
from gru_optuna import study_file
from gru_optuna.attributes import CONFIRMATION, WARM_START
from gru_optuna.errors import StorageError, StudyError
from gru_optuna.search import space
from gru_optuna.storage.database.open import exclusively, open_storage
from gru_optuna.study.confirmation import ranked
from gru_optuna.study.study import create_or_resume, load_study
from gru_optuna.study.warm_start import MOST_TRIALS, Source, begin_from, find_source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from optuna import Study
    from optuna.storages import BaseStorage

    from gru_optuna.study.warm_start import WarmStart
    from gru_optuna.study_file import Specification
    from gru_optuna.tuning.tune import RunStart

GOOD: dict[str, Any] = {
    "hidden_size": 64,
    "learning_rate": 0.01,
    "optimizer": "adam",
    "decay": "time",
    "decay_rate": 0.5,
    "clip_norm": 1.0,
    "initializer": "orthogonal",
    "l1": 1e-6,
    "l2": 1e-6,
    "dropout": 0.3,
    "batch_size": 32,
}


def parse(name: str, **sections: Any) -> Specification:
    return study_file.parse(
        {"name": name, "data": {"train": "x.ts"}} | sections, source=f"{name}.toml"
    )


def trained(
    storage: BaseStorage, values: Mapping[float, Mapping[str, Any]], **sections: Any
) -> Source:
    """A study ``old`` whose trials came to these values with these parameters."""
    spec = parse("old", **sections)
    study = create_or_resume(storage, spec, "data")
    for value, changes in values.items():
        study.enqueue_trial(GOOD | changes)
        trial = study.ask()
        space.suggest(trial, spec)
        trial.set_user_attr("best_epoch", 1)
        trial.set_user_attr("best_validation_loss", 0.1)
        study.tell(trial, value)
    return Source("old", study, spec)


def begin(source: Source, spec: Specification) -> tuple[Study, WarmStart | None]:
    """A study of this specification, in the database of the other one."""
    study = create_or_resume(source.study._storage, spec, "other data")
    return study, begin_from(study, spec, source)


@pytest.fixture
def memory() -> BaseStorage:
    return InMemoryStorage()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'x.db'}"


def waiting(study: Study) -> list[dict[str, Any]]:
    return [trial.system_attrs["fixed_params"] for trial in study.get_trials()]


def test_the_best_few_are_tried_first_and_the_worse_and_the_equal_are_not(
    memory: BaseStorage,
) -> None:
    rates = [0.001, 0.002, 0.003, 0.003, 0.004, 0.005, 0.006, 0.007]
    values = {0.90 + i / 100: {"learning_rate": rate} for i, rate in enumerate(rates)}
    study, start = begin(trained(memory, values), parse("new"))
    assert [params["learning_rate"] for params in waiting(study)] == [
        0.007,
        0.006,
        0.005,
        0.004,
        0.003,
    ]
    assert len(study.trials) == MOST_TRIALS
    assert start is not None
    assert [trial["number"] for trial in start.trials] == [7, 6, 5, 4, 3]
    assert start.lines()[0].startswith("from old: trials 7, 6, 5, 4 and 3 are tried first, with")


def test_only_what_both_spaces_hold_is_taken_and_the_rest_is_said(memory: BaseStorage) -> None:
    source = trained(memory, {0.9: {}, 0.8: {"hidden_size": 32, "clip_norm": 9.0}})
    new = parse(
        "new",
        model={"hidden_size": [16, 32]},
        search={"clip_norm": ["off", 1.0], "dropout": 0.2, "l1": {"low": 1e-6, "high": 1e-4}},
    )
    study, start = begin(source, new)
    first, second = waiting(study)
    assert "hidden_size" not in first
    assert (first["clip_norm"], first["l1"], second["hidden_size"]) == (1.0, 1e-6, 32)
    assert "clip_norm" not in second
    assert "dropout" not in first | second
    assert start is not None
    assert start.lines()[1] == (
        "not taken: hidden_size: 64 not among 16, 32; dropout: 0.3 fixed at 0.2 here; "
        "clip_norm: 9 not among off, 1.0"
    )
    # What was left, the sampler proposes; the trial is whole.
    trial = study.ask()
    assert space.suggest(trial, new).hidden_size in (16, 32)
    assert trial.params["l1"] == 1e-6


@pytest.mark.parametrize(
    ("decays", "taken"),
    [
        (["constant", "time"], {"decay", "decay_rate"}),
        ("time", {"decay_rate"}),
        (["constant", "step"], set()),
        ("step", set()),
    ],
)
def test_parameters_of_a_decay_come_with_that_decay_only(
    memory: BaseStorage, decays: str | list[str], taken: set[str]
) -> None:
    spec = parse("new", search={"decay": decays})
    study, _ = begin(trained(memory, {0.9: {}}), spec)
    assert {name for name in waiting(study)[0] if name.startswith("decay")} == taken
    space.suggest(study.ask(), spec)


def test_a_value_that_was_fixed_there_is_as_good_as_a_searched_one(memory: BaseStorage) -> None:
    study, _ = begin(trained(memory, {0.9: {}}, search={"optimizer": "rmsprop"}), parse("new"))
    assert waiting(study)[0]["optimizer"] == "rmsprop"


def test_of_a_loss_the_lowest_is_the_best(memory: BaseStorage) -> None:
    losses = {0.9: {}, 0.1: {"dropout": 0.1}, 0.5: {"dropout": 0.5}}
    study, _ = begin(trained(memory, losses, metric="log_loss"), parse("new"))
    assert [params["dropout"] for params in waiting(study)] == [0.1, 0.5, 0.3]


def test_who_held_on_fresh_seeds_is_the_best(memory: BaseStorage) -> None:
    source = trained(memory, {0.9: {}, 0.8: {"dropout": 0.1}, 0.7: {"dropout": 0.2}})
    decision = {
        "candidates": [], "winner": 1, "test": None, "seeds": 5, "asked_candidates": 2,
        "asked_seeds": 5, "tied": [1], "test_uses": 0, "made_at": "",
    }  # fmt: skip
    source.study.set_user_attr(CONFIRMATION, decision)
    study, _ = begin(source, parse("new"))
    assert [params["dropout"] for params in waiting(study)] == [0.1, 0.3, 0.2]


def test_one_that_dies_half_way_is_followed_by_one_that_does_the_rest(
    memory: BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = trained(memory, {0.9: {}, 0.8: {"dropout": 0.1}, 0.7: {"dropout": 0.2}})
    spec = parse("new")
    study = create_or_resume(memory, spec, "other data")
    enqueue = study.enqueue_trial

    def dies_after_two(*args: Any, **kwargs: Any) -> None:
        if len(study.trials) == 2:
            raise KeyboardInterrupt
        enqueue(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(study, "enqueue_trial", dies_after_two)
        with pytest.raises(KeyboardInterrupt):
            begin_from(study, spec, source)
    assert WARM_START not in study.user_attrs
    start = begin_from(study, spec, source)
    assert [params["dropout"] for params in waiting(study)] == [0.3, 0.1, 0.2]
    assert start is not None
    assert len(start.trials) == 3


def test_a_second_source_brings_what_is_new(memory: BaseStorage) -> None:
    begin(trained(memory, {0.9: {}}), parse("new"))
    other = trained(InMemoryStorage(), {0.9: {}, 0.8: {"dropout": 0.1}})
    spec = parse("new")
    study = create_or_resume(memory, spec, "other data")
    begin_from(study, spec, replace(other, label="other.db#old"))
    assert [params["dropout"] for params in waiting(study)] == [0.3, 0.1]
    assert set(study.user_attrs[WARM_START]) == {"old", "other.db#old"}


def test_no_more_than_the_budget_holds(memory: BaseStorage) -> None:
    source = trained(memory, {0.9: {}, 0.8: {"dropout": 0.1}, 0.7: {"dropout": 0.2}})
    study, _ = begin(source, parse("new", budget={"trials": 2}))
    assert len(study.trials) == 2
    spec = parse("full", budget={"trials": 1})
    full = create_or_resume(memory, spec, "data")
    full.tell(full.ask(), 0.5)
    start = begin_from(full, spec, source)
    assert len(full.trials) == 1
    assert start is not None
    why = "because everything was tried or the budget is spent"
    assert start.lines() == [f"from old: nothing taken, {why}"]
    assert WARM_START not in full.user_attrs  # a budget that is raised makes room


@pytest.mark.parametrize("name", ["tpe", "gp", "random", "qmc", "cmaes"])
def test_every_sampler_goes_on_from_there(memory: BaseStorage, name: str) -> None:
    spec = parse("new", sampler={"name": name, "n_startup_trials": 1})
    study, _ = begin(trained(memory, {0.9: {}, 0.8: {"dropout": 0.1}}), spec)
    for _ in range(4):
        trial = study.ask()
        space.suggest(trial, spec)
        study.tell(trial, trial.params["dropout"])
    assert [trial.params["dropout"] for trial in study.trials[:2]] == [0.3, 0.1]


# --- in a database ---


def test_it_happens_once_and_outlives_the_other_study(url: str) -> None:
    storage = open_storage(url, create=True)
    trained(storage, {0.9: {}, 0.8: {"dropout": 0.1}})
    spec = parse("new")

    def start() -> None:
        source = find_source("old", url, spec)
        with exclusively(url, "study-new"):
            study = create_or_resume(open_storage(url), spec, "other data")
            if source:
                begin_from(study, spec, source)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    study, _ = load_study(open_storage(url), "new")
    assert len(study.trials) == 2
    (noted,) = study.user_attrs[WARM_START].items()
    assert noted[0] == "old"
    assert noted[1]["metric"] == "accuracy"
    assert [(trial["number"], trial["value"]) for trial in noted[1]["trials"]] == [
        (0, 0.9),
        (1, 0.8),
    ]
    storage.delete_study(load_study(storage, "old")[0]._study_id)
    assert find_source("old", url, spec) is None


def test_a_source_that_cannot_be_is_refused_before_anything_is_made(
    url: str, tmp_path: Path
) -> None:
    storage = open_storage(url, create=True)
    old = trained(storage, {})

    def refusal(given: str, **sections: Any) -> str:
        with pytest.raises((StudyError, StorageError)) as caught:
            find_source(given, url, parse("new", **sections))
        return str(caught.value)

    assert 'Did you mean "old"?' in refusal("odl")
    assert refusal("new").startswith('study "new" can\'t start from itself')
    assert refusal(f"{url}#new").startswith('study "new" can\'t start from itself')
    assert "no database yet" in refusal(f"sqlite:///{tmp_path}/none.db#old")
    assert refusal("old").startswith('study "old" has no trial that has trained an epoch')

    old.study.add_trial(trained(InMemoryStorage(), {0.9: {}}).study.trials[0])
    fixed = {name: value for name, value in GOOD.items() if name != "hidden_size"}
    searched = {"l2": {"low": 0.1, "high": 0.2}, "decay_rate": 0.1}
    words = refusal("old", model={"hidden_size": 8}, search=fixed | searched)
    assert words.startswith('study "old" holds no value that "new" searches')
    lists = {
        "learning_rate": [0.01], "decay": "constant", "clip_norm": "off", "l1": 0, "l2": 0,
        "dropout": [0.0, 0.1],
    }  # fmt: skip
    grid = refusal("old", sampler={"name": "grid"}, search=lists)
    assert grid.startswith('study "new": sampler grid tries each configuration')


def test_tune_takes_says_and_trains_within_the_budget(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command line: refused before it makes anything, then said once, then resumed."""
    monkeypatch.chdir(workspace.folder)
    monkeypatch.delenv("GRU_OPTUNA_STORAGE", raising=False)
    following = workspace.write("studies/next.toml", TINY_STUDY.replace('"tiny"', '"next"'))
    with pytest.raises(StorageError, match="no database yet"):
        gru_optuna.tune(following, from_study="tiny")
    assert not (workspace.folder / "storage").exists()

    overrides = ["training.epochs=1", "confirmation.candidates=0"]
    fast: dict[str, Any] = {"overrides": overrides, "threads": 1, "slots": 1}
    gru_optuna.tune("studies/tiny.toml", trials=2, **fast)
    options = ("--trials", "1", "--set", "training.epochs=1", "--threads", "1", "--slots", "1")
    first = workspace.run("tune", "studies/next.toml", "--from", "tiny", "--no-confirm", *options)
    assert first.returncode == 0, first.stderr
    assert "is tried first, with its learning_rate, dropout" in first.stderr
    openings: list[RunStart] = []
    gru_optuna.tune(following, trials=3, from_study="tiny", on_open=openings.append, **fast)
    assert openings[0].warm_starts == ()
    storage = open_storage(f"sqlite:///{workspace.folder}/storage/gru_optuna.db")
    study, _ = load_study(storage, "next")
    assert len(study.trials) == 3
    assert not study.get_trials(states=[TrialState.WAITING])
    best = ranked(*load_study(storage, "tiny"))[0]
    assert study.trials[0].params == best.params
    assert study.trials[0].user_attrs[WARM_START] == f"tiny, trial {best.number}"


def test_tables_to_try_come_first_and_each_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that are added to the file later; what the study can't have is said and left."""
    monkeypatch.chdir(workspace.folder)
    monkeypatch.delenv("GRU_OPTUNA_STORAGE", raising=False)
    tables = "\n[[try]]\nlearning_rate = 0.004\n\n[[try]]\nlearning_rate = 7\ndropout = 0.125\n"
    file = workspace.write("studies/tiny.toml", TINY_STUDY + tables)
    openings: list[RunStart] = []
    overrides = ["training.epochs=1", "confirmation.candidates=0"]
    fast: dict[str, Any] = {"overrides": overrides, "threads": 1, "slots": 1}
    gru_optuna.tune(file, trials=1, on_open=openings.append, **fast)
    (start,) = openings.pop().warm_starts
    assert start.lines() == [
        "from the study file: configuration 1 is tried first, with its learning_rate"
    ]  # the budget has no room for more
    gru_optuna.tune(file, trials=3, on_open=openings.append, **fast)
    (start,) = openings.pop().warm_starts
    assert start.lines() == [
        "from the study file: configuration 2 is tried first, with its dropout",
        "not taken: learning_rate: 7 not within 0.001 to 0.03",
    ]
    workspace.write("studies/tiny.toml", TINY_STUDY + tables + "\n[[try]]\ndropout = 0.25\n")
    gru_optuna.tune(file, trials=4, on_open=openings.append, **fast)
    (start,) = openings.pop().warm_starts
    assert [trial["number"] for trial in start.trials] == [3]
    gru_optuna.tune(file, trials=4, on_open=openings.append, **fast)
    assert openings.pop().warm_starts == ()
    study, _ = load_study(
        open_storage(f"sqlite:///{workspace.folder}/storage/gru_optuna.db"), "tiny"
    )
    drawn = [trial.params for trial in study.trials]
    assert [params["learning_rate"] == 0.004 for params in drawn] == [True, False, False, False]
    assert (drawn[1]["dropout"], drawn[3]["dropout"]) == (0.125, 0.25)
    assert study.trials[1].user_attrs[WARM_START] == "the study file, table 2"

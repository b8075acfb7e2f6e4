"""Spaces, samplers, pruners: what is asked, and that it is asked again the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import optuna
import pytest

from gru_optuna import study_file
from gru_optuna.errors import StudyFileError
from gru_optuna.hyperparameters import DECAY_PARAMETERS
from gru_optuna.search import space
from gru_optuna.search.pruners import make_pruner
from gru_optuna.search.samplers import make_sampler
from gru_optuna.study import budget
from gru_optuna.study_file import Pruner, Sampler

if TYPE_CHECKING:
    from gru_optuna.study_file import Specification

BASE: dict[str, Any] = {"name": "x", "data": {"train": "x.ts"}}
LISTS = {
    "learning_rate": [0.001, 0.01],
    "optimizer": "adam",
    "decay": ["constant", "time", "step"],
    "decay_rate": [0.1, 0.5],
    "decay_drop": [0.5],
    "decay_every": [2, 5],
    "clip_norm": ["off", 1.0],
    "initializer": "orthogonal",
    "l1": 0,
    "l2": 0,
    "dropout": 0.2,
    "batch_size": 32,
}


def parse(**sections: Any) -> Specification:
    return study_file.parse(BASE | sections, source="x.toml")


def ask(spec: Specification, trials: int, study: optuna.Study | None = None) -> list[dict]:
    """Runs trials whose value prefers a learning rate of 0.01, and returns their parameters."""
    study = study or optuna.create_study(direction="maximize", sampler=make_sampler(spec))
    asked = []
    for _ in range(trials):
        trial = study.ask()
        chosen = space.suggest(trial, spec)
        study.tell(trial, -abs(chosen.learning_rate - 0.01))
        asked.append(trial.params)
    return asked


# --- the space ---


def test_parameters_carry_the_names_of_the_search_table() -> None:
    spec = parse(sampler={"name": "random"})
    everything = ask(spec, 40)
    # Fixed at 0, unless a study searches them.
    fixed = {"jitter", "scaling", "time_masking", "label_smoothing"}
    fixed |= {"token_insertion", "token_deletion", "token_swap", "word_dropout"}
    names = {"hidden_size", *type(spec.search).model_fields} - fixed
    names.remove("embedding_initializer")  # of texts alone
    assert set().union(*everything) == names


def test_a_decays_parameters_are_searched_only_under_it() -> None:
    for params in ask(parse(), 40):
        present = {name for name in params if name.startswith("decay_")}
        assert present == set(DECAY_PARAMETERS[params["decay"]])


def test_one_value_fixes_and_is_no_parameter() -> None:
    spec = parse(search=LISTS | {"decay": "step"}, model={"hidden_size": 7})
    study = optuna.create_study(sampler=make_sampler(spec))
    trial = study.ask()
    chosen = space.suggest(trial, spec)
    assert set(trial.params) == {
        "learning_rate", "decay_drop", "decay_every", "clip_norm",
    }  # fmt: skip
    assert (chosen.hidden_size, chosen.optimizer, chosen.dropout) == (7, "adam", 0.2)


def test_off_switches_clipping_off() -> None:
    spec = parse(search={"clip_norm": "off"})
    assert space.suggest(optuna.create_study().ask(), spec).clip_norm is None


@pytest.mark.parametrize(
    ("section", "name", "values"),
    [
        ("model", "hidden_size", [4, 8]),
        ("model", "layers", [1, 2]),
        ("model", "bidirectional", [False, True]),
        ("model", "pooling", ["last", "mean"]),
        ("search", "optimizer", ["adam", "rmsprop"]),
        ("search", "initializer", ["normal", "he_uniform"]),
        ("search", "l1", [0, 1e-3]),
        ("search", "dropout", [0.0, 0.5]),
        ("search", "batch_size", [8, 16]),
    ],
)
def test_every_hyperparameter_may_be_a_list(section: str, name: str, values: list) -> None:
    seen = {params[name] for params in ask(parse(**{section: {name: values}}), 25)}
    assert seen == set(values)


@pytest.mark.parametrize(
    ("section", "name", "table"),
    [
        ("model", "hidden_size", {"low": 8, "high": 64, "log": True}),
        ("model", "layers", {"low": 1, "high": 3}),
        ("search", "batch_size", {"low": 8, "high": 64, "step": 8}),
        ("search", "l2", {"low": 1e-6, "high": 1e-2, "log": True}),
        ("search", "dropout", {"low": 0.0, "high": 0.5, "step": 0.1}),
    ],
)
def test_every_number_may_be_a_range(section: str, name: str, table: dict) -> None:
    for params in ask(parse(**{section: {name: table}}), 15):
        assert table["low"] <= params[name] <= table["high"]
        if "step" in table:
            steps = (params[name] - table["low"]) / table["step"]
            assert steps == pytest.approx(round(steps))


def test_a_finished_trials_values_are_found_again() -> None:
    spec = parse()
    study = optuna.create_study(sampler=make_sampler(spec))
    trial = study.ask()
    suggested = space.suggest(trial, spec)
    assert space.hyperparameters(trial.params, spec) == suggested


# --- samplers ---


@pytest.mark.parametrize("name", get_args(Sampler.model_fields["name"].annotation))
def test_each_sampler_asks_for_the_same_trials_again(name: str) -> None:
    spec = parse(sampler={"name": name, "n_startup_trials": 3}, search=LISTS)
    first = ask(spec, 8)
    assert ask(spec, 8) == first
    assert any(params != first[0] for params in first)
    assert ask(spec.model_copy(update={"seed": 1}), 8) != first


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "qmc", "cmaes"])
def test_a_resumed_study_asks_as_one_that_never_stopped(name: str) -> None:
    """A new sampler over the same trials, as a new process has it."""
    spec = parse(sampler={"name": name, "n_startup_trials": 3})
    whole = ask(spec, 9)
    study = optuna.create_study(direction="maximize", sampler=make_sampler(spec))
    begun = ask(spec, 5, study)
    study.sampler = make_sampler(spec)
    assert begun + ask(spec, 4, study) == whole


def test_tpe_finds_the_better_region_sooner_than_chance() -> None:
    spec = parse(sampler={"name": "tpe", "n_startup_trials": 5})
    rates = [params["learning_rate"] for params in ask(spec, 40)]
    near = sum(0.005 < rate < 0.02 for rate in rates[20:])
    # A random search over four decades lands there in 20 % of 20 trials.
    assert near >= 8


def test_the_grid_holds_each_configuration_once() -> None:
    # 2 learning rates × 2 clip norms × (constant + time with 2 rates + step with 2 lengths)
    spec = parse(
        sampler={"name": "grid"},
        search=LISTS,
        model={"hidden_size": 8},
        budget={"trials": 100},
    )
    assert len(space.grid(spec)) == 2 * 2 * (1 + 2 + 2)
    assert budget.trial_limit(spec) == 20
    asked = [tuple(sorted(params.items(), key=str)) for params in ask(spec, 20)]
    assert len(set(asked)) == 20


def test_a_grid_needs_lists() -> None:
    with pytest.raises(StudyFileError, match=r"\[search.learning_rate\] is a range"):
        parse(sampler={"name": "grid"})


# --- pruners ---


@pytest.mark.parametrize("name", get_args(Pruner.model_fields["name"].annotation))
def test_each_pruner_lets_good_trials_finish_and_only_none_lets_all(name: str) -> None:
    spec = parse(pruner={"name": name}, training={"epochs": 20}, metric="log_loss")
    study = optuna.create_study(
        study_name="fixed", sampler=optuna.samplers.RandomSampler(0), pruner=make_pruner(spec)
    )
    epochs = []
    for number in range(40):
        trial = study.ask()
        level = (number * 7) % 40  # 0 is best, and each level occurs once
        for epoch in range(1, 21):
            trial.report(level + 1 / epoch, step=epoch)
            if epoch < 20 and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, level)
        epochs.append((level, epoch))
    finished = {level for level, epoch in epochs if epoch == 20}
    assert 0 in finished
    # thaw doesn't prune: our workers pause its trials, which plain Optuna can't.
    assert len(finished) == 40 if name in ("none", "thaw") else len(finished) < 30


def test_the_first_cut_comes_at_six_percent_of_the_epochs() -> None:
    study = optuna.create_study(pruner=make_pruner(parse(training={"epochs": 50})))
    for value in (0.0, 1.0):
        trial = study.ask()
        cuts = []
        for epoch in range(1, 6):
            trial.report(value, step=epoch)
            cuts.append(trial.should_prune())
    # The second trial is worse, and is first judged at epoch 3.
    assert cuts[:3] == [False, False, True]


# --- budgets ---


def test_trials_left_counts_what_was_begun() -> None:
    spec = parse(budget={"trials": 5})
    study = optuna.create_study()
    study.ask()  # running
    study.tell(study.ask(), 1.0)
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    study.enqueue_trial({"x": 1})  # waiting: not begun
    assert budget.claimed(study) == 3
    assert budget.trials_left(study, spec) == 2


def test_hours_alone_limit_no_trials() -> None:
    spec = parse(budget={"hours": 0.5})
    study = optuna.create_study()
    assert budget.trials_left(study, spec) == float("inf")
    assert budget.seconds_left(spec, worked=600.0) == pytest.approx(1200)


def test_a_budget_that_was_raised_counts() -> None:
    spec = parse(budget={"trials": 5})
    assert budget.renewed(spec, {}) is spec
    assert budget.renewed(spec, {"budget": {"trials": 5, "hours": None}}) is spec
    assert budget.trial_limit(budget.renewed(spec, {"budget": {"trials": 9}})) == 9


@pytest.mark.parametrize("enqueued", [16, 16.0, np.float64(16)])
def test_an_enqueued_number_is_the_choice_that_equals_it(enqueued: Any) -> None:
    spec = parse(search={"batch_size": [8, 16]}, model={"hidden_size": {"low": 4, "high": 64}})
    study = optuna.create_study()
    study.enqueue_trial({"batch_size": enqueued, "hidden_size": 32.0})
    chosen = space.suggest(trial := study.ask(), spec)
    assert (chosen.batch_size, chosen.hidden_size) == (16, 32)
    assert type(chosen.batch_size) is type(chosen.hidden_size) is int
    study.tell(trial, 0.0)
    assert type(space.hyperparameters(study.trials[0].params, spec).batch_size) is int


def test_an_enqueued_value_that_is_no_choice_is_refused_by_its_parameters_name() -> None:
    spec = parse(model={"hidden_size": [32, 64]}, search={"learning_rate": {"low": 0.1, "high": 1}})
    study = optuna.create_study()
    study.enqueue_trial({"hidden_size": 7})
    study.enqueue_trial({"hidden_size": 32, "learning_rate": "fast"})
    with pytest.raises(ValueError, match=r"^hidden_size: .*7.*32, 64"):
        space.suggest(study.ask(), spec)
    with pytest.raises(ValueError, match=r"^learning_rate: .*fast"):
        space.suggest(study.ask(), spec)

"""TPE proposes for small studies what Optuna's does, and models a choice of a large one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from gru_optuna import study_file
from gru_optuna.search import space
from gru_optuna.search.samplers import SeededSampler, make_sampler
from gru_optuna.search.tpe import ModelledTrials

if TYPE_CHECKING:
    from gru_optuna.study_file import Specification


def conditional() -> Specification:
    """A space whose decays have parameters of their own."""
    return study_file.parse(
        {"name": "x", "data": {"train": "x.ts"}, "sampler": {"n_startup_trials": 5}}, source="x"
    )


def optunas(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(n_startup_trials=5, multivariate=True, group=True, seed=seed)


def search(spec: Specification, sampler: optuna.samplers.BaseSampler, trials: int) -> list[dict]:
    """Trials that complete, are pruned, fail, or run on; the parameters of each."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    chance, asked = random.Random(1), []
    for _ in range(trials):
        trial = study.ask()
        chosen = space.suggest(trial, spec)
        asked.append(trial.params)
        value = -abs(chosen.learning_rate - 0.01) - chosen.dropout
        trial.report(value, chance.randint(1, 9))
        match chance.random():
            case end if end < 0.4:
                study.tell(trial, value)
            case end if end < 0.8:
                study.tell(trial, state=TrialState.PRUNED)
            case end if end < 0.9:
                study.tell(trial, state=TrialState.FAIL)
    return asked


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_proposals_of_a_small_study_are_optunas() -> None:
    spec = conditional()
    assert search(spec, make_sampler(spec), 60) == search(spec, SeededSampler(optunas, 0), 60)


def filled(values: list[float], states: list[TrialState]) -> optuna.Study:
    """A study of trials with these values, in these states, with two sets of parameters."""
    study = optuna.create_study()
    width = optuna.distributions.FloatDistribution(0, 1)
    for number, (value, state) in enumerate(zip(values, states, strict=True)):
        names = ("a", "b") if number % 7 == 3 else ("a",)
        study.add_trial(
            create_trial(
                state=state,
                value=value if state == TrialState.COMPLETE else None,
                params=dict.fromkeys(names, 0.5),
                distributions=dict.fromkeys(names, width),
                intermediate_values={1: value} if state == TrialState.PRUNED else {},
            )
        )
    return study


def choose(study: optuna.Study, **sizes: int) -> list[int] | None:
    modelled = ModelledTrials(**sizes)
    modelled.update(study)
    chosen = modelled.chosen()
    return None if chosen is None else [trial.number for trial in chosen]


def test_a_large_study_is_modelled_by_its_best_and_its_most_recent_trials() -> None:
    values = [float(value) for value in random.Random(0).sample(range(1000), 60)]
    study = filled(values, [TrialState.COMPLETE] * 60)
    best = sorted(range(60), key=values.__getitem__)[:10]
    # Trials 0 and 3 are the first of their kind, by which the groups of parameters are found.
    assert choose(study, best=10, recent=20) == sorted({0, 3, *best, *range(40, 60)})
    assert choose(study, best=40, recent=20) is None  # all


def test_complete_trials_are_better_than_pruned_ones_and_later_epochs_better_than_earlier() -> None:
    study = filled([5.0, 1.0, 2.0], [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED])
    study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={9: 7.0}))
    study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={9: float("nan")}))
    modelled = ModelledTrials()
    modelled.update(study)
    assert [position for _, position in modelled._best] == [0, 3, 4, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_chosen_does_not_depend_on_the_order_in_which_trials_ended(seed: int) -> None:
    chance = random.Random(seed)
    values = [chance.random() for _ in range(40)]
    ends = chance.choices([TrialState.COMPLETE, TrialState.FAIL], weights=[3, 1], k=40)
    study: Any = optuna.create_study()
    trials = [study.ask({"a": optuna.distributions.FloatDistribution(0, 1)}) for _ in range(40)]
    step_by_step = ModelledTrials(best=5, recent=8)
    chance.shuffle(trials)
    for trial in trials[:35]:  # the others run on
        end = ends[trial.number]
        study.tell(trial, values[trial.number] if end == TrialState.COMPLETE else None, state=end)
        step_by_step.update(study)
    at_once = ModelledTrials(best=5, recent=8)
    at_once.update(study)
    assert [t.number for t in step_by_step.chosen()] == [t.number for t in at_once.chosen()]


def test_another_study_is_not_confused_with_the_one_before() -> None:
    modelled = ModelledTrials(best=1, recent=1)
    modelled.update(filled([1.0] * 9, [TrialState.COMPLETE] * 9))
    modelled.update(filled([1.0] * 2, [TrialState.COMPLETE] * 2))
    assert modelled.chosen() is None

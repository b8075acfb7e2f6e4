"""Samplers that see each trial's place: two goals, and Gaussian processes where trials pause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from gru_optuna import study_file
from gru_optuna.search import space
from gru_optuna.search.places import as_places
from gru_optuna.search.samplers import make_sampler
from gru_optuna.storage.paused_trials import PAUSED

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from gru_optuna.study_file import Specification

TWO = ["log_loss", "network_parameters"]


def specification(**changes: Any) -> Specification:
    content = {"name": "x", "data": {"train": "x.ts"}, "pruner": {"name": "thaw"}}
    return study_file.parse(content | changes, "x")


def made(*trials: tuple[TrialState, float, int, int, bool]) -> list[FrozenTrial]:
    """Trials of a state, a value, a last epoch, a size, and whether they are paused."""
    found = []
    for number, (state, value, epoch, size, paused) in enumerate(trials):
        trial = create_trial(
            state=state,
            values=[value, size] if state == TrialState.COMPLETE else None,
            intermediate_values={epoch: value},
            user_attrs={"network_parameters": size} | ({PAUSED: epoch} if paused else {}),
        )
        trial.number = number
        found.append(trial)
    return found


COMPLETE, PRUNED, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING


def places(spec: Specification, trials: list[FrozenTrial]) -> list[float | None]:
    seen = as_places(spec, trials)
    return [t.value if t.state == COMPLETE else None for t in seen]


def test_complete_trials_come_first_then_those_that_trained_longer() -> None:
    trials = made(
        (RUNNING, 0.1, 1, 10, True),
        (RUNNING, 0.1, 1, 10, False),
        (PRUNED, 0.5, 4, 10, False),
        (COMPLETE, 0.9, 9, 10, False),
        (PRUNED, float("nan"), 4, 10, False),
        (COMPLETE, 0.8, 9, 10, False),
        (COMPLETE, 0.8, 9, 10, False),
    )
    assert places(specification(metric="log_loss"), trials) == [4, None, 2, 1, 3, 0, 0]
    assert places(specification(metric=TWO), trials) == [4, None, 2, 1, 3, 0, 0]


def test_of_two_goals_the_front_has_the_first_places() -> None:
    trials = made(
        (COMPLETE, 0.5, 9, 50, False), (COMPLETE, 0.4, 9, 90, False),
        (COMPLETE, 0.6, 9, 10, False), (COMPLETE, 0.6, 9, 90, False),
    )  # fmt: skip
    assert places(specification(metric=TWO), trials) == [2, 0, 1, 3]
    assert places(specification(metric="log_loss"), trials) == [1, 0, 2, 2]
    # The study's own trials stay as they are.
    assert trials[0].values == [0.5, 50]


def search(spec: Specification, trials: int) -> list[dict[str, Any]]:
    """Trials of a study with as many goals, most of which pause after the first epoch."""
    sampler = make_sampler(spec)
    study = optuna.create_study(directions=spec.directions, sampler=sampler)
    asked = []
    for number in range(trials):
        trial = study.ask()
        chosen = space.suggest(trial, spec)
        asked.append(trial.params)
        loss = abs(chosen.learning_rate - 0.01) * 10 + 1 / chosen.hidden_size
        study._storage.set_trial_intermediate_value(trial._trial_id, 1, loss)
        trial.set_user_attr("network_parameters", chosen.hidden_size)
        if number % 4:
            trial.set_user_attr(PAUSED, 1)
        else:
            study.tell(trial, [loss, chosen.hidden_size][: len(spec.directions)])
    return asked


SEARCHED: dict[str, Any] = {
    "model": {"hidden_size": {"low": 1, "high": 64, "log": True}, "pooling": "last"},
    "search": {"learning_rate": {"low": 1e-4, "high": 1.0, "log": True}}
    | dict.fromkeys(("l1", "l2", "dropout"), 0.0)
    | {"decay": "constant", "optimizer": "adam", "batch_size": 16, "clip_norm": "off"}
    | {"initializer": "orthogonal"},
}


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "qmc"])
def test_samplers_propose_for_two_goals_and_the_same_again(sampler: str) -> None:
    content = {**SEARCHED, "metric": TWO, "sampler": {"name": sampler, "n_startup_trials": 5}}
    spec = specification(**content)
    found = search(spec, 8)
    assert found == search(spec, 8)
    assert all(FloatDistribution(1e-4, 1.0)._contains(p["learning_rate"]) for p in found)
    assert all(IntDistribution(1, 64)._contains(p["hidden_size"]) for p in found)


def test_tpe_searches_along_the_front() -> None:
    """At the front, the learning rate is right and the size is anything."""
    content = {**SEARCHED, "metric": TWO, "sampler": {"name": "tpe", "n_startup_trials": 10}}
    found = search(specification(**content), 80)[40:]
    near = [p for p in found if 0.001 < p["learning_rate"] < 0.1]
    assert len(near) > len(found) * 2 / 3  # at random a half
    sizes = sorted(p["hidden_size"] for p in near)
    assert sizes[len(sizes) // 5] <= 4
    assert sizes[-len(sizes) // 5] >= 16


def test_gp_begins_to_model_once_enough_trials_have_ended_or_paused() -> None:
    """A model of complete trials alone would begin four times as late."""

    def proposals(startup: int) -> list[dict[str, Any]]:
        sampler = {"name": "gp", "n_startup_trials": startup}
        return search(specification(**SEARCHED, metric="log_loss", sampler=sampler), 10)

    modelled, drawn = proposals(8), proposals(1000)
    assert modelled[:8] == drawn[:8]
    assert modelled[8] != drawn[8]
    assert modelled[9] != drawn[9]

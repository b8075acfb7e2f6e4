"""Configurations that a study's constraints don't allow are drawn again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna
import pytest

from gru_optuna import study_file
from gru_optuna.errors import StudyFileError
from gru_optuna.search import space
from gru_optuna.search.constraints import MOST, ConstrainedSampler
from gru_optuna.search.samplers import SeededSampler, make_sampler

if TYPE_CHECKING:
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification

SIZES = {"hidden_size": {"low": 8, "high": 512, "log": True}, "layers": [1, 2, 3]}


def spec(**sections: Any) -> Specification:
    base: dict[str, Any] = {"name": "x", "data": {"train": "x.ts"}, "model": SIZES}
    return study_file.parse(base | sections, source="x.toml")


def is_small(hyperparameters: Hyperparameters) -> bool:
    return hyperparameters.hidden_size * hyperparameters.layers <= 24


def constrained(spec: Specification) -> ConstrainedSampler:
    sampler = make_sampler(spec)
    assert isinstance(sampler, SeededSampler)
    return ConstrainedSampler(sampler, spec, is_small)


def asked(study: optuna.Study, spec: Specification, trials: int) -> list[Hyperparameters]:
    """Trials of a search in which larger networks are better."""
    found = []
    for _ in range(trials):
        trial = study.ask()
        found.append(space.suggest(trial, spec))
        study.tell(trial, -found[-1].hidden_size * found[-1].layers)
    return found


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "qmc", "cmaes"])
def test_every_proposal_is_allowed_although_few_are(name: str) -> None:
    study_of = spec(sampler={"name": name, "n_startup_trials": 4})
    study = optuna.create_study(sampler=constrained(study_of))
    trials = 8 if name == "gp" else 30
    assert all(map(is_small, asked(study, study_of, trials)))
    # Without the constraint, hardly any would be.
    free = optuna.create_study(sampler=make_sampler(study_of))
    assert sum(map(is_small, asked(free, study_of, trials))) < trials / 2


def test_the_first_proposal_that_is_allowed_is_what_the_sampler_proposes() -> None:
    of = spec()
    free = asked(optuna.create_study(sampler=make_sampler(of)), of, 10)
    mine = asked(optuna.create_study(sampler=constrained(of)), of, 10)
    kept = [(a, b) for a, b in zip(free, mine, strict=True) if is_small(a)]
    assert kept
    assert all(a == b for a, b in kept)


def test_proposals_are_the_same_in_every_run() -> None:
    of = spec()
    runs = [asked(optuna.create_study(sampler=constrained(of)), of, 15) for _ in range(2)]
    assert runs[0] == runs[1]


def test_values_that_a_trial_was_enqueued_with_are_kept() -> None:
    of = spec()
    study = optuna.create_study(sampler=constrained(of))
    study.enqueue_trial({"layers": 3})
    study.enqueue_trial({"learning_rate": 0.02, "hidden_size": 16})
    first, second = asked(study, of, 2)
    assert first.layers == 3
    assert is_small(first)
    assert (second.learning_rate, second.hidden_size, second.layers) == (0.02, 16, 1)


def test_a_trial_that_can_be_nothing_but_forbidden_is_proposed_after_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = spec()
    study = optuna.create_study(sampler=constrained(of))
    study.enqueue_trial({"hidden_size": 512})
    assert MOST >= 100
    monkeypatch.setattr("gru_optuna.search.constraints.MOST", 12)
    (forbidden,) = asked(study, of, 1)
    assert forbidden.hidden_size == 512


@pytest.mark.parametrize("text", ["network_parameters <= 20000", " network_parameters<=20_000 "])
def test_a_constraint_is_a_name_and_a_limit(text: str) -> None:
    assert spec(constraints=[text]).most_parameters == 20_000


def test_the_smallest_of_several_limits_holds() -> None:
    limits = ["network_parameters <= 300", "network_parameters <= 200"]
    assert spec(constraints=limits).most_parameters == 200
    assert spec().most_parameters is None


@pytest.mark.parametrize(
    "text",
    ["network_parameters >= 5", "network_parameters <= 0", "seconds <= 3", "network_parameters"],
)
def test_what_cannot_be_checked_in_advance_is_refused(text: str) -> None:
    with pytest.raises(StudyFileError, match="before a network is trained") as refused:
        spec(constraints=[text])
    assert text in str(refused.value)


def test_a_study_without_constraints_is_stored_as_version_0_1_0_reads_it() -> None:
    assert "constraints" not in spec().model_dump(mode="json")
    limited = spec(constraints=["network_parameters <= 20000"])
    assert study_file.parse(limited.model_dump(mode="json"), "x", stored=True) == limited

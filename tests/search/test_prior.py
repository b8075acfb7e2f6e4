"""Start-up trials near configurations that are usually good."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from gru_optuna import study_file
from gru_optuna.search import space
from gru_optuna.search.prior import FLOOR, SHARE, SPREAD, Prior
from gru_optuna.search.samplers import make_sampler

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from gru_optuna.study_file import Specification

RATE = FloatDistribution(1e-4, 1e-1, log=True)
USUAL = {"learning_rate": 3e-3, "hidden_size": 64, "pooling": "mean_max", "dropout": 0.1}


def spec(**sections: Any) -> Specification:
    base: dict[str, Any] = {"name": "x", "data": {"train": "x.ts"}, "pruner": {"name": "thaw"}}
    return study_file.parse(base | sections, source="x.toml")


def proposals(spec: Specification, trials: int) -> list[dict[str, Any]]:
    """What is proposed to trials that end at once; lower learning rates are better."""
    study = optuna.create_study(sampler=make_sampler(spec))
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, space.suggest(trial, spec).learning_rate)
    return [trial.params for trial in study.trials]


@st.composite
def numbers(draw: st.DrawFn) -> BaseDistribution:
    log = draw(st.booleans())
    if draw(st.booleans()):
        low = draw(st.integers(1, 50))
        high = low + draw(st.integers(0, 100))
        step = 1 if log else draw(st.integers(1, 5))
        return IntDistribution(low, high - (high - low) % step, log=log, step=step)
    lowest = draw(st.floats(1e-6, 10))
    highest = lowest * draw(st.floats(1, 1e4))
    return FloatDistribution(lowest, highest, log=log)


@given(numbers(), st.floats(0, 1e6), st.integers(0, 2**31 - 1))
def test_a_draw_is_always_a_value_of_the_search(
    distribution: BaseDistribution, usual: float, seed: int
) -> None:
    prior = Prior([{"x": usual}], seed)
    drawn = [prior.draw(number, "x", distribution) for number in range(20)]
    for value in (v for v in drawn if v is not None):
        assert distribution._contains(distribution.to_internal_repr(value))


def test_two_of_five_trials_are_near_what_is_usual() -> None:
    prior = Prior([{"rate": 3e-3}], 7)
    drawn = [prior.draw(number, "rate", RATE) for number in range(3000)]
    near = np.log10([value for value in drawn if value is not None])
    assert len(near) / 3000 == pytest.approx(SHARE * (1 - FLOOR), abs=0.03)
    # In the middle of three decades; few deviates are beyond the ends.
    assert near.mean() == pytest.approx(math.log10(3e-3), abs=0.05)
    assert near.std() == pytest.approx(3 * SPREAD, rel=0.1)


def test_a_usual_choice_is_drawn_more_often_than_the_others() -> None:
    prior = Prior([{"pooling": "max"}], 7)
    choices = CategoricalDistribution(("last", "mean", "max", "mean_max"))
    drawn = [prior.draw(number, "pooling", choices) for number in range(2000)]
    counts = {choice: drawn.count(choice) for choice in choices.choices}
    assert counts["max"] > 3 * max(counts["last"], counts["mean"], counts["mean_max"])
    assert min(counts.values()) > 0


def test_all_values_of_a_trial_are_near_the_same_configuration() -> None:
    unit = FloatDistribution(0.0, 1.0)
    prior = Prior([{"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 1.0}], 3)
    pairs = [(prior.draw(n, "a", unit), prior.draw(n, "b", unit)) for n in range(500)]
    drawn = np.array([pair for pair in pairs if pair[0] is not None])
    assert len(drawn) > 100
    assert np.corrcoef(drawn.T)[0, 1] > 0.8


def test_a_hyperparameter_that_no_table_names_is_left_to_the_sampler() -> None:
    prior = Prior([{"rate": 3e-3}], 7)
    assert all(prior.draw(number, "other", RATE) is None for number in range(50))
    assert all(Prior([], 7).draw(number, "rate", RATE) is None for number in range(50))


def test_start_up_trials_are_drawn_near_the_tables_of_the_study_file() -> None:
    usual, plain = spec(**{"try": [USUAL]}), spec()
    # The tables themselves are enqueued elsewhere; here, nothing is.
    with_prior, without = proposals(usual, 10), proposals(plain, 10)
    changed = [a != b for a, b in zip(with_prior, without, strict=True)]
    assert 1 <= sum(changed) <= 8
    # What isn't drawn from the prior is what would have been proposed without one.
    for mine, other in zip(with_prior, without, strict=True):
        if mine["learning_rate"] == other["learning_rate"]:
            assert mine == other


def test_after_the_start_the_sampler_proposes_alone() -> None:
    usual, plain = spec(**{"try": [USUAL]}), spec()
    study = optuna.create_study(sampler=make_sampler(usual))
    for _ in range(10):
        trial = study.ask()
        study.tell(trial, space.suggest(trial, usual).learning_rate)
    same = optuna.create_study(sampler=make_sampler(plain))
    same.add_trials(study.trials)
    for _ in range(5):
        trial, other = study.ask(), same.ask()
        assert space.suggest(trial, usual) == space.suggest(other, plain)
        study.tell(trial, 1.0)
        same.tell(other, 1.0)


@pytest.mark.parametrize("pruner", ["asha", "median", "none"])
def test_a_study_that_does_not_pause_proposes_as_without_tables(pruner: str) -> None:
    kind = {"name": pruner}
    tables = [USUAL]
    assert proposals(spec(pruner=kind, **{"try": tables}), 14) == proposals(spec(pruner=kind), 14)


def test_a_random_search_stays_random() -> None:
    sampler = {"name": "random"}
    tables = [USUAL]
    assert proposals(spec(sampler=sampler, **{"try": tables}), 6) == proposals(
        spec(sampler=sampler), 6
    )

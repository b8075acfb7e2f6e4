"""Which configuration wins on fresh seeds, and what a study records of the decision."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean
from typing import Any

import optuna
import pytest
from helpers.report_studies import specification, study_of, trial
from optuna.trial import TrialState

from gru_optuna import study_file
from gru_optuna.attributes import CONFIRMATION, CONFIRMATION_RUNS
from gru_optuna.data.intervals import student_interval
from gru_optuna.storage.workers.run_leases import run_name
from gru_optuna.study import confirmation
from gru_optuna.study.confirmation import Candidate, Decision, Run, TestValue, decide

DONE, CUT, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL

# --- who wins ---


def candidate(
    number: int, values: list[float | None], size: int = 100, epochs: int = 5
) -> Candidate:
    trial = optuna.trial.create_trial(value=0.5, user_attrs={"network_parameters": size})
    trial.number = number
    runs = [confirmation.Run(value, 3, epochs) for value in values]
    spec = study_file.parse({"name": "x", "data": {"train": "x.ts"}}, "x")
    return Candidate.of(trial, runs, spec)


def winner_of(*candidates: Candidate, metric: str = "accuracy") -> tuple[int, list[int]]:
    spec = study_file.parse({"name": "x", "data": {"train": "x.ts"}, "metric": metric}, "x")
    decided = decide(candidates, spec)
    assert decided is not None
    return decided[0].number, decided[1]


def test_the_best_mean_wins_unless_a_cheaper_one_is_as_good() -> None:
    best = candidate(1, [0.90, 0.92, 0.94], size=500)
    close = candidate(2, [0.89, 0.92, 0.93], size=100)
    far = candidate(3, [0.70, 0.71, 0.72], size=10)
    assert winner_of(best, far) == (1, [1])
    assert winner_of(far, close, best) == (2, [2, 1])
    assert winner_of(best, close, metric="log_loss")[0] == 2
    slow, fast = candidate(4, [0.9, 0.9], epochs=9), candidate(5, [0.9, 0.9], epochs=4)
    assert winner_of(slow, fast) == (5, [4, 5])


def test_a_tie_is_a_difference_within_its_standard_error() -> None:
    """Both means have the standard error 0.1 / sqrt(3), their difference 0.0816."""
    best = candidate(1, [0.8, 0.9, 1.0], size=500)
    for difference, tied in ((0.08, [1, 2]), (0.083, [1])):
        other = candidate(2, [value - difference for value in (0.8, 0.9, 1.0)], size=100)
        assert winner_of(best, other)[1] == tied


def test_who_failed_on_a_seed_comes_last() -> None:
    shaky, sound = candidate(1, [0.99, None, 0.99]), candidate(2, [0.6, 0.61, 0.62])
    assert winner_of(shaky, sound) == (2, [2])
    assert winner_of(shaky) == (1, [1])
    assert shaky.typical == 0
    spec = study_file.parse({"name": "x", "data": {"train": "x.ts"}}, "x")
    assert decide([candidate(1, [None])], spec) is None


def test_the_typical_run_has_the_median_value() -> None:
    assert candidate(1, [0.5, 0.9, 0.7, 0.6, 0.8]).typical == 2
    assert candidate(1, [0.5, 0.7, 0.6, 0.8]).typical == 2  # the lower one of the middle two


def test_a_tie_between_equally_large_and_long_candidates_goes_to_the_better_mean() -> None:
    worse, better = candidate(1, [0.8, 0.9, 1.0]), candidate(2, [0.81, 0.9, 1.0])
    assert winner_of(worse, better) == (2, [1, 2])
    assert winner_of(worse, better, metric="log_loss") == (1, [1, 2])


def test_a_candidate_without_a_value_cannot_win() -> None:
    none, failed = candidate(1, []), candidate(2, [None, None])
    assert winner_of(none, failed, candidate(3, [0.1])) == (3, [3])
    assert none.mean is failed.mean is None
    assert none.error == failed.error == 0.0
    spec = study_file.parse({"name": "x", "data": {"train": "x.ts"}}, "x")
    assert decide([none, failed], spec) is None


def test_a_candidate_is_its_trial_and_the_runs_on_fresh_seeds() -> None:
    runs = [Run(0.7, 4, 9), Run(None, 1, 2), Run(0.9, 6, 7)]
    best = trial(DONE, [0.5, 0.8, 0.6], 0.1, network_parameters=42)
    best.number = 5
    found = Candidate.of(best, runs, specification())
    assert found == Candidate(
        number=5,
        search_value=0.8,
        values=[0.7, None, 0.9],
        best_epochs=[4, 1, 6],
        epochs=[9, 2, 7],
        mean=fmean([0.7, 0.9]),
        interval=student_interval([0.7, 0.9], "accuracy"),
        parameters=42,
    )
    assert found.error == pytest.approx(0.1)
    assert found.usual_epochs == 4  # the failed run counts in nothing
    assert found.typical == 0
    assert candidate(1, [0.5]).error == 0.0
    assert candidate(1, [0.5]).interval is None


def test_the_run_of_a_trial_in_the_search_is_its_best_epoch() -> None:
    assert Run.of(trial(DONE, [0.5, 0.8, 0.6], 0.1), specification()) == Run(0.8, 2, 3)
    # Better than when its attributes were written: a trial that was paused, and trains again.
    again = trial(TrialState.RUNNING, [0.5, 0.8, 0.9], 0.1, best_epoch=2)
    assert Run.of(again, specification()) == Run(0.9, 3, 3)


# --- which trials are trained again ---


def of(state: TrialState, value: float, loss: float = 1.0, rate: float = 0.1) -> Any:
    """A trial of one epoch."""
    return trial(state, [value], rate, best_validation_loss=loss)


def test_of_two_goals_the_first_ranks_cover_the_front_and_failed_trials_come_last() -> None:
    def sized(state: TrialState, value: float, size: int) -> Any:
        return trial(state, [value], 0.1, network_parameters=size)

    trials = [
        sized(FAILED, 0.99, 1),
        sized(DONE, 0.7, 900),  # behind the front
        sized(DONE, 0.9, 500),
        sized(CUT, 0.8, 20),
        sized(FAILED, 0.6, 2),
    ]
    assert numbers(trials, metric=["accuracy", "network_parameters"]) == [2, 3, 1, 0, 4]


def numbers(trials: list[optuna.trial.FrozenTrial], **changes: Any) -> list[int]:
    return [each.number for each in confirmation.ranked(study_of(trials), specification(**changes))]


def test_trials_are_ranked_by_value_then_by_validation_loss_then_by_age() -> None:
    trials = [
        of(DONE, 0.5),
        of(DONE, 0.9, loss=0.7),
        of(CUT, 0.9, loss=0.3),
        of(DONE, 0.9, loss=0.7),
    ]
    assert numbers(trials) == [2, 1, 3, 0]
    assert numbers(trials, metric="log_loss") == [0, 2, 1, 3]


def test_losses_of_different_views_are_not_compared() -> None:
    trials = [of(DONE, 0.5, loss=0.9), of(DONE, 0.5, loss=0.1)]
    series = {
        "task": "forecasting",
        "data": {"train": "x.csv", "time": "t", "target": "y", "season": 7, "horizon": 2},
    }
    assert numbers(trials, **series) == [1, 0]
    series["data"] |= {"residual": ["season", "last"]}
    assert numbers(trials, **series) == [0, 1]


def test_failed_trials_come_last_and_those_without_an_epoch_not_at_all() -> None:
    trials = [
        of(FAILED, 0.9),
        of(DONE, 0.1),
        trial(FAILED, [], 0.1),
        trial(CUT, [math.nan], 0.1, best_epoch=1),
        trial(DONE, [0.8], 0.1, best_epoch=0),  # by another program
    ]
    assert numbers(trials) == [1, 0]
    study = study_of(trials)
    assert [t.number for t in confirmation.ranked(study, specification(), (FAILED,))] == [0]


def finalists(trials: list[optuna.trial.FrozenTrial], **changes: Any) -> list[int]:
    spec = specification(**changes)
    found = confirmation.finalists(study_of(trials), spec)
    assert [h.learning_rate for _, h in found] == [t.params["learning_rate"] for t, _ in found]
    return [each.number for each, _ in found]


def test_each_configuration_is_trained_again_once() -> None:
    trials = [
        of(DONE, 0.7, rate=0.01), of(DONE, 0.9, rate=0.02), of(DONE, 0.8, rate=0.02),
        of(CUT, 0.6, rate=0.03), of(DONE, 0.5, rate=0.04),
    ]  # fmt: skip
    assert finalists(trials, confirmation={"candidates": 3}) == [1, 0, 3]
    assert finalists(trials, confirmation={"candidates": 9}) == [1, 0, 3, 4]
    complete = confirmation.finalists(
        study_of(trials), specification(confirmation={"candidates": 3}), complete_only=True
    )
    assert [each.number for each, _ in complete] == [1, 0, 4]


def test_failed_trials_are_trained_again_only_where_there_are_no_others() -> None:
    failed = [of(FAILED, 0.9, rate=0.01), of(FAILED, 0.8, rate=0.02)]
    assert finalists(failed) == [0, 1]
    assert finalists([*failed, of(CUT, 0.1, rate=0.03)]) == [2]


# --- what is recorded ---


def decided(study: optuna.Study, spec: study_file.Specification, **changes: Any) -> Decision:
    """The decision about the finalists, each with the values that are asked for."""
    runs = [Run(0.5, 1, 2)] * spec.confirmation.seeds
    found = [Candidate.of(each, runs, spec) for each, _ in confirmation.finalists(study, spec)]
    content = {
        "candidates": found, "winner": found[-1].number, "test": None, "seeds": len(runs),
        "asked_candidates": 3, "asked_seeds": len(runs), "tied": [found[-1].number],
        "test_uses": 0, "made_at": "2026-01-01",
    }  # fmt: skip
    return Decision(**content | changes)


def two_trials() -> optuna.Study:
    return study_of([of(DONE, 0.7, rate=0.01), of(CUT, 0.9, rate=0.02)])


@pytest.mark.parametrize(
    "test", [None, TestValue(0.5, None, None), TestValue(0.5, [0.1, 0.9], {"value": 0.6})]
)
def test_a_decision_is_read_as_it_was_written(test: TestValue | None) -> None:
    study, spec = two_trials(), specification()
    assert confirmation.read_decision(study) is None
    made = decided(study, spec, test=test)
    study.set_user_attr(CONFIRMATION, made.as_json())
    assert confirmation.read_decision(study) == made
    assert made.won is made.candidates[1]


def test_a_decision_of_version_0_1_0_compared_complete_trials_alone() -> None:
    study, spec = two_trials(), specification()
    content = decided(study, spec).as_json()
    assert not Decision.from_json(content).complete_only
    del content["complete_only"]
    assert Decision.from_json(content).complete_only


def test_a_decision_holds_until_other_trials_are_best_or_other_seeds_are_asked_for() -> None:
    study, spec = two_trials(), specification(confirmation={"candidates": 2, "seeds": 3})
    assert not confirmation.is_current(None, study, spec)
    made = decided(study, spec)
    assert confirmation.is_current(made, study, spec)
    more = specification(confirmation={"candidates": 2, "seeds": 4})
    assert not confirmation.is_current(made, study, more)
    study.add_trial(of(DONE, 0.8, rate=0.03))
    assert not confirmation.is_current(made, study, spec)


CLEAR = [0.90, 0.91, 0.92]
"""Three values whose 95% interval is 0.885 to 0.935."""


@pytest.mark.parametrize(
    ("others", "seeds"),
    [
        ([0.70, 0.71, 0.72], 3),  # 0.685 to 0.735
        ([0.86, 0.87, 0.88], 5),  # up to 0.895: the intervals overlap
        ([0.70, 0.70, 0.70], 5),  # no spread is no certainty
        ([0.60, None, 0.90], 5),
        ([0.70, 0.71], 5),  # the third seed is still to come
    ],
)
def test_a_candidate_is_left_behind_once_the_intervals_lie_apart(
    others: list[float | None], seeds: int
) -> None:
    spec = specification(confirmation={"seeds": 5})
    planned = confirmation.seeds_to_train({4: CLEAR, 7: others}, spec)
    assert planned == {4: 5, 7: seeds}  # the best one trains on


def test_lower_errors_leave_higher_ones_behind() -> None:
    spec = specification(metric="log_loss", confirmation={"seeds": 4})
    assert confirmation.seeds_to_train({0: [0.4, 0.41, 0.42], 1: [0.9, 0.91, 0.92]}, spec) == {
        0: 4, 1: 3,
    }  # fmt: skip


def test_seeds_beyond_those_that_left_a_candidate_behind_change_nothing() -> None:
    spec = specification(confirmation={"seeds": 5})
    later = {0: [*CLEAR, 0.5, 0.5], 1: [0.70, 0.71, 0.72, 0.99, 0.99]}
    assert confirmation.seeds_to_train(later, spec) == {0: 5, 1: 3}


def test_a_decision_with_fewer_seeds_for_whom_was_left_behind_holds() -> None:
    study, spec = two_trials(), specification(confirmation={"candidates": 2, "seeds": 5})
    (first, _), (second, _) = confirmation.finalists(study, spec)
    best = Candidate.of(first, [Run(v, 1, 2) for v in [*CLEAR, 0.9, 0.9]], spec)
    behind = Candidate.of(second, [Run(v, 1, 2) for v in (0.7, 0.71, 0.72)], spec)
    made = decided(study, spec, candidates=[best, behind], winner=best.number)
    assert confirmation.is_current(made, study, spec)
    cut_off = Candidate.of(second, [Run(v, 1, 2) for v in (0.89, 0.9, 0.91)], spec)
    assert not confirmation.is_current(replace(made, candidates=[best, cut_off]), study, spec)
    all_seeds = Candidate.of(second, [Run(0.7 + v / 100, 1, 2) for v in range(5)], spec)
    assert confirmation.is_current(replace(made, candidates=[best, all_seeds]), study, spec)


def test_a_decision_about_complete_trials_alone_is_compared_with_these() -> None:
    study, spec = two_trials(), specification(confirmation={"candidates": 2, "seeds": 1})
    (complete,) = (c for c in decided(study, spec).candidates if c.number == 0)
    old = decided(study, spec, candidates=[complete], winner=0, complete_only=True)
    assert confirmation.is_current(old, study, spec)
    assert not confirmation.is_current(decided(study, spec, candidates=[complete]), study, spec)


def test_runs_are_read_as_they_were_written() -> None:
    study = optuna.create_study()
    assert confirmation.read_runs(study) == {}
    runs = {(12, 0): Run(0.5, 3, 8), (12, 10): Run(None, 0, 1), (3, 2): Run(0.25, 4, 4)}
    written = {run_name(key): run.as_json() for key, run in runs.items()}
    study.set_user_attr(CONFIRMATION_RUNS, written)
    assert confirmation.read_runs(study) == runs
    assert study.user_attrs[CONFIRMATION_RUNS]["12/10"] == [None, 0, 1]

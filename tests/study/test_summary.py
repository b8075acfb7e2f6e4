"""A study without a result says why."""

from __future__ import annotations

import optuna
import pytest
from helpers.report_studies import candidate, confirmation, specification, study_of, trial
from optuna.trial import TrialState, create_trial

from gru_optuna.attributes import CONFIRMATION
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.summary import summarize, summarize_stored

FAIL, PRUNED, RUNNING = TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING
DIVERGED = "diverged in epoch 1: the training loss is not finite"


@pytest.mark.parametrize(
    ("outcomes", "budget", "reason"),
    [
        ([], {"trials": 8}, "No trial has started yet."),
        ([(RUNNING, "")], {"trials": 8}, "1 trial is in training, and none has ended yet."),
        ([(PRUNED, "pruned after epoch 1")], {"trials": 8}, "No trial has trained an epoch yet."),
        (
            [(PRUNED, "the study's hours are spent")],
            {"hours": 0.025},
            "The budget of 0.025 hours is spent, and no trial has trained an epoch. Give more with "
            "--hours, or make networks and data smaller.",
        ),
        (
            [(FAIL, DIVERGED)] * 2,
            {"trials": 2},
            f"2 of 2 trials failed: {DIVERGED}. All trials of the budget have ended. Give more "
            f"with --trials.",
        ),
        (
            [(FAIL, DIVERGED), (FAIL, "out of memory"), (FAIL, DIVERGED), (RUNNING, "")],
            {"trials": 8},
            f"3 of 4 trials failed, most often (2 times): {DIVERGED}. 1 trial is in training, and "
            f"none has ended yet.",
        ),
    ],
)
def test_a_study_without_a_result_says_why(
    outcomes: list[tuple[TrialState, str]], budget: dict[str, float], reason: str
) -> None:
    trials = [trial(state, [], 0.01, outcome=outcome) for state, outcome in outcomes]
    assert summarize(study_of(trials), specification(budget=budget)).no_result == reason


def test_a_study_with_a_result_has_nothing_to_explain() -> None:
    study = study_of([trial(TrialState.COMPLETE, [0.5], 0.01), trial(FAIL, [], 0.01)])
    summary = summarize(study, specification())
    assert summary.best is not None
    assert summary.no_result is None


COMPLETE = TrialState.COMPLETE
EQUAL = [trial(COMPLETE, [0.5, 0.9, 0.7], rate) for rate in (0.01, 0.02, 0.03)]
WORSE = [trial(COMPLETE, [0.1], 0.01), trial(PRUNED, [0.3], 0.01), trial(FAIL, [], 0.01)]
STRANGER = create_trial(state=COMPLETE, value=1.0, params={}, distributions={})


@pytest.mark.parametrize(
    "trials",
    [
        [*WORSE, *EQUAL],
        [*EQUAL, STRANGER],  # better, but of another program, which recorded no epoch
        [STRANGER],
        [trial(COMPLETE, [float("-inf")], 0.01), *WORSE[1:]],
        [trial(RUNNING, [0.5], 0.01), create_trial(state=TrialState.WAITING)],
        [*EQUAL, trial(PRUNED, [0.3, 0.95, 0.5], 0.01), trial(FAIL, [0.99], 0.01)],
        [trial(PRUNED, [0.3, 0.5], 0.01), trial(PRUNED, [0.5, 0.3], 0.01)],
        [trial(FAIL, [0.3, 0.5], 0.01), trial(FAIL, [], 0.01)],
        [],
    ],
)
def test_a_study_is_summarized_alike_without_reading_its_trials(
    database_url: str, trials: list[optuna.trial.FrozenTrial]
) -> None:
    study = optuna.create_study(
        storage=open_storage(database_url, create=True), direction="maximize", study_name="made-up"
    )
    study.add_trials(trials)
    spec = specification()
    assert summarize_stored(study, spec) == summarize(study, spec)
    if len(trials) > 3:
        # The winner that was confirmed isn't the best of the search.
        best, worst = (candidate(number, 0.5, [0.5, 0.6], None) for number in (3, 0))
        study.set_user_attr(CONFIRMATION, confirmation([best, worst], 0, None).as_json())
        assert summarize_stored(study, spec) == summarize(study, spec)


def test_the_best_epoch_of_a_trial_counts_however_the_trial_ended() -> None:
    study = study_of(
        [
            trial(COMPLETE, [0.5, 0.6], 0.01),
            trial(PRUNED, [0.6, 0.8, 0.7], 0.02),
            trial(FAIL, [0.9, 0.1], 0.03),
        ]
    )
    best = summarize(study, specification()).best
    assert best is not None
    assert (best.number, best.value, best.best_epoch) == (1, 0.8, 2)
    assert best.unconfirmed == "The search hasn't ended yet."


def test_a_failed_trial_wins_only_where_no_other_was_trained() -> None:
    study = study_of([trial(FAIL, [0.4, 0.9, 0.1], 0.03), trial(PRUNED, [], 0.01)])
    best = summarize(study, specification()).best
    assert best is not None
    assert (best.number, best.value, best.best_epoch) == (0, 0.9, 2)


def test_what_complete_trials_alone_decided_stays_decided() -> None:
    study = study_of([trial(COMPLETE, [0.5, 0.6], 0.01), trial(PRUNED, [0.9], 0.02)])
    decision = confirmation([candidate(0, 0.6, [0.5, 0.6], None)], 0, None)
    # As version 0.1.0 stored it.
    before = {key: v for key, v in decision.as_json().items() if key != "complete_only"}
    study.set_user_attr(CONFIRMATION, before)
    best = summarize(study, specification()).best
    assert best is not None
    assert (best.number, best.unconfirmed) == (0, None)
    # A decision of this version knew the pruned trial, or it was found since.
    study.set_user_attr(CONFIRMATION, decision.as_json())
    best = summarize(study, specification()).best
    assert best is not None
    assert best.number == 1
    assert best.unconfirmed == "It was found after the last confirmation, which didn't compare it."

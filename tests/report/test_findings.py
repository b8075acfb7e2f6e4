"""What the report says in sentences, and what it keeps to itself."""

from __future__ import annotations

import random
from math import comb
from typing import TYPE_CHECKING, Any

import pytest
from helpers.report_studies import SPACE, candidate, confirmation, specification, study_of, trial
from optuna.trial import TrialState

from gru_optuna.attributes import CONFIRMATION, PREDICTIONS
from gru_optuna.report.contents import measure_study
from gru_optuna.report.figures.base import Context
from gru_optuna.report.findings import find_findings
from gru_optuna.report.significance import round_between, where_it_happens, where_the_best_lie
from gru_optuna.study.summary import summarize

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from gru_optuna.report.findings import StudyFinding

DONE, CUT, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
LOST = "diverged in epoch 1: the training loss is not finite"


def said(trials: list[FrozenTrial], attributes: dict[str, Any] | None = None) -> list[str]:
    """The sentences on a study of these trials."""
    return [finding.text for finding in found_in(trials, attributes)]


def found_in(
    trials: list[FrozenTrial], attributes: dict[str, Any] | None = None
) -> list[StudyFinding]:
    """The findings on a study of these trials."""
    study, spec = study_of(trials), specification(search=SPACE | {"clip_norm": 1.0})
    for key, value in (attributes or {}).items():
        study.set_user_attr(key, value)
    summary = summarize(study, spec)
    best = summary.best.number if summary.best else None
    return find_findings(Context(study, spec, best), measure_study(study, spec, summary))


def starting(sentences: list[str], start: str) -> str:
    (one,) = [sentence for sentence in sentences if sentence.startswith(start)]
    return one


# --- the tests behind them ---


def test_a_side_on_which_something_happens_is_found_with_its_counts() -> None:
    rates = [n / 100 for n in range(1, 21)]
    split = where_it_happens([{"rate": rate} for rate in rates], [rate > 0.15 for rate in rates])
    assert split is not None
    assert (split.name, split.side, split.at) == ("rate", "above", 0.15)
    assert (split.hits, split.trials, split.other_hits, split.other_trials) == (5, 5, 0, 15)
    # One deal of 15504 puts all five there; 19 places were tried, on two sides each.
    assert split.p == pytest.approx(38 / comb(20, 5))


def test_what_chance_could_have_dealt_is_not_found() -> None:
    drawn = random.Random(0)
    found = 0
    for _ in range(200):
        params = [{"a": drawn.random(), "b": drawn.random()} for _ in range(40)]
        found += where_it_happens(params, [drawn.random() < 0.3 for _ in params]) is not None
    assert found <= 4  # one in a hundred is the promise


def test_choices_are_compared_and_parameters_that_some_lack_are_not() -> None:
    params = [{"decay": "step" if n < 10 else "time", "rare": 1.0} for n in range(30)]
    del params[0]["rare"]
    split = where_it_happens(params, [n < 9 for n in range(30)])
    assert split is not None
    assert (split.name, split.side, split.at) == ("decay", "=", "step")
    assert (split.hits, split.trials, split.other_hits) == (9, 10, 0)


def test_a_range_is_narrow_only_against_all_that_was_tried() -> None:
    values = [0.50 + 0.001 * n for n in range(5)] + [n / 100 for n in range(45)]
    (narrow,) = where_the_best_lie([{"x": value} for value in values], best=5)
    assert (narrow.low, narrow.high) == (0.5, 0.504)
    assert (narrow.inside, narrow.trials) == (5, 50)
    # Five drawn of fifty in a row are neighbours in 46 of the ways to draw them.
    assert narrow.p == pytest.approx(46 / comb(50, 5))
    # Where everything was tried in the same place, the best say nothing.
    assert not where_the_best_lie([{"x": 0.5 + 1e-4 * (n * 7 % 50)} for n in range(50)], best=5)


@pytest.mark.parametrize(
    ("low", "high", "between"),
    [(0.0273, 0.0341, 0.03), (1e-4, 2e-4, 1e-4), (16, 32, 30), (0.1, 0.10001, 0.1), (0, 1, 0)],
)
def test_a_cut_has_few_digits(low: float, high: float, between: float) -> None:
    assert round_between(low, high) == pytest.approx(between)
    assert low <= round_between(low, high) < high


# --- the sentences ---


def test_divergence_names_the_learning_rate_that_causes_it() -> None:
    good = [trial(DONE, [0.5, 0.6], 10 ** (-4 + n / 20), dropout=n % 5 / 10) for n in range(50)]
    bad = [trial(FAILED, [], 0.035 + n / 200, outcome=LOST, dropout=n % 5 / 10) for n in range(9)]
    fine = [trial(DONE, [0.6, 0.5], 0.05, dropout=0.1), trial(DONE, [0.6, 0.5], 0.06, dropout=0.3)]
    text = starting(said(good + bad + fine), "With learning_rate above")
    assert text == ("With learning_rate above 0.03, 9 of 11 trials diverged; elsewhere 0 of 50.")


def test_divergence_without_a_pattern_is_only_counted() -> None:
    drawn = random.Random(1)
    good = [trial(DONE, [0.5], 10 ** drawn.uniform(-4, -1)) for _ in range(20)]
    bad = [trial(FAILED, [], 10 ** drawn.uniform(-4, -1), outcome=LOST) for _ in range(4)]
    text = starting(said(good + bad), "4 of 24 trials diverged")
    assert "no single hyperparameter" in text
    assert not [one for one in said(good + bad[:2]) if "diverged" in one]


def test_nothing_is_said_of_trials_that_differ_by_luck() -> None:
    drawn = random.Random(2)
    trials = [
        trial(DONE, [0.5, 0.5 + drawn.random() / 10], 10 ** drawn.uniform(-4, -1), dropout=0.2)
        for _ in range(8)
    ]
    assert said(trials) == []


def test_trials_at_chance_are_reported_with_its_value() -> None:
    learned = [trial(DONE, [0.3, 0.5, 0.6], 1e-2) for _ in range(12)]
    stuck = [trial(CUT, [0.2, 0.2, 0.25], 1e-4 + n * 1e-6) for n in range(8)]
    text = starting(said(learned + stuck, {"baselines": {"majority class": 0.25}}), "8 of 20")
    assert text == (
        "8 of 20 trials never beat the majority class (0.2500); with learning_rate up to 0.009, "
        "8 of 8 didn't."
    )


def test_the_best_trials_common_choice_and_edge_are_told() -> None:
    drawn = random.Random(3)
    others = [
        trial(DONE, [0.4 + n / 1000], 10 ** drawn.uniform(-4, -1), dropout=drawn.random() / 2)
        for n in range(40)
    ]
    best = [
        trial(DONE, [0.8 + n / 100], 0.09 + n / 1000, step=(0.5, 4), dropout=n / 10)
        for n in range(5)
    ]
    sentences = said(others + best)
    assert starting(sentences, "5 of the best 5 trials use decay = step")
    edge = starting(sentences, "5 of the best 5 trials have learning_rate")
    assert "at the upper end of its range (0.1)" in edge
    assert starting(sentences, "All of the best 5 trials have learning_rate between 0.09 and 0.094")


def test_overfitting_needs_losses_that_are_far_apart() -> None:
    def losses(ratio: float) -> dict[str, list[float]]:
        return {"train_loss": [1.0, 0.1], "validation_loss": [1.0, 0.1 * ratio]}

    apart = [trial(DONE, [0.5, 0.6 + n / 100], 1e-3, **losses(4)) for n in range(5)]
    text = starting(said(apart), "The networks overfit")
    assert "4.0 times its training loss (median of 5)" in text
    near = [trial(DONE, [0.5, 0.6 + n / 100], 1e-3, **losses(1.3)) for n in range(5)]
    assert not [one for one in said(near) if "overfit" in one]


def test_a_few_windows_say_nothing_about_overfitting() -> None:
    losses = {"train_loss": [1.0, 0.1], "validation_loss": [1.0, 0.4]}
    trials = [trial(DONE, [0.5, 0.6 + n / 100], 1e-3, **losses) for n in range(5)]
    for rows, known in ((29, False), (30, True)):
        part = {"rows": rows, "value": 0.64, "interval": None}
        kept = said(trials, {PREDICTIONS: {"number": 4, "validation": part}})
        assert any("overfit" in one for one in kept) == known


def test_pruning_is_praised_only_if_it_saved_much() -> None:
    def about(cut: int) -> list[tuple[str, str]]:
        curves = [[0.5] * 10] * 6 + [[0.4] * cut] * 2
        states = [DONE] * 6 + [CUT] * 2
        found = found_in([trial(s, c, 1e-3) for s, c in zip(states, curves, strict=True)])
        return [(f.kind, f.text) for f in found if f.about == "pruning"]

    (note,) = about(3)  # 14 of 80 epochs
    assert note[0] == "note"
    assert note[1].startswith("Pruning saved about 18% of the epochs: 66 were run instead of")
    assert about(9) == []  # 2 of 80


def test_a_search_that_stands_still_and_one_that_goes_on() -> None:
    still = [trial(DONE, [0.9 if n == 3 else 0.5], 10 ** (-4 + n / 10)) for n in range(25)]
    assert starting(said(still), "The best value came with trial 3; none of the 21 trials after it")
    going = [trial(DONE, [0.5 + n / 100], 10 ** (-4 + n / 10)) for n in range(25)]
    text = starting(said(going), "The search still improved")
    assert "from 0.6700 to 0.7400" in text


def test_a_pruned_trial_that_was_better_than_all_complete_ones_is_told() -> None:
    trials = [trial(DONE, [0.5, 0.6], 1e-3), trial(CUT, [0.7, 0.65], 1e-2)]
    text = starting(said(trials), "1 pruned trial had been better")
    assert "reached 0.7000 before it was pruned, the best complete one 0.6000" in text


def test_ties_name_the_rows_that_could_not_tell_them_apart() -> None:
    trials = [trial(DONE, [0.5, 0.9], 1e-3), trial(DONE, [0.6, 0.9], 1e-2)]
    part = {"rows": 54, "value": 0.9, "interval": None}
    text = starting(said(trials, {PREDICTIONS: {"number": 0, "validation": part}}), "2 trials")
    assert text == (
        "2 trials share the best validation value, 0.9000: 54 validation rows can't separate "
        "them; the lowest validation loss decided."
    )


def test_clipping_that_never_rests_is_told() -> None:
    trials = [trial(DONE, [0.5 + n / 100], 1e-3, clipped=[1.0]) for n in range(6)]
    assert starting(said(trials), "In 6 of 6 trials more than 90% of the updates were clipped")


def test_luck_is_called_luck_where_fresh_seeds_fall_behind() -> None:
    trials = [trial(DONE, [0.9], 1e-3), trial(DONE, [0.8], 1e-2)]
    candidates = [candidate(0, 0.9, [0.7] * 5, None), candidate(1, 0.8, [0.75] * 5, None)]
    kept = confirmation(candidates, 1, None).as_json()
    text = starting(said(trials, {CONFIRMATION: kept}), "On 5 fresh seeds, trial 1")
    assert text == (
        "On 5 fresh seeds, trial 1 reaches 0.7500 on average, compared with 0.8000 in the search, "
        "which was partly luck. The best trial of the search, trial 0, reaches 0.7000."
    )


def test_failures_that_are_no_divergence_give_their_reason() -> None:
    trials = [
        trial(DONE, [0.5], 1e-3),
        trial(FAILED, [], 1e-3, outcome="epoch 1 ran out of memory"),
    ]
    assert said(trials) == ["1 trial failed: epoch 1 ran out of memory."]

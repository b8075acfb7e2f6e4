"""The report's numbers, worked out by hand on a small study."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import optuna
import pytest
from helpers.report_studies import (
    SPACE,
    candidate,
    confirmation,
    small_study,
    specification,
    study_of,
    trial,
)
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import TrialState, create_trial

from gru_optuna.attributes import CONFIRMATION, PREDICTIONS
from gru_optuna.report.axes import describe_range, duration_ticks, parameter_scale
from gru_optuna.report.figures.comparison import compare
from gru_optuna.report.figures.health import Clipping, Gap, measure_health
from gru_optuna.report.figures.history import list_history, list_improvements
from gru_optuna.report.figures.importance import measure_importance
from gru_optuna.report.figures.interactions import pair_parameters
from gru_optuna.report.figures.learning_curves import collect_curves
from gru_optuna.report.figures.parallel_coordinates import ABSENT, cut_slices, place_trials
from gru_optuna.report.figures.pruning import measure_pruning
from gru_optuna.report.figures.timeline import lay_out_trials
from gru_optuna.report.result import Estimate, Start, find_result
from gru_optuna.report.trial_table import list_rows
from gru_optuna.report.verdict import measured_on, write_verdict
from gru_optuna.study.confirmation import TestValue
from gru_optuna.study.ensemble import Ensemble, EnsembleNetwork
from gru_optuna.study.summary import summarize
from gru_optuna.study_file.searchable import Range

DONE, CUT, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


@pytest.fixture
def study() -> optuna.Study:
    return small_study()


def test_history_keeps_the_best_complete_value(study: optuna.Study) -> None:
    points = list_history(study)
    assert [point.state for point in points] == [
        "complete", "pruned", "complete", "complete", "failed", "pruned", "complete", "complete",
    ]  # fmt: skip
    assert [point.value for point in points] == [0.5, 0.1, 0.7, 0.9, None, 0.3, 0.8, 0.3]
    assert [point.best for point in points] == [0.5, 0.5, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9]


def test_history_of_a_loss_keeps_the_lowest() -> None:
    study = optuna.create_study(direction="minimize")
    for value in (2.0, 3.0, 1.0, math.inf):
        study.add_trial(create_trial(value=value))
    points = list_history(study)
    assert [point.best for point in points] == [2.0, 2.0, 1.0, 1.0]
    assert points[-1].value is None


def test_curves_hold_every_reported_epoch(study: optuna.Study) -> None:
    lines = collect_curves(study, best=3)
    assert [curve.number for curve in lines] == [0, 1, 2, 3, 5, 6, 7]
    assert lines[4].epochs == [1, 2]
    assert lines[4].values == [0.2, 0.3]
    assert lines[4].state == "pruned"
    assert [curve.number for curve in lines if curve.best] == [3]


def test_trials_are_compared_after_a_common_epoch_where_few_are_complete() -> None:
    rates = [10**-exponent for exponent in (1.5, 2, 2.5, 3, 3.5)]
    pruned = [trial(TrialState.PRUNED, [rate, 0.5, 0.6], rate) for rate in rates]
    whole = trial(TrialState.COMPLETE, [0.9, 0.8, 0.7, 0.9], 0.05)
    failed = trial(TrialState.FAIL, [0.1], 0.06)
    study = study_of([*pruned, whole, failed])
    lines = place_trials(study, specification())
    assert (lines.epoch, lines.numbers) == (3, [0, 1, 2, 3, 4, 5])
    assert lines.columns[-1].values == [0.6] * 5 + [0.7]
    assert {len(cut.metric) for cut in cut_slices(study, specification())} == {6}
    found = measure_importance(study)
    assert (found.epoch, found.trials, found.missing) == (3, 6, None)
    assert max(found.shares, key=found.shares.__getitem__) == "learning_rate"
    assert [t.state for t in study.trials].count(TrialState.PRUNED) == 5  # as it was


def test_parallel_coordinates_place_every_value(study: optuna.Study) -> None:
    lines = place_trials(study, specification())
    assert lines.numbers == [0, 2, 3, 6, 7]
    by_name = {column.scale.name: column for column in lines.columns}
    assert list(by_name) == [
        "learning_rate", "decay", "decay_drop", "decay_every", "dropout", "accuracy",
    ]  # fmt: skip

    rate = by_name["learning_rate"]
    assert rate.scale.kind == "log"
    assert (rate.scale.low, rate.scale.high) == (-4, -1)
    assert rate.scale.ticks == pytest.approx([-4, -3, -2, -1])
    assert rate.scale.labels == ["1e-4", "0.001", "0.01", "0.1"]
    assert rate.positions[:3] == pytest.approx([-4, -2, -1])

    assert by_name["decay"].scale.labels == ["constant", "step"]
    assert by_name["decay"].positions == [0, 1, 0, 1, 0]

    # Absent ones stand 15% of the axis (0.1 to 0.9) below it.
    drop = by_name["decay_drop"]
    assert drop.values == [None, 0.5, None, 0.9, None]
    assert drop.positions == pytest.approx([-0.02, 0.5, -0.02, 0.9, -0.02])
    assert drop.scale.labels[0] == ABSENT
    assert drop.scale.low == drop.scale.ticks[0] == pytest.approx(-0.02)

    assert by_name["accuracy"].values == [0.5, 0.7, 0.9, 0.8, 0.3]


def test_slices_leave_out_trials_without_the_parameter(study: optuna.Study) -> None:
    by_name = {panel.scale.name: panel for panel in cut_slices(study, specification())}
    assert by_name["decay_every"].numbers == [2, 6]
    assert by_name["decay_every"].values == [4, 10]
    assert by_name["decay_every"].metric == [0.7, 0.8]
    assert by_name["dropout"].values == [0.1, 0.2, 0.5, 0.3, 0.4]


def test_rows_stand_best_first(study: optuna.Study) -> None:
    table = list_rows(study, specification(), best=3)
    assert [row.number for row in table] == [3, 6, 2, 0, 7, 5, 1, 4]
    assert [row.best for row in table] == [True] + [False] * 7
    assert table[-1].outcome == "diverged in epoch 1: loss is not finite"
    assert table[-1].value is None
    assert table[0].params == {"learning_rate": 0.1, "decay": "constant", "dropout": 0.5}


def test_importance_is_optunas_own(study: optuna.Study) -> None:
    ours = measure_importance(study)
    assert ours.shares == optuna.importance.get_param_importances(study)
    assert set(ours.shares) == {"learning_rate", "decay", "decay_drop", "decay_every", "dropout"}
    assert sum(ours.shares.values()) == pytest.approx(1)
    assert ours.trials == 5


def test_importance_says_why_it_is_missing() -> None:
    few = measure_importance(study_of([trial(TrialState.COMPLETE, [0.5], 1e-3)] * 3))
    assert not few.shares
    assert (
        few.missing
        == "Importance needs at least 4 trials that can be compared, and this study has 3."
    )
    equal = measure_importance(study_of([trial(TrialState.COMPLETE, [0.5], 1e-3)] * 6))
    assert not equal.shares
    assert equal.missing is not None
    assert "same value" in equal.missing


@pytest.mark.parametrize(
    ("distribution", "labels"),
    [
        (FloatDistribution(1e-8, 1e-2, log=True), ["1e-8", "1e-6", "1e-4", "0.01"]),
        (FloatDistribution(0.1, 1.0, log=True), ["0.1", "0.2", "0.5", "1"]),
        (FloatDistribution(0.0, 0.6), ["0", "0.2", "0.4", "0.6"]),
        (FloatDistribution(0.3, 0.3), ["0.3"]),
        (FloatDistribution(1e-3, 1e-3, log=True), ["0.001"]),
        (IntDistribution(1, 3), ["1", "2", "3"]),
        (CategoricalDistribution([False, True]), ["false", "true"]),
        (CategoricalDistribution(["off", 0.5, 1.0]), ["off", "0.5", "1"]),
    ],
)
def test_ticks_can_be_read(
    distribution: optuna.distributions.BaseDistribution, labels: list[str]
) -> None:
    scale = parameter_scale("x", distribution)
    assert scale.labels == labels
    assert scale.low < scale.high or len(labels) == 1
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)


def test_fanova_is_optunas_own_and_knows_what_every_trial_has(study: optuna.Study) -> None:
    fanova = measure_importance(study).fanova
    evaluator = FanovaImportanceEvaluator(seed=0)
    assert fanova == optuna.importance.get_param_importances(study, evaluator=evaluator)
    assert set(fanova) == {"learning_rate", "decay", "dropout"}
    assert sum(fanova.values()) == pytest.approx(1)


def test_fanova_that_finds_nothing_leaves_the_other_measure() -> None:
    same = study_of([trial(DONE, [0.5 + n / 100], 1e-3) for n in range(6)])
    assert measure_importance(same).fanova == {}
    assert set(measure_importance(same).shares) == {"learning_rate", "decay", "dropout"}


def test_the_list_improvements_follows_the_endings() -> None:
    study = study_of(
        [
            trial(DONE, [0.5], 1e-3, at=(0, 9)),
            trial(DONE, [0.7], 1e-3, at=(0, 4)),
            trial(DONE, [0.6], 1e-3, at=(4, 6)),
            trial(DONE, [0.8], 1e-3, at=(6, 8)),
        ]
    )
    steps = [(step.seconds, step.number, step.best) for step in list_improvements(study)]
    # Trial 0 ends last and is no better; it only says how long the search went on.
    assert steps == [(4, 1, 0.7), (8, 3, 0.8), (9, 3, 0.8)]


def test_a_night_between_two_runs_takes_no_room() -> None:
    night = 10 * 3600
    study = study_of(
        [
            trial(DONE, [0.5], 1e-3, at=(0, 30), worker="a 1"),
            trial(CUT, [0.4], 1e-3, at=(10, 20), worker="a 1"),
            trial(CUT, [0.4], 1e-3, at=(20, 40), worker="a 1"),
            trial(DONE, [0.6], 1e-3, at=(40 + night, 60 + night), worker="b 2"),
        ]
    )
    line = lay_out_trials(study)
    assert line.seconds == 60
    assert [(pause.at, pause.seconds) for pause in line.pauses] == [(40, night)]
    assert line.workers == {"a 1": 2, "b 2": 1}
    assert [(bar.number, bar.lane, bar.start, bar.end) for bar in line.bars] == [
        (0, 0, 0, 30), (1, 1, 10, 20), (2, 1, 20, 40), (3, 2, 40, 60),
    ]  # fmt: skip
    assert line.occupied == pytest.approx((30 + 10 + 20 + 20) / (3 * 60))
    assert [step.seconds for step in list_improvements(study)] == [30, 60]


def test_a_running_trial_reaches_to_the_last_moment_known() -> None:
    running = trial(TrialState.RUNNING, [0.4], 1e-3, at=(5, 0))
    line = lay_out_trials(study_of([trial(DONE, [0.5], 1e-3, at=(0, 30)), running]))
    assert [(bar.state, bar.end) for bar in line.bars] == [("complete", 30), ("running", 30)]
    assert lay_out_trials(study_of([])).bars == []


def test_a_trial_that_was_paused_is_in_its_slot_only_while_it_trained() -> None:
    ended = trial(
        TrialState.PRUNED, [0.4, 0.5], 1e-3, at=(5, 60), paused=0, seconds=10.0,
        outcome="paused after epoch 2",
    )  # fmt: skip
    continued = trial(DONE, [0.4, 0.5, 0.6], 1e-3, at=(6, 60), paused=0, seconds=20.0)
    study = study_of([trial(DONE, [0.5], 1e-3, at=(0, 50)), ended, continued])
    line = lay_out_trials(study)
    assert [(bar.number, bar.start, bar.end) for bar in line.bars] == [
        (0, 0, 50), (1, 5, 15), (2, 40, 60),
    ]  # fmt: skip
    assert line.workers == {"workers": 2}


def test_a_running_trial_that_was_paused_is_not_drawn_across_its_wait() -> None:
    running = trial(
        TrialState.RUNNING, [0.4, 0.5, 0.6], 1e-3, at=(0, 0), paused=0, seconds=10.0,
        train_loss=[1.0, 0.9],
    )  # fmt: skip
    study = study_of([trial(DONE, [0.5], 1e-3, at=(0, 60)), running])
    bars = {bar.number: (bar.start, bar.end) for bar in lay_out_trials(study).bars}
    assert bars == {0: (0, 60), 1: (45, 60)}  # two epochs in 10 seconds, then a third


def test_a_paused_trial_is_neither_running_nor_in_a_slot() -> None:
    paused = trial(TrialState.RUNNING, [0.4, 0.5], 1e-3, at=(5, 0), paused=2, seconds=10.0)
    study = study_of([trial(DONE, [0.5], 1e-3, at=(0, 30)), paused])
    line = lay_out_trials(study)
    assert [(bar.state, bar.end) for bar in line.bars] == [("complete", 30), ("paused", 15)]
    assert measure_health(study, specification()).endings == {"trained to the end": 1, "paused": 1}
    curves = collect_curves(study, best=None)
    assert {curve.state for curve in curves} == {"complete", "paused"}
    rows = list_rows(study, specification(), None)
    assert [(row.state, row.outcome) for row in rows] == [
        ("complete", "trained all epochs"), ("paused", "paused after epoch 2"),
    ]  # fmt: skip


def test_savings_take_pruned_trials_for_as_long_as_complete_ones(study: optuna.Study) -> None:
    # Five complete trials of 3 epochs, pruned ones of 1 and 2, and a failed one that counts not.
    saved = measure_pruning(study, specification())
    assert (saved.trials, saved.pruned, saved.run) == (7, 2, 18)
    assert saved.typical == 3
    assert saved.unpruned == 5 * 3 + 2 * 3
    assert saved.saved == pytest.approx(1 - 18 / 21)
    assert saved.reached == [7, 6, 5]
    assert saved.comparable
    alone = measure_pruning(study_of([trial(DONE, [0.5], 1e-3)]), specification())
    assert not alone.comparable
    assert (alone.run, alone.saved, alone.reached) == (1, 0.0, [1, 0, 0])


def test_health_counts_endings_and_looks_into_them() -> None:
    lost = "diverged in epoch 2: the gradient is not finite"
    losses = {"train_loss": [1.0, 0.2, 0.1], "validation_loss": [1.0, 0.4, 0.5]}
    study = study_of(
        [
            trial(DONE, [0.5, 0.9, 0.8], 1e-3, clipped=[1.0, 0.5, 0.0], **losses),
            trial(DONE, [0.5, 0.6], 1e-3, outcome="stopped early after epoch 2, none better"),
            trial(CUT, [0.1, 0.2, 0.2], 1e-3),
            trial(CUT, [0.1], 1e-3),
            trial(FAILED, [0.1], 1e-1, outcome=lost),
            trial(FAILED, [], 1e-1, outcome="fold 2 of 5: " + lost),
            trial(FAILED, [], 1e-1, outcome="epoch 1 ran out of memory"),
        ]
    )
    study.set_user_attr("baselines", {"majority class": 0.25, "logistic regression": 0.8})
    found = measure_health(study, specification(search=SPACE | {"clip_norm": 2.0}))
    assert found.endings == {
        "trained to the end": 1,
        "stopped early": 1,
        "pruned": 2,
        "diverged": 2,
        "failed otherwise": 1,
    }
    assert found.diverged == [4, 5]
    assert found.diverged_in == {2: 2}
    assert found.chance == ("majority class", 0.25)
    assert found.at_chance == [2]  # trial 3 had one epoch only
    assert found.gaps == [Gap(0, "complete", 0.2, 0.4)]
    assert found.clipping == [Clipping(0, 2.0, 0.5, 0.9)]


def test_the_answer_says_how_sure_it_is_and_where_the_search_began(study: optuna.Study) -> None:
    spec = specification()
    study.set_user_attr("baselines", {"majority class": 0.25, "by hand": 0.86})
    study.set_user_attr("test", {"number": 3, "value": 0.875})
    part = {"rows": 100, "value": 0.875, "interval": [0.8, 0.93]}
    study.set_user_attr(PREDICTIONS, {"number": 3, "test": part})
    found = find_result(study, spec, summarize(study, spec))
    assert found is not None
    assert (found.winner.number, found.trials) == (3, 7)
    assert found.test == Estimate(0.875, (0.8, 0.93), 100)
    assert found.validation == Estimate(0.9, None, None)
    assert found.to_beat == ("by hand", 0.86)
    assert found.measured.compare(0.25, spec) == "better"
    assert found.measured.compare(0.86, spec) == "equal"  # the interval holds it
    assert found.measured.compare(0.95, spec) == "worse"
    # Best epochs of the first ten trials that had one: .5 .1 .7 .9 .3 .8 .3
    assert found.start == Start(0.9, 7, None, 0)
    (value,) = write_verdict(found, spec)  # no trial after them, so nothing about the search
    assert value == (
        "On 100 test rows, which were not used to choose it, the winner reaches accuracy 0.875 "
        "(95% interval 0.800 to 0.930). That is better than majority class (0.2500) and "
        "not clearly different from by hand (0.8600)."
    )


def verdict_of(values: list[float], **changes: Any) -> list[str]:
    """What is written about a study of these trials, in their order."""
    spec = specification(sampler={"n_startup_trials": 2}, **changes)
    study = study_of([trial(DONE, [value], 1e-3) for value in values])
    result = find_result(study, spec, summarize(study, spec))
    assert result is not None
    return write_verdict(result, spec)


def test_what_the_search_gained_compares_the_best_trials_of_its_parts() -> None:
    assert verdict_of([0.7, 0.6, 0.9, 0.5])[-1] == (
        "In the search, the best validation accuracy of the first 2 trials, which no model "
        "proposed, was 0.7000; the best of the 2 after them was 0.9000."
    )
    assert verdict_of([0.7, 0.6, 0.7])[-1] == (
        "In the search, the one after the first 2 trials, which no model proposed, reached no "
        "better validation accuracy than the best of these, 0.7000."
    )


def test_the_text_says_that_test_rows_are_harder_and_whether_chance_explains_it() -> None:
    def about(test: float, rows: int | None) -> str:
        study = study_of([trial(DONE, [0.9], 1e-3)])
        ensemble = Ensemble([EnsembleNetwork(0, 0)], rows=rows)
        interval = [test - 0.05, test + 0.05]
        decision = confirmation(
            [candidate(0, 0.9, [0.9, 0.9], [0.89, 0.91])], 0, TestValue(test, interval, None)
        )
        study.set_user_attr(CONFIRMATION, replace(decision, ensemble=ensemble).as_json())
        kept = {"number": 0, "test": {"rows": 100, "value": test, "interval": interval}}
        study.set_user_attr(PREDICTIONS, kept)
        result = find_result(study, specification(), summarize(study, specification()))
        assert result is not None
        return " ".join(write_verdict(result, specification()))

    # As many validation rows as test rows: an uncertainty of 0.05 each, of 0.071 together.
    beyond = about(0.82, 100)
    assert "rows are harder than the validation rows: there, one network reaches 0.900." in beyond
    assert "chance" not in beyond
    assert "harder" not in about(0.86, 100)  # within the interval
    assert "So few rows can differ that much by chance." in about(0.82, 25)  # 0.112 together
    assert "easier" in about(0.98, 100)
    assert "harder" not in about(0.5, None)  # how many there were is unknown


def test_windows_and_the_rows_that_they_lie_in_are_told_apart() -> None:
    data = {"train": "x.csv", "time": "t", "target": "y", "horizon": 12, "window": 24}
    spec = specification(task="forecasting", metric="mae", data=data | {"test": 29})
    of = Estimate(1.0, None, 18)
    assert measured_on(of, "test", spec) == "18 test windows of 12 steps each over 29 rows"
    share = specification(task="forecasting", metric="mae", data=data | {"test": 0.2})
    assert measured_on(of, "test", share) == "18 test windows of 12 steps each"
    assert measured_on(Estimate(1.0, None, 2000), "test", specification()) == "2,000 test rows"


def test_an_interval_of_another_value_is_not_shown(study: optuna.Study) -> None:
    study.set_user_attr("test", {"number": 3, "value": 0.875})
    part = {"rows": 100, "value": 0.5, "interval": [0.4, 0.6]}
    study.set_user_attr(PREDICTIONS, {"number": 3, "test": part})
    found = find_result(study, specification(), summarize(study, specification()))
    assert found is not None
    assert found.test == Estimate(0.875, None, 100)


def test_fresh_seeds_decide_who_won(study: optuna.Study) -> None:
    first = candidate(3, 0.9, [0.7, 0.8], None)
    second = candidate(6, 0.8, [0.8, 0.8], [0.7, 0.9])
    test = TestValue(0.81, [0.78, 0.84], None)
    study.set_user_attr(CONFIRMATION, confirmation([first, second], 6, test).as_json())
    spec = specification()
    found = find_result(study, spec, summarize(study, spec))
    assert found is not None
    assert found.winner.number == 6
    assert found.test == Estimate(0.81, (0.78, 0.84), None)
    marks = compare(found, spec)
    assert [(mark.kind, mark.value) for mark in marks[-3:]] == [
        ("validation", 0.8), ("validation", 0.8), ("test", 0.81),
    ]  # fmt: skip


def test_what_somebody_enqueued_is_no_start(study: optuna.Study) -> None:
    given = trial(DONE, [0.95], 1e-3)
    given.system_attrs["fixed_params"] = {"learning_rate": 1e-3}
    others = study.get_trials(deepcopy=False)
    found = find_result(
        begun := study_of([given, *others]), specification(), summarize(begun, specification())
    )
    assert found is not None
    assert found.start == Start(0.9, 7, None, 0)


def test_pairs_are_of_parameters_that_all_have(study: optuna.Study) -> None:
    pairs = pair_parameters(study, specification(), ["decay_drop", "dropout", "learning_rate"])
    assert [(pair.x.name, pair.y.name) for pair in pairs] == [
        ("dropout", "learning_rate"), ("dropout", "decay"), ("learning_rate", "decay"),
    ]  # fmt: skip
    assert pairs[0].x_positions == [0.1, 0.2, 0.5, 0.3, 0.4]
    assert pairs[0].metric == [0.5, 0.7, 0.9, 0.8, 0.3]
    assert all(pair.surface is None for pair in pairs)  # a forest of five trials would make it up


@pytest.mark.parametrize(("together", "least", "most"), [(True, 0.5, 1.0), (False, 0.0, 0.15)])
def test_the_surface_knows_what_acts_together(together: bool, least: float, most: float) -> None:
    draw = random.Random(0)
    trials = []
    for _ in range(200):
        rate, dropout = draw.uniform(-4, -1), draw.uniform(0, 0.5)
        a, b = (rate + 4) / 3, 2 * dropout
        value = abs(round(a) - round(b)) if together else (a + b) / 2
        trials.append(trial(DONE, [0.1 + 0.8 * value], 10**rate, dropout=dropout))
    (pair, *_) = pair_parameters(study_of(trials), specification(), ["learning_rate", "dropout"])
    assert pair.surface is not None
    assert least <= pair.surface.together <= most
    assert len(pair.surface.z) == len(pair.surface.y)


@pytest.mark.parametrize(
    ("seconds", "last"),
    [(5.31, "4 s"), (90, "80 s"), (600, "10 min"), (9000, "2.5 h"), (400_000, "4 d")],
)
def test_ticks_of_an_axis_of_time_are_round(seconds: float, last: str) -> None:
    assert duration_ticks(seconds)[1][-1] == last


@pytest.mark.parametrize(
    ("searched", "words"),
    [
        ({"low": 1e-4, "high": 0.1, "log": True}, "1e-4 to 0.1, log scale"),
        ({"low": 8, "high": 64, "step": 8}, "8 to 64, in steps of 8"),
        (["adam", "rmsprop"], "adam, rmsprop"),
        ("adam", "fixed"),
    ],
)
def test_ranges_are_described(searched: Any, words: str) -> None:
    value = Range(**searched) if isinstance(searched, dict) else searched
    assert describe_range(value) == words

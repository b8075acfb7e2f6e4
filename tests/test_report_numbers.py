"""The report's numbers, worked out by hand on a small study."""

from __future__ import annotations

import math

import optuna
import pytest
from made_up import small_study, specification, study_of, trial
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from gru_optuna.report.numbers.curves import curves
from gru_optuna.report.numbers.history import history
from gru_optuna.report.numbers.importance import importance
from gru_optuna.report.numbers.parallel import ABSENT, parallel_coordinates, slices
from gru_optuna.report.numbers.rows import rows
from gru_optuna.report.scales import label, parameter_scale


@pytest.fixture
def study() -> optuna.Study:
    return small_study()


def test_history_keeps_the_best_complete_value(study: optuna.Study) -> None:
    points = history(study)
    assert [point.state for point in points] == [
        "complete", "pruned", "complete", "complete", "failed", "pruned", "complete", "complete",
    ]  # fmt: skip
    assert [point.value for point in points] == [0.5, 0.1, 0.7, 0.9, None, 0.3, 0.8, 0.3]
    assert [point.best for point in points] == [0.5, 0.5, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9]


def test_history_of_a_loss_keeps_the_lowest() -> None:
    study = optuna.create_study(direction="minimize")
    for value in (2.0, 3.0, 1.0, math.inf):
        study.add_trial(create_trial(value=value))
    points = history(study)
    assert [point.best for point in points] == [2.0, 2.0, 1.0, 1.0]
    assert points[-1].value is None


def test_curves_hold_every_reported_epoch(study: optuna.Study) -> None:
    lines = curves(study, specification())
    assert [curve.number for curve in lines] == [0, 1, 2, 3, 5, 6, 7]
    assert lines[4].epochs == [1, 2]
    assert lines[4].values == [0.2, 0.3]
    assert lines[4].state == "pruned"
    assert [curve.number for curve in lines if curve.best] == [3]


def test_parallel_coordinates_place_every_value(study: optuna.Study) -> None:
    lines = parallel_coordinates(study, specification())
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

    # Absent ones stand 15 % of the axis (0.1 to 0.9) below it.
    drop = by_name["decay_drop"]
    assert drop.values == [None, 0.5, None, 0.9, None]
    assert drop.positions == pytest.approx([-0.02, 0.5, -0.02, 0.9, -0.02])
    assert drop.scale.labels[0] == ABSENT
    assert drop.scale.low == drop.scale.ticks[0] == pytest.approx(-0.02)

    assert by_name["accuracy"].values == [0.5, 0.7, 0.9, 0.8, 0.3]


def test_slices_leave_out_trials_without_the_parameter(study: optuna.Study) -> None:
    by_name = {panel.scale.name: panel for panel in slices(study, specification())}
    assert by_name["decay_every"].numbers == [2, 6]
    assert by_name["decay_every"].values == [4, 10]
    assert by_name["decay_every"].metric == [0.7, 0.8]
    assert by_name["dropout"].values == [0.1, 0.2, 0.5, 0.3, 0.4]


def test_rows_stand_best_first(study: optuna.Study) -> None:
    table = rows(study, specification())
    assert [row.number for row in table] == [3, 6, 2, 0, 7, 5, 1, 4]
    assert [row.best for row in table] == [True] + [False] * 7
    assert table[-1].outcome == "diverged in epoch 1: loss is not finite"
    assert table[-1].value is None
    assert table[0].params == {"learning_rate": 0.1, "decay": "constant", "dropout": 0.5}


def test_importance_is_optunas_own(study: optuna.Study) -> None:
    ours = importance(study)
    assert ours.shares == optuna.importance.get_param_importances(study)
    assert set(ours.shares) == {"learning_rate", "decay", "decay_drop", "decay_every", "dropout"}
    assert sum(ours.shares.values()) == pytest.approx(1)
    assert ours.trials == 5


def test_importance_says_why_it_is_missing() -> None:
    few = importance(study_of([trial(TrialState.COMPLETE, [0.5], 1e-3)] * 3))
    assert not few.shares
    assert few.missing == "Importance needs at least 4 complete trials, and this study has 3."
    equal = importance(study_of([trial(TrialState.COMPLETE, [0.5], 1e-3)] * 6))
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


@pytest.mark.parametrize(
    ("value", "shown"),
    [(3.28086e-6, "3.281e-6"), (1e-4, "1e-4"), (0.0, "0"), (64, "64"), (20000.0, "20000")],
)
def test_labels(value: float, shown: str) -> None:
    assert label(value) == shown

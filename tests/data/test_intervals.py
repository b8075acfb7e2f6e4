"""Intervals of a metric, against formulas and against what theory says of their width."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from helpers.splits import split_of_rows
from scipy import stats

from gru_optuna.data.dataset import Units
from gru_optuna.data.intervals import bootstrap_interval, metric_interval, student_interval
from gru_optuna.data.metrics import mean_metric

if TYPE_CHECKING:
    from gru_optuna.data.metrics import Predictions


def classified(right: np.ndarray, groups: np.ndarray | None = None) -> Predictions:
    """Outputs of a network that predicts the class of the rows that are `right`."""
    rows = len(right)
    logits = torch.zeros(rows, 2)
    logits[torch.arange(rows), torch.from_numpy(~right).long()] = 1.0
    zeros = torch.zeros(rows, dtype=torch.int64)
    numbers = None if groups is None else torch.from_numpy(groups)
    return [(logits, split_of_rows(torch.zeros(rows, 1, 1), zeros + 1, zeros, groups=numbers))]


def errors_of(error: torch.Tensor) -> Predictions:
    """Predictions (N, O) that miss their targets by ten times `error`."""
    rows, units = len(error), Units(torch.zeros(error.shape), torch.full((len(error), 1), 10.0))
    lengths = torch.ones(rows, dtype=torch.int64)
    targets = torch.zeros_like(error)
    return [(error, split_of_rows(torch.zeros(rows, 1, 1), lengths, targets, units))]


def width(interval: list[float] | None) -> float:
    assert interval is not None
    return interval[1] - interval[0]


def test_intervals_of_few_values_are_students() -> None:
    values = [0.91, 0.93, 0.90, 0.95, 0.92]
    expected = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert student_interval(values, "accuracy") == pytest.approx(list(expected))
    assert student_interval([0.9], "accuracy") is None
    assert student_interval([0.9, 1.0], "accuracy")[1] == 1.0  # type: ignore[index]
    assert student_interval([0.1, 3.0], "mae")[0] == 0.0  # type: ignore[index]


def test_the_accuracy_of_one_network_has_wilsons_interval() -> None:
    found = metric_interval("accuracy", [classified(np.array([True, True, True, False]))])
    # (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    z, p, n = 1.959964, 0.75, 4
    middle, reach = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found == pytest.approx(
        [(middle + way * reach) / (1 + z * z / n) for way in (-1, 1)], rel=1e-5
    )


def test_a_perfect_score_is_not_a_certain_one() -> None:
    perfect = classified(np.ones(20, dtype=bool))
    low, high = metric_interval("accuracy", [perfect]) or (0, 0)
    assert high == 1.0
    assert 0.8 < low < 0.9
    # All resamples of several perfect networks agree: that is no interval of length zero.
    assert metric_interval("accuracy", [perfect, perfect]) is None


def test_independent_rows_give_the_binomial_interval() -> None:
    right = np.random.default_rng(0).random(400) < 0.8
    low, high = bootstrap_interval("accuracy", [classified(right)], None, 0) or (0, 0)
    spread = np.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert low == pytest.approx(right.mean() - 1.96 * spread, abs=0.01)
    assert high == pytest.approx(right.mean() + 1.96 * spread, abs=0.01)
    assert bootstrap_interval("accuracy", [classified(right)], None, 0) == [low, high]


def test_rows_of_a_group_are_drawn_together() -> None:
    """300 rows in 30 groups that are right or wrong together are thirty rows, not 300."""
    groups = np.repeat(np.arange(30), 10)
    right = groups < 26
    together = metric_interval("accuracy", [classified(right, groups)])
    assert together == pytest.approx([22 / 30, 29 / 30], abs=1e-9)  # 0.733 to 0.967
    alone = metric_interval("accuracy", [classified(right)])
    assert alone == pytest.approx([0.824, 0.901], abs=1e-3)  # as if rows were independent


def test_groups_widen_an_interval_as_theory_says() -> None:
    people = np.repeat(np.arange(40), 10)
    right = np.repeat(np.random.default_rng(0).random(40) < 0.8, 10)
    alone = width(bootstrap_interval("accuracy", [classified(right)], None, 0))
    together = width(bootstrap_interval("accuracy", [classified(right, people)], None, 0))
    assert together == pytest.approx(np.sqrt(10) * alone, rel=0.25)
    series = np.zeros(400, dtype=np.int64)
    in_time = width(bootstrap_interval("accuracy", [classified(right, series)], 20, 0))
    assert in_time > 2 * alone


def test_a_mean_error_has_the_interval_of_a_mean() -> None:
    error = torch.randn(400, 1, generator=torch.Generator().manual_seed(1))
    interval = metric_interval("mae", [errors_of(error)])
    assert interval is not None
    sizes = 10 * error.abs()
    assert width(interval) == pytest.approx(2 * 1.96 * float(sizes.std()) / sqrt(400), rel=0.15)
    assert interval[0] < float(sizes.mean()) < interval[1]


def test_neighbouring_windows_do_not_count_as_many() -> None:
    """A long error counts once, however many windows it is in: blocks are drawn, not windows."""
    wave = torch.repeat_interleave(torch.randn(20, generator=torch.Generator().manual_seed(2)), 24)
    windows = torch.stack([wave[n : n + 24] for n in range(len(wave) - 24)])
    blocked = width(metric_interval("mae", [errors_of(windows)], block=24))
    alone = width(metric_interval("mae", [errors_of(windows[:, :1])]))
    assert blocked > 2 * alone


def test_several_networks_are_drawn_too() -> None:
    good, bad = (classified(np.arange(400) < right) for right in (390, 250))
    rows_alone = width(metric_interval("accuracy", [good]))
    assert width(metric_interval("accuracy", [good, bad])) > 5 * rows_alone


def test_a_mean_over_trainings_weighs_each_and_all_of_its_folds_alike() -> None:
    good, half, bad = (classified(np.arange(4) < right) for right in (4, 2, 0))
    folds = [*half, *bad]
    assert mean_metric("accuracy", [good, folds]) == pytest.approx((1 + (0.5 + 0) / 2) / 2)

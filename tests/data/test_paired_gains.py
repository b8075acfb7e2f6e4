"""What a model gains over another one on the same rows, against numbers worked out by hand."""

from __future__ import annotations

from itertools import product
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from helpers.splits import split_of_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gru_optuna.data.dataset import Units
from gru_optuna.data.intervals import FEWEST_UNITS, bootstrap_interval, paired_gain

if TYPE_CHECKING:
    from gru_optuna.data.metrics import Predictions


def classified(right: np.ndarray) -> Predictions:
    """Predictions that are right in these rows."""
    rows = len(right)
    logits = torch.zeros(rows, 2)
    logits[torch.arange(rows), torch.from_numpy(~right).long()] = 1.0
    zeros = torch.zeros(rows, dtype=torch.int64)
    return [(logits, split_of_rows(torch.zeros(rows, 1, 1), zeros + 1, zeros))]


def missed_by(errors: np.ndarray, series: np.ndarray | None = None) -> Predictions:
    """Predictions of numbers (N, O) with these errors."""
    error = torch.from_numpy(errors)
    units = Units(torch.zeros_like(error), torch.ones(len(error), 1, dtype=torch.float64))
    lengths = torch.ones(len(error), dtype=torch.int64)
    groups = None if series is None else torch.from_numpy(series)
    zeros = torch.zeros_like(error)
    rows = split_of_rows(torch.zeros(len(error), 1, 1), lengths, zeros, units, groups=groups)
    return [(error, rows)]


def test_the_gain_of_an_error_is_a_share_and_that_of_accuracy_a_difference() -> None:
    ones = np.ones((20, 1))
    gain = paired_gain("mae", [missed_by(0.9 * ones)], missed_by(ones))
    assert gain.value == pytest.approx(0.1)
    # Every resample saves a tenth of the error: rows that are hard for both change nothing.
    hard = np.arange(1.0, 21)[:, None]
    paired = paired_gain("mae", [missed_by(0.9 * hard)], missed_by(hard))
    assert paired.interval == pytest.approx([0.1, 0.1])
    assert paired.shown
    ours, theirs = np.arange(20) < 17, np.arange(20) < 15
    assert paired_gain("accuracy", [classified(ours)], classified(theirs)).value == pytest.approx(
        0.1
    )


def test_the_interval_of_a_difference_is_that_of_the_pairs() -> None:
    """Of 400 rows, 40 are right only for one model and 20 only for the other."""
    ours = np.arange(400) >= 20
    theirs = np.arange(400) < 360
    gain = paired_gain("accuracy", [classified(ours)], classified(theirs))
    # The difference of each pair is 1, -1 or 0, so its variance is (40 + 20) / n - (20 / n)²
    spread = sqrt((60 / 400 - (20 / 400) ** 2) / 400)
    reach = sqrt(400 / 399) * stats.t.ppf(0.975, 399) * spread
    assert gain.interval == pytest.approx([0.05 - reach, 0.05 + reach], abs=0.006)
    assert gain.shown
    # As if the two had been measured on other rows each, nothing would be shown.
    alone = [
        bootstrap_interval("accuracy", [classified(r)], None, 0) or [0, 0] for r in (ours, theirs)
    ]
    assert alone[0][0] < alone[1][1]


def test_the_distribution_of_few_rows_is_that_of_all_resamples() -> None:
    """All 6**6 resamples of six rows can be written down."""
    ours, theirs = np.array([1.0, 2, 1, 3, 2, 2]), np.array([2.0, 2, 3, 3, 4, 1])
    drawn = np.array(list(product(range(6), repeat=6)))
    gains = 1 - ours[drawn].sum(axis=1) / theirs[drawn].sum(axis=1)
    outside = stats.norm.cdf(-sqrt(6 / 5) * stats.t.ppf(0.975, 5))
    expected = np.quantile(gains, [outside, 1 - outside])
    gain = paired_gain("mae", [missed_by(ours[:, None])], missed_by(theirs[:, None]))
    assert gain.interval == pytest.approx(expected.tolist(), abs=0.06)


def test_too_few_rows_show_nothing_however_large_the_difference() -> None:
    few = np.zeros(FEWEST_UNITS - 1, dtype=bool)
    gain = paired_gain("accuracy", [classified(~few)], classified(few))
    assert (gain.value, gain.interval, gain.units, gain.shown) == (1.0, None, len(few), False)
    more = np.zeros(FEWEST_UNITS, dtype=bool)
    assert paired_gain("accuracy", [classified(~more)], classified(more)).shown


def test_windows_that_share_steps_are_drawn_together() -> None:
    """Forecasts 10 steps ahead share nine of their steps with those of the next origin."""
    random = np.random.default_rng(0)
    steps = random.normal(size=1009)
    ours = np.lib.stride_tricks.sliding_window_view(steps, 10).copy()
    theirs = np.abs(ours) + 0.02
    one = np.zeros(1000, dtype=np.int64)
    together = paired_gain("mae", [missed_by(ours, one)], missed_by(theirs + ours, one), 10)
    assert together.units == 50  # stretches of twice the horizon
    alone = paired_gain("mae", [missed_by(ours)], missed_by(theirs + ours))
    assert together.interval is not None
    assert alone.interval is not None
    assert np.ptp(together.interval) > 1.5 * np.ptp(alone.interval)


def test_of_short_series_whole_ones_are_drawn() -> None:
    series = np.repeat(np.arange(8), 3)
    errors = np.repeat(np.linspace(1, 2, 8), 3)[:, None]
    gain = paired_gain("mae", [missed_by(errors, series)], missed_by(errors + 0.5, series), 3)
    assert gain.units == 8
    assert gain.shown
    two = paired_gain(
        "mae", [missed_by(errors, series // 4)], missed_by(errors + 0.5, series // 4), 12
    )
    assert (two.interval, two.shown) == (None, False)


@given(seed=st.integers(0, 50), rows=st.integers(20, 40))
@settings(max_examples=3)
def test_who_is_compared_with_whom_turns_the_sign_alone(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    one, other = random.random(rows) < 0.7, random.random(rows) < 0.5
    gain = paired_gain("accuracy", [classified(one)], classified(other))
    turned = paired_gain("accuracy", [classified(other)], classified(one))
    assert gain.value == pytest.approx(-turned.value)
    assert gain.interval is not None
    assert turned.interval is not None
    assert gain.interval == pytest.approx([-end for end in reversed(turned.interval)])
    assert gain.interval[0] <= gain.value <= gain.interval[1]
    assert not paired_gain("accuracy", [classified(one)], classified(one)).shown

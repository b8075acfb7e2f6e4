"""Intervals of a winner's predictions: they hold what they promise, and say when nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gru_optuna.data.dataset import Split, Units
from gru_optuna.study.prediction_intervals import PredictionIntervals

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def predicted(errors: NDArray[np.float64], scale: float = 1.0) -> tuple[Tensor, Split]:
    """Predictions of 0 for targets that are off by so much (N, O), in units of `scale`."""
    rows, outputs = errors.shape
    one = torch.ones(rows, 1, dtype=torch.float64)
    units = Units(torch.zeros(rows, outputs, dtype=torch.float64), scale * one, naive=scale * one)
    split = Split(
        steps=torch.zeros(rows, 1), starts=torch.arange(rows), lengths=torch.ones(rows).long(),
        targets=torch.from_numpy(errors), units=units,
    )  # fmt: skip
    return torch.zeros(rows, outputs), split


@given(seed=st.integers(0, 1000), rows=st.integers(30, 80), scale=st.sampled_from([1.0, 1e4]))
def test_a_level_is_what_is_held_on_average(seed: int, rows: int, scale: float) -> None:
    """Over many draws of rows, of which the share that is held varies as it should."""
    draw = np.random.default_rng(seed)
    held = []
    for _ in range(40):
        errors = draw.standard_t(4, size=(rows + 400, 2)) * [1.0, 5.0]
        found = PredictionIntervals.measure(
            0, [predicted(errors[:rows], scale)], predicted(errors[rows:])
        )
        assert found.held is not None
        held.append([found.held["80"], found.held["95"]])
    share = np.mean(held, axis=0)
    # k / (n + 1), with k rounded up; 40 draws leave a deviation of a hundredth.
    assert 0.76 < share[0] < 0.87
    assert 0.92 < share[1] < 0.995


def test_each_step_ahead_has_a_width_and_missing_values_have_none() -> None:
    errors = np.arange(1.0, 41.0).reshape(-1, 1) * [1.0, -10.0]
    errors[30:, 1] = np.nan
    found = PredictionIntervals.measure(3, [predicted(errors[:20]), predicted(errors[20:])], None)
    assert found.rows == 40
    assert found.widths == {"80": [33.0, 250.0], "95": [39.0, 300.0]}
    assert found.held is None
    assert found.in_words() is None


@pytest.mark.parametrize(
    ("rows", "levels"), [(3, []), (4, ["80"]), (18, ["80"]), (19, ["80", "95"])]
)
def test_few_rows_have_no_interval_of_a_high_level(rows: int, levels: list[str]) -> None:
    errors = np.random.default_rng(0).normal(size=(rows, 1))
    found = PredictionIntervals.measure(0, [predicted(errors)], predicted(errors))
    assert found.levels == levels
    assert set(found.held or ()) == set(levels)
    assert PredictionIntervals(**found.as_json()) == found


def test_the_share_that_is_held_is_said_with_its_rows_if_they_are_few() -> None:
    errors = np.ones((60, 1))
    many = PredictionIntervals.measure(0, [predicted(errors)], predicted(errors))
    few = PredictionIntervals.measure(0, [predicted(errors)], predicted(errors[:20]))
    assert many.in_words() == (
        "The 80% intervals contain 100% of the test values, and the 95% intervals 100%."
    )
    assert few.in_words() == (
        "The 80% intervals contain 100% of the test values (only 20 rows), and the 95% intervals "
        "100%."
    )

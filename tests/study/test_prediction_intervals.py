"""Intervals of a winner's predictions: they hold what they promise, and say when nobody knows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gru_optuna.attributes import PREDICTION_INTERVALS
from gru_optuna.data.dataset import Split, Units
from gru_optuna.study.prediction_intervals import PredictionIntervals, read_intervals

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


def rows_with(targets: Tensor, units: Units) -> Split:
    rows = len(targets)
    return Split(
        steps=torch.zeros(rows, 1), starts=torch.arange(rows), lengths=torch.ones(rows).long(),
        targets=targets, units=units,
    )  # fmt: skip


def test_errors_are_measured_in_the_units_of_the_data() -> None:
    """Outputs of 3 for targets of 1, with a deviation of 10 and a mean of 100."""
    units = Units(torch.tensor(100.0), torch.tensor(10.0))
    found = PredictionIntervals.measure(
        0, [(torch.full((20, 1), 3.0), rows_with(torch.full((20, 1), 1.0), units))], None
    )
    assert found.widths == {"80": [20.0], "95": [20.0]}


def test_errors_of_series_are_in_naive_errors_unless_the_series_is_constant() -> None:
    naive = torch.tensor([[4.0]] * 10 + [[0.5]] * 5 + [[0.0]] * 5)
    units = Units(torch.zeros(20, 1), torch.ones(20, 1), naive=naive)
    off = torch.tensor([[2.0]] * 10 + [[1.0]] * 5 + [[7.0]] * 5)
    found = PredictionIntervals.measure(
        0,
        [(off, rows_with(torch.zeros(20, 1), units))],
        (off, rows_with(torch.zeros(20, 1), units)),
    )
    # Half a naive error ten times, two of them five times, and the constant series' own error.
    assert found.widths == {"80": [7.0], "95": [7.0]}
    of_ten = PredictionIntervals.measure(
        0,
        [
            (
                off[:14],
                rows_with(
                    torch.zeros(14, 1),
                    Units(torch.zeros(14, 1), torch.ones(14, 1), naive=naive[:14]),
                ),
            )
        ],
        None,
    )
    assert of_ten.widths == {"80": [2.0], "95": [None]}


def test_test_rows_whose_values_are_all_missing_hold_nothing() -> None:
    found = PredictionIntervals.measure(
        0, [predicted(np.ones((20, 1)))], predicted(np.full((3, 1), np.nan))
    )
    assert found.held == {}
    assert found.in_words() is None


def test_missing_test_values_do_not_count_in_the_share() -> None:
    measured = np.arange(1.0, 20.0).reshape(-1, 1)
    test = np.array([[16.0], [np.nan], [16.5], [19.0], [20.0]])
    found = PredictionIntervals.measure(0, [predicted(measured)], predicted(test))
    assert found.widths == {"80": [16.0], "95": [19.0]}
    assert found.held == {"80": 0.25, "95": 0.75}
    assert (found.rows, found.test_rows) == (19, 5)


def test_intervals_are_those_of_the_confirmed_winner() -> None:
    study = optuna.create_study()
    assert read_intervals(study, 3) is None
    found = PredictionIntervals.measure(3, [predicted(np.ones((20, 1)))], None)
    study.set_user_attr(PREDICTION_INTERVALS, found.as_json())
    assert read_intervals(study, 3) == found
    assert read_intervals(study, 4) is None


@pytest.mark.parametrize(
    ("rows", "levels"), [(3, []), (4, ["80"]), (18, ["80"]), (19, ["80", "95"])]
)
def test_few_rows_have_no_interval_of_a_high_level(rows: int, levels: list[str]) -> None:
    errors = np.random.default_rng(0).normal(size=(rows, 1))
    found = PredictionIntervals.measure(0, [predicted(errors)], predicted(errors))
    assert found.levels == levels
    assert set(found.held or ()) == set(levels)
    assert PredictionIntervals(**found.as_json()) == found


def test_a_series_whose_usual_error_is_unknown_says_nothing_about_the_others() -> None:
    """It has had less than two seasons, and may be a thousand times as large as the others."""
    outputs, split = predicted(np.concatenate([np.full((20, 1), 2.0), np.full((20, 1), 5000.0)]))
    assert split.units is not None
    naive = torch.cat([torch.ones(20, 1), torch.full((20, 1), torch.nan)]).double()
    mixed = replace(split, units=replace(split.units, naive=naive))
    found = PredictionIntervals.measure(0, [(outputs, mixed)], (outputs, mixed))
    assert found.relative
    assert found.widths["80"] == [2.0]
    assert found.held == {"80": 1.0, "95": 1.0}


def test_widths_are_in_the_datas_units_if_no_series_has_a_usual_error() -> None:
    outputs, split = predicted(np.full((20, 1), 5000.0))
    assert split.units is not None
    naive = torch.full((20, 1), torch.nan).double()
    alone = replace(split, units=replace(split.units, naive=naive))
    found = PredictionIntervals.measure(0, [(outputs, alone)], None)
    assert not found.relative
    assert found.widths["80"] == [5000.0]


def test_the_share_that_is_held_is_said_with_its_rows_if_they_are_few() -> None:
    errors = np.ones((60, 1))
    many = PredictionIntervals.measure(0, [predicted(errors)], predicted(errors[:50]))
    few = PredictionIntervals.measure(0, [predicted(errors)], predicted(errors[:49]))
    assert many.in_words() == (
        "The 80% intervals contain 100% of the test values, and the 95% intervals 100%."
    )
    assert few.in_words() == (
        "The 80% intervals contain 100% of the test values (only 49 rows), and the 95% intervals "
        "100%."
    )


def of_series(errors: NDArray[np.float64]) -> tuple[Tensor, Split]:
    """Predictions of series (S, N, O) that are off by so much, one series after another."""
    series, rows, outputs = errors.shape
    values, split = predicted(errors.reshape(-1, outputs))
    return values, replace(split, groups=torch.arange(series).repeat_interleave(rows))


def test_a_series_that_is_harder_to_forecast_has_wider_intervals() -> None:
    draw, names = np.random.default_rng(0), ["calm", "usual", "wild"]
    hard = np.array([0.25, 1.0, 4.0])[:, None, None]
    validation = of_series(hard * draw.normal(size=(3, 200, 1)))
    for number, name in enumerate(names):
        outputs, split = of_series(hard * draw.normal(size=(3, 2000, 1)))
        rows = torch.arange(2000) + 2000 * number
        alone = outputs[rows], split.rows(rows)
        apart = PredictionIntervals.measure(0, [validation], alone, names)
        together = PredictionIntervals.measure(0, [validation], alone)
        assert apart.held is not None
        assert together.held is not None
        assert 0.75 < apart.held["80"] < 0.85
        assert not 0.75 < together.held["80"] < 0.85, name
    assert apart.scales["calm"] < 0.35
    assert apart.scales["wild"] > 3
    assert PredictionIntervals(**apart.as_json()) == apart


def test_a_series_of_few_windows_is_taken_to_be_as_hard_as_the_others() -> None:
    errors = np.ones((3, 40, 4))
    errors[2] *= 9
    errors[1:, 20:] = np.nan  # no value is known in the later windows
    found = PredictionIntervals.measure(0, [of_series(errors)], None, ["a", "b", "c"])
    # 20 windows of four steps overlap: they are five, as many as the usual error counts for.
    assert found.scales == {"c": (5 * 9 + 5 * 1) / 10}
    # A fourth series has no window at all.
    names = ["a", "b", "c", "d"]
    assert PredictionIntervals.measure(0, [of_series(errors)], None, names).scales == found.scales
    none = PredictionIntervals.measure(0, [of_series(np.zeros((3, 40, 4)))], None, ["a", "b", "c"])
    assert none.scales == {}

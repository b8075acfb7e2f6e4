"""What is kept of the winner's predictions, worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.splits import split_of_rows

from gru_optuna.data.dataset import Split, Units
from gru_optuna.study.predictions import OTHERS, describe_predictions


def classified(right: list[int], said: list[int], classes: int) -> tuple[torch.Tensor, Split]:
    logits = torch.nn.functional.one_hot(torch.tensor(said), classes).float()
    targets = torch.tensor(right)
    return logits, split_of_rows(torch.zeros(len(right), 1, 1), torch.ones_like(targets), targets)


def numbers(truth: torch.Tensor, predicted: torch.Tensor) -> tuple[torch.Tensor, Split]:
    """(N, O) in units of 10, around 100."""
    rows = len(truth)
    units = Units(torch.full(truth.shape, 100.0).double(), torch.full((rows, 1), 10.0).double())
    lengths = torch.ones(rows, dtype=torch.int64)
    return predicted, split_of_rows(torch.zeros(rows, 1, 1), lengths, truth, units)


def test_a_confusion_matrix_has_a_row_for_each_true_class() -> None:
    kept = describe_predictions(["a", "b"], [classified([0, 0, 0, 1], [0, 0, 1, 1], classes=2)])
    assert kept["rows"] == 4
    assert kept["confusion"] == {"classes": ["a", "b"], "counts": [[2, 1], [0, 1]]}
    json.dumps(kept, allow_nan=False)


def test_rare_classes_share_a_row() -> None:
    right = [n for n in range(30) for _ in range(30 - n)]
    names = [f"class {n}" for n in range(30)]
    kept = describe_predictions(names, [classified(right, right, 30)])["confusion"]
    assert kept["classes"] == [*names[:19], OTHERS]
    assert kept["counts"][-1][-1] == sum(30 - n for n in range(19, 30))
    assert sum(map(sum, kept["counts"])) == len(right)


def test_folds_share_one_matrix_and_one_value() -> None:
    one, other = classified([0, 1], [0, 0], 2), classified([0, 1], [0, 1], 2)
    kept = describe_predictions(["a", "b"], [one, other])
    assert kept["confusion"]["counts"] == [[1, 0], [0.5, 0.5]]


def test_points_are_in_the_datas_units_and_not_too_many() -> None:
    drawn = torch.Generator().manual_seed(0)
    truth = torch.randn(2000, 1, generator=drawn)
    kept = describe_predictions([], [numbers(truth, truth + 0.5)])
    assert len(kept["points"]["truth"]) == 500
    assert kept["points"]["truth"][0] == pytest.approx(100 + 10 * float(truth[0]), rel=1e-5)
    difference = np.subtract(kept["points"]["predicted"], kept["points"]["truth"])
    assert difference == pytest.approx(5.0, abs=1e-3)


def test_a_forecast_is_a_line_of_windows_that_follow_each_other() -> None:
    series = torch.arange(40.0)
    series[6] = torch.nan
    truth = torch.stack([series[n : n + 4] for n in range(30)])
    truth = torch.cat([torch.full((3, 4), 77.0), truth])  # another series comes before
    kept = describe_predictions([], [numbers(truth, truth.nan_to_num() + 1)])["forecast"]
    assert kept["horizon"] == 4
    assert [window["start"] for window in kept["windows"]] == list(range(0, 4 * 8, 4))
    assert kept["truth"][:8] == [100, 110, 120, 130, 140, 150, None, 170]
    assert kept["windows"][1]["values"] == [150, 160, 110, 180]
    assert kept["errors"] == pytest.approx([10, 10, 10, 10])
    json.dumps(kept, allow_nan=False)

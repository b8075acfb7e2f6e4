"""What is kept of the winner's predictions, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.splits import split_of_rows

from gru_optuna.data.dataset import Split, Units
from gru_optuna.data.series.frequency import Frequency
from gru_optuna.study.predictions import (
    OTHERS,
    ForecastSeries,
    describe_predictions,
)


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


def forecasts(*series: torch.Tensor, off: float = 1.0) -> tuple[torch.Tensor, Split]:
    """Windows of 4 steps of each series, forecast this far off; the origins are days."""
    windows = [torch.stack([each[n : n + 4] for n in range(len(each) - 3)]) for each in series]
    truth = torch.cat(windows)
    predicted, split = numbers(truth, truth.nan_to_num() + off)
    days = torch.cat([torch.arange(len(part)) for part in windows])
    owners = torch.arange(len(series)).repeat_interleave(torch.tensor([*map(len, windows)]))
    return predicted, replace(split, groups=owners, times=days * 86_400_000_000)


def test_a_forecast_is_a_line_of_windows_that_follow_each_other() -> None:
    series = torch.arange(33.0)
    series[6] = torch.nan
    about = ForecastSeries([""], Frequency(86_400_000_000, "us"))
    kept = describe_predictions([], [forecasts(series)], about)["forecast"]
    assert kept["horizon"] == 4
    (stretch,) = kept["stretches"]
    assert [window["start"] for window in stretch["windows"]] == list(range(0, 4 * 8, 4))
    assert stretch["truth"][:8] == [100, 110, 120, 130, 140, 150, None, 170]
    assert stretch["windows"][1]["values"] == [150, 160, 110, 180]
    # The first window's origin is the first of January, and it forecasts what follows.
    assert stretch["times"][:2] == ["1970-01-02", "1970-01-03"]
    assert len(stretch["times"]) == len(stretch["truth"])
    assert kept["errors"] == pytest.approx([10, 10, 10, 10])
    json.dumps(kept, allow_nan=False)


def test_of_many_series_the_best_the_median_and_the_worst_are_shown() -> None:
    flat = torch.zeros(8)
    predicted, split = forecasts(*[flat] * 5, off=0.0)
    assert split.groups is not None
    predicted += torch.tensor([3.0, 0.0, 4.0, 1.0, 2.0])[split.groups][:, None]
    about = ForecastSeries(list("abcde"), Frequency(1, "M"))
    kept = describe_predictions([], [(predicted, split)], about)["forecast"]
    assert kept["series"] == 5
    assert [stretch["name"] for stretch in kept["stretches"]] == ["b", "e", "c"]


def test_a_stretch_stays_within_one_series_and_has_no_gap() -> None:
    first, second = torch.full((6,), 77.0), torch.arange(40.0)
    predicted, split = forecasts(first, second)
    without = torch.tensor([n for n in range(len(split)) if n != 20])  # one window is dropped
    kept = describe_predictions([], [(predicted[without], split.rows(without))])["forecast"]
    _, stretch = kept["stretches"]
    assert "times" not in stretch
    # 17 windows of the second series come before the gap, and 19 after it.
    assert stretch["truth"] == [280, *range(290, 480, 10)][: len(stretch["truth"])]


@pytest.mark.parametrize(
    ("step", "shown"),
    [(86_400_000_000, "1970-01-02"), (3_600_000_000, "1970-01-01 01:00"),
     (1_000_000, "1970-01-01 00:00:01"), (20_000, "1970-01-01 00:00:00.020000")],
)  # fmt: skip
def test_times_are_no_longer_than_needed(step: int, shown: str) -> None:
    about = ForecastSeries([""], Frequency(step, "us"))
    assert about.times_after(np.zeros(1, np.int64), 2)[0] == shown


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        (["1961-01-01", "1961-02-01"], ["1961-01", "1961-02"]),
        (["1961-01-01", "1962-01-01"], ["1961", "1962"]),
        (["1961-01-01", "1961-01-02"], ["1961-01-01", "1961-01-02"]),
        (["1961-01-01T06", "1961-01-01T12"], ["1961-01-01 06:00", "1961-01-01 12:00"]),
        (["1961-01-01"], ["1961-01-01"]),  # a day may be the first of a month by chance
    ],
)
def test_times_are_written_as_people_write_them(times: list[str], shown: list[str]) -> None:
    about = ForecastSeries([""], Frequency(1, "us"))
    assert about.shown(np.array(times, "datetime64[us]")) == shown

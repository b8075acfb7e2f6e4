"""From series to windows: what lies where in time, what a forecast may know, what is refused."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from helpers.series_rows import HOUR, START, daily, load, noise, refusal, study, targets_of, write
from helpers.workspaces import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import TimeSeriesSplit

from gru_optuna import study_file
from gru_optuna.data.load import load_dataset, load_folds
from gru_optuna.data.series.frequency import Frequency, calendar_channels
from gru_optuna.data.series.plan import SeriesSplit
from gru_optuna.data.series.windows import fill, robust_deviation
from gru_optuna.errors import TooFewRows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from gru_optuna.data.dataset import Dataset, Split

TRAFFIC = REPOSITORY / "studies" / "traffic.toml"


def seen(split: Split | None, channel: int, data: Dataset) -> Tensor:
    """One scaled channel (N, T) in the target's units."""
    assert split is not None
    scale = data.preprocessing["series"][""]
    return split.batch().values[:, :, channel].double() * scale["deviation"] + scale["mean"]


# --- windows ---


@settings(max_examples=60)
@given(
    steps=st.integers(60, 150),
    horizon=st.integers(1, 5),
    longer=st.integers(0, 5),
    test=st.integers(6, 15),
    validation=st.integers(6, 15),
    gap=st.integers(0, 4),
    stride=st.integers(1, 4),
    season=st.sampled_from([1, 3, 7]),
)
def test_windows_end_before_their_targets_and_no_value_is_a_target_in_two_parts(
    tmp_path: Path,
    steps: int,
    horizon: int,
    longer: int,
    test: int,
    validation: int,
    gap: int,
    stride: int,
    season: int,
) -> None:
    """The value of a row is its number, so every number says where it came from."""
    write(tmp_path, {"y": range(steps), "w": noise(steps)})
    data = load(
        tmp_path,
        metric="rmse",
        horizon=horizon,
        window=horizon + longer,
        test=test,
        validation=validation,
        gap=gap,
        stride=stride,
        season=season,
        calendar=False,
    )
    parts = (data.train, data.validation, data.test)
    rows = [targets_of(part).round().long() for part in parts]
    for part, numbers in zip(parts, rows, strict=True):
        assert part is not None
        torch.testing.assert_close(targets_of(part), numbers.double(), atol=1e-3, rtol=0)
        inputs = seen(part, 0, data).round().long()
        expected = numbers[:, :1] - torch.arange(horizon + longer, 0, -1)
        assert torch.equal(inputs, expected)
        assert torch.equal(numbers, numbers[:, :1] + torch.arange(horizon))
    first, last = ([int(bound(part)) for part in rows] for bound in (torch.min, torch.max))
    assert last[0] < first[1] - gap
    assert last[1] < first[2] - gap
    assert (first[2], last[2]) == (steps - test, steps - 1)
    assert last[1] <= steps - test - gap - 1
    # Every step of the test is targets_of, whatever the stride.
    assert set(rows[2].flatten().tolist()) == set(range(steps - test, steps))
    assert {int(b - a) for a, b in zip(rows[0][:-1, 0], rows[0][1:, 0], strict=True)} <= {stride}


def test_windows_are_not_copied_out_of_their_series(tmp_path: Path) -> None:
    """Each would hold its steps again: here 24 times the file."""
    write(tmp_path, {"y": daily(days=20)})
    data = load(tmp_path, window=24, horizon=3, test=0.2)
    assert data.test is not None
    assert len(data.train.steps) == 20 * 24
    for one in (data, data.to(torch.device("cpu"), torch.float64)):
        assert one.train.steps is one.validation.steps
        assert one.test is not None
        assert one.train.steps is one.test.steps


def test_an_untrained_network_says_the_median_of_the_last_seasons(tmp_path: Path) -> None:
    values = noise(24 * 40)
    write(tmp_path, {"y": values})
    data = load(tmp_path, season=24, test=48, horizon=24)
    assert data.preprocessing["seasons"] == 4
    assert data.test is not None
    assert data.test.units is not None
    forecast = data.test.units.restore(torch.zeros(1, 24))[0]
    days = np.asarray(values).reshape(-1, 24)
    np.testing.assert_allclose(forecast.numpy(), np.median(days[34:38], axis=0))


def test_last_seasons_are_channels_and_end_with_those_of_the_steps_to_predict(
    tmp_path: Path,
) -> None:
    steps = 24 * 30
    write(tmp_path, {"y": range(steps)})
    data = load(tmp_path, metric="rmse", season=24, test=48, horizon=6, window=8, calendar=False)
    assert data.channels == 1 + 4
    targets = targets_of(data.test).round()
    for back in range(1, 5):
        channel = seen(data.test, back, data).round()
        assert torch.equal(channel[:, -6:], targets - 24 * back)


def test_a_horizon_beyond_the_season_looks_back_on_seasons_that_are_known(tmp_path: Path) -> None:
    steps = 200
    write(tmp_path, {"y": range(steps)})
    data = load(tmp_path, metric="rmse", season=4, test=20, horizon=6, window=6, calendar=False)
    targets = targets_of(data.test).round()
    # Two seasons ahead: of the fifth and sixth step, one season back isn't known yet.
    assert torch.equal(seen(data.test, 1, data).round(), targets - 8)
    assert data.baselines["seasonal-naive"] == pytest.approx(math.sqrt((4 * 16 + 2 * 64) / 6))
    assert data.baselines["last value"] == pytest.approx(
        math.sqrt(sum(k * k for k in range(1, 7)) / 6)
    )


def test_known_covariates_and_the_calendar_are_given_a_horizon_early(tmp_path: Path) -> None:
    steps = 24 * 20
    write(tmp_path, {"y": noise(steps), "seen": range(steps), "known": range(steps)})
    data = load(tmp_path, season=1, test=30, covariates=["seen"], known=["known"])
    scale = data.preprocessing["covariates"]
    assert data.test is not None
    past, known, sine, cosine = (
        data.test.batch().values[:, :, channel].double() for channel in (1, 2, 3, 4)
    )
    present = past[:, -1:] * scale["deviations"][0] + scale["means"][0]
    ahead = known * scale["deviations"][1] + scale["means"][1]
    steps_ahead = torch.arange(-2, 4)  # of a window of 6, to the end of the horizon
    torch.testing.assert_close(ahead, present + steps_ahead, atol=1e-3, rtol=0)
    angle = 2 * math.pi * ((present + steps_ahead) % 24) / 24
    torch.testing.assert_close(sine, angle.sin(), atol=1e-3, rtol=0)
    torch.testing.assert_close(cosine, angle.cos(), atol=1e-3, rtol=0)


def test_training_windows_begin_at_every_hour_of_the_day(tmp_path: Path) -> None:
    write(tmp_path, {"y": daily(900)})
    data = load(tmp_path, horizon=24, test=240)
    assert data.preprocessing["season"] == 24
    assert len(data.train) <= 4096
    hours = data.train.batch().values[:, -1, -6:-4]  # sine and cosine of the hour
    assert len({(round(float(s), 3), round(float(c), 3)) for s, c in hours}) == 24


def test_outliers_of_training_do_not_rule_an_error_that_is_not_squared(tmp_path: Path) -> None:
    values = noise(600)
    values[100] = 1e6
    write(tmp_path, {"y": values})
    for metric, limit in (("mae", 3.0), ("rmse", 1e4)):
        data = load(tmp_path, metric, season=1)
        largest = float(data.train.targets.abs().max())
        assert largest == pytest.approx(3.0) if metric == "mae" else largest > limit


# --- the calendar ---


@pytest.mark.parametrize(
    ("step", "shown", "seasons", "calendar"),
    [
        ("10m", "10 minutes", [6, 144, 1008], ["minute of hour", "hour of day", "day of week"]),
        ("1h", "1 hour", [24, 168], ["hour of day", "day of week", "day of year"]),
        ("1D", "1 day", [7, 365], ["day of week", "day of year"]),
        ("1W", "1 week", [52], ["day of year"]),
        ("1M", "1 month", [12], ["day of year"]),
        ("3M", "1 quarter", [4], ["day of year"]),
        ("1Y", "1 year", [], []),
        ("90s", "90 seconds", [40, 960, 6720], ["minute of hour", "hour of day"]),
    ],
)
def test_what_a_frequency_makes_meaningful(
    step: str, shown: str, seasons: list[int], calendar: list[str]
) -> None:
    count, unit = int(step[:-1]), step[-1]
    passed = np.arange(9000 if unit in "hms" else 800) * np.timedelta64(count, unit)
    first = np.datetime64("2020-01-06", unit if unit in "MY" else "s")
    times = (first + passed).astype("datetime64[us]")
    frequency = Frequency.of([times])
    assert str(frequency) == shown
    assert list(frequency.seasons()) == seasons
    assert list(frequency.calendar(len(times)))[: len(calendar)] == calendar
    assert (frequency.times(times[0], len(times)) == times).all()
    places, whole = frequency.places(times)
    assert (places == np.arange(len(times))).all()
    assert whole.all()


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        (np.datetime64("2024-01-31") + 30 * np.arange(40), "30 days"),  # in 40 different months
        (np.datetime64("2024-03-05") + 30 * np.array([0, 1, 3, 4]), "30 days"),  # with a gap
        (np.datetime64("2023-02-05") + 28 * np.arange(3), "4 weeks"),
        (np.datetime64("2021-03-01") + 365 * np.arange(3), "1 year"),
        (np.array(["2024-07-15", "2024-08-15", "2024-09-15"], "datetime64[D]"), "1 month"),
        (np.array(["2024-11-30", "2024-12-31", "2025-01-31"], "datetime64[D]"), "1 month"),
        (np.array(["2024-03-31", "2024-06-30", "2024-09-30"], "datetime64[D]"), "1 quarter"),
    ],
)
def test_a_fixed_number_of_days_is_no_month(times: NDArray[np.datetime64], shown: str) -> None:
    assert str(Frequency.of([times.astype("datetime64[us]")])) == shown


def test_a_cycle_that_training_has_not_seen_whole_is_no_channel() -> None:
    hourly = Frequency(3_600_000_000, "us")
    assert hourly.calendar(24 * 8) == ("hour of day", "day of week")
    assert hourly.calendar(24 * 3) == ("hour of day",)
    assert hourly.calendar(12) == ()


def test_neighbours_on_the_clock_are_neighbours() -> None:
    times = np.array(["2024-12-31T23:00", "2025-01-01T00:00"], dtype="datetime64[us]")
    for name in ("hour of day", "day of week", "day of year"):
        first, second = calendar_channels(times, (name,))
        assert np.linalg.norm(first) == pytest.approx(1.0)
        assert np.linalg.norm(first - second) < 0.9
    # 1 January 2025 was a Wednesday.
    sine, cosine = calendar_channels(times[1:], ("day of week",))[0]
    assert math.atan2(sine, cosine) / (2 * math.pi) * 7 == pytest.approx(2.0)


def test_the_season_is_found_in_the_training_rows(tmp_path: Path) -> None:
    write(tmp_path, {"y": daily(40)})
    assert load(tmp_path, horizon=24).preprocessing["season"] == 24
    write(tmp_path, {"y": np.cumsum(noise(960)).tolist()})
    assert load(tmp_path, horizon=3).preprocessing["season"] == 1


# --- missing values ---


def test_training_gaps_are_filled_on_the_line_and_later_ones_with_the_last_value() -> None:
    nan = math.nan
    column = np.array([nan, 1.0, nan, nan, 4.0, nan, nan, 8.0, nan])[:, None]
    filled = fill(column, training=6)[:, 0]
    assert filled.tolist() == [1.0, 1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 8.0, 8.0]


def test_what_is_missing_is_neither_hit_nor_miss(tmp_path: Path) -> None:
    values = noise(200)
    values[185] = math.nan
    write(tmp_path, {"y": values})
    data = load(tmp_path, test=30, season=1)
    assert data.test is not None
    assert int(data.test.targets.isnan().sum()) == 3  # told from three presents
    assert data.test.batch().values.isfinite().all()
    assert not data.train.targets.isnan().any()
    assert math.isfinite(data.baselines["last value"])


def test_windows_that_touch_a_gap_are_dropped_if_asked_for(tmp_path: Path) -> None:
    values = noise(200)
    whole = values.copy()
    values[60] = math.nan
    write(tmp_path, {"y": whole})
    before = len(load(tmp_path, season=1).train)
    write(tmp_path, {"y": values})
    data = load(tmp_path, season=1, missing="drop")
    assert len(data.train) == before - (6 + 3)  # in the window, or to be targets_of
    for split in (data.train, data.validation):
        assert split.batch().values.isfinite().all()
        assert split.targets.isfinite().all()


def test_missing_values_are_refused_if_asked_for(tmp_path: Path) -> None:
    write(tmp_path, {"y": [1.0, 2.0, math.nan, 4.0]})
    assert refusal(tmp_path, missing="refuse") == (
        'series.csv, line 4: column "y" is empty, but missing = "refuse". Fill it in, '
        'or write missing = "interpolate" under [data].'
    )


def test_steps_without_a_row_are_missing_values(tmp_path: Path) -> None:
    times = [START + row * HOUR for row in range(120) if row not in (50, 51)]
    values = [float(row) for row in range(120) if row not in (50, 51)]
    write(tmp_path, {"time": times, "y": values})
    data = load(tmp_path, metric="rmse", season=1)
    assert {50, 51} <= set(targets_of(data.train).round().flatten().tolist())
    assert refusal(tmp_path, missing="refuse") == (
        "series.csv, line 52: the time 2024-01-03 04:00:00 follows 2024-01-03 01:00:00, but most "
        "rows are 1 hour apart. 2 of 120 rows are missing. Add them, or resample the series "
        "to even steps."
    )


# --- leaks ---


@pytest.mark.parametrize("missing", ["interpolate", "drop"])
def test_rows_behind_the_training_part_change_nothing_that_training_sees(
    tmp_path: Path, missing: str
) -> None:
    steps = 24 * 30
    columns = {"y": daily(30), "c": noise(steps, 1), "k": noise(steps, 2)}
    for row in (100, 101, 450):
        columns["y"][row] = math.nan
    data = {"test": 0.2, "covariates": ["c"], "known": ["k"], "missing": missing}
    write(tmp_path, columns)
    before = load(tmp_path, **data)
    cut = 461  # 720 rows, of which a fifth, and a fifth of the rest, come after training
    for values in columns.values():
        values[cut:] = [1e6 * value for value in noise(steps - cut, 7)]
    columns["y"][cut] = math.nan
    write(tmp_path, columns)
    after = load(tmp_path, **data)
    assert torch.equal(before.train.batch().values, after.train.batch().values)
    assert torch.equal(before.train.targets, after.train.targets)
    assert before.preprocessing == after.preprocessing
    assert not torch.equal(before.validation.batch().values, after.validation.batch().values)
    assert before.fingerprint != after.fingerprint


def test_folds_validate_later_and_later_rows_and_leave_the_test_alone(tmp_path: Path) -> None:
    write(tmp_path, {"y": range(300)})
    folds = load_folds(study("rmse", folds=3, test=60, season=1, gap=2), tmp_path)
    spans = [
        tuple(
            int(bound(targets_of(part).round()))
            for part in (fold.train, fold.validation)
            for bound in (torch.min, torch.max)
        )
        for fold in folds
    ]
    # 238 rows are left, in four parts of 59 and a remainder at the front.
    assert spans == [(6, 58, 61, 119), (6, 117, 120, 178), (6, 176, 179, 237)]
    for fold in folds:
        assert fold.test is not None
        assert int(targets_of(fold.test).min().round()) == 240


@given(
    folds=st.integers(2, 5), validation=st.integers(3, 20), gap=st.integers(0, 3),
    test=st.integers(1, 40),
)  # fmt: skip
def test_folds_of_a_number_of_steps_are_those_of_scikit_learn(
    folds: int, validation: int, gap: int, test: int
) -> None:
    data = study(folds=folds, validation=validation, gap=gap, test=test).data
    steps, before = 200, 200 - test - gap
    theirs = TimeSeriesSplit(folds, test_size=validation, gap=gap).split(np.zeros(before))
    for fold, (train, valid) in enumerate(theirs):
        split = SeriesSplit.of([(0, steps)], data, fold)
        assert split.train == (0, train[-1] + 1)
        assert split.validation == (valid[0], valid[-1] + 1)
        assert split.test == (steps - test, steps)


def test_folds_longer_than_the_series_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"y": range(60)})
    with pytest.raises(TooFewRows, match="leave no rows for training"):
        load_folds(study(folds=3, validation=20, test=6, season=1), tmp_path)


# --- several series ---


def two_series(folder: Path, steps: int = 120, short: int | None = None) -> None:
    times = [START + row * HOUR for row in range(steps)]
    rows = [
        (name, time, scale * value + scale)
        for index, time in enumerate(times)
        for name, scale, value in (
            ("big", 1000, noise(steps)[index]),
            ("small", 1, noise(steps, 1)[index]),
        )
        if name == "big" or index < (short or steps)
    ]
    write(folder, dict(zip(("shop", "time", "y"), zip(*rows, strict=True), strict=True)))


def test_every_series_has_its_own_scale(tmp_path: Path) -> None:
    two_series(tmp_path)
    data = load(tmp_path, series="shop", test=20, season=1)
    assert list(data.preprocessing["series"]) == ["big", "small"]
    big, small = data.train.batch().values[:, :, 0].chunk(2)
    for part in (big, small):
        assert abs(part.mean()) < 0.2
        assert part.std().item() == pytest.approx(1.0, abs=0.2)
    assert data.train.units is not None
    assert sorted(data.train.units.scale.unique().log10().round().tolist()) == [0.0, 3.0]
    assert data.test is not None
    assert len(data.test) == 2 * (20 - 3 + 1)


def test_a_series_that_is_too_short_is_named(tmp_path: Path) -> None:
    two_series(tmp_path, short=10)
    message = refusal(tmp_path, series="shop", season=1)
    assert 'horizon = 3 is longer than the validation part of series "small", 2 of 10' in message


# --- times that are not a series ---


def test_doubled_times_are_named_and_may_be_several_series(tmp_path: Path) -> None:
    write(tmp_path, {"time": [START, START + HOUR, START + HOUR], "y": [1, 2, 3]})
    assert refusal(tmp_path) == (
        "series.csv, line 4: the time 2024-01-01 01:00:00 occurs twice. Keep one row. "
        'If there are several series, name their column: series = "COLUMN".'
    )


def test_times_out_of_order_are_named(tmp_path: Path) -> None:
    write(tmp_path, {"time": [START + HOUR, START + 2 * HOUR, START], "y": [1, 2, 3]})
    assert refusal(tmp_path).startswith(
        "series.csv, line 4: the time 2024-01-01 00:00:00 follows 2024-01-01 02:00:00. "
        "Sort the rows by time."
    )


@pytest.mark.parametrize("several", [False, True])
def test_a_series_whose_latest_row_comes_first_is_read_backwards(
    tmp_path: Path, several: bool
) -> None:
    times = [START + step * HOUR for step in range(60)]
    columns = {
        "time": [*times, *times],
        "y": [*noise(60), *noise(60)],
        "s": ["a"] * 60 + ["b"] * 60,
    }
    if not several:
        columns = {name: values[:60] for name, values in columns.items()}
    write(tmp_path, columns)
    key = {"series": "s"} if several else {}
    ascending = load(tmp_path, **key)
    write(tmp_path, {name: values[::-1] for name, values in columns.items()})
    descending = load(tmp_path, **key)
    assert descending.preprocessing == ascending.preprocessing
    assert torch.equal(descending.train.batch().values, ascending.train.batch().values)


def test_doubled_times_within_a_series_name_it(tmp_path: Path) -> None:
    write(tmp_path, {"time": [START, START, START], "y": [1, 2, 3], "shop": ["a", "b", "b"]})
    assert refusal(tmp_path, series="shop") == (
        'series.csv, line 4: the time 2024-01-01 00:00:00 of series "b" occurs twice. Keep one row.'
    )


def test_a_time_off_the_grid_is_named(tmp_path: Path) -> None:
    times = [START + row * HOUR for row in range(30)]
    times[20] += timedelta(minutes=10)
    write(tmp_path, {"time": times, "y": noise(30)})
    assert refusal(tmp_path) == (
        "series.csv, line 22: the time 2024-01-01 20:10:00 follows 2024-01-01 19:00:00, but most "
        "rows are 1 hour apart. Correct the time, or resample the series to even steps."
    )


def test_rows_that_are_mostly_absent_are_no_series(tmp_path: Path) -> None:
    times = [START, START + HOUR, START + 2 * HOUR, START + 90 * HOUR]
    write(tmp_path, {"time": times, "y": noise(4)})
    assert "87 of 91 rows are missing" in refusal(tmp_path)


def test_a_single_row_is_no_series(tmp_path: Path) -> None:
    write(tmp_path, {"y": [1.0]})
    assert "a series needs at least two rows" in refusal(tmp_path)


# --- series that are too short, or say nothing ---


def test_a_horizon_longer_than_a_part_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"y": noise(100)})
    assert refusal(tmp_path, horizon=30, season=1) == (
        "series.csv: horizon = 30 is longer than the validation part, 20 of 100 rows. "
        "Shorten the horizon, add rows, or change test and validation under [data]."
    )
    assert "the test part, 2 of 100 rows" in refusal(tmp_path, test=2, season=1)


@pytest.mark.parametrize("test", [100, 5000])
def test_a_test_of_all_rows_leaves_none_to_train(tmp_path: Path, test: int) -> None:
    write(tmp_path, {"y": noise(100)})
    assert "the validation part, 0 of 100 rows" in refusal(tmp_path, test=test, season=1)


def test_a_window_longer_than_the_training_part_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"y": noise(100)})
    assert refusal(tmp_path, window=60, season=24) == (
        "series.csv: the training part has 80 of 100 rows, but window = 60, horizon = 3, "
        "season = 24 need 84. Make them smaller, or add rows."
    )


def test_a_column_without_values_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"y": noise(100), "c": [math.nan] * 100})
    assert 'column "c" has no value in the 80 training rows' in refusal(tmp_path, covariates=["c"])


def test_gaps_everywhere_leave_nothing_to_drop(tmp_path: Path) -> None:
    values = [math.nan if row % 4 == 0 else value for row, value in enumerate(noise(100))]
    write(tmp_path, {"y": values})
    assert "every training window touches a missing value" in refusal(
        tmp_path, missing="drop", season=1
    )


def test_a_series_that_never_changes_has_no_mase(tmp_path: Path) -> None:
    write(tmp_path, {"y": [5.0] * 100})
    assert "mase is not defined on the validation rows" in refusal(tmp_path, "mase")
    assert load(tmp_path).baselines["last value"] == 0.0


def test_text_in_a_column_of_numbers_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"y": [1, 2, "x", 4]})
    assert 'line 4: column "y" is "x", not a finite number' in refusal(tmp_path)


def test_usual_errors_are_those_of_nine_in_ten() -> None:
    normal = np.random.default_rng(0).normal(size=10_000) * 2
    assert robust_deviation(normal) == pytest.approx(2.0, rel=0.03)
    assert robust_deviation(np.concatenate([normal, np.full(300, 1e9)])) < 2.5
    assert robust_deviation(np.array([math.nan])) == 0.0


# --- real data ---


def test_the_traffic_study_reproduces_its_floors_and_forecasts_every_hour() -> None:
    spec = study_file.load(TRAFFIC)
    data = load_dataset(spec, TRAFFIC.parent)
    assert data.test is not None
    assert len(data.test) == 3504 - 24 + 1
    assert data.outputs == 24
    deviation = 1972.7  # of the hours before the test
    naive = data.baselines["seasonal-naive"] / deviation
    assert naive == pytest.approx(0.133, abs=0.001)
    assert data.baselines["median of 4 seasons"] / deviation == pytest.approx(0.100, abs=0.001)
    missing = data.test.targets.isnan()
    assert int(missing[:, 0].sum()) == int(missing[:, -1].sum()) == 5
    json.dumps(data.preprocessing)
    yesterday = load_dataset(study_file.load(TRAFFIC, ["data.season=24"]), TRAFFIC.parent)
    assert yesterday.baselines["seasonal-naive"] / deviation == pytest.approx(0.259, abs=0.001)


def test_the_traffic_studys_season_would_be_found() -> None:
    spec = study_file.load(TRAFFIC)
    content = spec.model_dump(mode="json")
    content["data"]["season"] = None
    found = load_dataset(study_file.parse(content, source="x"), TRAFFIC.parent)
    assert found.preprocessing["season"] == 168

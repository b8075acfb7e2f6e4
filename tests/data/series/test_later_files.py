"""Series in several files: later rows in files of their own are as if they stood in one."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
import torch
from helpers.bundles import DATA, train
from helpers.series_rows import HOUR, START, daily, load, noise, refusal, study, targets_of, write

from gru_optuna.data.load import load_dataset, load_folds
from gru_optuna.estimators import GRUForecaster

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from gru_optuna.data.dataset import Dataset, Split

TRAFFIC_FINGERPRINT = "da065ffef1df1486052c0a37c72b0c2484b7a78ee81e6f239cf50b1e58c8a2bd"
"""Of studies/traffic.toml, as the first release took it."""


def write_parts(folder: Path, columns: dict[str, list[Any]], *starts: int) -> None:
    """All rows as series.csv; and the same cut at `starts` as 0.csv, 1.csv, …"""
    steps = len(next(iter(columns.values())))
    write(folder, columns)
    for number, (begin, end) in enumerate(zip((0, *starts), (*starts, steps), strict=True)):
        part = {name: values[begin:end] for name, values in columns.items()}
        write(folder, part, file=f"{number}.csv", first=begin)


def inputs(split: Split | None) -> Tensor:
    assert split is not None
    return split.batch().values


def assert_equal(one: Dataset, other: Dataset) -> None:
    """The same rows in the same parts, prepared the same way."""
    assert (one.test is None) == (other.test is None)
    for a, b in (
        (one.train, other.train), (one.validation, other.validation), (one.test, other.test),
    ):  # fmt: skip
        if a is not None and b is not None:
            assert torch.equal(inputs(a), inputs(b))
            torch.testing.assert_close(targets_of(a), targets_of(b), rtol=0, atol=0, equal_nan=True)
    assert one.preprocessing == other.preprocessing
    assert one.baselines == other.baselines


def rich(steps: int = 480) -> dict[str, list[Any]]:
    """A series with a gap on both sides of step 400, and covariates of both sorts."""
    columns = {"y": daily(steps // 24), "c": noise(steps, 1), "k": noise(steps, 2)}
    for row in (100, 101, 399, 400, 450):
        columns["y"][row] = math.nan
    return columns


ROLES = {"covariates": ["c"], "known": ["k"]}


# --- as one file ---


@pytest.mark.parametrize("missing", ["interpolate", "drop"])
@pytest.mark.parametrize("gap", [0, 5])
def test_a_test_file_is_as_the_last_rows_of_one_file(
    tmp_path: Path, missing: str, gap: int
) -> None:
    write_parts(tmp_path, rich(), 400)
    one = load(tmp_path, test=80, validation=60, gap=gap, missing=missing, **ROLES)
    two = load(
        tmp_path, train="0.csv", test="1.csv", validation=60, gap=gap, missing=missing, **ROLES
    )
    assert_equal(one, two)
    # Nobody may take these rows for those: the study file says only the files' names.
    assert one.fingerprint != two.fingerprint


@pytest.mark.parametrize("gap", [0, 5])
def test_validation_and_test_files_follow_one_another(tmp_path: Path, gap: int) -> None:
    write_parts(tmp_path, rich(), 340, 400)
    one = load(tmp_path, test=80, validation=60 - gap, gap=gap, **ROLES)
    three = load(tmp_path, train="0.csv", validation="1.csv", test="2.csv", gap=gap, **ROLES)
    # The gap is taken from the earlier of two parts, as it is within a file.
    assert_equal(one, three)
    assert len(three.validation) == 60 - gap - 3 + 1


def test_a_validation_file_alone_leaves_no_test(tmp_path: Path) -> None:
    write_parts(tmp_path, rich(), 400)
    two = load(tmp_path, train="0.csv", validation="1.csv", **ROLES)
    assert two.test is None
    assert_equal(load(tmp_path, validation=80, **ROLES), two)


def test_folds_share_out_the_training_file(tmp_path: Path) -> None:
    write_parts(tmp_path, rich(), 400)
    one = load_folds(study(test=80, folds=3, gap=2, **ROLES), tmp_path)
    two = load_folds(study(train="0.csv", test="1.csv", folds=3, gap=2, **ROLES), tmp_path)
    for a, b in zip(one, two, strict=True):
        assert_equal(a, b)


def test_a_forecast_is_trained_on_all_files(tmp_path: Path) -> None:
    write_parts(tmp_path, rich(), 340, 400)
    keys = {"train": "0.csv", "validation": "1.csv", "test": "2.csv", **ROLES}
    spec = study(**keys, season=1)
    found = load_dataset(spec, tmp_path)
    refitted = load_dataset(spec, tmp_path, refit=True)
    assert found.test is not None
    assert len(refitted.train) == len(found.train) + 60 + (len(found.test) + spec.data.horizon - 1)
    assert refitted.fingerprint == found.fingerprint


def test_several_series_each_go_on_in_the_later_file(tmp_path: Path) -> None:
    shops = {"a": (0, 200), "b": (30, 250)}  # they begin and end at different times
    rows = [
        (shop, START + step * HOUR, values[step], step >= end - 50)
        for shop, (begin, end) in shops.items()
        for values in (noise(300, begin),)
        for step in range(begin, end)
    ]
    past, later = ([row for row in rows if row[3] == is_later] for is_later in (False, True))
    later.sort(key=lambda row: row[1])  # the rows of both shops stand mixed
    for file, kept in (("series.csv", rows), ("0.csv", past), ("1.csv", later)):
        of, times, values, _ = zip(*kept, strict=True)
        write(tmp_path, {"shop": of, "time": times, "y": values}, file=file)
    keys = {"series": "shop", "season": 1, "validation": 40}
    assert_equal(
        load(tmp_path, test=50, **keys), load(tmp_path, train="0.csv", test="1.csv", **keys)
    )


def test_rows_of_the_later_file_change_nothing_that_training_sees(tmp_path: Path) -> None:
    columns = rich()
    write_parts(tmp_path, columns, 400)
    keys = {"train": "0.csv", "test": "1.csv", **ROLES}
    before = load(tmp_path, **keys)
    for name, values in columns.items():
        columns[name] = values[:400] + [1e6 * value for value in noise(80, 7)]
    write_parts(tmp_path, columns, 400)
    after = load(tmp_path, **keys)
    for a, b in ((before.train, after.train), (before.validation, after.validation)):
        assert torch.equal(inputs(a), inputs(b))
        torch.testing.assert_close(a.targets, b.targets, rtol=0, atol=0, equal_nan=True)
    assert before.preprocessing == after.preprocessing
    assert not torch.equal(inputs(before.test), inputs(after.test))
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize(("gap", "last_trained"), [(0, 199), (4, 199), (9, 196)])
def test_steps_between_two_files_are_missing_and_in_no_part(
    tmp_path: Path, gap: int, last_trained: int
) -> None:
    """The value of a row is its number; 6 rows are absent behind the 200th."""
    write(tmp_path, {"y": range(200)}, file="0.csv")
    write(tmp_path, {"y": range(206, 260)}, file="1.csv", first=206)
    keys = {"train": "0.csv", "season": 1, "gap": gap, "calendar": False}
    data = load(tmp_path, "rmse", **keys, validation="1.csv", stride=1)
    trained, validated = targets_of(data.train).round(), targets_of(data.validation).round()
    assert int(trained.max()) == last_trained
    assert (int(validated.min()), int(validated.max())) == (206, 259)
    assert not data.validation.targets.isnan().any()
    # The first present is the last absent step, whose value is the last one that was known.
    scale = data.preprocessing["series"][""]
    present = inputs(data.validation)[0, :, 0].double() * scale["deviation"] + scale["mean"]
    assert present.round().tolist() == [199] * 6
    dropped = load(tmp_path, "rmse", **keys, validation="1.csv", missing="drop", stride=1)
    assert int(targets_of(dropped.validation).round().min()) == 206 + 6


def test_a_split_of_one_file_keeps_its_fingerprint() -> None:
    spec = study(
        train="traffic_hourly.csv", time="datetime", target="traffic_volume", horizon=24, test=3504
    )
    assert load_dataset(spec, DATA).fingerprint == TRAFFIC_FINGERPRINT


def test_dates_of_both_files_are_read_in_one_order(tmp_path: Path) -> None:
    """Day or month first? The later file alone would leave it open."""
    days = [datetime(2024, 1, 20) + timedelta(days=n) for n in range(100)]
    lines = [f"{day:%d/%m/%Y},{value}" for day, value in zip(days, noise(100), strict=True)]
    cut = days.index(datetime(2024, 4, 1))
    for file, part in (("0.csv", lines[:cut]), ("1.csv", lines[cut : cut + 12])):
        (tmp_path / file).write_text("\n".join(["time,y", *part]) + "\n")
    data = load(tmp_path, train="0.csv", test="1.csv", season=1)
    assert data.test is not None
    assert len(data.test) == 12 - 3 + 1


# --- what does not fit together ---


def write_two(folder: Path, later: dict[str, Sequence[Any]], first: int = 100, **more: Any) -> None:
    write(folder, {"y": noise(100)}, file="0.csv")
    write(folder, later, file="1.csv", first=first, **more)


def test_rows_that_overlap_are_refused(tmp_path: Path) -> None:
    write_two(tmp_path, {"y": noise(40)}, first=99)
    assert refusal(tmp_path, train="0.csv", test="1.csv") == (
        "1.csv, line 2: the time 2024-01-05 03:00:00 is not after 2024-01-05 03:00:00, the last "
        "in 0.csv, whose rows must come before these. Remove the rows that overlap, or use a part "
        "of one file, such as test = 0.2."
    )
    assert "0.csv, line 2: the time 2024-01-01 00:00:00 is not after 2024-01-06" in refusal(
        tmp_path, train="1.csv", test="0.csv"
    )
    assert "0.csv, line 2: the time 2024-01-01 00:00:00 is not after" in refusal(
        tmp_path, train="0.csv", validation="0.csv"
    )


def test_rows_out_of_order_within_the_later_file_are_named(tmp_path: Path) -> None:
    times = [START + step * HOUR for step in (100, 102, 101)]
    write_two(tmp_path, {"time": times, "y": noise(3)})
    assert refusal(tmp_path, train="0.csv", test="1.csv").startswith(
        "1.csv, line 4: the time 2024-01-05 05:00:00 follows 2024-01-05 06:00:00. Sort the rows"
    )


def test_later_rows_between_two_steps_are_refused(tmp_path: Path) -> None:
    times = [START + step * HOUR + timedelta(minutes=10) for step in range(100, 140)]
    write_two(tmp_path, {"time": times, "y": noise(40)})
    assert refusal(tmp_path, train="0.csv", test="1.csv") == (
        "1.csv, line 2: the time 2024-01-05 04:10:00 follows 2024-01-05 03:00:00, the last in "
        "0.csv, but most rows are 1 hour apart. Correct the time, or resample the series to even "
        "steps."
    )


@pytest.mark.parametrize(("minutes", "apart"), [(30, "30 minutes"), (120, "2 hours")])
def test_another_frequency_is_refused(tmp_path: Path, minutes: int, apart: str) -> None:
    times = [START + 100 * HOUR + row * timedelta(minutes=minutes) for row in range(40)]
    write_two(tmp_path, {"time": times, "y": noise(40)})
    assert refusal(tmp_path, train="0.csv", test="1.csv") == (
        f"1.csv: the rows are {apart} apart, but those of 0.csv 1 hour. Resample them, or name "
        f"another file."
    )


def test_months_go_on_whatever_their_length(tmp_path: Path) -> None:
    months = [datetime(2000 + n // 12, n % 12 + 1, 1) for n in range(200)]
    for file, part in (("0.csv", months[:180]), ("1.csv", months[180:])):
        write(tmp_path, {"time": part, "y": noise(len(part))}, file=file)
    data = load(tmp_path, train="0.csv", test="1.csv")
    assert data.preprocessing["frequency"] == {"count": 1, "unit": "M"}
    assert data.test is not None
    assert len(data.test) == 20 - 3 + 1


def test_a_file_years_later_is_no_part_of_the_series(tmp_path: Path) -> None:
    write_two(tmp_path, {"y": noise(40)}, first=9000)
    assert refusal(tmp_path, train="0.csv", test="1.csv").endswith(
        "the last in 0.csv, but most rows are 1 hour apart. 8900 of 9040 rows are missing. Add "
        "them, or resample the series to even steps."
    )
    write_two(tmp_path, {"y": noise(40)}, first=102)
    assert "2 of 142 rows are missing" in refusal(
        tmp_path, train="0.csv", test="1.csv", missing="refuse"
    )


def test_a_series_that_one_file_lacks_is_named(tmp_path: Path) -> None:
    def shops(file: str, begin: int, *names: str) -> None:
        rows = [(START + step * HOUR, shop) for step in range(begin, begin + 60) for shop in names]
        times, of = zip(*rows, strict=True)
        write(tmp_path, {"time": times, "shop": of, "y": noise(len(of))}, file=file)

    shops("ab.csv", 0, "a", "b")
    shops("a.csv", 60, "a")
    shops("abc.csv", 60, "a", "b", "c")
    keys = {"series": "shop", "train": "ab.csv"}
    assert refusal(tmp_path, test="a.csv", **keys) == (
        'a.csv has no rows of series "b", which is in ab.csv. Add them, or remove the series there.'
    )
    assert refusal(tmp_path, validation="abc.csv", **keys) == (
        'abc.csv, line 4: series "c" is not in ab.csv, whose rows come before these. Remove '
        "the series, or add its earlier rows there."
    )


def test_other_columns_and_values_are_named(tmp_path: Path) -> None:
    write_two(tmp_path, {"z": noise(40)})
    assert refusal(tmp_path, train="0.csv", test="1.csv").startswith('1.csv: no column "y".')
    write_two(tmp_path, {"y": [*noise(39), "many"]})
    assert refusal(tmp_path, train="0.csv", test="1.csv").startswith(
        '1.csv, line 41: column "y" is "many", not a finite number.'
    )
    assert "1.csv, line 41" in refusal(tmp_path, train="0.csv", validation="1.csv")


def test_a_later_file_that_is_too_short_is_named(tmp_path: Path) -> None:
    write_two(tmp_path, {"y": noise(2)})
    assert refusal(tmp_path, train="0.csv", test="1.csv", season=1) == (
        "1.csv: horizon = 3 is longer than the test part, 2 of 102 rows. Shorten the horizon, "
        "add rows, or change test and validation under [data]."
    )


def test_rows_from_a_program_have_no_later_file() -> None:
    with pytest.raises(
        ValueError, match=r'"later\.csv" names a file, but the training rows are in'
    ):
        GRUForecaster(3, data={"test": "later.csv"}).fit(noise(100))


# --- bundles ---


def test_a_bundle_of_two_files_forecasts_as_its_trial_did(tmp_path: Path) -> None:
    hours = pl.read_csv(DATA / "traffic_hourly.csv", infer_schema_length=None)[:3000]
    hours[:2500].write_csv(tmp_path / "past.csv")
    hours[2500:].write_csv(tmp_path / "later.csv")
    path = tmp_path / "x.toml"
    path.write_text(
        'name = "x"\ntask = "forecasting"\n[data]\ntrain = "past.csv"\ntest = "later.csv"\n'
        'time = "datetime"\ntarget = "traffic_volume"\nhorizon = 24\nknown = ["temp"]\n'
    )
    model = train(path)
    test = model.dataset.test
    assert test is not None
    assert test.units is not None
    expected = test.units.restore(model.outputs[0])
    empty = pl.int_range(pl.len()) < len(hours) - 24
    ahead = hours.with_columns(pl.when(empty).then("traffic_volume"))
    predicted = model.bundle.predict(ahead)
    assert predicted["prediction"].to_list() == expected[-1].tolist()
    assert "`past.csv`, `later.csv`" in model.bundle.files["README.md"].decode()

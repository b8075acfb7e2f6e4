"""Covariates of words: what each lights, what training knows of them, and what bundles keep."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import torch
from helpers.bundles import DATA, Model, train
from helpers.series_rows import load, noise, refusal, write

import gru_optuna
from gru_optuna.bundle.folder import write_files
from gru_optuna.bundle.manifest import write_json
from gru_optuna.data.series.categories import Categories
from gru_optuna.errors import BundleError, DataError
from gru_optuna.estimators import GRUForecaster
from gru_optuna.inspection.inspect import inspect
from gru_optuna.scaffold.draft import draft_study

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gru_optuna.data.dataset import Split

WEATHER = ["Clouds", "Clear", "Rain", "Mist"]
PLAIN = {"season": 1, "calendar": False, "stride": 1}


def channel(split: Split | None, number: int) -> torch.Tensor:
    assert split is not None
    return split.batch().values[:, :, number]


def weather(steps: int, words: Sequence[str] = WEATHER) -> list[str]:
    return [words[place] for place in np.random.default_rng(3).integers(0, len(words), steps)]


# --- which words ---


def test_the_most_frequent_words_have_channels() -> None:
    words = Categories.of(["b", "a", "a", None, "c", "b", "a"])
    assert (words.kept, words.rest, words.channels) == (("a", "b", "c"), False, 3)
    # Of equally frequent ones the alphabet decides, whatever the order of the rows.
    assert Categories.of("zyx").kept == Categories.of("xyz").kept == ("x", "y", "z")
    column = np.array(["c", None, "a", "never met"], dtype=object)
    assert words.encode(column).tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert np.isnan(words.encode(column, np.nan)[1]).all()


def test_words_beyond_sixteen_share_a_channel() -> None:
    many = Categories.of(f"w{n:02}" for n in range(20) for _ in range(40 - n))
    assert many.kept == tuple(f"w{n:02}" for n in range(16))
    assert (many.rest, many.channels) == (True, 17)
    lit = many.encode(np.array(["w15", "w16", "w19", "never met"], dtype=object))
    assert lit.argmax(axis=1).tolist() == [15, 16, 16, 16]
    assert lit.sum(axis=1).tolist() == [1, 1, 1, 1]
    assert not Categories.of(f"w{n:02}" for n in range(16)).rest


# --- windows ---


def test_words_of_the_past_light_their_channels(tmp_path: Path) -> None:
    words = weather(200)
    write(tmp_path, {"y": noise(200), "w": words, "c": noise(200, 1)})
    data = load(tmp_path, covariates=["w", "c"], test=40, **PLAIN)
    kept = data.preprocessing["words"]["w"]["kept"]
    assert sorted(kept) == sorted(WEATHER)
    assert data.channels == 1 + 1 + 4  # the target, the numbers, the words
    for place, word in enumerate(kept):
        # The last test window's inputs are the rows before the last horizon.
        expected = [float(one == word) for one in words[200 - 3 - 6 : 200 - 3]]
        assert channel(data.test, 2 + place)[-1].tolist() == expected
    assert len(data.preprocessing["covariates"]["means"]) == 1


def test_known_words_are_given_a_horizon_early(tmp_path: Path) -> None:
    days = ["Labor Day" if n % 50 in (3, 4) else "None" for n in range(200)]
    write(tmp_path, {"y": noise(200), "holiday": days})
    data = load(tmp_path, known=["holiday"], test=40, **PLAIN)
    assert data.preprocessing["words"]["holiday"] == {"kept": ["None", "Labor Day"], "rest": False}
    expected = [float(day == "Labor Day") for day in days]
    for row in range(40 - 3 + 1):
        present = 200 - 40 - 1 + row
        assert channel(data.test, 2)[row].tolist() == expected[present - 2 : present + 4]


def test_training_rows_alone_decide(tmp_path: Path) -> None:
    words = weather(300)
    columns: dict[str, Sequence[Any]] = {"y": noise(300), "w": words}
    write(tmp_path, columns)
    before = load(tmp_path, covariates=["w"], known=["w"], test=60, **PLAIN)
    write(tmp_path, columns | {"w": [*words[:192], *["Squall", "Fog"] * 54]})
    after = load(tmp_path, covariates=["w"], known=["w"], test=60, **PLAIN)
    assert before.preprocessing == after.preprocessing
    assert before.fingerprint != after.fingerprint
    for number in range(5):
        assert torch.equal(channel(before.train, number), channel(after.train, number))
    # What training hasn't met lights nothing.
    for number in range(1, 9):
        assert channel(before.test, number).any()
        assert not channel(after.test, number).any()


def test_rare_words_of_a_long_tail_are_one(tmp_path: Path) -> None:
    streets = [f"street {n % 40 if n % 3 else n}" for n in range(6000)]
    write(tmp_path, {"y": noise(6000), "street": streets})
    data = load(tmp_path, covariates=["street"], **PLAIN)
    words = data.preprocessing["words"]["street"]
    assert (len(words["kept"]), words["rest"]) == (16, True)
    assert data.channels == 1 + 17
    found = [one.message for one in inspect([tmp_path / "series.csv"]).findings]
    assert any(
        "the 16 most frequent of the training rows get a channel each" in one for one in found
    )


def test_several_series_share_their_words(tmp_path: Path) -> None:
    times = [f"2024-01-{day:02} {hour:02}:00" for day in range(1, 9) for hour in range(24)]
    columns = {"time": times * 2, "shop": ["a"] * 192 + ["b"] * 192, "y": noise(384)}
    write(tmp_path, columns | {"w": ["dry"] * 192 + ["wet"] * 192})
    data = load(tmp_path, series="shop", covariates=["w"], **PLAIN)
    assert data.preprocessing["words"]["w"]["kept"] == ["dry", "wet"]
    lit = channel(data.train, 1)
    assert lit[: len(lit) // 2].all()
    assert not lit[len(lit) // 2 :].any()


# --- missing words ---


def test_a_missing_category_is_none(tmp_path: Path) -> None:
    words: list[str] = weather(200)
    words[190] = ""
    write(tmp_path, {"y": noise(200), "w": words})
    data = load(tmp_path, covariates=["w"], test=40, **PLAIN)
    lit = sum(channel(data.test, number)[-1] for number in range(1, 5))
    assert torch.is_tensor(lit)
    # Rows 191 to 196 are the last window, and 190 to 195 the one before.
    assert lit.tolist() == [1, 1, 1, 1, 1, 1]
    lit = sum(channel(data.test, number)[-2] for number in range(1, 5))
    assert torch.is_tensor(lit)
    assert lit.tolist() == [0, 1, 1, 1, 1, 1]


def test_windows_that_touch_a_missing_word_are_dropped_if_asked_for(tmp_path: Path) -> None:
    words: list[str] = weather(200)
    write(tmp_path, {"y": noise(200), "w": words})
    whole = len(load(tmp_path, covariates=["w"], missing="drop", **PLAIN).train)
    words[60] = " "
    write(tmp_path, {"y": noise(200), "w": words})
    assert len(load(tmp_path, covariates=["w"], missing="drop", **PLAIN).train) == whole - 6


def test_missing_words_are_refused_if_asked_for(tmp_path: Path) -> None:
    write(tmp_path, {"y": noise(50), "w": [*weather(30), "", *weather(19)]})
    assert refusal(tmp_path, covariates=["w"], missing="refuse").startswith(
        'series.csv, line 32: column "w" is empty, but missing = "refuse".'
    )


def test_a_column_without_words_in_training_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"y": noise(100), "w": [""] * 90 + ["Rain"] * 10})
    assert refusal(tmp_path, covariates=["w"]) == (
        'series.csv: column "w" has no value in the training rows. Name another column, or make '
        "the validation and test parts smaller."
    )
    write(tmp_path, {"y": noise(100), "w": [""] * 100})
    assert 'column "w" has no value in the 80 training rows' in refusal(tmp_path, covariates=["w"])


def test_a_mistake_among_numbers_makes_no_words(tmp_path: Path) -> None:
    write(tmp_path, {"y": noise(100), "c": [*noise(99), "1.2.3"]})
    assert 'line 101: column "c" is "1.2.3", not a finite number' in refusal(
        tmp_path, covariates=["c"]
    )
    write(tmp_path, {"y": ["x"] * 100})  # a target is of numbers, whatever it holds
    assert 'line 2: column "y" is "x", not a finite number' in refusal(tmp_path)


# --- bundles ---


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Of real traffic, with its weather in words, and holidays that nobody else has."""
    folder = tmp_path_factory.mktemp("traffic")
    hours().write_csv(folder / "traffic.csv")
    (folder / "x.toml").write_text(
        'name = "x"\ntask = "forecasting"\n[data]\ntrain = "traffic.csv"\ntime = "datetime"\n'
        'target = "traffic_volume"\ncovariates = ["temp", "weather_main"]\n'
        'known = ["holiday", "clouds_all"]\nhorizon = 24\ntest = 500\n'
    )
    return train(folder / "x.toml")


def hours() -> pl.DataFrame:
    rows = pl.read_csv(DATA / "traffic_hourly.csv", infer_schema_length=None)[:3000]
    day = pl.col("datetime").str.slice(5, 5)
    holiday = (
        pl.when(day == "11-24").then(pl.lit("Thanksgiving Day"))
        .when(day == "12-26").then(pl.lit("Christmas Day"))
        .otherwise(pl.lit("None"))
    )  # fmt: skip
    return rows.with_columns(holiday=holiday)


def ahead(rows: pl.DataFrame) -> pl.DataFrame:
    """The last day is still to come."""
    present = pl.int_range(pl.len()) < len(rows) - 24
    return rows.with_columns(pl.when(present).then("traffic_volume"))


def test_a_bundle_tells_what_its_trial_told(model: Model, tmp_path: Path) -> None:
    assert model.bundle.manifest.format == 3
    model.bundle.save(tmp_path / "bundle")
    bundle = gru_optuna.load_bundle(tmp_path / "bundle")
    test = model.dataset.test
    assert test is not None
    assert test.units is not None
    expected = test.units.restore(model.outputs[0])
    for back in (0, 100, 400):
        told = bundle.predict(ahead(hours()[: 3000 - back]))
        np.testing.assert_array_equal(told["prediction"], expected[-1 - back])
    shuffled = hours().select(sorted(hours().columns))
    shuffled.write_csv(tmp_path / "new.csv")
    assert bundle.predict(ahead(shuffled)).equals(bundle.predict(ahead(hours())))
    card = bundle.files["README.md"].decode()
    assert "In `holiday` it knows None, Thanksgiving Day; other values are ignored." in card
    words = json.loads(bundle.files["preprocessing/0.json"])["words"]
    counts = hours()[:2000]["weather_main"].value_counts(sort=True)  # of the training rows
    assert words["weather_main"]["kept"][:3] == counts["weather_main"].to_list()[:3]


def test_words_matter_to_a_forecast_and_new_ones_do_not_stop_it(model: Model) -> None:
    rows = ahead(hours())
    usual = model.bundle.predict(rows)["prediction"]
    for column in ("holiday", "weather_main"):
        unknown = model.bundle.predict(rows.with_columns(pl.lit("never met").alias(column)))
        empty = model.bundle.predict(rows.with_columns(pl.lit("").alias(column)))
        assert not (unknown["prediction"] == usual).any()
        assert unknown.equals(empty)
    # A column of nothing but numbers, or of "None", is one of words because training says so.
    numbers = model.bundle.predict(rows.with_columns(holiday=pl.lit(7)))
    assert numbers.equals(model.bundle.predict(rows.with_columns(holiday=pl.lit("never met"))))
    none = model.bundle.predict(rows.with_columns(holiday=pl.lit("None")))
    assert none["prediction"].equals(usual)


def test_a_missing_word_is_refused_in_prediction_too(tmp_path: Path) -> None:
    write(tmp_path, {"y": noise(200), "w": weather(200)})
    (tmp_path / "x.toml").write_text(
        'name = "x"\ntask = "forecasting"\n[data]\ntrain = "series.csv"\ntime = "time"\n'
        'target = "y"\nhorizon = 3\ncovariates = ["w"]\nmissing = "refuse"\ntest = 40\nseason = 1\n'
    )
    bundle = train(tmp_path / "x.toml").bundle
    rows = pl.read_csv(tmp_path / "series.csv")
    gap = pl.int_range(pl.len()) == 197
    with pytest.raises(DataError, match="a value is missing in the 6 rows that a forecast needs"):
        bundle.predict(rows.with_columns(pl.when(~gap).then("w")))


def test_bundles_without_words_hold_none(tmp_path: Path) -> None:
    write(tmp_path, {"y": noise(200)})
    (tmp_path / "x.toml").write_text(
        'name = "x"\ntask = "forecasting"\n[data]\ntrain = "series.csv"\ntime = "time"\n'
        'target = "y"\nhorizon = 3\ntest = 40\n'
    )
    bundle = train(tmp_path / "x.toml").bundle
    # Key by key what the first release wrote, and how times are written.
    assert sorted(json.loads(bundle.files["preprocessing/0.json"])) == [
        "calendar", "columns", "covariates", "frequency", "horizon", "kind", "missing", "season",
        "seasons", "series", "times", "window",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "file", "message"),
    [
        ({"format": 1}, "bundle.json", "its content needs format 3, but it declares format 1"),
        ({"words": {"x": {"kept": ["a"], "rest": False}}}, "preprocessing/0.json",
         "categories of x, which is not a covariate"),
        ({"words": {"holiday": {"kept": ["a", "a"], "rest": False}}}, "preprocessing/0.json",
         "a name occurs twice"),
        ({"words": {"holiday": {"kept": [], "rest": False}}}, "preprocessing/0.json",
         "at least 1 item"),
        ({"words": {}}, "preprocessing/0.json", "2 entries for 4 covariates"),
    ],
)  # fmt: skip
def test_words_that_do_not_fit_are_refused(
    model: Model, tmp_path: Path, changed: dict[str, Any], file: str, message: str
) -> None:
    files = dict(model.bundle.files)
    files[file] = write_json(json.loads(files[file]) | changed)
    write_files(tmp_path / "bundle", files)
    with pytest.raises(BundleError, match=message):
        gru_optuna.load_bundle(tmp_path / "bundle")


# --- from other doors ---


def test_holidays_beside_none_are_words_to_inspect_and_init(tmp_path: Path) -> None:
    hours().write_csv(tmp_path / "traffic.csv")
    found = inspect([tmp_path / "traffic.csv"])
    kinds = {column.name: column.kind for column in found.files[0].columns}
    assert (kinds["holiday"], kinds["weather_main"]) == ("category", "category")
    assert not any(finding.blocks for finding in found.findings)
    text = draft_study(tmp_path / "traffic.csv", "forecasting").toml
    assert 'known = ["holiday"] # known for' in text
    assert 'weather_main"] # known up to now' in text
    # An empty field in place of "None": the training rows may have no word at all.
    gaps = hours().with_columns(pl.when(pl.col("holiday") != "None").then("holiday"))
    gaps.write_csv(tmp_path / "traffic.csv")
    text = draft_study(tmp_path / "traffic.csv", "forecasting").toml
    assert "\nknown = [] # known for" in text
    assert '# known = ["holiday"] # where a field is empty' in text


def test_an_estimator_takes_words_of_a_frame() -> None:
    frame = pl.DataFrame({"w": weather(200)})
    model = GRUForecaster(
        3, {"hidden_size": 4}, trials=1, epochs=1, n_jobs=1, progress=False, random_state=0
    ).fit(noise(200), frame)
    assert model.bundle_.encoder.as_json()["words"]["w"]["rest"] is False
    assert model.predict().shape == (3,)

"""Ridge regression on lags: from a study's origins and from whole series it predicts the same."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from helpers.raw_folds import small_study
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from gru_optuna.baselines.lag_ridge import Base, LagRidge, LagRidgeModel
from gru_optuna.baselines.rows import Origins, read_raw_folds
from gru_optuna.bundle.linear import linear_as_json, read_linear
from gru_optuna.bundle.manifest import write_json
from gru_optuna.data.load import load_dataset
from gru_optuna.data.series.encoder import SeriesEncoder
from gru_optuna.data.series.prepare import read_forecasting
from gru_optuna.errors import BundleError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.data.series.series import Series
    from gru_optuna.study_file import Specification

PLAIN: dict[str, Any] = {"covariates": [], "known": [], "season": 24}


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> tuple[Specification, Path]:
    """A study of two shops, of which one began a few hours later."""
    folder = tmp_path_factory.mktemp("shops")
    spec = small_study(folder, "series", series="shop", **PLAIN)
    file = folder / "series.csv"
    header, *lines = file.read_text().splitlines()
    rows = [f"{line},a" for line in lines]
    for line in lines[7:]:
        time, value, *others = line.split(",")
        rows.append(",".join([time, str(1000 + 10 * float(value)), *others, "b"]))
    file.write_text("\n".join([f"{header},shop", *rows]) + "\n")
    return spec, folder


def cut(series: Series, first: int, origin: int) -> Series:
    """The steps from one to the last that is known."""
    steps = slice(first, origin + 1)
    time = series.first + (first * np.timedelta64(1, "h"))
    return replace(
        series, first=time, target=series.target[steps], past=series.past[steps],
        known=series.known[steps], files=((0, origin + 1 - first),),
    )  # fmt: skip


def read_again(model: LagRidgeModel, spec: Specification, folder: Path) -> LagRidgeModel:
    encoder = SeriesEncoder.from_json(load_dataset(spec, folder).preprocessing, spec.data)
    content = write_json(linear_as_json(model))
    read = read_linear(content, save(model.arrays), encoder, (), "here", "there")
    assert isinstance(read, LagRidgeModel)
    assert write_json(linear_as_json(read)) == content
    return read


@settings(max_examples=40, deadline=None)
@given(
    base=st.sampled_from(get_args(Base)),
    log=st.booleans(),
    lags=st.integers(1, 30),
    before=st.integers(0, 40),
    row=st.integers(0, 10**6),
)
def test_whole_series_are_predicted_as_a_study_predicts_them(
    shops: tuple[Specification, Path], base: Base, log: bool, lags: int, before: int, row: int
) -> None:
    """Whichever step the rows begin with, and after the model was written and read."""
    spec, folder = shops
    (fold,) = read_raw_folds(spec, folder)
    model = LagRidge(spec, fold).fit({"lags": lags, "base": base, "log": log, "penalty": 0.01})
    assert fold.test is not None
    tested = fold.test.inputs
    assert isinstance(tested, Origins)
    row %= len(tested)
    number, origin = int(tested.series[row]), int(tested.at[row])
    series = read_forecasting(spec, folder).rows.series[number]
    first = max(0, origin + 1 - model.reading.needed - before)
    rows = [cut(series, first, origin)]
    expected = model(tested)[row]
    np.testing.assert_allclose(model(rows)[0], expected, rtol=1e-9)
    read = read_again(model, spec, folder)
    np.testing.assert_array_equal(read(rows)[0], model(rows)[0])
    # Beside another series, too, bit for bit.
    np.testing.assert_array_equal(read([*rows, series])[0], read(rows)[0])


def test_too_few_rows_are_refused(shops: tuple[Specification, Path]) -> None:
    spec, folder = shops
    (fold,) = read_raw_folds(spec, folder)
    model = LagRidge(spec, fold).fit({"lags": 9, "base": "median", "log": False, "penalty": 0.01})
    assert model.reading.needed == 9 + 24 * model.reading.seasons
    series = read_forecasting(spec, folder).rows.series[1]
    short = cut(series, 0, model.reading.needed - 2)
    with pytest.raises(
        DataError, match=r"there are 32 rows of series \"b\" up to .* reads 33\. Add"
    ):
        model([short])


def test_a_model_that_reads_covariates_is_no_member(tmp_path: Path) -> None:
    for keys, covariates in (({}, True), (PLAIN, False)):
        spec = small_study(tmp_path, "series", **keys)
        (fold,) = read_raw_folds(spec, tmp_path)
        shared = {"lags": 9, "base": "last", "log": False, "penalty": 0.01}
        assert LagRidge(spec, fold).fit(shared).covariates == covariates


def test_after_refitting_the_newest_rows_are_training_rows(
    shops: tuple[Specification, Path],
) -> None:
    spec, folder = shops
    (fold,) = read_raw_folds(spec, folder, refit=True)
    (before,) = read_raw_folds(spec, folder)
    refitted, measured = fold.train.inputs, before.train.inputs
    assert isinstance(refitted, Origins)
    assert isinstance(measured, Origins)
    assert [table.training for table in refitted.tables] == [200, 193]
    assert [table.training for table in measured.tables] == [130, 123]
    assert len(refitted) == len(measured) + 2 * 70


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "another series": ({"levels": {"a": {}, "c": {}}}, "its series are not those of the networks"),
    "one series": ({"levels": {"a": {}}}, "its series are not those of the networks"),
    "no lags": ({"lags": 0}, "greater than or equal to 1"),
    "more lags than weights": ({"lags": 5}, "means is torch.float32"),
    "an unknown base": ({"base": "future"}, "base: Input should be"),
    "a wave": ({"level": {"usual": [1.0]}}, "its calendar is not that of the networks"),
    "a spread of nothing": ({"level": {"deviation": 0.0}}, "deviation: "),
    "a level that is no number": ({"level": {"mean": "1"}}, "mean: Input should be"),
    "logarithms of nothing": ({"log": True, "level": {"least": 0.0}}, "that aren't positive"),
    "an infinite number": ({"log": True, "level": {"most": 1e6}}, "or too large"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_of_series_is_refused(shops: tuple[Specification, Path], name: str) -> None:
    spec, folder = shops
    (fold,) = read_raw_folds(spec, folder)
    model = LagRidge(spec, fold).fit({"lags": 9, "base": "last", "log": False, "penalty": 0.01})
    changes, words = HOSTILE[name]
    content = json.loads(write_json(linear_as_json(model)))
    usual = content["levels"]["a"]
    if "levels" in changes:
        content["levels"] = dict.fromkeys(changes["levels"], usual)
    else:
        usual.update(changes.get("level", {}))
        content |= {key: value for key, value in changes.items() if key != "level"}
    encoder = SeriesEncoder.from_json(load_dataset(spec, folder).preprocessing, spec.data)
    with pytest.raises(BundleError, match=words):
        read_linear(json.dumps(content).encode(), save(model.arrays), encoder, (), "x", "y")

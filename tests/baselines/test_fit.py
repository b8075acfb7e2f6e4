"""Simple models: they learn what there is, from the training rows alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.raw_folds import KINDS, small_fold, small_study
from sklearn.linear_model import Ridge

from gru_optuna.baselines import rows as raw_rows
from gru_optuna.baselines.features import statistics
from gru_optuna.baselines.fit import Chosen, LeftOut, families_of, fit_all
from gru_optuna.baselines.ridge import RidgePath
from gru_optuna.baselines.rows import Origins, RawFold, RawPart, read_raw_folds
from gru_optuna.baselines.series import SeasonalNaive
from gru_optuna.data.load import load_dataset, load_folds
from gru_optuna.data.metrics import as_outputs, measure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gru_optuna.study_file import Specification


@pytest.fixture(autouse=True)
def _small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer trees and convolutions: what is tested here is not how good they are."""
    monkeypatch.setattr("gru_optuna.baselines.sequences._TREES", 20)
    monkeypatch.setattr("gru_optuna.baselines.convolutions._MOST_FEATURES", 672)


def fitted(spec: Specification, folds: Sequence[RawFold], seconds: float = 60) -> list[Chosen]:
    found = list(fit_all(spec, folds, seconds))
    return [model for model in found if isinstance(model, Chosen)]


@pytest.mark.parametrize(
    ("kind", "metric", "reached"),
    [
        ("texts", "accuracy", 1.0),
        ("sentences without spaces", "log_loss", 0.3),
        ("text numbers", "rmse", 0.2),
        ("sequences", "accuracy", 1.0),
        ("numbers", "mae", 0.2),
        ("series", "mae", 0.5),
    ],
)
def test_each_kind_of_rows_has_a_model_that_learns_them(
    tmp_path: Path, kind: str, metric: str, reached: float
) -> None:
    spec = small_study(tmp_path, kind, metric)
    folds = read_raw_folds(spec, tmp_path)
    models = fitted(spec, folds)
    assert models
    best = min(models, key=lambda model: spec.as_loss(model.validation))
    (predictions,) = best.predict(folds, "test")
    test = folds[0].test
    assert test is not None
    value = measure(spec.metric, as_outputs(predictions, test.truth), test.truth)
    assert spec.as_loss(value) <= spec.as_loss(reached), models


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_the_networks_in_their_order(tmp_path: Path, kind: str) -> None:
    spec = small_study(tmp_path, kind)
    fold, dataset = read_raw_folds(spec, tmp_path)[0], load_dataset(spec, tmp_path)
    for part in ("validation", "test"):
        ours, theirs = getattr(fold, part), getattr(dataset, part)
        expected = theirs.targets.numpy()
        if theirs.units is not None:
            expected = theirs.units.restore(theirs.targets).numpy()
        np.testing.assert_allclose(ours.targets, expected, rtol=1e-5, atol=1e-5)


def _with_other_evaluation(fold: RawFold) -> RawFold:
    """The same training rows; validation and test rows in another order, with other targets."""

    def changed(part: RawPart | None) -> RawPart | None:
        if part is None:
            return None
        split = part.truth
        return replace(part, truth=replace(split, targets=split.targets.flip(0)))

    inputs = fold.train.inputs
    if isinstance(inputs, Origins):
        tables = tuple(
            replace(
                table,
                target=np.concatenate(
                    [table.target[: table.training], 7 - table.target[table.training :]]
                ),
            )
            for table in inputs.tables
        )
        fold = replace(fold, train=replace(fold.train, inputs=replace(inputs, tables=tables)))
    return replace(fold, validation=changed(fold.validation), test=changed(fold.test))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fitted_model_does_not_depend_on_validation_and_test_rows(
    tmp_path: Path, kind: str
) -> None:
    spec = small_study(tmp_path, kind)
    (fold,) = read_raw_folds(spec, tmp_path)
    other = _with_other_evaluation(fold)
    for family in families_of(spec).values():
        try:
            models = family(spec, fold), family(spec, other)
        except Exception as error:  # statsmodels may be missing
            assert "not installed" in str(error)  # noqa: PT017
            continue
        settings = next(iter(models[0].settings()))
        # The rows of the first fold: only what was learned may differ.
        first, second = (model.fit(settings)(fold.train.inputs) for model in models)
        np.testing.assert_array_equal(first, second)


def test_settings_are_those_that_are_best_on_the_validation_rows(tmp_path: Path) -> None:
    spec = small_study(tmp_path, "numbers", "mae")
    (fold,) = folds = read_raw_folds(spec, tmp_path)
    (model,) = (model for model in fitted(spec, folds) if model.family == "extra trees")
    family = families_of(spec)["extra trees"](spec, fold)
    values = {
        str(settings): measure(
            "mae",
            as_outputs(family.fit(settings)(fold.validation.inputs), fold.validation.truth),
            fold.validation.truth,
        )
        for settings in family.settings()
    }
    assert str(model.settings) == min(values, key=lambda key: values[key])
    assert model.validation == values[str(model.settings)]
    assert model.tried == len(values)


def test_settings_that_were_chosen_before_are_fitted_without_a_search(tmp_path: Path) -> None:
    spec = small_study(tmp_path, "sequences")
    folds = read_raw_folds(spec, tmp_path)
    before = fitted(spec, folds)
    again = list(fit_all(spec, folds, 60, {model.family: model.settings for model in before}))
    for model, same in zip(before, again, strict=True):
        assert isinstance(same, Chosen)
        assert (same.name, same.settings, same.tried) == (model.name, model.settings, 1)
        np.testing.assert_array_equal(same.predict(folds, "test"), model.predict(folds, "test"))


def test_without_time_each_family_tries_its_most_usual_settings(tmp_path: Path) -> None:
    spec = small_study(tmp_path, "sequences")
    models = fitted(spec, read_raw_folds(spec, tmp_path), seconds=0)
    assert [model.tried for model in models] == [1] * len(models)


def test_a_family_that_fails_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_study(tmp_path, "sequences")

    def fails(*_: Any) -> None:
        raise MemoryError("no room for features")

    monkeypatch.setattr("gru_optuna.baselines.sequences.FeatureTrees.fit", fails)
    found = {each.family: each for each in fit_all(spec, read_raw_folds(spec, tmp_path), 60)}
    assert isinstance(found["extra trees"], LeftOut)
    assert found["extra trees"].reason == "MemoryError: no room for features"
    assert isinstance(found["ridge regression"], Chosen)


def test_folds_are_fitted_one_by_one_and_count_with_their_mean(tmp_path: Path) -> None:
    spec = small_study(tmp_path, "numbers", "mae", folds=3)
    folds = read_raw_folds(spec, tmp_path)
    assert [len(fold.train) for fold in folds] == [len(d.train) for d in load_folds(spec, tmp_path)]
    model = fitted(spec, folds, seconds=0)[0]
    each = [
        measure("mae", as_outputs(own, fold.validation.truth), fold.validation.truth)
        for own, fold in zip(model.predict(folds, "validation"), folds, strict=True)
    ]
    assert model.validation == pytest.approx(np.mean(each))


def test_class_weights_are_those_of_the_networks(tmp_path: Path) -> None:
    def ways(metric: str, weights: str) -> set[bool]:
        spec = small_study(tmp_path, "texts", metric, class_weights=weights)
        (fold,) = read_raw_folds(spec, tmp_path)
        family = families_of(spec)["TF-IDF and a linear model"](spec, fold)
        return {settings["balanced"] for settings in family.settings()}

    assert ways("accuracy", "none") == {False}
    assert ways("accuracy", "balanced") == {True}
    assert ways("macro_f1", "none") == {False, True}


def test_more_rows_than_fit_into_time_are_drawn_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_rows, "MOST_TRAINING_ROWS", 20)
    fold = small_fold(tmp_path, "sequences")
    assert (len(fold.train), fold.of) == (20, 45)
    assert fold.test is not None
    assert len(fold.test) == 24  # of which none is left out: the winner is compared on all
    monkeypatch.setattr(raw_rows, "MOST_TRAINING_WINDOWS", 50)
    fold = small_fold(tmp_path, "series")
    assert (len(fold.train), fold.of) == (50, 127)


def test_missing_values_of_series_are_filled_as_for_networks(tmp_path: Path) -> None:
    spec = small_study(tmp_path, "series")
    file = tmp_path / "series.csv"
    lines = file.read_text().splitlines()
    for row in (20, 21, 140, 180):  # in every part
        time, _, *others = lines[row].split(",")
        lines[row] = ",".join([time, "", *others])
    file.write_text("\n".join(lines) + "\n")
    folds = read_raw_folds(spec, tmp_path)
    models = fitted(spec, folds)
    assert {model.family for model in models} >= {"naive forecasts", "ridge regression"}
    test = folds[0].test
    assert test is not None
    assert np.isnan(test.targets).any()


def test_several_series_with_levels_of_their_own_are_forecast_together(tmp_path: Path) -> None:
    spec = small_study(tmp_path, "series", series="shop")
    file = tmp_path / "series.csv"
    header, *lines = file.read_text().splitlines()
    rows = [f"{line},a" for line in lines]
    for line in lines:
        time, value, *others = line.split(",")
        rows.append(",".join([time, str(1000 + 10 * float(value)), *others, "b"]))
    file.write_text("\n".join([f"{header},shop", *rows]) + "\n")
    folds = read_raw_folds(spec, tmp_path)
    (ridge,) = (m for m in fitted(spec, folds) if m.family == "ridge regression")
    assert ridge.validation < 3  # the second one's noise is 3, the first one's 0.3
    (predictions,) = ridge.predict(folds, "test")
    assert predictions[0].mean() < 100 < predictions[-1].mean()


def test_a_forecast_with_drift_continues_the_change_of_a_season(tmp_path: Path) -> None:
    spec = small_study(tmp_path, "series")
    (fold,) = read_raw_folds(spec, tmp_path)
    origins = fold.train.inputs
    assert isinstance(origins, Origins)
    line = replace(origins.tables[0], target=np.arange(200.0))
    rows = replace(origins, tables=(line,))
    for season in (1, 24):
        model = SeasonalNaive(spec, replace(fold, train=replace(fold.train, inputs=rows)))
        forecast = model.fit({"season": season, "drift": True})
        late = rows.take(np.flatnonzero(rows.at >= 48))
        np.testing.assert_allclose(forecast(late), late.at[:, None] + np.arange(1, 4))


@pytest.mark.parametrize("features", [5, 60])  # fewer than rows, and more
def test_ridge_is_scikit_learns(features: int) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(30, features)) * 3 + 1, random.normal(size=(30, 2))
    weights = random.uniform(0.5, 2, 30)
    path = RidgePath(x, y, weights)
    share = weights / weights.mean()
    mean = np.average(x, axis=0, weights=share)
    scaled = (x - mean) / np.sqrt(np.average((x - mean) ** 2, axis=0, weights=share))
    for penalty in (1.0, 0.01):
        gram = scaled.T @ (share[:, None] * scaled)
        unit = np.linalg.eigvalsh(gram).clip(min=0).sum() / min(30, features)
        expected = Ridge(alpha=penalty * unit).fit(scaled, y, sample_weight=share)
        np.testing.assert_allclose(path.solve(penalty)(x), expected.predict(scaled), atol=1e-8)


def test_robust_ridge_forgives_outliers() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 3))
    truth = x @ np.array([[1.0], [2.0], [-1.0]])
    y = truth + 0.1 * random.normal(size=(200, 1))
    y[:10] += 50
    path = RidgePath(x, y)
    plain, robust = (np.abs(path.solve(1e-4, robust=r)(x) - truth).mean() for r in (False, True))
    assert robust < 0.2 * plain


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_rows_of_few_steps_have_whole_statistics(steps: int) -> None:
    rows = [np.arange(2.0 * steps).reshape(steps, 2) for _ in range(3)]
    assert np.isfinite(statistics(rows, 5)).all()

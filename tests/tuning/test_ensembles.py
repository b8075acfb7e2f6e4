"""Ensembles: who is selected, what is recorded of it, and what is taken away."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import pytest
import torch
from helpers.small_studies import write_study
from sklearn.metrics import log_loss

from gru_optuna import study_file, tune
from gru_optuna.baselines.background import BackgroundFit
from gru_optuna.baselines.rows import read_raw_folds
from gru_optuna.bundle.load import load_bundle
from gru_optuna.bundle.onnx import to_onnx
from gru_optuna.data.dataset import Split, Units
from gru_optuna.data.metrics import combined, mean_metric
from gru_optuna.errors import BundleError, DataError
from gru_optuna.seeds import trial_seed
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.calibration import read_calibration
from gru_optuna.study.ensemble import OWN_SEED
from gru_optuna.study.study import load_study
from gru_optuna.study.summary import summarize
from gru_optuna.tuning.confirm import Place
from gru_optuna.tuning.ensemble_selection import blend, independent_rows, select_members
from gru_optuna.tuning.export import make_winner
from gru_optuna.tuning.forecast import make_forecast
from gru_optuna.worker.run import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gru_optuna.data.metrics import Predictions
    from gru_optuna.study.summary import Summary

NEVER = threading.Event()
WORDS = [f"{first}{second}" for first in "bdfgklmnprst" for second in ("a", "e", "i", "o", "u")]


def write_texts(path: Path, count: int = 700) -> None:
    """Texts whose label is that of most of their words; each word has one, but for chance."""
    random = np.random.default_rng(0)
    words = random.integers(0, len(WORDS), (count, 5))
    labels = np.where((words % 2).sum(axis=1) > 2, "odd", "even")
    labels[random.random(count) < 0.1] = "odd"
    texts = [" ".join(WORDS[word] for word in row) for row in words]
    sizes = words.sum(axis=1) + random.normal(size=count)
    pl.DataFrame({"words": texts, "kind": labels, "size": sizes}).write_csv(path)


def tuned(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, **keys: Any) -> Summary:
    """Tunes and confirms a study with 200 validation rows or more."""
    monkeypatch.setattr("gru_optuna.tuning.baselines.WAIT_SECONDS", 300.0)  # machines are busy
    monkeypatch.setattr("gru_optuna.tuning.baselines._GRACE_SECONDS", 300.0)
    write_texts(folder / "rows.csv")
    content: dict[str, Any] = {
        "name": name,
        "task": "classification",
        "data": {"train": "rows.csv", "text": "words", "label": "kind", "test": 0.2,
                 "validation": 0.4, "max_tokens": 5},
        "model": {"hidden_size": 4, "embedding_size": 4},
        "search": {"learning_rate": [0.01, 0.03]},
        "training": {"epochs": 3},
        "budget": {"trials": 2},
        "confirmation": {"candidates": 2, "seeds": 2},
    }  # fmt: skip
    path = write_study(folder / f"{name}.toml", content | keys)
    url = f"sqlite:///{folder / 'study.db'}"
    tune(path, storage=url, device="cpu", threads=1, slots=2, report=folder / "report")
    return summarize(*load_study(open_storage(url), name))


def place_of(folder: Path) -> Place:
    return Place(f"sqlite:///{folder / 'study.db'}", folder, WorkerSettings("cpu", 1, 2))


def test_a_selected_ensemble_of_networks_and_a_linear_model_is_what_was_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tuned(tmp_path, "words", monkeypatch)
    assert summary.best is not None
    found = summary.best.confirmed
    assert found is not None
    assert found.ensemble is not None
    assert found.ensemble.selected
    assert found.ensemble.rows == 224
    assert found.ensemble.networks
    (baseline,) = found.ensemble.baselines
    assert "TF-IDF" in baseline.name
    bundle = make_winner("words", place_of(tmp_path), NEVER)
    assert bundle.manifest.format == 3
    assert len(bundle.networks) == len(found.ensemble.networks)
    bundle.save(tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle")
    assert baseline.name in loaded.files["README.md"].decode()

    # The predictions of the exported bundle reach the recorded value, on the study's test rows.
    test = read_raw_folds(bundle.spec, tmp_path)[0].test
    assert test is not None
    texts, right = list(cast("Sequence[str]", test.inputs)), np.array(bundle.labels)[test.targets]
    assert found.test is not None
    assert found.test.ensemble is not None
    reached = (loaded.predict(texts) == right).mean()
    assert reached == pytest.approx(found.test.ensemble["value"])

    # Its probabilities are at the temperature that was fitted on the validation rows.
    study, _ = load_study(open_storage(place_of(tmp_path).url), "words")
    calibration = read_calibration(study, found.winner)
    assert calibration is not None
    assert calibration.rows == len(texts)
    assert loaded.manifest.temperature == calibration.temperature != 1
    shares = loaded.predict_proba(texts)
    assert log_loss(right, shares) == pytest.approx(calibration.after.log_loss, rel=1e-6)
    assert calibration.in_words()[:40] in loaded.files["README.md"].decode()
    assert calibration.in_words() in (tmp_path / "report" / "index.html").read_text()

    # A row is predicted alike, whatever the others are.
    together = loaded.predict_proba(texts)
    np.testing.assert_array_equal(together[::-1], loaded.predict_proba(texts[::-1]))
    alone = np.concatenate([loaded.predict_proba([text]) for text in texts[:5]])
    np.testing.assert_array_equal(together[:5], alone)
    np.testing.assert_array_equal(together, bundle.predict_proba(texts))

    with pytest.raises(BundleError, match=r"a linear model, which.*Export with --single"):
        to_onnx(bundle)
    single = make_winner("words", place_of(tmp_path), NEVER, ensemble=False)
    assert (len(single.networks), single.linear) == (1, ())
    assert single.manifest.temperature == calibration.single
    assert to_onnx(single)
    refitted = make_winner("words", place_of(tmp_path), NEVER, refit=True)
    assert len(refitted.linear) == 1
    # It has learned from more rows.
    models = [each.linear[0].predict for each in (bundle, refitted)]
    assert not np.array_equal(*(model.arrays["offsets"] for model in models))


def test_folds_select_by_predictions_of_rows_that_each_fold_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"train": "rows.csv", "text": "words", "target": "size", "test": 0.2, "folds": 2}
    summary = tuned(tmp_path, "sizes", monkeypatch, task="regression", data=data)
    assert summary.best is not None
    assert summary.best.confirmed is not None
    found = summary.best.confirmed.members
    assert (found.selected, found.rows) == (True, 560)
    bundle = make_winner("sizes", place_of(tmp_path), NEVER)
    assert len(bundle.networks) == 2 * len(found.networks)  # one of each fold
    assert len(bundle.linear) == 2 * len(found.baselines) == 2
    frame = bundle.predict_frame(["ba de fi", "ra"], ["80"])
    assert frame["prediction"].is_finite().all()
    widths = frame["high_80"] - frame["low_80"]
    assert bundle.manifest.intervals is not None
    assert not bundle.manifest.intervals.relative
    np.testing.assert_allclose(widths, 2 * bundle.manifest.intervals.widths["80"][0])


def test_a_simple_model_that_cannot_predict_the_test_rows_is_no_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = BackgroundFit.predict

    def fails(fit: BackgroundFit, part: str, *waiting: Any) -> dict[str, list[Any]]:
        return {} if part == "test" else predict(fit, part, *waiting)

    monkeypatch.setattr(BackgroundFit, "predict", fails)
    summary = tuned(tmp_path, "words", monkeypatch, confirmation={"candidates": 1, "seeds": 2})
    assert summary.best is not None
    assert summary.best.confirmed is not None
    found = summary.best.confirmed.members
    assert (found.selected, found.baselines) == (True, [])
    assert summary.compared() == []


def test_networks_of_trials_that_were_not_confirmed_may_be_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def every_network(
        _spec: object, networks: Sequence[object], models: Sequence[object], _winner: object
    ) -> tuple[list[int], list[int]]:
        return [1] * len(networks), [0] * len(models)

    monkeypatch.setattr("gru_optuna.tuning.confirm.select_members", every_network)
    summary = tuned(
        tmp_path, "words", monkeypatch, budget={"trials": 3}, fit_baselines=False,
        confirmation={"candidates": 1, "seeds": 2}, search={"learning_rate": 0.01},
        pruner={"name": "none"},
    )  # fmt: skip
    assert summary.best is not None
    assert summary.best.confirmed is not None
    found = summary.best.confirmed
    others = {m.number for m in found.members.networks if m.index == OWN_SEED}
    assert others == {0, 1, 2} - {found.winner}
    bundle = make_winner("words", place_of(tmp_path), NEVER)
    study, _ = load_study(open_storage(place_of(tmp_path).url), "words")
    members = {m.trial: m for m in bundle.manifest.members if m.trial is not None}
    assert members.keys() == others
    for number, member in members.items():
        assert member.validation == study.trials[number].value
        assert member.seed == trial_seed(0, number)
    refitted = make_winner("words", place_of(tmp_path), NEVER, refit=True)
    assert len(refitted.networks) == 4


def test_a_limit_on_parameters_means_one_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tuned(
        tmp_path, "small", monkeypatch, constraints=["network_parameters <= 2000"],
        fit_baselines=False,
    )  # fmt: skip
    assert summary.best is not None
    found = summary.best.confirmed
    assert found is not None
    assert [(m.number, m.index) for m in found.members.networks] == [
        (found.winner, found.won.typical)
    ]
    assert found.test is not None
    assert found.test.ensemble is None
    assert len(make_winner("small", place_of(tmp_path), NEVER).networks) == 1


def test_few_sequences_have_a_ridge_regression_beside_the_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    kinds, lengths = np.arange(250) % 4, random.integers(20, 30, 250)
    turns = np.arange(30) / (3 + 2 * kinds[:, None]) + random.uniform(0, 6, (250, 1))
    values = np.stack([np.sin(turns), np.cos(turns)], axis=2) + random.normal(0, 0.5, (250, 30, 2))
    np.savez(tmp_path / "waves.npz", values=values, lengths=lengths, labels=kinds.astype(str))
    data = {"train": "waves.npz", "test": 0.3, "validation": 0.4}
    summary = tuned(tmp_path, "waves", monkeypatch, data=data, model={"hidden_size": 4})
    assert summary.best is not None
    assert summary.best.confirmed is not None
    found = summary.best.confirmed.members
    assert 50 <= (found.rows or 0) < 200
    (baseline,) = found.baselines
    assert "ridge regression" in baseline.name
    assert baseline.weight in {len(found.networks), 3 * len(found.networks)}
    bundle = make_winner("waves", place_of(tmp_path), NEVER)
    bundle.save(tmp_path / "bundle")
    test = read_raw_folds(bundle.spec, tmp_path)[0].test
    assert test is not None
    rows = list(cast("Sequence[np.ndarray]", test.inputs))
    predicted = load_bundle(tmp_path / "bundle").predict(rows)
    both = summary.best.confirmed.test
    assert both is not None
    assert both.ensemble is not None
    right = predicted == np.array(bundle.labels)[test.targets]
    assert right.mean() == pytest.approx(both.ensemble["value"])
    assert both.ensemble["value"] > both.value


# --- the selection ---


def predictions(*errors: float, rows: int = 400) -> list[Predictions]:
    """Numbers that are off by so much, each in its own way; all pairs are of the same rows."""
    random = torch.Generator().manual_seed(0)
    truth = torch.randn(rows, 1, generator=random, dtype=torch.float64)
    units = Units(torch.zeros(rows, 1, dtype=torch.float64), torch.ones(rows, 1).double())
    none = torch.zeros(rows, dtype=torch.int64)
    split = Split(torch.zeros(0, 0), none, none, truth, units)
    return [
        [(truth + error * torch.randn(rows, 1, generator=random).double(), split)]
        for error in errors
    ]


SPEC = study_file.parse(
    {"name": "x", "task": "regression", "metric": "rmse", "data": {"train": "x.npz"}}, "x"
)


def value(members: Sequence[Predictions], weights: Sequence[int]) -> float:
    chosen = [(m, float(w)) for m, w in zip(members, weights, strict=True) if w]
    return mean_metric("rmse", [combined([m for m, _ in chosen], [w for _, w in chosen])])


def test_the_selection_is_no_worse_on_its_rows_than_the_winner_or_any_simple_model() -> None:
    networks, models = predictions(1.0, 1.0, 0.8, 5.0), predictions(0.9)
    counts, of_models = select_members(SPEC, networks, models, [0, 1])
    reached = value([*networks, *models], counts + of_models)
    assert reached < value(networks, [1, 1, 0, 0])
    assert reached < value(models, [1])
    assert counts[3] == 0  # it would only disturb


def test_on_few_rows_one_simple_model_counts_as_much_as_the_networks_or_not_at_all() -> None:
    networks, models = predictions(1.0, 1.0), predictions(3.0, 0.7, 0.1, rows=400)
    assert blend(SPEC, networks, models[:1], 400) == [0]
    assert blend(SPEC, networks, models[:2], 400) == [0, 2]
    assert blend(SPEC, networks, models, 400) == [0, 0, 6]
    assert blend(SPEC, networks, [], 400) == []


def test_on_very_few_rows_the_best_simple_model_counts_half_if_it_may_help() -> None:
    first, second, *models = predictions(1.0, 1.0, 1.5, 0.9, 0.1, 5.0, rows=30)
    networks, far_worse = [first, second], models.pop()
    assert blend(SPEC, networks, models[:1], 50) == [0]
    assert blend(SPEC, networks, models[:1], 30) == [2]  # chance might explain that it is worse
    assert blend(SPEC, networks, models[:2], 30) == [0, 2]
    assert blend(SPEC, networks, models, 30) == [0, 0, 6]  # far better
    assert blend(SPEC, networks, [far_worse], 30) == [0]
    assert blend(SPEC, networks, [], 30) == []
    halves = torch.arange(15), torch.arange(15, 30)
    folds = [
        [(outputs[half], split.rows(half)) for half in halves]
        for [(outputs, split)] in [*networks, *models]
    ]
    assert blend(SPEC, folds[:2], folds[2:], 30) == [0, 0, 6]


def test_a_much_better_simple_model_still_has_a_network_beside_it() -> None:
    networks, models = predictions(5.0, 5.0), predictions(0.01)
    counts, of_models = select_members(SPEC, networks, models, [0, 1])
    assert sum(counts) == 1
    assert of_models[0] >= 20
    assert value([*networks, *models], counts + of_models) < 0.3


def test_a_short_series_is_forecast_by_networks_and_a_ridge_regression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as much as they do, or three times: ten validation windows can't say more."""
    hours, random = np.arange(200), np.random.default_rng(0)
    values = 10 + 3 * np.sin(hours * np.pi / 12) + 0.3 * random.normal(size=200)
    rows = pl.DataFrame({"step": hours + 1, "load": values})
    rows.write_csv(tmp_path / "load.csv")
    data = {"train": "load.csv", "time": "step", "target": "load", "horizon": 3, "window": 12,
            "season": 24, "test": 40, "validation": 30}  # fmt: skip
    found = tuned(tmp_path, "load", monkeypatch, task="forecasting", data=data,
                  model={"hidden_size": 4}).best  # fmt: skip
    assert found is not None
    assert found.confirmed is not None
    ensemble, tested = found.confirmed.ensemble, found.confirmed.test
    assert ensemble is not None
    (baseline,) = ensemble.baselines
    assert "ridge regression on" in baseline.name
    assert len(ensemble.networks) == 2
    assert baseline.weight in (2, 6)
    assert tested is not None
    assert tested.ensemble is not None

    make_winner("load", place_of(tmp_path), NEVER, refit=False).save(tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle")
    # The exported bundle makes the forecasts that were tested, each from the rows before it.
    made = [loaded.predict_frame(rows.head(origin))["prediction"] for origin in range(160, 198)]
    truth = np.lib.stride_tricks.sliding_window_view(values[160:], 3)
    off = np.abs(np.stack(made) - truth).mean()
    assert off == pytest.approx(tested.ensemble["value"], rel=1e-5)
    # It says how many rows that takes.
    stated = re.search(r"and the (\d+) rows before it", loaded.files["README.md"].decode())
    assert stated is not None
    needed = int(stated[1]) + 1
    assert len(loaded.predict(rows.tail(needed))) == 3
    with pytest.raises(DataError, match="Add earlier rows"):
        loaded.predict(rows.tail(needed - 1))

    forecast = make_forecast("load", place_of(tmp_path), NEVER)
    assert forecast["step"].to_list() == ["201", "202", "203"]  # as texts, as in the file
    following = 10 + 3 * np.sin(np.arange(200, 203) * np.pi / 12)
    assert np.abs(forecast["prediction"].to_numpy() - following).mean() < 1


def test_windows_count_without_overlap_and_groups_once() -> None:
    (((_, split),),) = predictions(1.0)
    assert independent_rows(split, None) == 400
    assert independent_rows(split, 24) == 17
    owners = torch.tensor([0] * 100 + [1] * 300)
    assert independent_rows(replace(split, groups=owners), 24) == 5 + 13
    # Numbers of groups that other parts hold are missing here.
    assert independent_rows(replace(split, groups=2 * owners), None) == 2

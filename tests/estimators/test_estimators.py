"""Estimators of scikit-learn: rows as people have them, kept studies, bundles, pipelines."""

from __future__ import annotations

import inspect
import os
import pickle
import pty
import re
import sys
import termios
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pandas as pd
import polars as pl
import pytest
from helpers.tiny_estimators import TINY
from helpers.workspaces import REPOSITORY
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from gru_optuna import GRUClassifier, GRUForecaster, GRURegressor, load_bundle
from gru_optuna.data.readers.sequence_files import read_sequences
from gru_optuna.errors import StudyFailed

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SMALL: dict[str, Any] = TINY | {"trials": 2, "epochs": 3, "random_state": 0}
DATA = REPOSITORY / "studies" / "data"

Rows = tuple[list["NDArray[np.float64]"], list[str]]


@pytest.fixture(scope="module")
def vowels() -> Rows:
    """Nine speakers: arrays (T, 12) of 7 to 29 steps, and their labels."""
    read = read_sequences(DATA / "japanese_vowels_train.ts")
    return read.values, read.labels


@pytest.fixture(scope="module")
def speakers(vowels: Rows) -> GRUClassifier:
    """Fitted on them."""
    return GRUClassifier(**SMALL | {"epochs": 8}).fit(*vowels)


@pytest.fixture(scope="module")
def snippets() -> tuple[list[str], list[str]]:
    rows = pl.read_csv(DATA / "movie_snippets.csv").head(240)
    return rows["text"].to_list(), rows["label"].to_list()


# --- sequences ---


def test_one_line_finds_a_model_of_sequences_that_differ_in_length(
    speakers: GRUClassifier,
) -> None:
    test = read_sequences(DATA / "japanese_vowels_test.ts")
    assert speakers.score(test.values, test.labels) > 0.85
    assert speakers.classes_.tolist() == [str(speaker) for speaker in range(1, 10)]
    assert speakers.n_features_in_ == 12
    shares = speakers.predict_proba(test.values)
    assert shares.shape == (370, 9)
    assert np.allclose(shares.sum(axis=1), 1)
    assert (speakers.classes_[shares.argmax(axis=1)] == speakers.predict(test.values)).all()


def test_a_fitted_one_holds_the_study_and_the_bundle(
    speakers: GRUClassifier, vowels: Rows, tmp_path: Path
) -> None:
    assert [trial.state.is_finished() for trial in speakers.study_.trials] == [True, True]
    assert speakers.best_score_ == speakers.study_.best_value
    assert speakers.best_params_["hidden_size"] == 8
    assert speakers.bundle_.manifest.metrics["search"] == speakers.best_score_
    speakers.bundle_.save(tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle")
    assert (loaded.predict(vowels[0]) == speakers.predict(vowels[0])).all()


def test_all_rows_train_the_model_unless_it_is_to_be_the_trial(
    speakers: GRUClassifier, vowels: Rows
) -> None:
    """Trained again on the same rows, a trial reaches what it had reached."""
    assert speakers.bundle_.manifest.refitted
    own = clone(speakers).set_params(refit=False).fit(*vowels)
    assert not own.bundle_.manifest.refitted
    (member,) = own.bundle_.manifest.members
    assert member.validation == own.best_score_ == speakers.best_score_
    assert member.epochs == own.study_.best_trial.user_attrs["best_epoch"]
    assert (own.predict_proba(vowels[0]) != speakers.predict_proba(vowels[0])).any()


def test_a_pickle_holds_the_model_as_bytes_and_predicts_the_same(
    speakers: GRUClassifier, vowels: Rows
) -> None:
    state = speakers.__getstate__()
    assert all(isinstance(content, bytes) for content in state["bundle_"].values())
    again = pickle.loads(pickle.dumps(speakers))  # noqa: S301 (our own)
    assert (again.predict_proba(vowels[0]) == speakers.predict_proba(vowels[0])).all()
    assert again.study_.best_params == speakers.study_.best_params
    assert clone(speakers).get_params() == speakers.get_params()


def test_the_same_random_state_finds_the_same(speakers: GRUClassifier, vowels: Rows) -> None:
    again = clone(speakers).fit(*vowels)
    assert again.study_.trials_dataframe()["value"].equals(
        speakers.study_.trials_dataframe()["value"]
    )
    assert (again.predict_proba(vowels[0]) == speakers.predict_proba(vowels[0])).all()
    threads = clone(speakers).set_params(n_jobs=2).fit(*vowels)
    assert (threads.predict_proba(vowels[0]) == speakers.predict_proba(vowels[0])).all()


def test_cubes_matrices_and_lists_are_the_same_rows(vowels: Rows) -> None:
    short = [row[:7] for row in vowels[0]]
    of_list = GRUClassifier(**SMALL).fit(short, vowels[1])
    of_cube = GRUClassifier(**SMALL).fit(np.stack(short), vowels[1])
    assert (of_list.predict_proba(np.stack(short)) == of_cube.predict_proba(short)).all()

    first = np.stack(short)[:, :, 0]
    of_matrix = GRURegressor(**SMALL).fit(first, first[:, -1])
    of_rows = GRURegressor(**SMALL).fit(list(first[:, :, None]), first[:, -1])
    assert of_matrix.n_features_in_ == 7
    assert of_rows.n_features_in_ == 1
    assert (of_matrix.predict(first) == of_rows.predict(first)).all()
    assert (of_matrix.predict([row[:, None] for row in first]) == of_matrix.predict(first)).all()


def test_folds_make_an_ensemble_or_one_network_of_all_rows(vowels: Rows) -> None:
    for refit, networks in ((False, 2), (True, 1)):
        model = GRUClassifier(**SMALL, data={"folds": 2}, refit=refit).fit(*vowels)
        assert len(model.bundle_.networks) == networks
        assert model.score(*vowels) > 0.3


def test_the_best_can_be_confirmed_on_fresh_seeds(vowels: Rows) -> None:
    model = GRUClassifier(**SMALL, confirm=2).fit(*vowels)
    confirmed = model.bundle_.manifest.metrics["confirmed"]
    assert len(confirmed["values"]) == 5
    assert model.best_score_ == confirmed["mean"]
    assert confirmed["interval"][0] <= confirmed["mean"] <= confirmed["interval"][1]
    assert "fresh seeds" in model.bundle_.files["README.md"].decode()
    # They predict together, also after they were trained again on all rows.
    assert len(model.bundle_.networks) == 5
    assert model.bundle_.manifest.refitted
    again = pickle.loads(pickle.dumps(model))  # noqa: S301 (our own)
    np.testing.assert_array_equal(again.predict_proba(vowels[0]), model.predict_proba(vowels[0]))


def test_confirmed_numbers_have_intervals(vowels: Rows) -> None:
    rows, sizes = vowels[0], np.array([float(len(row)) for row in vowels[0]])
    model = GRURegressor(**SMALL, confirm=1).fit(rows, sizes)
    narrow, wide = model.predict_interval(rows[:9]), model.predict_interval(rows[:9], 95)
    np.testing.assert_allclose(narrow.mean(axis=1), model.predict(rows[:9]), rtol=1e-9)
    assert (wide[:, 0] < narrow[:, 0]).all()
    assert (narrow[:, 1] < wide[:, 1]).all()
    with pytest.raises(ValueError, match="no intervals of level 50"):
        model.predict_interval(rows, 50)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"level 80\. It has none\..*confirmed"):
        GRURegressor(**SMALL).fit(rows, sizes).predict_interval(rows)


def test_confirmed_forecasts_have_intervals() -> None:
    model = GRUForecaster(3, season=24, **SMALL, confirm=1).fit(WAVE)
    frame = model.predict_frame(levels=[80])
    assert frame.columns == ["prediction", "low_80", "high_80"]
    assert (
        (frame["low_80"] < frame["prediction"]) & (frame["prediction"] < frame["high_80"])
    ).all()
    assert len(model.predict_frame(2, levels=[80, 95])) == 2


# --- texts ---


def test_texts_are_classified_and_regressed(snippets: tuple[list[str], list[str]]) -> None:
    texts, labels = snippets
    model = GRUClassifier(**SMALL, data={"tokenizer": "word"}).fit(texts, labels)
    assert set(model.predict(texts[:5])) <= set(labels)
    assert model.bundle_.kind == "texts"
    assert (model.predict(np.array(texts)) == model.predict(pd.Series(texts))).all()
    lengths = [float(len(text)) for text in texts]
    assert GRURegressor(**SMALL).fit(texts, lengths).predict(texts[:3]).shape == (3,)


def test_pipelines_cross_validation_and_grid_search(
    snippets: tuple[list[str], list[str]], vowels: Rows
) -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, GRUClassifier(**SMALL))
    assert len(cross_val_score(pipeline, *snippets, cv=2)) == 2
    matrix = np.stack([row[:7, 0] for row in vowels[0]])
    scaled = make_pipeline(StandardScaler(), GRUClassifier(**SMALL))
    search = GridSearchCV(scaled, {"gruclassifier__epochs": [1, 4]}, cv=2).fit(matrix, vowels[1])
    assert search.best_params_ == {"gruclassifier__epochs": 4}
    assert len(cross_val_score(GRUClassifier(**SMALL), *vowels, cv=2)) == 2


# --- classes ---


@pytest.mark.parametrize("labels", [[10, 9, 2], [True, False], ["b", "a"], [1.0, -1.0]])
def test_classes_come_back_as_they_were(labels: list[Any]) -> None:
    y = np.array((labels * 20)[:40])
    X = np.repeat(y.astype(str) == str(y[0]), 3).reshape(40, 3) + np.zeros((40, 3))
    model = GRUClassifier(**SMALL).fit(X, y)
    assert model.classes_.tolist() == sorted(labels)
    predictions = model.predict(X)
    assert predictions.dtype == y.dtype
    assert model.predict_proba(X).shape == (40, len(labels))
    assert model.score(X, y) >= 0.5


def test_weights_of_classes_move_the_predictions() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 4)), rng.integers(0, 2, 200)
    shares = [
        float(GRUClassifier(**SMALL, class_weight=weight).fit(X, y).predict(X).mean())
        for weight in ({0: 20.0}, {0: 0.05, 1: 1.0})
    ]
    assert shares[0] < 0.1
    assert shares[1] > 0.9
    GRUClassifier(**SMALL, class_weight="balanced").fit(X, y)
    for wrong in ({7: 1.0}, "heavy"):
        with pytest.raises(ValueError, match="class_weight"):
            GRUClassifier(**SMALL, class_weight=wrong).fit(X, y)


# --- kept ---


def test_a_study_in_a_storage_is_gone_on_with(vowels: Rows, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/kept.db"
    kept = SMALL | {"storage": url, "random_state": None, "epochs": 1}
    first = GRUClassifier(**kept).fit(*vowels)
    more = GRUClassifier(**kept | {"trials": 4}).fit(*vowels)
    assert [trial.value for trial in more.study_.trials][:2] == [
        trial.value for trial in first.study_.trials
    ]
    assert len(more.study_.trials) == 4
    (name,) = optuna.get_all_study_names(url)
    assert len(optuna.load_study(study_name=name, storage=url).trials) == 4
    GRUClassifier(**kept).fit(vowels[0][:200], vowels[1][:200])
    assert len(optuna.get_all_study_names(url)) == 2
    named = GRUClassifier(**kept, study_name="mine").fit(*vowels)
    assert named.study_.study_name == "mine"
    with pytest.raises(ValueError, match='study "mine": the data differ'):
        clone(named).fit(vowels[0][:200], vowels[1][:200])


def test_no_study_is_kept_unless_asked(vowels: Rows) -> None:
    from gru_optuna.estimators.base import scratch

    GRUClassifier(**SMALL | {"epochs": 1}).fit(*vowels)
    assert scratch(os.getpid())[1].get_all_studies() == []


# --- what can't be ---


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"space": {"dropuot": 0.1}}, r'GRUClassifier \[search\]: unknown key "dropuot"'),
        ({"metric": "rmse"}, '"rmse" measures regression'),
        ({"sampler": "annealing"}, r'\[sampler.name\]: got "annealing"'),
        ({"data": {"horizon": 3}}, "horizon is for forecasting"),
        ({"storage": "mysql://x/y"}, "SQLite or PostgreSQL"),
        ({"device": "cuda"}, "no CUDA device"),
        ({"validation": 1.5}, r"\[data.validation\]: got 1.5"),
        ({"trials": 0}, r"\[budget.trials\]: got 0"),
    ],
)
def test_parameters_that_cannot_be_are_value_errors(
    vowels: Rows, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        GRUClassifier(**SMALL | change).fit(*vowels)


def test_rows_unlike_those_of_fit_are_refused(
    speakers: GRUClassifier, snippets: tuple[list[str], list[str]]
) -> None:
    with pytest.raises(ValueError, match="X has texts, but GRUClassifier is expecting sequences"):
        speakers.predict(snippets[0])
    with pytest.raises(ValueError, match="X has sequences of 3 channels, but"):
        speakers.predict([np.ones((5, 3))])
    with pytest.raises(ValueError, match="X, row 1: channel 0, step 2 is inf"):
        speakers.fit([np.ones((5, 1)), np.array([1, 1, np.inf])], [0, 1])
    with pytest.raises(ValueError, match="X, row 1: the text is empty"):
        speakers.fit(["a", " "], [0, 1])


def test_a_search_in_which_every_trial_fails_says_so(vowels: Rows) -> None:
    wild = SMALL["space"] | {"learning_rate": [1e30], "clip_norm": "off"}
    model = GRUClassifier(**SMALL | {"space": wild})
    with pytest.raises(StudyFailed, match="none of 2 trials finished an epoch"):
        model.fit(*vowels)
    assert model.study_.trials[0].user_attrs["outcome"].startswith("diverged")
    with pytest.raises(NotFittedError):
        model.predict(vowels[0])


# --- series ---


WAVE = 100 + 10 * np.sin(np.arange(300) / 24 * 2 * np.pi)
WAVE += np.random.default_rng(0).normal(size=300)


def test_a_series_goes_on_in_its_own_units() -> None:
    model = GRUForecaster(6, season=24, **SMALL).fit(WAVE[:-6])
    predictions = model.predict()
    assert predictions.shape == (6,)
    assert model.score(WAVE[-6:]) == pytest.approx(-np.abs(predictions - WAVE[-6:]).mean())
    assert model.score(WAVE[-6:]) > -4
    assert (model.predict(2) == predictions[:2]).all()
    # Later rows, without fitting again; the same rows give the same.
    assert (model.predict(y=WAVE[:-6]) == predictions).all()
    assert not np.allclose(model.predict(y=WAVE[:-1]), predictions)
    again = pickle.loads(pickle.dumps(model))  # noqa: S301 (our own)
    assert (again.predict() == predictions).all()
    with pytest.raises(ValueError, match="horizon = 7, but this forecaster predicts 1 to 6 steps"):
        model.predict(7)


def test_a_pandas_series_brings_its_times() -> None:
    hours = pd.date_range("2024-01-01", periods=300, freq="h")
    model = GRUForecaster(3, **SMALL).fit(pd.Series(WAVE, index=hours))
    predictions = model.predict_frame()
    assert isinstance(predictions, pd.DataFrame)
    assert predictions["time"][0] == hours[-1] + pd.Timedelta("1h")
    assert model.bundle_.encoder.plan.season == 24
    assert predictions["prediction"].to_list() == model.predict().tolist()


@pytest.mark.parametrize(
    "times",
    [
        pd.date_range("2024-03-20", periods=303, freq="h", tz="Europe/Berlin"),
        pd.date_range("2024-01-01", periods=303, freq="D", tz="Europe/Berlin"),
        pd.date_range("2024-01-01", periods=303, freq="15min"),
        pd.period_range("1961-01", periods=303, freq="M"),
    ],
    ids=["across-a-change-of-clocks", "days-of-23-hours", "without-a-zone", "months"],
)
def test_pandas_gets_its_times_back_in_the_form_in_which_they_came(times: Any) -> None:
    past = pd.Series(WAVE, index=times[:300])
    of_series = GRUForecaster(3, **SMALL).fit(past).predict()
    assert of_series.index.tolist() == times[300:].tolist()
    frame = pd.concat(
        pd.DataFrame({"who": who, "when": times[:300], "value": WAVE}) for who in ("a", "b")
    )
    model = GRUForecaster(3, time="when", target="value", series="who", **SMALL).fit(frame)
    assert model.predict_frame()["when"].tolist() == [*times[300:]] * 2
    assert model.predict().index.tolist() == ["a", "b"]
    later = model.predict_frame(1, y=frame[frame["when"] < times[290]])
    assert later["when"].tolist() == [times[290]] * 2


def test_pandas_without_times_gets_a_series_without_times() -> None:
    predictions = GRUForecaster(3, **SMALL).fit(pd.Series(WAVE)).predict()
    assert isinstance(predictions, pd.Series)
    assert len(predictions) == 3


@pytest.mark.parametrize("library", [pd, pl])
def test_a_frame_of_numbers_is_a_matrix_and_a_column_of_strings_is_texts(library: Any) -> None:
    numbers = np.random.default_rng(0).normal(size=(20, 20))
    labels = np.arange(20) % 2
    options = SMALL | {"epochs": 1}
    of_array = GRUClassifier(**options).fit(numbers, labels)
    frame = library.DataFrame({f"c{n}": numbers[:, n] for n in range(20)})
    of_frame = GRUClassifier(**options).fit(frame, labels)
    np.testing.assert_array_equal(of_frame.predict_proba(frame), of_array.predict_proba(numbers))
    texts = [f"{'good' if label else 'bad'} film" for label in labels]
    options["data"] = {"deduplicate": False, "tokenizer": "word"}
    of_list = GRUClassifier(**options).fit(texts, labels)
    column = library.DataFrame({"review": texts})
    of_column = GRUClassifier(**options).fit(column, labels)
    np.testing.assert_array_equal(of_column.predict_proba(column), of_list.predict_proba(texts))


FILMS = [f"film {n}" for n in range(60)]
CLASSES = ["ab"[n % 2] for n in range(60)]
GRID = np.arange(240.0).reshape(60, 4)


def with_fault(rows: list[Any], fault: Any) -> list[Any]:
    """The rows with a fault in row 7."""
    return [*rows[:7], fault, *rows[8:]]


@pytest.mark.parametrize(
    ("kind", "rows", "targets", "message"),
    [
        (GRUClassifier, FILMS, with_fault(CLASSES, None), r"y, row 7: .* missing \(None\)"),
        (GRUClassifier, FILMS, with_fault(CLASSES, pd.NA), r"y, row 7: .* missing \(<NA>\)"),
        (GRUClassifier, GRID, with_fault([1.0, 2.0] * 30, np.nan), r"y, row 7: .* missing \(NaN\)"),
        (GRURegressor, GRID, with_fault([1.0] * 60, np.nan), r"y, row 7: .* missing \(NaN\)"),
        (GRURegressor, GRID, with_fault([1.0] * 60, np.inf), r"y, row 7: the target is inf"),
        (GRUClassifier, with_fault(FILMS, None), CLASSES, r"X, row 7: .* missing \(None\)"),
        (GRUClassifier, with_fault(FILMS, pd.NaT), CLASSES, r"X, row 7: .* missing \(NaT\)"),
        (GRUClassifier, with_fault(FILMS, " "), CLASSES, r"X, row 7: the text is empty"),
        (
            GRUClassifier,
            pd.DataFrame({"film": with_fault(FILMS, None)}),
            CLASSES,
            r"X, row 7: the text is missing",
        ),
        (
            GRUClassifier,
            pd.DataFrame(GRID, columns=list("pqrs")).replace(30.0, np.nan),
            CLASSES,
            r'X, row 7: column "r" is missing \(NaN\)',
        ),
        (
            GRUClassifier,
            pd.DataFrame({"film": FILMS, "year": range(60)}),
            CLASSES,
            r"one holds texts .*'film 0'.* column of texts alone",
        ),
        (GRUClassifier, np.where(GRID == 30, np.inf, GRID), CLASSES, r"X, row 7: column 2 is inf"),
        (
            GRUClassifier,
            with_fault([np.ones((3, 2))] * 60, np.full((3, 2), np.nan)),
            CLASSES,
            r"X, row 7: every value is missing",
        ),
    ],
)
def test_a_missing_value_is_refused_with_its_row(
    kind: Any, rows: Any, targets: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**SMALL).fit(rows, targets)


def test_rows_of_a_rare_class_stay_in_training() -> None:
    texts = [f"{'good' if n % 2 else 'bad'} film {n}" for n in range(300)]
    labels = np.array(["rare", *(["no", "yes"][n % 2] for n in range(1, 300))])
    with pytest.warns(UserWarning, match='class "rare" has only 1 row, which stays in training'):
        model = GRUClassifier(**SMALL | {"epochs": 1}).fit(texts, labels)
    assert set(model.classes_) == {"rare", "no", "yes"}
    spec = model.study_.user_attrs["specification"]
    assert spec["data"]["validation"] == "X held out"
    # Other rows count as before, and the final network learns from all of them.
    assert set(model.predict(texts[:5])) <= set(model.classes_)


def test_a_class_without_which_one_is_left_is_refused() -> None:
    texts = [f"film {n}" for n in range(60)]
    with pytest.raises(ValueError, match='X, row 3: class "b" has this single row'):
        GRUClassifier(**SMALL).fit(texts, ["b" if n == 3 else "a" for n in range(60)])
    equal = ["same" if n % 2 else "other" for n in range(60)]
    with pytest.raises(ValueError, match=r"single row, .* Equal texts count as one row"):
        GRUClassifier(**SMALL).fit(equal, CLASSES)


def test_numbers_of_numpy_are_numbers(vowels: Rows) -> None:
    space = {"hidden_size": [np.int64(4), np.int32(8)], "dropout": np.float32(0.5)}
    space["learning_rate"] = {"low": np.float64(1e-3), "high": np.float64(1e-2), "log": np.True_}
    model = GRUClassifier(
        space, trials=np.int64(2), epochs=np.int64(1), seconds=np.float64(60), n_jobs=1,
        random_state=0, progress=False,
    ).fit(*vowels)  # fmt: skip
    assert model.best_params_["hidden_size"] in (4, 8)
    assert model.best_params_["dropout"] == 0.5


def test_covariates_and_gaps() -> None:
    gaps = WAVE.copy()
    gaps[[50, 51, 200]] = np.nan
    X = np.cos(np.arange(300))[:, None]
    model = GRUForecaster(4, **SMALL).fit(gaps, X)
    assert np.isfinite(model.predict()).all()
    assert model.bundle_.spec.data.covariates == ["x0"]
    named = GRUForecaster(4, **SMALL).fit(gaps, pl.DataFrame({"wind": X[:, 0]}))
    assert named.bundle_.spec.data.covariates == ["wind"]
    with pytest.raises(ValueError, match="X has 299 rows, but y has 300"):
        model.fit(WAVE, X[1:])


def test_a_frame_holds_several_series_and_what_is_known_ahead() -> None:
    hours = pl.datetime_range(
        pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 13, 11), "1h", eager=True
    )
    one = pl.DataFrame({"hour": hours, "load": WAVE, "free": np.arange(300) % 7 == 0})
    both = pl.concat(
        [one.with_columns(site=pl.lit("a")), one.with_columns(pl.col("load") * 3, site=pl.lit("b"))]
    )
    columns = {"time": "hour", "target": "load", "series": "site", "known": ["free"]}
    model = GRUForecaster(4, **columns, **SMALL).fit(both.filter(pl.col("hour") < hours[-4]))
    with pytest.raises(ValueError, match="free must be known for the 4 steps to forecast"):
        model.predict()
    ahead = pl.when(pl.col("hour") < hours[-4]).then(pl.col("load")).alias("load")
    predictions = model.predict(2, y=both.with_columns(ahead))
    assert predictions.shape == (2, 2)
    assert np.allclose(predictions[1] / predictions[0], 3, rtol=0.2)
    frame = model.predict_frame(2, y=both.with_columns(ahead))
    assert frame["site"].to_list() == ["a", "a", "b", "b"]
    assert frame["hour"][0] == hours[-4]


@pytest.mark.parametrize(
    ("columns", "y", "words"),
    [
        ({}, np.ones((9, 2)), r"y has shape \(9, 2\), but a series has \(S,\)"),
        ({}, pd.DataFrame({"t": pd.to_datetime(["2024-01-01"]), "y": [1.0]}), "y holds .* numbers"),
        ({"time": "t"}, pl.DataFrame({"t": [1]}), "y is a frame. Name its columns"),
        ({"time": "t", "target": "v"}, pl.DataFrame({"t": ["2024-01-01"]}), 'no column "v"'),
        ({}, WAVE[:20], "horizon = 12 is longer than the validation part"),
    ],
)
def test_series_that_cannot_be_are_refused(columns: dict[str, Any], y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GRUForecaster(12, **columns, **SMALL).fit(y)


# --- the documentation ---


def block(page: str, word: str) -> str:
    """The one block of Python in a page that holds a word."""
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)
    (found,) = [code for code in blocks if word in code]
    return str(found)


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_lines_for_a_notebook_run(page: str, snippets: tuple[list[str], list[str]]) -> None:
    lines = block(page, "GRUClassifier().fit").replace("()", "(trials=1, epochs=1)", 1)
    found: dict[str, Any] = {"texts": snippets[0], "labels": snippets[1]}
    exec(lines, found)  # noqa: S102 (our own page)
    assert found["model"].predict(["a delight"])[0] in snippets[1]


def test_the_lines_for_series_run() -> None:
    hours = pl.datetime_range(
        pl.datetime(2024, 1, 1), pl.datetime(2024, 2, 10, 23), "1h", eager=True
    )
    load = np.resize(WAVE, len(hours))
    ahead = pl.DataFrame({"hour": hours, "load": load, "site": "a", "holiday": 0.0})
    ahead = ahead.with_columns(pl.when(pl.col("hour") < hours[-24]).then(pl.col("load")))
    found: dict[str, Any] = {
        "demand": load,
        "longer_demand": np.append(load, load[-12:]),
        "frame": ahead[:-24],
        "frame_ahead": ahead,
    }
    lines = block("docs/python.md", "GRUForecaster")
    quick = re.sub(r"(GRUForecaster\(.*?)\)", r"\1, trials=1, epochs=1)", lines)
    exec(quick, found)  # noqa: S102 (our own page)
    assert found["model"].predict_frame(y=ahead).height == 24


# --- a bar ---


def test_a_terminal_shows_a_bar_unless_told_otherwise(
    vowels: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(progress: bool | None) -> str:
        mine, its = pty.openpty()
        termios.tcsetwinsize(its, (24, 100))
        with os.fdopen(its, "w") as terminal, monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", terminal)
            GRUClassifier(**SMALL | {"progress": progress, "epochs": 1}).fit(*vowels)
            os.write(its, b"over")
            written = b""
            while not written.endswith(b"over"):
                written += os.read(mine, 4096)
        os.close(mine)
        return written.decode()

    assert re.search(r"GRUClassifier: 100%.* 2/2 .*accuracy 0\.\d{4}, 2 epochs", shown(None))
    assert shown(progress=False) == "over"


def test_a_file_gets_no_bar(capfd: pytest.CaptureFixture[str], vowels: Rows) -> None:
    GRUClassifier(**SMALL | {"progress": None, "epochs": 1}).fit(*vowels)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [GRUClassifier, GRURegressor, GRUForecaster])
def test_a_signature_names_every_parameter(kind: Any) -> None:
    shared = {"trials", "seconds", "storage", "n_jobs", "random_state"}
    names = inspect.signature(kind).parameters
    assert set(names) == set(kind().get_params())
    assert shared < set(names)
    assert not {"shared", "self"} & set(names)
    assert kind(trials=7).trials == 7
    with pytest.raises(TypeError, match="trails"):
        kind(trails=7)


@pytest.mark.parametrize("kind", [GRUClassifier, GRURegressor, GRUForecaster])
def test_help_describes_every_parameter(kind: Any) -> None:
    headings = re.findall(r"^    (\w.*)$", kind.__doc__, re.MULTILINE)
    described = {name for heading in headings for name in heading.split(", ")}
    assert set(kind().get_params()) <= described
    assert {"study_", "bundle_", "best_params_", "best_score_"} <= described
    assert "{" not in kind.__doc__.replace('{"', "")

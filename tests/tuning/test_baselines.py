"""Simple models beside a search: stored once, compared with the winner, and never in its way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from helpers.raw_folds import small_study
from helpers.small_studies import write_study

from gru_optuna import tune
from gru_optuna.baselines.background import BackgroundFit
from gru_optuna.baselines.fit import Chosen, fit_all
from gru_optuna.baselines.rows import read_raw_folds
from gru_optuna.data.metrics import as_outputs, measure
from gru_optuna.report.page import render_report
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.fitted_baselines import read_fitted
from gru_optuna.study.study import create_or_resume, load_study
from gru_optuna.study.summary import summarize
from gru_optuna.tuning.baselines import BaselineFits
from gru_optuna.tuning.confirm import Place, confirm_study
from gru_optuna.worker.run import WorkerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study

    from gru_optuna.study_file import Specification


def tuned(folder: Path, name: str, trials: int = 2, **keys: Any) -> tuple[Study, Specification]:
    """Tunes a small study of sequences."""
    content: dict[str, Any] = {
        "name": name,
        "task": "regression",
        "data": {"train": "rows.npz", "test": 0.3},
        "model": {"hidden_size": 4},
        "training": {"epochs": 3},
        "budget": {"trials": trials},
        "confirmation": {"candidates": 1, "seeds": 2},
    }
    path = write_study(folder / f"{name}.toml", content | keys)
    url = f"sqlite:///{folder / 'study.db'}"
    tune(path, storage=url, device="cpu", threads=1, slots=2, report=folder / "report")
    return load_study(open_storage(url), name)


def curves(study: Study) -> list[dict[int, float]]:
    return [trial.intermediate_values for trial in study.trials]


def test_a_search_ends_with_a_comparison_and_stores_its_models_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gru_optuna.tuning.baselines.WAIT_SECONDS", 300.0)  # machines are busy
    small_study(tmp_path, "numbers")
    study, spec = tuned(tmp_path, "with")
    fitted = read_fitted(study)
    assert fitted is not None
    assert fitted.complete
    assert fitted.comparison is not None
    best = fitted.best(spec)
    assert best is not None
    assert (fitted.comparison.name, fitted.comparison.baseline) == (best.name, best.test)
    summary = summarize(study, spec)
    assert summary.best is not None
    assert summary.best.confirmed is not None
    assert summary.best.confirmed.test is not None
    assert summary.best.confirmed.test.ensemble is not None
    assert fitted.comparison.gru == summary.best.confirmed.test.ensemble["value"]
    assert "ensemble" in summary.compared()[0]
    # The values are those of the same models, fitted here and measured on the test rows.
    (fold,) = folds = read_raw_folds(spec, tmp_path)
    assert fold.test is not None
    for model in fit_all(spec, folds, 60, {m.family: m.settings for m in fitted.models}):
        assert isinstance(model, Chosen)
        outputs = as_outputs(model.predict(folds, "test")[0], fold.test.truth)
        assert summary.baselines[model.name] == pytest.approx(
            measure(spec.metric, outputs, fold.test.truth), rel=1e-5
        )
    page = render_report(study, spec, tmp_path / "again").read_text()
    first = page.partition('class="verdict">')[2].strip()
    assert first.startswith("<p>" + summary.compared()[0].partition("'")[0])
    # A larger budget: the models are not chosen again, whoever wins.
    requests: list[Any] = []
    begin = BackgroundFit.__init__
    monkeypatch.setattr(
        BackgroundFit,
        "__init__",
        lambda self, spec, folder, known=None: (
            requests.append(known),
            begin(self, spec, folder, known),
        )[1],
    )
    again = read_fitted(tuned(tmp_path, "with", trials=3)[0])
    assert again is not None
    assert None not in requests
    assert [m.seconds for m in again.models] == [m.seconds for m in fitted.models]
    assert again.comparison is not None
    # Nothing of it is seen in the search.
    alone, _ = tuned(tmp_path, "without", trials=3, fit_baselines=False)
    assert read_fitted(alone) is None
    resumed, _ = load_study(open_storage(f"sqlite:///{tmp_path / 'study.db'}"), "with")
    resumed, _ = load_study(open_storage(f"sqlite:///{tmp_path / 'study.db'}"), "with")
    assert curves(alone) == curves(resumed)
    assert not [p for p in psutil.Process().children() if "baselines" in " ".join(p.cmdline())]


def opened(folder: Path) -> tuple[Study, Specification, str]:
    """A study in which nothing was trained yet."""
    spec, url = small_study(folder, "sequences"), f"sqlite:///{folder / 'study.db'}"
    return create_or_resume(open_storage(url, create=True), spec, "same"), spec, url


def test_of_several_processes_on_a_study_one_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[BackgroundFit] = []

    def start(fit: BackgroundFit) -> None:
        started.append(fit)

    monkeypatch.setattr(BackgroundFit, "start", start)
    study, spec, url = opened(tmp_path)
    first, second = (BaselineFits(study, url, spec, tmp_path) for _ in range(2))
    first.start()
    second.start()
    assert len(started) == 1
    first.close()
    second.start()  # the first one has left without a result
    assert len(started) == 2
    second.close()


def test_a_switch_turns_them_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BackgroundFit, "start", lambda self: pytest.fail("a process was started"))
    study, spec, url = opened(tmp_path)
    fits = BaselineFits(study, url, spec.model_copy(update={"fit_baselines": False}), tmp_path)
    fits.start()
    fits.record()
    assert fits.predict("test", [], threading.Event(), lambda event: None) == {}
    fits.compare(0, "test", [], {}, of_ensemble=True)
    assert read_fitted(study) is None


def test_without_test_rows_both_are_measured_on_the_validation_rows(tmp_path: Path) -> None:
    small_study(tmp_path, "numbers")
    study, spec = tuned(
        tmp_path, "blind", data={"train": "rows.npz"}, confirmation={"candidates": 0}
    )
    fitted = read_fitted(study)
    assert fitted is None or fitted.comparison is None  # nothing was confirmed
    place = Place(f"sqlite:///{tmp_path / 'study.db'}", tmp_path, WorkerSettings("cpu", 1, 2))
    study, spec, _ = confirm_study("blind", place, 1, 2, threading.Event())
    fitted = read_fitted(study)
    assert fitted is not None
    assert fitted.comparison is not None
    assert (fitted.comparison.part, fitted.tested()) == ("validation", {})
    best = fitted.best(spec)
    assert best is not None
    assert fitted.comparison.baseline == pytest.approx(best.validation, rel=1e-5)
    assert np.isfinite(fitted.comparison.gru)

"""What comes after the newest rows: the whole chain, from a file whose end was cut off."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from helpers.series_rows import HOUR, START
from helpers.small_studies import write_study
from helpers.workspaces import Workspace

from gru_optuna import load_bundle, tune
from gru_optuna.attributes import FUTURE
from gru_optuna.errors import DataError, UserError
from gru_optuna.report.page import render_report
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.prediction_intervals import read_intervals
from gru_optuna.study.predictions import stored_future
from gru_optuna.study.study import load_study
from gru_optuna.tuning.confirm import Place
from gru_optuna.tuning.export import make_winner
from gru_optuna.tuning.forecast import make_forecast
from gru_optuna.worker.run import WorkerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.processes import Nursery

SHOPS = {"big": 1000.0, "small": 1.0}
STEPS, HORIZON, CUT = 240, 6, 6
NEVER = threading.Event()


def sales() -> pl.DataFrame:
    """Two shops of the same daily rhythm, one a thousand times as large."""
    draw, hours = np.random.default_rng(0), np.arange(STEPS)
    return pl.concat(
        pl.DataFrame(
            {
                "hour": [START + n * HOUR for n in range(STEPS)],
                "shop": name,
                "sold": size * (10 + 3 * np.sin(hours * np.pi / 12) + draw.normal(0, 0.3, STEPS)),
            }
        )
        for name, size in SHOPS.items()
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of all rows but the last six of each shop."""
    folder = tmp_path_factory.mktemp("sales")
    whole = sales()
    whole.filter(pl.int_range(pl.len()) % STEPS < STEPS - CUT).write_csv(folder / "sales.csv")
    content: dict[str, Any] = {
        "name": "sales",
        "task": "forecasting",
        "fit_baselines": False,
        "data": {"train": "sales.csv", "time": "hour", "target": "sold", "series": "shop",
                 "horizon": HORIZON, "window": 12, "season": 24, "test": 40, "validation": 40},
        "model": {"hidden_size": 8},
        "training": {"epochs": 8},
        "budget": {"trials": 3},
        "confirmation": {"candidates": 1, "seeds": 2},
    }  # fmt: skip
    path = write_study(folder / "sales.toml", content)
    url = f"sqlite:///{folder / 'study.db'}"
    tune(path, storage=url, device="cpu", threads=1, slots=2, report=folder / "report")
    return folder


def test_a_bundle_gives_the_same_intervals(folder: Path) -> None:
    """Of rows that came later, too, in the units of each series."""
    bundle = make_winner("sales", place_of(folder), NEVER, refit=True)
    bundle.save(folder / "refitted")
    loaded = load_bundle(folder / "refitted")
    assert loaded.levels == ("80", "95")
    forecast = make_forecast("sales", place_of(folder), NEVER)
    rows = pl.read_csv(folder / "sales.csv", try_parse_dates=True)
    found = loaded.predict_frame(rows, ["80", "95"])
    for column in ("prediction", "low_80", "high_80", "low_95", "high_95"):
        np.testing.assert_allclose(found[column], forecast[column], rtol=1e-12, err_msg=column)
    assert "low_80" not in loaded.predict_frame(rows).columns
    single = make_winner("sales", place_of(folder), NEVER, ensemble=False)
    with pytest.raises(DataError, match=r"no intervals of level 80\. It has none\..*--single"):
        single.predict_frame(rows, ["80"])
    command = (sys.executable, "-m", "gru_optuna", "predict", "refitted", "sales.csv", "--level")
    how: dict[str, Any] = {"cwd": folder, "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run([*command, "80"], **how, check=True)
    assert done.stdout.splitlines()[0] == "shop,hour,prediction,low_80,high_80"
    refused = subprocess.run([*command, "90"], **how, check=False)
    assert refused.returncode == 2
    assert "no intervals of level 90. It has 80 and 95." in " ".join(refused.stderr.split())
    assert not refused.stdout


def test_the_report_draws_what_was_forecast(folder: Path) -> None:
    study, spec = load_study(open_storage(f"sqlite:///{folder / 'study.db'}"), "sales")
    page = (folder / "report" / "index.html").read_text()
    assert "This does it: gru-optuna forecast sales" in page
    found = make_forecast("sales", place_of(folder), NEVER)
    kept = stored_future(study, study.user_attrs[FUTURE]["number"])
    assert kept is not None
    big = kept["stretches"][0]
    assert big["name"] == "big"
    assert big["forecast"] == pytest.approx(found["prediction"].to_list()[:HORIZON], rel=1e-5)
    assert big["bounds"][1] == pytest.approx(found["high_80"].to_list()[:HORIZON], rel=1e-5)
    # Up to the newest value, and with the times of all these.
    newest = sales()["sold"][STEPS - CUT - 1]
    assert big["observed"][-1] == pytest.approx(newest, rel=1e-5)
    assert len(big["times"]) == len(big["observed"]) + HORIZON
    assert big["times"][-1] == str(START + (STEPS - 1) * HOUR)[:16]
    page = render_report(study, spec, folder / "after").read_text()
    assert "the winner was trained again on all rows" in page


def place_of(folder: Path) -> Place:
    return Place(f"sqlite:///{folder / 'study.db'}", folder, WorkerSettings("cpu", 1, 2))


def test_the_rows_that_were_cut_off_are_forecast(folder: Path) -> None:
    found = make_forecast("sales", place_of(folder), NEVER)
    cut = sales().filter(pl.int_range(pl.len()) % STEPS >= STEPS - CUT)
    assert found["shop"].to_list() == cut["shop"].to_list()
    assert found["hour"].str.to_datetime().to_list() == cut["hour"].to_list()
    size = cut["shop"].replace_strict(SHOPS).to_numpy()
    off = np.abs(found["prediction"].to_numpy() - cut["sold"].to_numpy()) / size
    assert off.mean() < 1  # the rhythm has a swing of 6, the noise a deviation of 0.3
    for level in (80, 95):
        width = (found[f"high_{level}"] - found[f"low_{level}"]).to_numpy() / size
        # Each shop's in its own units, and much the same for both in times of their sizes.
        np.testing.assert_allclose(width[:HORIZON], width[HORIZON:], rtol=0.3)
        assert (width > 0.2).all()
        assert (width < 6).all()
    held = (found["low_95"] <= cut["sold"]) & (cut["sold"] <= found["high_95"])
    assert held.sum() >= 10  # of 12


def test_the_intervals_are_measured_on_the_test_rows(folder: Path) -> None:
    study, _ = load_study(open_storage(place_of(folder).url), "sales")
    (number,) = {c["number"] for c in study.user_attrs["confirmation"]["candidates"]}
    found = read_intervals(study, number)
    assert found is not None
    assert (found.rows, found.test_rows) == (2 * 35, 2 * 35)  # windows of both shops
    assert found.held is not None
    assert 0.6 < found.held["80"] < found.held["95"] <= 1
    assert read_intervals(study, number + 1) is None


def test_fewer_steps_are_the_first_of_them_and_more_are_refused(folder: Path) -> None:
    whole = make_forecast("sales", place_of(folder), NEVER)
    two = make_forecast("sales", place_of(folder), NEVER, steps=2)
    assert two.equals(whole.filter(pl.int_range(pl.len()) % HORIZON < 2))
    with pytest.raises(UserError, match="forecasts 6 steps at once, and 7 were asked for"):
        make_forecast("sales", place_of(folder), NEVER, steps=7)


def test_later_rows_may_be_in_a_file_of_their_own(folder: Path, nursery: Nursery) -> None:
    """The networks are those that the study's own rows make; only the present is another."""
    later = folder / "later.csv"
    sales().write_csv(later)
    workspace = Workspace(folder, nursery)
    done = workspace.run_afresh(
        "forecast", "sales", str(later), "--storage", place_of(folder).url, "--data",
        str(folder), "--out", "next.csv", "--threads", "1", "--slots", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = pl.read_csv(folder / "next.csv", try_parse_dates=True)
    assert found["hour"][0] == START + STEPS * HOUR
    assert len(found) == 2 * HORIZON
    exported = workspace.run(
        "export", "sales", "--storage", place_of(folder).url, "--data", str(folder),
        "--ensemble", "--out", "bundle", "--threads", "1", "--slots", "2",
    )  # fmt: skip
    assert exported.returncode == 0, exported.stderr
    bundle = load_bundle(folder / "bundle")
    assert bundle.manifest.refitted
    assert "epochs on all rows, seed" in (folder / "bundle" / "README.md").read_text()
    np.testing.assert_allclose(
        bundle.predict_frame(later)["prediction"], found["prediction"], rtol=1e-12
    )

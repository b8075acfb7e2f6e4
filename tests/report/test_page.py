"""The report's page and files, as a browser would find them."""

from __future__ import annotations

import base64
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from helpers.report_studies import (
    SPACE,
    Page,
    many_trials,
    small_study,
    specification,
    study_of,
    trial,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from gru_optuna.attributes import TEST
from gru_optuna.errors import UserError
from gru_optuna.report.figures.history import list_history, list_improvements
from gru_optuna.report.figures.importance import measure_importance
from gru_optuna.report.figures.learning_curves import collect_curves
from gru_optuna.report.figures.parallel_coordinates import cut_slices, place_trials
from gru_optuna.report.page import render_report
from gru_optuna.report.trials import as_json

FIGURES = (
    "comparison",
    "importance",
    "parallel_coordinates",
    "interactions",
    "slices",
    "learning_curves",
    "health",
    "optimization_history",
    "pruning",
    "timeline",
)
HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture
def study() -> optuna.Study:
    return small_study()


def unpacked(typed: dict[str, str]) -> list[float]:
    """A list of numbers as plotly packs it."""
    return np.frombuffer(base64.b64decode(typed["bdata"]), typed["dtype"]).tolist()


def test_page_has_every_section_and_asks_for_nothing(study: optuna.Study, tmp_path: Path) -> None:
    spec = specification()
    study.set_user_attr(TEST, {"number": 3, "value": 0.875})
    index = render_report(study, spec, tmp_path / "report")
    assert index == tmp_path / "report" / "index.html"
    markup = index.read_text(encoding="utf-8")
    page = Page(markup)
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert sections == ["result", "findings", *FIGURES, "trials"]
    for text in ("0.9000", "0.8750", "5 complete, 2 pruned, 1 failed", "1 min 30 s", "train.ts"):
        assert text in page.text
    assert "All 8 trials" in page.text
    assert "learning_rate = 0.1\n" in page.text
    # No resource is named, in our own markup or outside of plotly's; links stay beside the page.
    assert not page.having("src")
    for link in page.having("href"):
        assert link.startswith(("#", "figures/"))
        assert link[1:] in page.having("id") if link[0] == "#" else (index.parent / link).exists()
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "img", "base", "object")]
    assert "@import" not in markup[: markup.index("</style>")]
    assert "url(" not in markup[: markup.index("</style>")]
    policy = [attrs for tag, attrs in page.tags if "http-equiv" in attrs]
    assert str(policy[0]["content"]).startswith("default-src 'none'")
    assert "plotly.js v" not in markup  # packed
    assert len(page.embedded["plotly"]) < 2_500_000


def test_figures_stand_alone_with_their_numbers(study: optuna.Study, tmp_path: Path) -> None:
    spec = specification()
    render_report(study, spec, tmp_path, pages=True)
    expected = {
        "importance": measure_importance(study),
        "parallel_coordinates": place_trials(study, spec),
        "optimization_history": {
            "trials": list_history(study),
            "by_time": list_improvements(study),
        },
        "learning_curves": collect_curves(study, best=3),
        "slices": cut_slices(study, spec),
    }
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == sorted(
        ["findings.json", *(f"{name}.{kind}" for name in FIGURES for kind in ("html", "json"))]
    )
    for name in FIGURES:
        stored = json.loads((tmp_path / "figures" / f"{name}.json").read_text(encoding="utf-8"))
        if name in expected:
            assert stored == as_json(expected[name])
        page = Page((tmp_path / "figures" / f"{name}.html").read_text(encoding="utf-8"))
        drawn = [json.loads(text) for key, text in page.embedded.items() if key.endswith("-data")]
        assert drawn
        assert all(figure["data"] for figure in drawn)
        assert not page.having("src") + page.having("href")
    # The next report, which nobody asked for pages, leaves none of them behind.
    index = render_report(study, spec, tmp_path)
    files = {path.name for path in (tmp_path / "figures").iterdir()}
    assert files == {"findings.json", *(f"{name}.json" for name in FIGURES)}
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 5_000_000
    assert "on its own page" not in index.read_text(encoding="utf-8")


def test_drawn_numbers_are_the_numbers(study: optuna.Study, tmp_path: Path) -> None:
    page = Page(render_report(study, specification(), tmp_path).read_text(encoding="utf-8"))
    history = json.loads(page.embedded["optimization_history-0-data"])["data"]
    traces = {trace["name"]: trace for trace in history}
    assert traces["pruned"]["x"] == [1, 5]
    assert traces["pruned"]["y"] == [0.1, 0.3]
    assert traces["complete"]["y"] == [0.5, 0.7, 0.9, 0.8, 0.3]
    assert traces["failed"]["x"] == [4]
    lines = json.loads(page.embedded["parallel_coordinates-0-data"])["data"][0]
    assert lines["type"] == "parcoords"
    assert lines["dimensions"][1]["ticktext"] == ["constant", "step"]
    assert unpacked(lines["line"]["color"]) == [0.25, 0.5, 1, 0.75, 0]  # ranks
    assert lines["meta"]["numbers"] == [0, 2, 3, 6, 7]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    trials = [trial(TrialState.COMPLETE, [0.1 * n], 1e-3, outcome=HOSTILE) for n in range(1, 6)]
    spec = specification(data={"train": f"{HOSTILE}.ts", "test": "a&b<img src=x>.ts"})
    index = render_report(study_of(trials, name=HOSTILE), spec, tmp_path)
    for path in (index, *(tmp_path / "figures").glob("*.html")):
        page = Page(path.read_text(encoding="utf-8"))
        assert HOSTILE in page.text
        assert "alert(1)" not in "".join(page.embedded.values())
        assert not [tag for tag, _ in page.tags if tag == "img"]


def test_rendering_again_replaces_and_leaves_nothing_behind(
    study: optuna.Study, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    first = render_report(study, specification(), tmp_path).read_text(encoding="utf-8")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert render_report(study, specification(), tmp_path).read_text(encoding="utf-8") == first
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    # A figure that can't be drawn any more doesn't stay from an earlier report.
    render_report(study_of([]), specification(), tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "figures", "findings.json", "index.html", "notes.txt",
    ]  # fmt: skip


def test_a_failed_rendering_keeps_the_old_report(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = render_report(study, specification(), tmp_path)
    old, files = index.read_bytes(), sorted(tmp_path.rglob("*"))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gru_optuna.files.os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        render_report(study_of([]), specification(), tmp_path / "new")
    with pytest.raises(UserError, match="No space left on device"):
        render_report(study, specification(), tmp_path)
    assert index.read_bytes() == old
    monkeypatch.undo()
    assert sorted(path for path in tmp_path.rglob("*") if "new" not in path.parts) == files
    assert not list((tmp_path / "new").rglob("*.*"))


def test_a_place_that_is_taken_is_told(study: optuna.Study, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"the report can't be written there.*--out"):
        render_report(study, specification(), tmp_path / "file")


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
def test_one_trial_is_enough(state: TrialState, tmp_path: Path) -> None:
    curve = [] if state == TrialState.FAIL else [0.5, 0.6]
    one = study_of([trial(state, curve, 1e-3)])
    page = Page(render_report(one, specification(), tmp_path).read_text(encoding="utf-8"))
    assert "The only trial so far" in page.text
    assert "Importance needs at least 4 trials that can be compared" in page.text
    assert ("No trial has trained an epoch" in page.text) == (not curve)
    assert ("Trial 0 is the best of 1 trial." in page.text) == bool(curve)


ALONE = {  # of each ending: the trial's state, its curve and what else is recorded of it
    "complete": (TrialState.COMPLETE, [0.2, 0.4, 0.5], {}),
    "infinite": (TrialState.COMPLETE, [-math.inf], {}),
    "pruned": (TrialState.PRUNED, [0.1, 0.3], {}),
    "failed": (TrialState.FAIL, [], {}),
    "running": (TrialState.RUNNING, [0.2, 0.3, 0.4], {}),
    "begun": (TrialState.RUNNING, [], {}),
    "paused": (TrialState.RUNNING, [0.3, 0.4], {"paused": 2}),
}


@given(endings=st.lists(st.sampled_from(sorted(ALONE)), min_size=1, max_size=30))
@settings(max_examples=15, deadline=None)
@example(endings=["running"] * 8)
@example(endings=["complete"] * 2 + ["paused"] * 5 + ["running"] * 8)
@example(endings=["infinite"] * 5)
def test_a_study_that_was_left_at_any_moment_has_a_report(endings: list[str]) -> None:
    draw = random.Random(len(endings))
    trials = []
    for ending in endings:
        state, curve, attributes = ALONE[ending]
        curve = [value + draw.random() / 10 for value in curve]
        trials.append(trial(state, curve, 10 ** draw.uniform(-4, -1), **attributes))
    with tempfile.TemporaryDirectory() as folder:
        index = render_report(study_of(trials), specification(), Path(folder) / "report")
        assert "made-up" in Page(index.read_text(encoding="utf-8")).text


@pytest.mark.parametrize(
    ("budget", "shown"),
    [
        ({"trials": 8}, "8 trials"),
        ({"epochs": 4_000}, "4,000 epochs"),
        ({"trials": 8, "epochs": 40, "hours": 1.5}, "8 trials, 40 epochs, 1.5 hours"),
    ],
)
def test_every_limit_of_the_budget_is_shown(
    budget: dict[str, float], shown: str, tmp_path: Path
) -> None:
    one = study_of([trial(TrialState.COMPLETE, [0.5], 1e-3)])
    index = render_report(one, specification(budget=budget), tmp_path)
    assert f"Budget{shown}\n" in Page(index.read_text(encoding="utf-8")).text


def test_a_study_with_nothing_searched(tmp_path: Path) -> None:
    fixed = {**SPACE, "learning_rate": 1e-3, "decay": "constant", "dropout": 0.1}
    spec = specification(search=fixed)
    study = optuna.create_study(direction="maximize")
    attributes = {"best_epoch": 1, "best_validation_loss": 0.5, "epochs": 1}
    study.add_trials([create_trial(value=0.1 * n, user_attrs=attributes) for n in range(5)])
    page = Page(render_report(study, spec, tmp_path).read_text(encoding="utf-8"))
    assert page.text.count("Nothing was searched") == 3


def test_two_thousand_trials_stay_light(tmp_path: Path) -> None:
    study = many_trials(2_000)
    began = time.process_time()
    index = render_report(study, specification(training={"epochs": 40}), tmp_path)
    assert time.process_time() - began < 20  # it takes four
    assert index.stat().st_size < 5_000_000
    page = Page(index.read_text(encoding="utf-8"))
    assert "The best 1,000 of 2,000 trials" in page.text
    assert sum(tag == "tr" for tag, _ in page.tags) < 1_030
    lines = json.loads(page.embedded["learning_curves-0-data"])["data"]
    assert len(lines) <= 4


def test_without_a_chrome_pictures_are_refused_and_nothing_is_written(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"--images needs Chrome or Chromium.*apt install"):
        render_report(study, specification(), tmp_path / "report", images="svg")
    assert not (tmp_path / "report").exists()


def test_numbers_need_no_plotly() -> None:
    code = "import sys, gru_optuna.report.findings; sys.exit('plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

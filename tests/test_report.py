"""The report: its numbers worked out by hand, its page as a browser would find it."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from gru_optuna import spec as study_file
from gru_optuna.errors import UserError
from gru_optuna.report import numbers
from gru_optuna.report.page import render_report
from gru_optuna.report.scales import label, parameter_scale
from gru_optuna.report.summary import TEST

if TYPE_CHECKING:
    from pathlib import Path

SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "decay": ["constant", "step"],
    "decay_drop": {"low": 0.1, "high": 0.9},
    "decay_every": {"low": 2, "high": 10},
    "dropout": {"low": 0.0, "high": 0.5},
    "optimizer": "adam",
    "clip_norm": "off",
    "initializer": "orthogonal",
    "l1": 0.0,
    "l2": 0.0,
    "batch_size": 32,
}
RATE = FloatDistribution(1e-4, 1e-1, log=True)
DECAY = CategoricalDistribution(["constant", "step"])
DROP = FloatDistribution(0.1, 0.9)
EVERY = IntDistribution(2, 10)
DROPOUT = FloatDistribution(0.0, 0.5)

FIGURES = (
    "importance",
    "parallel_coordinates",
    "optimization_history",
    "learning_curves",
    "slices",
)
HOSTILE = "</script><script>alert(1)</script>"


def specification(**changes: Any) -> study_file.Specification:
    content = {
        "name": "made-up",
        "data": {"train": "train.ts", "test": "test.ts"},
        "model": {"hidden_size": 8, "layers": 1, "bidirectional": False, "pooling": "last"},
        "search": SPACE,
        "training": {"epochs": 3},
        "budget": {"trials": 8},
    }
    return study_file.parse(content | changes, source="test")


def trial(
    state: TrialState,
    curve: list[float],
    rate: float,
    step: tuple[float, int] | None = None,
    dropout: float = 0.1,
    outcome: str = "trained all epochs",
) -> optuna.trial.FrozenTrial:
    params = {"learning_rate": rate, "decay": "step" if step else "constant", "dropout": dropout}
    distributions = {"learning_rate": RATE, "decay": DECAY, "dropout": DROPOUT}
    if step:
        params |= {"decay_drop": step[0], "decay_every": step[1]}
        distributions |= {"decay_drop": DROP, "decay_every": EVERY}
    attributes: dict[str, Any] = {"outcome": outcome, "epochs": len(curve), "seconds": 1.5}
    if curve:
        attributes["best_epoch"] = curve.index(max(curve)) + 1
        attributes["best_validation_loss"] = 1 - max(curve)
    return create_trial(
        state=state,
        value=max(curve) if state == TrialState.COMPLETE else None,
        params=params,
        distributions=distributions,
        user_attrs=attributes,
        intermediate_values=dict(enumerate(curve, start=1)),
    )


def study_of(trials: list[optuna.trial.FrozenTrial], name: str = "made-up") -> optuna.Study:
    study = optuna.create_study(study_name=name, direction="maximize")
    study.add_trials(trials)
    study.set_user_attr("worked_seconds", 90.0)
    return study


@pytest.fixture
def study() -> optuna.Study:
    """Five complete trials, two pruned, one failed; the best one is number 3."""
    done, cut = TrialState.COMPLETE, TrialState.PRUNED
    return study_of(
        [
            trial(done, [0.2, 0.4, 0.5], 1e-4),
            trial(cut, [0.1], 1e-3, outcome="pruned after epoch 1"),
            trial(done, [0.3, 0.6, 0.7], 1e-2, step=(0.5, 4), dropout=0.2),
            trial(done, [0.5, 0.9, 0.8], 1e-1, dropout=0.5),
            trial(TrialState.FAIL, [], 1e-1, outcome="diverged in epoch 1: loss is not finite"),
            trial(cut, [0.2, 0.3], 3e-4, step=(0.1, 2), outcome="pruned after epoch 2"),
            trial(done, [0.6, 0.7, 0.8], 3e-2, step=(0.9, 10), dropout=0.3),
            trial(done, [0.1, 0.2, 0.3], 2e-4, dropout=0.4),
        ]
    )


class Page(HTMLParser):
    """What of a page is text, and which elements and attributes it has."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.embedded: dict[str, str] = {}
        self._script: str | None = None
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = str(dict(attrs).get("id")) if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.text += data
        else:
            self.embedded[self._script] = self.embedded.get(self._script, "") + data

    def having(self, name: str) -> list[str]:
        return [
            value or "" for _, attrs in self.tags for key, value in attrs.items() if key == name
        ]


def test_history_keeps_the_best_complete_value(study: optuna.Study) -> None:
    points = numbers.history(study)
    assert [point.state for point in points] == [
        "complete", "pruned", "complete", "complete", "failed", "pruned", "complete", "complete",
    ]  # fmt: skip
    assert [point.value for point in points] == [0.5, 0.1, 0.7, 0.9, None, 0.3, 0.8, 0.3]
    assert [point.best for point in points] == [0.5, 0.5, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9]


def test_history_of_a_loss_keeps_the_lowest() -> None:
    study = optuna.create_study(direction="minimize")
    for value in (2.0, 3.0, 1.0, math.inf):
        study.add_trial(create_trial(value=value))
    points = numbers.history(study)
    assert [point.best for point in points] == [2.0, 2.0, 1.0, 1.0]
    assert points[-1].value is None


def test_curves_hold_every_reported_epoch(study: optuna.Study) -> None:
    curves = numbers.curves(study, specification())
    assert [curve.number for curve in curves] == [0, 1, 2, 3, 5, 6, 7]
    assert curves[4].epochs == [1, 2]
    assert curves[4].values == [0.2, 0.3]
    assert curves[4].state == "pruned"
    assert [curve.number for curve in curves if curve.best] == [3]


def test_parallel_coordinates_place_every_value(study: optuna.Study) -> None:
    lines = numbers.parallel_coordinates(study, specification())
    assert lines.numbers == [0, 2, 3, 6, 7]
    by_name = {column.scale.name: column for column in lines.columns}
    assert list(by_name) == [
        "learning_rate", "decay", "decay_drop", "decay_every", "dropout", "accuracy",
    ]  # fmt: skip

    rate = by_name["learning_rate"]
    assert rate.scale.kind == "log"
    assert (rate.scale.low, rate.scale.high) == (-4, -1)
    assert rate.scale.ticks == pytest.approx([-4, -3, -2, -1])
    assert rate.scale.labels == ["1e-4", "0.001", "0.01", "0.1"]
    assert rate.positions[:3] == pytest.approx([-4, -2, -1])

    assert by_name["decay"].scale.labels == ["constant", "step"]
    assert by_name["decay"].positions == [0, 1, 0, 1, 0]

    # Absent ones stand 15 % of the axis (0.1 to 0.9) below it.
    drop = by_name["decay_drop"]
    assert drop.values == [None, 0.5, None, 0.9, None]
    assert drop.positions == pytest.approx([-0.02, 0.5, -0.02, 0.9, -0.02])
    assert drop.scale.labels[0] == numbers.ABSENT
    assert drop.scale.low == drop.scale.ticks[0] == pytest.approx(-0.02)

    assert by_name["accuracy"].values == [0.5, 0.7, 0.9, 0.8, 0.3]


def test_slices_leave_out_trials_without_the_parameter(study: optuna.Study) -> None:
    by_name = {panel.scale.name: panel for panel in numbers.slices(study, specification())}
    assert by_name["decay_every"].numbers == [2, 6]
    assert by_name["decay_every"].values == [4, 10]
    assert by_name["decay_every"].metric == [0.7, 0.8]
    assert by_name["dropout"].values == [0.1, 0.2, 0.5, 0.3, 0.4]


def test_rows_stand_best_first(study: optuna.Study) -> None:
    rows = numbers.rows(study, specification())
    assert [row.number for row in rows] == [3, 6, 2, 0, 7, 5, 1, 4]
    assert [row.best for row in rows] == [True] + [False] * 7
    assert rows[-1].outcome == "diverged in epoch 1: loss is not finite"
    assert rows[-1].value is None
    assert rows[0].params == {"learning_rate": 0.1, "decay": "constant", "dropout": 0.5}


def test_importance_is_optunas_own(study: optuna.Study) -> None:
    ours = numbers.importance(study)
    assert ours.shares == optuna.importance.get_param_importances(study)
    assert set(ours.shares) == {"learning_rate", "decay", "decay_drop", "decay_every", "dropout"}
    assert sum(ours.shares.values()) == pytest.approx(1)
    assert ours.trials == 5


def test_importance_says_why_it_is_missing() -> None:
    few = numbers.importance(study_of([trial(TrialState.COMPLETE, [0.5], 1e-3)] * 3))
    assert not few.shares
    assert few.missing == "Importance needs at least 4 complete trials, and this study has 3."
    equal = numbers.importance(study_of([trial(TrialState.COMPLETE, [0.5], 1e-3)] * 6))
    assert not equal.shares
    assert equal.missing is not None
    assert "same value" in equal.missing


@pytest.mark.parametrize(
    ("distribution", "labels"),
    [
        (FloatDistribution(1e-8, 1e-2, log=True), ["1e-8", "1e-6", "1e-4", "0.01"]),
        (FloatDistribution(0.1, 1.0, log=True), ["0.1", "0.2", "0.5", "1"]),
        (FloatDistribution(0.0, 0.6), ["0", "0.2", "0.4", "0.6"]),
        (FloatDistribution(0.3, 0.3), ["0.3"]),
        (FloatDistribution(1e-3, 1e-3, log=True), ["0.001"]),
        (IntDistribution(1, 3), ["1", "2", "3"]),
        (CategoricalDistribution([False, True]), ["false", "true"]),
        (CategoricalDistribution(["off", 0.5, 1.0]), ["off", "0.5", "1"]),
    ],
)
def test_ticks_can_be_read(
    distribution: optuna.distributions.BaseDistribution, labels: list[str]
) -> None:
    scale = parameter_scale("x", distribution)
    assert scale.labels == labels
    assert scale.low < scale.high or len(labels) == 1
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(3.28086e-6, "3.281e-6"), (1e-4, "1e-4"), (0.0, "0"), (64, "64"), (20000.0, "20000")],
)
def test_labels(value: float, shown: str) -> None:
    assert label(value) == shown


def test_page_has_every_section_and_asks_for_nothing(study: optuna.Study, tmp_path: Path) -> None:
    spec = specification()
    study.set_user_attr(TEST, {"number": 3, "value": 0.875})
    index = render_report(study, spec, tmp_path / "report")
    assert index == tmp_path / "report" / "index.html"
    markup = index.read_text(encoding="utf-8")
    page = Page(markup)
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert sections == ["answer", *FIGURES, "trials"]
    for text in ("0.9000", "0.8750", "5 complete, 2 pruned, 1 failed", "90 seconds", "train.ts"):
        assert text in page.text
    assert "All 8 trials" in page.text
    assert "learning_rate = 0.1\n" in page.text
    # No resource is named, in our own markup or outside of plotly's.
    assert not page.having("src")
    assert not page.having("href")
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "img", "base", "object")]
    assert "@import" not in markup[: markup.index("</style>")]
    assert "url(" not in markup[: markup.index("</style>")]
    policy = [attrs for tag, attrs in page.tags if "http-equiv" in attrs]
    assert str(policy[0]["content"]).startswith("default-src 'none'")
    assert markup.count("plotly.js v") == 1


def test_figures_stand_alone_with_their_numbers(study: optuna.Study, tmp_path: Path) -> None:
    spec = specification()
    render_report(study, spec, tmp_path)
    expected = {
        "importance": numbers.importance(study),
        "parallel_coordinates": numbers.parallel_coordinates(study, spec),
        "optimization_history": numbers.history(study),
        "learning_curves": numbers.curves(study, spec),
        "slices": numbers.slices(study, spec),
    }
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == sorted(
        f"{name}.{kind}" for name in FIGURES for kind in ("html", "json")
    )
    for name, content in expected.items():
        stored = json.loads((tmp_path / "figures" / f"{name}.json").read_text(encoding="utf-8"))
        assert stored == numbers.as_json(content)
        page = Page((tmp_path / "figures" / f"{name}.html").read_text(encoding="utf-8"))
        drawn = [json.loads(text) for key, text in page.embedded.items() if key.endswith("-data")]
        assert len(drawn) == (5 if name == "slices" else 1)
        assert all(figure["data"] for figure in drawn)
        assert not page.having("src") + page.having("href")


def test_drawn_numbers_are_the_numbers(study: optuna.Study, tmp_path: Path) -> None:
    page = Page(render_report(study, specification(), tmp_path).read_text(encoding="utf-8"))
    history = json.loads(page.embedded["optimization_history-plot-data"])["data"]
    traces = {trace["name"]: trace for trace in history}
    assert traces["pruned"]["x"] == [1, 5]
    assert traces["pruned"]["y"] == [0.1, 0.3]
    assert traces["complete"]["y"] == [0.5, 0.7, 0.9, 0.8, 0.3]
    assert traces["failed"]["x"] == [4]
    lines = json.loads(page.embedded["parallel_coordinates-plot-data"])["data"][0]
    assert lines["type"] == "parcoords"
    assert lines["dimensions"][1]["ticktext"] == ["constant", "step"]
    assert lines["line"]["color"] == [0.5, 0.7, 0.9, 0.8, 0.3]


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
        "figures", "index.html", "notes.txt",
    ]  # fmt: skip


def test_a_failed_rendering_keeps_the_old_report(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = render_report(study, specification(), tmp_path)
    old, files = index.read_bytes(), sorted(tmp_path.rglob("*"))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gru_optuna.report.page.os.fsync", full)
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
    with pytest.raises(UserError, match=r"can't write the report there.*--out"):
        render_report(study, specification(), tmp_path / "file")


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
def test_one_trial_is_enough(state: TrialState, tmp_path: Path) -> None:
    curve = [] if state == TrialState.FAIL else [0.5, 0.6]
    one = study_of([trial(state, curve, 1e-3)])
    page = Page(render_report(one, specification(), tmp_path).read_text(encoding="utf-8"))
    assert "The only trial so far" in page.text
    assert "Importance needs at least 4 complete trials" in page.text
    assert ("No trial is complete yet" in page.text) == (state != TrialState.COMPLETE)


def test_a_study_with_nothing_searched(tmp_path: Path) -> None:
    fixed = {**SPACE, "learning_rate": 1e-3, "decay": "constant", "dropout": 0.1}
    spec = specification(search=fixed)
    study = optuna.create_study(direction="maximize")
    attributes = {"best_epoch": 1, "best_validation_loss": 0.5, "epochs": 1}
    study.add_trials([create_trial(value=0.1 * n, user_attrs=attributes) for n in range(5)])
    page = Page(render_report(study, spec, tmp_path).read_text(encoding="utf-8"))
    assert page.text.count("Nothing was searched") == 3


def test_two_thousand_trials_stay_light(tmp_path: Path) -> None:
    draw = random.Random(0)
    trials = []
    for _ in range(2_000):
        state = draw.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED])
        epochs = 40 if state == TrialState.COMPLETE else draw.randint(1, 20)
        curve = [draw.random() for _ in range(epochs)]
        step = (draw.uniform(0.1, 0.9), draw.randint(2, 10)) if draw.random() < 0.5 else None
        trials.append(trial(state, curve, 10 ** draw.uniform(-4, -1), step, draw.random() / 2))
    study = study_of(trials)
    began = time.perf_counter()
    index = render_report(study, specification(), tmp_path)
    # Two seconds alone on one core; the machine may be shared.
    assert time.perf_counter() - began < 20
    assert index.stat().st_size < 10_000_000
    page = Page(index.read_text(encoding="utf-8"))
    assert "The best 1,000 of 2,000 trials" in page.text
    assert sum(tag == "tr" for tag, _ in page.tags) < 1_030
    curves = json.loads(page.embedded["learning_curves-plot-data"])["data"]
    assert len(curves) <= 4


def test_numbers_need_no_plotly() -> None:
    code = "import sys, gru_optuna.report.numbers; sys.exit('plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Trackers that are slow, away or broken, and what a study owes them."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from helpers.report_studies import small_study, specification
from helpers.workspaces import write_tiny_study

import gru_optuna
from gru_optuna.errors import UserError
from gru_optuna.tracking import BackgroundTracker, open_tracker
from gru_optuna.worker.events import EpochTrained, TrialEnded, TrialStarted

if TYPE_CHECKING:
    from pathlib import Path


class Recorder:
    """Keeps what it is told, and perhaps fails or waits before."""

    def __init__(self, fails: int = 0, waits: threading.Event | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.tried = 0
        self._fails, self._waits = fails, waits

    def begin(self, study: Any, spec: Any) -> None:
        self.calls.append(("begin", spec.name))

    def happened(self, event: Any) -> None:
        self.tried += 1
        if self._waits is not None:
            self._waits.wait()
        if self.tried <= self._fails:
            raise ConnectionError("nobody answers")
        self.calls.append(("happened", event))

    def end(self, study: Any, files: Any, *, finished: bool) -> None:
        self.calls.append(("end", (sorted(files), finished)))
        self.files = {
            name: {path.name for path in folder.iterdir()} for name, folder in files.items()
        }


def test_a_tracker_is_told_everything_in_order(tmp_path: Path) -> None:
    path, tracker = write_tiny_study(tmp_path / "study"), Recorder()
    gru_optuna.tune(
        path, storage=f"sqlite:///{tmp_path / 'x.db'}", trials=2, slots=1, threads=1,
        report=tmp_path / "report", track=tracker,
        overrides=["confirmation.candidates=1", "confirmation.seeds=1"],
    )  # fmt: skip
    assert tracker.calls[0] == ("begin", "tiny")
    assert tracker.calls[-1] == ("end", (["bundle", "report"], True))
    assert "index.html" in tracker.files["report"]
    assert "bundle.json" in tracker.files["bundle"]
    events = [event for _, event in tracker.calls[1:-1]]
    for number in (0, 1):
        own = [type(e) for e in events if getattr(e, "number", None) == number]
        assert own == [TrialStarted, *[EpochTrained] * 3, TrialEnded]


def test_a_tracker_that_is_away_gets_the_end(caplog: pytest.LogCaptureFixture) -> None:
    away = Recorder(fails=1000)
    tracker = BackgroundTracker(away)
    tracker.begin(small_study(), specification())
    for epoch in range(50):
        tracker.happened(EpochTrained(0, epoch, 0.5))
    tracker.end(small_study(), {}, finished=True)
    assert away.tried == 3  # after which nothing more is sent
    assert [name for name, _ in away.calls] == ["begin", "end"]
    assert [record.getMessage() for record in caplog.records] == [
        "the tracker failed: nobody answers"
    ] * 3


def test_a_tracker_that_fails_once_misses_one_event() -> None:
    shaky = Recorder(fails=1)
    tracker = BackgroundTracker(shaky)
    tracker.begin(small_study(), specification())
    for epoch in (1, 2):
        tracker.happened(EpochTrained(0, epoch, 0.5))
    tracker.end(small_study(), {}, finished=False)
    assert shaky.calls[1:] == [("happened", EpochTrained(0, 2, 0.5)), ("end", ([], False))]


def test_nobody_waits_for_a_tracker_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    free = threading.Event()
    tracker = BackgroundTracker(Recorder(waits=free), end_seconds=0.01)
    tracker.begin(small_study(), specification())
    for epoch in range(20_000):  # more than wait for it
        tracker.happened(EpochTrained(0, epoch, 0.5))
    tracker.end(small_study(), {}, finished=True)  # returns
    assert "didn't answer in time" in caplog.text
    free.set()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wandb", 'no tracker is called "wandb". There is mlflow'),
        ("no_such_module:Tracker", 'the tracker "no_such_module:Tracker" can\'t be imported'),
        ("gru_optuna.tracking:Nothing", 'the module "gru_optuna.tracking" has no "Nothing"'),
    ],
)
def test_a_tracker_that_does_not_exist_is_refused(name: str, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        open_tracker(name)

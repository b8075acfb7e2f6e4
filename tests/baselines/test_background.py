"""The process that fits simple models: what it answers, and that it ends with its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from helpers.processes import wait_for
from helpers.raw_folds import small_study

from gru_optuna.baselines import background
from gru_optuna.baselines.background import BackgroundFit
from gru_optuna.baselines.fit import Chosen, fit_all
from gru_optuna.baselines.rows import read_raw_folds

if TYPE_CHECKING:
    from pathlib import Path

PARENT = """
import json, sys, time
from pathlib import Path
from gru_optuna import study_file
from gru_optuna.baselines.background import BackgroundFit
spec = study_file.parse(json.loads(sys.argv[1]), "x")
fit = BackgroundFit(spec, Path(sys.argv[2]))
fit.start()
print(fit.process, flush=True)
time.sleep(600)
"""


def test_it_answers_what_a_fit_in_this_process_finds(tmp_path: Path) -> None:
    spec = small_study(tmp_path, "series")
    folds = read_raw_folds(spec, tmp_path)
    here = [model for model in fit_all(spec, folds, 60) if isinstance(model, Chosen)]
    fit = BackgroundFit(spec, tmp_path)
    try:
        fit.start()
        assert fit.fitted(120)
        assert fit.process is not None
        assert psutil.Process(fit.process).nice() == 19
        there = {model["family"]: model for model in fit.models}
        assert list(there) == [model.family for model in here]
        assert (fit.rows, fit.of) == (len(folds[0].train), folds[0].of)
        predictions = fit.predict("test", 60)
        for model in here:
            assert there[model.family]["settings"] == model.settings
            assert there[model.family]["validation"] == model.validation
            np.testing.assert_array_equal(predictions[model.family], model.predict(folds, "test"))
    finally:
        fit.close()
    assert not psutil.pid_exists(fit.process)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_when_its_parent_is_killed(tmp_path: Path, number: int) -> None:
    spec = small_study(tmp_path, "sequences")
    content = json.dumps(spec.model_dump(mode="json", exclude_unset=True))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, content, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(number)
    parent.wait()
    wait_for(
        "the end of the process",
        lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE,
        30,
    )
    parent.stdout.close()


def test_files_that_are_too_large_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_study(tmp_path, "texts")
    monkeypatch.setattr(background, "MOST_BYTES", 100)
    fit = BackgroundFit(spec, tmp_path)
    fit.start()
    assert fit.process is None
    assert fit.fitted(0)
    assert fit.predict("test", 0) == {}
    assert "at most" in fit.left_out[0]["reason"]
    fit.close()


def test_a_process_that_dies_says_why(tmp_path: Path) -> None:
    spec = small_study(tmp_path, "texts")
    (tmp_path / "rows.csv").unlink()
    fit = BackgroundFit(spec, tmp_path)
    fit.start()
    try:
        assert not fit.fitted(60)
        assert "rows.csv" in fit.left_out[0]["reason"]
        assert fit.models == []
    finally:
        fit.close()


def test_a_process_that_is_killed_is_left_out(tmp_path: Path) -> None:
    spec = small_study(tmp_path, "texts")
    fit = BackgroundFit(spec, tmp_path)
    fit.start()
    assert fit.process is not None
    os.kill(fit.process, signal.SIGKILL)
    assert not fit.fitted(60)
    assert fit.predict("test", 60) == {}
    assert fit.left_out == [{"family": "the others", "reason": "the process was ended"}]
    fit.close()


def test_no_thread_reads_on_after_closing(tmp_path: Path) -> None:
    fit = BackgroundFit(small_study(tmp_path, "texts"), tmp_path)
    fit.start()
    fit.close()
    assert "baselines" not in {thread.name for thread in threading.enumerate()}
    assert fit.left_out == [{"family": "the others", "reason": "the process was ended"}]

"""``gru-optuna trials``: every trial in a file or on stdout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest
from helpers.report_studies import specification
from optuna.trial import TrialState
from typer.testing import CliRunner

from gru_optuna.cli import app
from gru_optuna.search import space
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.study import create_or_resume

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def url(here: Path) -> str:
    """A database with a study of three trials, whose clip norm is a number or "off"."""
    url = f"sqlite:///{here / 'trials.db'}"
    search = {
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "clip_norm": ["off", 1.0],
        "decay": "constant", "optimizer": "adam", "initializer": "orthogonal", "l1": 0.0,
        "l2": 0.0, "dropout": 0.0, "batch_size": 32,
    }  # fmt: skip
    spec = specification(search=search)
    study = create_or_resume(open_storage(url, create=True), spec, "fingerprint")
    for clip, rate in (("off", 0.01), (1.0, 0.02), (None, None)):
        if clip is not None:
            study.enqueue_trial({"clip_norm": clip, "learning_rate": rate})
        trial = study.ask()
        if clip is None:
            study.tell(trial, state=TrialState.FAIL)
            continue
        space.suggest(trial, spec)
        trial.report(0.5 + rate, step=1)
        study.tell(trial, 0.5 + rate)
    return url


def invoke(*arguments: str, code: int = 0) -> str:
    """What the command prints."""
    done = CliRunner().invoke(app, ["trials", "made-up", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def test_trials_are_printed_by_number(url: str) -> None:
    header, *rows = invoke("--storage", url).splitlines()
    assert header == "number,state,value,epochs,seconds,best,outcome,learning_rate,clip_norm"
    assert [row.split(",")[:3] for row in rows] == [
        ["0", "complete", "0.51"], ["1", "complete", "0.52"], ["2", "failed", ""],
    ]  # fmt: skip
    assert [row.rpartition(",")[2] for row in rows] == ["off", "1.0", ""]


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_trials_are_written_to_a_file(url: str, here: Path, ending: str) -> None:
    path = here / f"trials.{ending}"
    assert "3 trials: " in invoke("--storage", url, "--out", str(path))
    read = {"csv": pl.read_csv, "parquet": pl.read_parquet, "jsonl": pl.read_ndjson}[ending]
    frame = read(path)  # type: ignore[operator]
    assert frame["number"].to_list() == [0, 1, 2]
    assert frame["learning_rate"].to_list() == [0.01, 0.02, None]
    assert frame["clip_norm"].to_list() == ["off", "1.0", None]


def test_trials_are_printed_as_json(url: str) -> None:
    found = json.loads(invoke("--storage", url, "--json"))
    assert [trial["value"] for trial in found] == [0.51, 0.52, None]
    assert found[0]["learning_rate"] == 0.01


def test_an_unknown_ending_is_refused(url: str, here: Path) -> None:
    said = invoke("--storage", url, "--out", str(here / "trials.xlsx"), code=2)
    assert 'can\'t be written as ".xlsx"' in said
    assert "Give one" in invoke("--storage", url, "--out", "a.csv", "--json", code=2)

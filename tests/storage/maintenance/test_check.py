"""``gru-optuna storage check``: every fault is found, and only what nobody needs removed."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest
from helpers.storage_rows import checked, execute, fill, folder_of, meaning, refused, register, run
from optuna.trial import TrialState
from sqlalchemy import select

from gru_optuna.checkpoints.stores import Folder
from gru_optuna.storage.database import tables
from gru_optuna.storage.database.open import open_engine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("here")


def test_a_healthy_database_is_clean(database_url: str) -> None:
    fill(database_url)
    output = run("check", "--storage", database_url)
    assert "BAD" not in output
    assert re.search(r"running trials +1: 1 held by workers, 0 to be adopted", output)
    assert checked(database_url, "--clean", code=0) == {}


def test_rows_that_a_plain_program_left_are_found_and_removed(database_url: str) -> None:
    study = fill(database_url)
    running = next(trial for trial in study.trials if trial.state == TrialState.RUNNING)
    register(database_url, study, study.trials[0]._trial_id)
    before = meaning(database_url)
    if database_url.startswith("sqlite"):  # PostgreSQL itself sees to it
        execute(
            database_url,
            "INSERT INTO gru_optuna_leases VALUES (99, 99, 99, 1, 0)",
            "INSERT INTO gru_optuna_checkpoints VALUES (99, 1, '9/x', '0', NULL)",
        )
        assert checked(database_url) == {
            "rows of finished trials": "1 in gru_optuna_leases",
            "orphaned rows": "1 in gru_optuna_leases; 1 in gru_optuna_checkpoints",
        }
    else:
        assert checked(database_url) == {"rows of finished trials": "1 in gru_optuna_leases"}
    assert checked(database_url, "--clean", code=0) == {}
    assert meaning(database_url) == before
    with open_engine(database_url).begin() as connection:
        assert connection.scalars(select(tables.leases.c.trial_id)).all() == [running._trial_id]


def test_orphaned_files_are_found_and_removed_when_they_are_old(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    fill(url)
    store = Folder(folder_of(url))
    kept = store.names()
    for name in ("1/77-1-1.safetensors", "1/78-1-1.safetensors", "8/1-1-1.safetensors"):
        store.write(name, b"x")
    unfinished = "1/79-1-1.safetensors.0123abcd.writing"
    (store.folder / unfinished).write_bytes(b"x")
    hours_ago = time.time() - 7200
    for file in ("1/77-1-1.safetensors", "8/1-1-1.safetensors", unfinished, *kept):
        os.utime(store.folder / file, (hours_ago, hours_ago))
    assert checked(url) == {
        "orphaned files": f"1/77-1-1.safetensors; {unfinished}; 8/1-1-1.safetensors"
    }
    output = run("check", "--storage", url, "--clean")
    assert "removed 0 rows and 3 files that no trial needs" in output
    assert store.names() == sorted([*kept, "1/78-1-1.safetensors"])


def test_a_checkpoint_that_cant_be_resumed_is_reported_and_kept(database_url: str) -> None:
    study = fill(database_url)
    number = next(t.number for t in study.trials if t.state == TrialState.RUNNING)
    if database_url.startswith("sqlite"):
        store = Folder(folder_of(database_url))
        first, second = store.names()
        store.remove(first)
        store.write(second, b"something else")
    else:
        execute(
            database_url,
            "UPDATE gru_optuna_checkpoints SET content = NULL WHERE epoch = 4",
            "UPDATE gru_optuna_checkpoints SET content = 'x' WHERE epoch = 5",
        )
    (problem,) = checked(database_url, "--clean").values()
    assert re.search(rf"all kinds, trial {number}, epoch 4: .*missing", problem)
    assert f"all kinds, trial {number}, epoch 5: its content has changed" in problem
    with open_engine(database_url).begin() as connection:
        assert len(connection.execute(select(tables.checkpoints.c.epoch)).all()) == 2


def test_gaps_in_the_numbers_are_found(database_url: str) -> None:
    fill(database_url)
    execute(database_url, "UPDATE trials SET number = 9 WHERE number = 1")
    assert checked(database_url) == {
        "trial numbers": "all kinds has 5 trials, with 5 different numbers from 0 to 9"
    }
    execute(database_url, "UPDATE trials SET number = 0 WHERE number = 9")
    assert "with 4 different numbers" in checked(database_url)["trial numbers"]


def test_optunas_rows_without_an_owner_are_found_and_kept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    fill(url)
    execute(url, "DELETE FROM trials WHERE number = 4")
    assert set(checked(url)) == {"orphaned rows"}
    assert checked(url, "--clean", code=0) == {}
    execute(url, "DELETE FROM trials WHERE number = 2")
    assert "3 in trial_params without a row in trials" in checked(url, "--clean")["references"]


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    fill(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'trial_params'"
        ).fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    assert set(checked(f"sqlite:///{path}")) == {"file"}


def test_what_isnt_there_or_isnt_ours_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("milk, bread\n" * 100)
    photos = sqlite3.connect(tmp_path / "photos.db")
    photos.execute("CREATE TABLE photos (name TEXT)")
    photos.close()
    for command in ("check", "backup", "upgrade"):
        for name, message in {
            "none.db": "no database yet",
            "notes.db": "not a SQLite database",
            "photos.db": "a database of another program",
        }.items():
            assert message in refused(command, "--storage", f"sqlite:///{name}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.db", "photos.db"]

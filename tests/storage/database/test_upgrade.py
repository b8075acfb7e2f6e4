"""``gru-optuna storage upgrade``: a database of version 0.1 is refused, upgraded, gone on with."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.storage_rows import checked, invoke, refused, run
from optuna.storages._rdb import models

from gru_optuna.storage.database.open import exclusively, locate, open_storage

if TYPE_CHECKING:
    from helpers.workspaces import Workspace

pytestmark = pytest.mark.usefixtures("here")

OLD = Path(__file__).with_name("storage-0.1.db")
"""Written by version 0.1: the study ``tiny``, three trials complete, the fourth left running."""


@pytest.fixture
def old(workspace: Workspace) -> str:
    """A database of version 0.1 in a workspace."""
    (workspace.folder / "storage").mkdir()
    shutil.copy(OLD, workspace.folder / "storage" / "gru_optuna.db")
    return f"sqlite:///{workspace.folder / 'storage' / 'gru_optuna.db'}"


def test_an_old_database_is_refused_backed_up_upgraded(workspace: Workspace, old: str) -> None:
    refusals = [
        workspace.run("tune", "studies/tiny.toml").stderr,
        invoke("studies", code=2).stderr,
        invoke("status", "tiny", code=2).stderr,
    ]
    for message in refusals:
        assert "made by an older gru-optuna. Back it up with gru-optuna storage backup" in message
    before = meaning_of_optunas(old)
    assert "gru-optuna none" in checked(old)["tables"]
    kept = run("backup").strip()
    assert meaning_of_optunas(f"sqlite:///{kept}") == before
    assert run("upgrade") == (
        "from Optuna v3.2.0.a, gru-optuna none\nto   Optuna v3.2.0.a, gru-optuna 0004\n"
    )
    assert run("upgrade") == (
        "nothing to upgrade: Optuna v3.2.0.a, gru-optuna 0004 is the newest version\n"
    )
    assert meaning_of_optunas(old) == before
    assert checked(old, code=0) == {}


def test_tuning_goes_on_in_an_upgraded_database(workspace: Workspace, old: str) -> None:
    run("upgrade")
    # Version 0.1 knew no leases: its running trial is taken over when it gets no further.
    more = ("--trials", "6", "--lease", "2", "--no-confirm")
    done = workspace.run("tune", "studies/tiny.toml", *more)
    assert done.returncode == 0, done.stderr
    study = optuna.load_study(storage=open_storage(old), study_name="tiny")
    assert [trial.number for trial in study.trials] == list(range(6))
    assert all(trial.state.is_finished() for trial in study.trials)
    assert checked(old, code=0) == {}


def test_a_database_that_is_worked_on_isnt_upgraded(old: str) -> None:
    with exclusively(old, "study-tiny"):
        assert refused("upgrade", "--storage", old) == (
            f"{locate(old)} is in use. Stop every worker, then upgrade it."
        )


def meaning_of_optunas(url: str) -> dict[str, list[tuple[object, ...]]]:
    with sqlite3.connect(locate(url).path) as connection:  # type: ignore[union-attr]
        return {
            name: connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608
            for name in models.BaseModel.metadata.tables
        }

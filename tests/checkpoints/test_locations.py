"""Checkpoints in a place of a study's own: kept apart, checked, backed up, copied."""

from __future__ import annotations

import os
import time
from pathlib import Path

import optuna
import pytest
from helpers.storage_rows import checked, run
from sqlalchemy import insert, select

from gru_optuna.attributes import CHECKPOINTS
from gru_optuna.checkpoints.checkpoint import digest
from gru_optuna.checkpoints.locations import own_place
from gru_optuna.checkpoints.stores import Folder, open_store
from gru_optuna.storage.database import tables
from gru_optuna.storage.database.open import open_engine, open_storage

pytestmark = pytest.mark.usefixtures("here")

NAMES = ["1/0-4-1.safetensors", "1/0-5-1.safetensors"]


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where two studies might keep their checkpoints."""
    if request.param == "folder":
        return str(tmp_path / "shared")
    return f"s3://{request.getfixturevalue('bucket')}/shared"


def save(url: str, place: str) -> str:
    """A study with a running trial, and two checkpoints of it; returns their place."""
    study = optuna.create_study(storage=open_storage(url, create=True), study_name="apart")
    own = own_place(place, "apart", None)
    study.set_user_attr(CHECKPOINTS, own)
    trial, store = study.ask(), open_store(own)
    for name in NAMES:
        store.write(name, name.encode())
    row = {"trial_id": trial._trial_id, "content": None}
    with open_engine(url).begin() as connection:
        connection.execute(
            insert(tables.checkpoints),
            [
                row | {"epoch": epoch, "name": name, "sha256": digest(name.encode())}
                for epoch, name in zip((4, 5), NAMES, strict=True)
            ],
        )
    return own


def contents(url: str) -> dict[str, bytes | None]:
    """What stands in the rows."""
    rows = tables.checkpoints.c
    with open_engine(url).begin() as connection:
        found = connection.execute(select(rows.name, rows.content))
        return {row.name: row.content for row in found}


def test_two_studies_never_share_a_place(place: str) -> None:
    first, second = own_place(place, "x", None), own_place(place, "x", None)
    assert first != second  # of two databases, say
    assert own_place(place, "x", first) == own_place(f"{place}/", "x", first) == first
    assert own_place(f"{place}/other", "x", first) != first


def test_a_relative_folder_is_the_same_for_workers_elsewhere(here: Path) -> None:
    assert Path(own_place("there", "x", None)).parent == here / "there"


def test_check_reads_every_studys_own_place(database_url: str, place: str) -> None:
    own = save(database_url, place)
    assert checked(database_url, code=0) == {}
    store = open_store(own)
    store.write(NAMES[0], b"something else")
    store.remove(NAMES[1])
    (problem,) = checked(database_url).values()
    assert "apart, trial 0, epoch 4: its content has changed" in problem
    assert f"epoch 5: {NAMES[1]} is missing" in problem


def test_orphaned_files_are_found_in_a_folder_of_a_studys_own(
    database_url: str, tmp_path: Path
) -> None:
    store = Folder(save(database_url, str(tmp_path / "shared")))
    store.write("1/7-1-1.safetensors", b"x")
    for name in store.names():
        hours_ago = time.time() - 7200
        os.utime(store.folder / name, (hours_ago, hours_ago))
    assert checked(database_url) == {"orphaned files": "1/7-1-1.safetensors"}
    run("check", "--storage", database_url, "--clean")
    assert store.names() == NAMES


def test_backups_and_copies_hold_the_contents_and_share_no_place(
    database_url: str, place: str, tmp_path: Path
) -> None:
    own = save(database_url, place)
    backup, copy = tmp_path / "backup.db", f"sqlite:///{tmp_path / 'copy.db'}"
    run("backup", "--storage", database_url, "--out", str(backup))
    run("copy", database_url, copy)
    for name in NAMES:
        open_store(own).remove(name)
    for url in (f"sqlite:///{backup}", copy):
        assert contents(url) == {name: name.encode() for name in NAMES}
        study = optuna.load_study(storage=open_storage(url), study_name="apart")
        assert CHECKPOINTS not in study.user_attrs
        assert checked(url, code=0) == {}


def test_a_lost_checkpoint_is_counted_by_a_copy(
    database_url: str, place: str, tmp_path: Path
) -> None:
    open_store(save(database_url, place)).remove(NAMES[1])
    said = run("copy", database_url, f"sqlite:///{tmp_path / 'copy.db'}")
    assert "1 checkpoints can't be read" in said

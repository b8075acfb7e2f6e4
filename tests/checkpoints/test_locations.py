"""Checkpoints in a place of a study's own: kept apart, checked, backed up, copied."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.storage_rows import checked, refused, run
from sqlalchemy import delete, insert, select

from gru_optuna.attributes import CHECKPOINTS
from gru_optuna.checkpoints.checkpoint import digest
from gru_optuna.checkpoints.locations import own_place
from gru_optuna.checkpoints.marker import MARKER, Owner
from gru_optuna.checkpoints.stores import Folder, open_store
from gru_optuna.errors import StorageError
from gru_optuna.storage.database import tables
from gru_optuna.storage.database.open import locate, open_engine, open_storage, owner_of
from gru_optuna.worker.run import open_study_checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable

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
    own = own_place(place, "apart", None, owner_of(study))
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


def age(own: str) -> None:
    """Makes every checkpoint old enough to be an orphan."""
    two_hours_ago = time.time() - 7200
    for path in Path(own).rglob("*.safetensors"):
        os.utime(path, (two_hours_ago, two_hours_ago))


@pytest.fixture
def original_and_copy(tmp_path: Path) -> tuple[str, str, str]:
    """A database, a ``cp`` of it that knows none of its trials any more, and the place."""
    original, copy = tmp_path / "original.db", tmp_path / "copy.db"
    own = save(f"sqlite:///{original}", str(tmp_path / "shared"))
    with open_engine(f"sqlite:///{original}").connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(original, copy)
    with open_engine(f"sqlite:///{copy}").begin() as connection:
        connection.execute(delete(tables.checkpoints))
    age(own)
    return f"sqlite:///{original}", f"sqlite:///{copy}", own


def test_a_copied_database_removes_no_checkpoint_of_the_original(
    original_and_copy: tuple[str, str, str],
) -> None:
    original, copy, own = original_and_copy
    message = refused("check", "--storage", copy, "--clean")
    assert f"{own} belongs to another database" in message
    assert "original.db" in message
    assert "another database" in checked(copy)["orphaned files"]
    study = optuna.load_study(storage=open_storage(copy), study_name="apart")
    with pytest.raises(StorageError, match="another database"):
        open_study_checkpoints(study, copy)
    assert open_store(own).names() == NAMES
    assert checked(original, code=0) == {}


def test_a_copy_that_names_the_same_folder_gets_a_place_of_its_own_there(
    original_and_copy: tuple[str, str, str],
) -> None:
    original, copy, own = original_and_copy
    studies = [
        optuna.load_study(storage=open_storage(u), study_name="apart") for u in (original, copy)
    ]
    folder = str(Path(own).parent)
    assert own_place(folder, "apart", own, owner_of(studies[0])) == own
    assert own_place(folder, "apart", own, owner_of(studies[1])) != own


def test_a_moved_database_keeps_its_place_and_its_copy_does_not_get_it(
    original_and_copy: tuple[str, str, str], tmp_path: Path
) -> None:
    """A file keeps its inode when it is moved, and its path when it is restored."""
    original, _, own = original_and_copy
    (tmp_path / "original.db").rename(tmp_path / "moved.db")
    moved = f"sqlite:///{tmp_path / 'moved.db'}"
    run("check", "--storage", moved, "--clean")
    open_study_checkpoints(
        optuna.load_study(storage=open_storage(moved), study_name="apart"), moved
    )
    assert open_store(own).marked_owner() == locate(moved).owner()
    shutil.copy(tmp_path / "moved.db", tmp_path / "original.db")
    assert "moved.db" in refused("check", "--storage", original, "--clean")
    (tmp_path / "moved.db").unlink()
    shutil.copy(tmp_path / "original.db", tmp_path / "moved.db")  # as a backup is restored
    assert checked(moved, code=0) == {}
    assert open_store(own).names() == NAMES


def test_a_place_can_be_given_to_another_database(
    original_and_copy: tuple[str, str, str], tmp_path: Path
) -> None:
    original, copy, own = original_and_copy
    assert "add --storage URL" in refused("adopt", own)
    empty = f"sqlite:///{tmp_path / 'empty.db'}"
    open_storage(empty, create=True)
    assert "keeps nothing in" in refused("adopt", own, "--storage", empty)
    assert "copy.db" in run("adopt", own, "--storage", copy)
    run("check", "--storage", copy, "--clean")
    assert open_store(own).names() == []
    assert "copy.db" in refused("check", "--storage", original, "--clean")


def test_a_place_belongs_to_one_database_of_a_server(
    new_postgresql: Callable[[], str], place: str
) -> None:
    url, other = new_postgresql(), new_postgresql()
    own = save(url, place)
    store = open_store(own, locate(other).owner())
    for change in (lambda: store.remove(NAMES[0]), lambda: store.write(NAMES[0], b"x")):
        with pytest.raises(StorageError, match="another database"):
            change()
    assert store.read(NAMES[0]) == NAMES[0].encode()  # to read does no harm
    assert checked(url, code=0) == {}


def test_a_hostile_database_cannot_claim_the_folder_beside_another(tmp_path: Path) -> None:
    url, hostile = f"sqlite:///{tmp_path / 'x.db'}", f"sqlite:///{tmp_path / 'hostile.db'}"
    study = optuna.create_study(storage=open_storage(url, create=True))
    open_study_checkpoints(study, url)
    folder = tmp_path / "x.db.checkpoints"
    Folder(folder).write(NAMES[0], b"x")
    age(str(folder))
    naming = optuna.create_study(storage=open_storage(hostile, create=True))
    naming.set_user_attr(CHECKPOINTS, str(folder))
    assert "x.db" in refused("check", "--storage", hostile, "--clean")
    assert Folder(folder).names() == [NAMES[0]]


@pytest.mark.parametrize("line", ["[", "{}", "7", '{"name": "x", "facts": 7}', "[" * 5000])
def test_a_marker_that_cannot_be_read_protects_its_place(tmp_path: Path, line: str) -> None:
    store = Folder(tmp_path / "place", owner=Owner("x", {"host": "a", "path": "b", "inode": "1"}))
    store.mark()
    marker = tmp_path / "place" / MARKER
    marker.write_text(marker.read_text().partition("\n")[0] + "\n" + line)
    with pytest.raises(StorageError, match="a marker that can't be read"):
        Folder(tmp_path / "place", owner=Owner("x", {})).require_marker()


@pytest.mark.parametrize("kept", [{"host", "path"}, {"host", "inode"}, {"path", "inode"}])
def test_two_of_three_facts_tell_a_database_from_its_copies(kept: set[str]) -> None:
    facts = {"host": "a", "path": "/a/x.db", "inode": "1"}
    owner = Owner("x", facts)
    assert owner.is_same(Owner("y", {k: v if k in kept else "other" for k, v in facts.items()}))
    for one in kept:
        assert not owner.is_same(Owner("x", {k: v if k == one else "o" for k, v in facts.items()}))

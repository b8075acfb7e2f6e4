"""Uploads, and the places that keep their contents: the database, a folder, S3."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest
from helpers.storage_rows import checked, execute, refused, run
from sqlalchemy import select

from gru_optuna.checkpoints.marker import MARKER
from gru_optuna.checkpoints.stores import PIECE_BYTES, open_store
from gru_optuna.errors import StorageError
from gru_optuna.storage import uploads
from gru_optuna.storage.database.open import locate, open_engine, open_storage
from gru_optuna.storage.database.tables import upload_parts
from gru_optuna.storage.maintenance import check
from gru_optuna.storage.maintenance.backup import backup
from gru_optuna.storage.maintenance.copy import copy_studies
from gru_optuna.storage.upload_places import choose, chosen, list_contents, require_usable
from gru_optuna.study import submissions

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.usefixtures("here")

ROWS = b"text,label\ngood,1\nbad,0\n"
SHA256 = hashlib.sha256(ROWS).hexdigest()
TOML = f'name = "x"\n[data]\ntrain = "{SHA256}/rows.csv"\ntext = "text"\nlabel = "label"\n'


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> str:
    """The database's own place, in a folder or in S3, which was chosen for its uploads."""
    if request.param == "folder":
        return choose(engine, str(tmp_path / "shared"))
    return choose(engine, f"s3://{request.getfixturevalue('bucket')}/shared")


@pytest.fixture
def folder(engine: Engine, tmp_path: Path) -> Path:
    """The database's own place in a folder."""
    return Path(choose(engine, str(tmp_path / "shared")))


def put(engine: Engine, content: bytes = ROWS, name: str = "rows.csv") -> str:
    """Stores a file; returns its SHA-256."""
    return uploads.put(engine, name, io.BytesIO(content)).sha256


def read(engine: Engine, sha256: str = SHA256) -> bytes:
    """The content of a file."""
    return b"".join(uploads.read(engine, sha256))


@pytest.mark.parametrize("where", ["database", "folder", "s3"])
@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, 2 * PIECE_BYTES + 3])
def test_an_upload_comes_back_as_it_was(
    engine: Engine, tmp_path: Path, size: int, where: str, request: pytest.FixtureRequest
) -> None:
    if where != "database":
        places = {"folder": str(tmp_path / "shared")}
        choose(engine, places.get(where) or f"s3://{request.getfixturevalue('bucket')}")
    content = bytes(i % 251 for i in range(size))
    made = uploads.put(engine, "rows.bin", io.BytesIO(content))
    assert (made.bytes, made.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert read(engine, made.sha256) == content
    with engine.connect() as connection:
        in_rows = connection.execute(select(upload_parts)).all()
    assert bool(in_rows) == (where == "database" and size > 0)
    path = uploads.fetch(engine, made.sha256, tmp_path / "cache" / "rows.bin")
    assert path.read_bytes() == content
    path.write_bytes(b"changed")
    assert uploads.fetch(engine, made.sha256, path).read_bytes() == content
    path.unlink()
    (tmp_path / "theirs").write_bytes(content)
    path.symlink_to(tmp_path / "theirs")  # its content may change after it was compared
    assert not uploads.fetch(engine, made.sha256, path).is_symlink()
    assert (tmp_path / "theirs").read_bytes() == path.read_bytes() == content
    again = uploads.put(engine, "other.bin", io.BytesIO(content))
    assert again.created_at == made.created_at
    assert uploads.find(engine, made.sha256).name == "other.bin"
    uploads.delete(engine, made.sha256)
    with pytest.raises(StorageError, match="no file with the SHA-256"):
        read(engine, made.sha256)


def test_a_content_that_was_changed_where_it_lies_is_not_fetched(
    engine: Engine, folder: Path, tmp_path: Path
) -> None:
    made = put(engine)
    (stored,) = (folder / "uploads").iterdir()
    stored.write_bytes(ROWS.swapcase())  # of the same length
    with pytest.raises(StorageError, match=r"rows.csv: the stored content has changed"):
        uploads.fetch(engine, made, tmp_path / "cache" / "rows.csv")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_upload_without_a_files_name_is_not_stored(engine: Engine, place: str) -> None:
    for name in ("../rows.csv", "", "a/b.csv", "x" * 256, "rows\n.csv"):
        with pytest.raises(StorageError, match="is not the name of a file"):
            put(engine, b"y", name)
    assert uploads.list_all(engine) == []
    assert open_store(place).names() == []


def test_a_place_is_chosen_once_and_what_is_stored_stays_where_it_is(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    def say(*where: str) -> str:
        return run("uploads", *where, "--storage", database_url).strip()

    assert say() == "database"
    first = put(engine, b"first")
    own = say("shared")
    assert own.startswith(f"{tmp_path}/shared/uploads-")
    assert say("shared") == say() == own
    second = put(engine, b"second")
    assert say("database") == say() == "database"
    third = put(engine, b"third")
    assert [read(engine, each) for each in (first, second, third)] == [
        b"first",
        b"second",
        b"third",
    ]
    assert len(open_store(own).names()) == 1
    assert checked(database_url, code=0) == {}
    for each in (first, second, third):
        uploads.delete(engine, each)
    assert open_store(own).names() == []


def test_two_databases_never_share_a_place(engine: Engine, folder: Path, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    open_storage(other, create=True)
    assert choose(open_engine(other), str(tmp_path / "shared")) != str(folder)


def test_a_place_that_this_machine_lacks_is_refused(engine: Engine, folder: Path) -> None:
    put(engine)
    folder.rename(folder.parent / "elsewhere")
    refusal = "there is no such folder on this machine. Make it available here under the same path"
    for use in (lambda: put(engine, b"new"), lambda: read(engine), lambda: require_usable(engine)):
        with pytest.raises(StorageError, match=refusal):
            use()
    assert not folder.exists()
    assert [upload.sha256 for upload in uploads.list_all(engine)] == [SHA256]


def test_a_place_without_our_marker_is_refused_until_it_is_confirmed(
    engine: Engine, database_url: str, folder: Path
) -> None:
    put(engine)
    (folder / MARKER).unlink()
    for use in (lambda: put(engine, b"new"), lambda: read(engine), lambda: require_usable(engine)):
        with pytest.raises(StorageError, match=f"gru-optuna storage adopt {folder}"):
            use()
    problems = checked(database_url)
    assert problems["uploads"] == f"rows.csv can't be read in {folder}"
    assert "is not used" in problems["orphaned files"]
    run("adopt", str(folder), "--storage", database_url)
    assert read(engine) == ROWS
    assert checked(database_url, code=0) == {}


def test_a_copied_database_reads_but_neither_writes_nor_removes(tmp_path: Path) -> None:
    original = f"sqlite:///{tmp_path / 'original.db'}"
    open_storage(original, create=True)
    first = open_engine(original)
    own = choose(first, str(tmp_path / "shared"))
    put(first)
    with first.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(tmp_path / "original.db", tmp_path / "copy.db")
    copy = open_engine(f"sqlite:///{tmp_path / 'copy.db'}")
    assert read(copy) == ROWS
    with pytest.raises(StorageError, match="belongs to another database"):
        put(copy, b"new")
    uploads.delete(copy, SHA256)  # from the copy
    assert uploads.list_all(copy) == []
    assert read(first) == ROWS
    assert "another database" in refused("check", "--clean", "--storage", str(copy.url))
    assert len(open_store(own).names()) == 1


def test_a_database_cannot_name_files_of_others(engine: Engine, folder: Path) -> None:
    put(engine)
    secret = folder / "secret"
    secret.write_text("key")
    execute(
        engine.url.render_as_string(hide_password=False),
        "UPDATE gru_optuna_upload_files SET token = '../secre'",
    )
    with pytest.raises(StorageError, match=f"its content is missing in {folder}"):
        read(engine)
    uploads.delete(engine, SHA256)
    assert secret.read_text() == "key"


KILLED = """
import io, os, signal, sys
from gru_optuna.storage import uploads
from gru_optuna.storage.database.open import open_engine
uploads._add_row = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
uploads.put(open_engine(sys.argv[1]), "rows.csv", io.BytesIO(b"rows"))
"""


def test_a_process_that_dies_leaves_at_most_a_file_without_a_row(
    engine: Engine, database_url: str, folder: Path
) -> None:
    """Killed with the file written, and its row not."""
    done = subprocess.run([sys.executable, "-c", KILLED, database_url], check=False)
    assert done.returncode == -signal.SIGKILL
    assert uploads.list_all(engine) == []
    (left,) = open_store(str(folder)).names()
    sha256 = put(engine, b"rows")
    assert read(engine, sha256) == b"rows"
    assert checked(database_url, code=0) == {}  # it could still be in progress
    two_hours_ago = time.time() - 7200
    os.utime(folder / left, (two_hours_ago, two_hours_ago))
    assert checked(database_url) == {"orphaned files": left}
    run("check", "--clean", "--storage", database_url)
    assert left not in open_store(str(folder)).names()
    assert read(engine, sha256) == b"rows"


def test_a_check_finds_contents_that_are_missing_and_files_without_a_row(
    engine: Engine, database_url: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(engine)
    short = put(engine, b"short", "short.csv")
    with engine.connect() as connection:
        contents = list_contents(connection)
    store = open_store(place)
    store.remove(contents[SHA256].name)
    store.write(contents[short].name, b"sho")
    orphan = f"uploads/{'0' * 64}-00000000"
    store.write(orphan, b"nobody's")
    assert checked(database_url) == {
        "uploads": f"rows.csv lacks its content in {place}; short.csv lacks its content in {place}"
    }
    with pytest.raises(StorageError, match=r"rows.csv: its content is missing"):
        read(engine)
    with pytest.raises(StorageError, match=r"short.csv: a part of its content is missing"):
        read(engine, short)
    monkeypatch.setattr(check, "STALE_SECONDS", -60.0)
    assert checked(database_url)["orphaned files"] == orphan
    run("check", "--clean", "--storage", database_url, code=1)
    assert store.names() == [contents[short].name]


def test_a_deleted_content_that_is_stored_again_stays(engine: Engine, place: str) -> None:
    put(engine)
    with engine.connect() as connection:
        before = list_contents(connection)
    uploads.delete(engine, SHA256)
    put(engine)
    uploads.remove_contents(engine, before.values())  # by a process that is late
    assert read(engine) == ROWS


def test_the_same_content_from_two_is_stored_once(
    engine: Engine, database_url: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find that it isn't there yet."""
    both, rename = Barrier(2), uploads._rename

    def meet(*arguments: object) -> uploads.Upload | None:
        found = rename(*arguments)
        if found is None:
            both.wait(60)
        return found

    monkeypatch.setattr(uploads, "_rename", meet)
    engines = [engine, open_engine(database_url)]
    threads = [Thread(target=put, args=(each,)) for each in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(open_store(place).names()) == 1
    assert read(engine) == ROWS
    engines[1].dispose()


def test_what_cannot_be_removed_now_is_found_later(
    engine: Engine, database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(engine)
    away = folder.rename(folder.parent / "away")
    uploads.delete(engine, SHA256)
    assert uploads.list_all(engine) == []
    away.rename(folder)
    (left,) = open_store(str(folder)).names()
    monkeypatch.setattr(check, "STALE_SECONDS", -60.0)
    assert checked(database_url) == {"orphaned files": left}


def test_backups_and_copies_hold_the_contents_and_share_no_place(
    engine: Engine, database_url: str, place: str, tmp_path: Path
) -> None:
    put(engine)
    put(engine, b"unused", "unused.csv")
    submissions.submit(engine, TOML)
    assert backup(database_url, tmp_path / "backup.db") == (0, [])
    copy = f"sqlite:///{tmp_path / 'copy.db'}"
    copy_studies(database_url, copy)
    for name in open_store(place).names():
        open_store(place, locate(database_url).owner()).remove(name)
    names = {f"sqlite:///{tmp_path / 'backup.db'}": ["rows.csv", "unused.csv"], copy: ["rows.csv"]}
    for url, expected in names.items():
        open_storage(url, create=True)
        other = open_engine(url)
        assert sorted(upload.name for upload in uploads.list_all(other)) == expected
        assert read(other) == ROWS
        with other.connect() as connection:
            assert chosen(connection) is None
            assert list_contents(connection) == {}
        other.dispose()
        assert checked(url, code=0) == {}


def test_a_lost_content_is_named_by_a_backup_and_a_copy(
    engine: Engine, database_url: str, place: str, tmp_path: Path
) -> None:
    put(engine)
    submissions.submit(engine, TOML)
    (name,) = open_store(place).names()
    open_store(place, locate(database_url).owner()).remove(name)
    backup_file, copy = tmp_path / "backup.db", f"sqlite:///{tmp_path / 'copy.db'}"
    said = run("backup", "--storage", database_url, "--out", str(backup_file))
    assert "rows.csv can't be read: upload it again there" in said
    assert "rows.csv can't be read" in run("copy", database_url, copy)
    for url in (f"sqlite:///{backup_file}", copy):
        other = open_engine(url)
        assert uploads.list_all(other) == []
        put(other)
        assert read(other) == ROWS
        other.dispose()

"""SQLite: safe for several processes, and plain about what it can't open."""

from __future__ import annotations

import gc
import pickle
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.permissions import without_privileges
from helpers.storage_rows import fill

from gru_optuna.errors import StorageError
from gru_optuna.storage.database import sqlite
from gru_optuna.storage.database.open import locate, open_storage
from gru_optuna.storage.maintenance.backup import backup
from gru_optuna.storage.maintenance.check import check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.storages import BaseStorage


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def refusal(path: Path, *, create: bool = False) -> str:
    """What is said about a database that isn't opened, without its folder."""
    with pytest.raises(StorageError) as caught:
        open_storage(url(path), create=create)
    return str(caught.value).replace(f"{path.parent}/", "")


def pragma(storage: BaseStorage, name: str) -> object:
    """A setting of the connections that Optuna itself uses."""
    with storage._backend.engine.connect() as connection:  # type: ignore[attr-defined]
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter: pytest's own are closed to all but their maker."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def existing(tmp_path: Path) -> Path:
    """A database with one study, that nobody has open."""
    path = tmp_path / "existing.db"
    storage = open_storage(url(path), create=True)
    optuna.create_study(storage=storage, study_name="kept")
    storage._backend.engine.dispose()  # type: ignore[attr-defined]
    return path


# --- opening ---


def test_optunas_own_connections_write_ahead_and_sync_seldom(tmp_path: Path) -> None:
    storage = open_storage(url(tmp_path / "x.db"), create=True)
    assert pragma(storage, "journal_mode") == "wal"
    assert pragma(storage, "synchronous") == 1  # NORMAL
    assert pragma(storage, "busy_timeout") == 60_000
    assert pragma(storage, "foreign_keys") == 1


def test_a_pickled_storage_keeps_its_settings(tmp_path: Path) -> None:
    storage = open_storage(url(tmp_path / "x.db"), create=True)
    optuna.create_study(storage=storage, study_name="x")
    copy = pickle.loads(pickle.dumps(storage))  # noqa: S301
    assert pragma(copy, "journal_mode") == "wal"
    assert pragma(copy, "synchronous") == 1
    assert optuna.load_study(storage=copy, study_name="x").trials == []


def test_the_folder_is_made_for_a_new_database(tmp_path: Path) -> None:
    open_storage(url(tmp_path / "new" / "room" / "x.db"), create=True)
    assert (tmp_path / "new" / "room" / "x.db").is_file()


def test_looking_for_a_database_makes_nothing(tmp_path: Path) -> None:
    message = refusal(tmp_path / "new" / "x.db")
    assert message.startswith("x.db: there is no database yet. Create it with gru-optuna tune,")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def half_made(existing: Path, tmp_path: Path) -> Path:
    """What a first run leaves that was killed between two tables."""
    path = tmp_path / "half.db"
    whole, half = sqlite3.connect(existing), sqlite3.connect(path)
    for (table,) in whole.execute(
        "SELECT sql FROM sqlite_master WHERE name IN ('studies', 'version_info')"
    ):
        half.execute(table)
    whole.close()
    half.close()
    return path


def test_a_first_run_that_was_killed_is_completed_by_the_next(half_made: Path) -> None:
    storage = open_storage(url(half_made), create=True)
    assert optuna.create_study(storage=storage).trials == []


def test_a_database_that_is_being_made_is_not_there_yet(half_made: Path) -> None:
    assert refusal(half_made).startswith("half.db: there is no database yet.")


# --- what isn't opened ---


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_locked_database_is_called_locked(
    existing: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "PROBE_SECONDS", 0.1)
    other = sqlite3.connect(existing, isolation_level=None)
    assert other.execute(f"PRAGMA journal_mode={mode}").fetchone() == (mode,)
    other.execute("BEGIN EXCLUSIVE")
    message = "existing.db: locked by another program. Close it, or wait, and try again."
    assert refusal(existing, create=True) == message
    if mode == "wal":  # where readers don't wait for a writer
        assert len(open_storage(url(existing)).get_all_studies()) == 1
    else:
        assert refusal(existing) == message
    other.execute("ROLLBACK")
    assert len(open_storage(url(existing), create=True).get_all_studies()) == 1


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("milk, bread\n" * 100)
    for create in (False, True):
        assert refusal(path, create=create) == (
            "notes.db: not a SQLite database. Name another file."
        )
    assert path.read_text() == "milk, bread\n" * 100


def test_a_database_of_something_else_is_refused_and_left_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with sqlite3.connect(path) as photos:
        photos.execute("CREATE TABLE photos (name TEXT)")
        photos.execute("CREATE TABLE albums (name TEXT)")
    photos.close()
    before = path.read_bytes()
    for create in (False, True):
        assert refusal(path, create=create) == (
            "photos.db: a database of another program (with the tables albums, photos). "
            "Name another one."
        )
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_its_place_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").mkdir()
    for create in (False, True):
        assert refusal(tmp_path / "x.db", create=create) == (
            "x.db: can't be opened. Check the path and its permissions."
        )


def test_a_file_in_place_of_the_folder_is_a_plain_error(tmp_path: Path) -> None:
    (folder := tmp_path / "storage").write_text("")
    refused = refusal(folder / "x.db", create=True)
    assert refused == f"{folder}: File exists. Check the path."


@pytest.mark.parametrize(
    "mode",
    [
        "delete",
        pytest.param("wal"),
    ],
)
def test_a_database_that_may_not_be_written_says_so(public_folder: Path, mode: str) -> None:
    path = public_folder / "x.db"
    optuna.create_study(storage=url(path))
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.close()
    path.chmod(0o444)
    public_folder.chmod(0o777)
    with without_privileges():
        message = refusal(path, create=True)
    assert message == "x.db: read-only. Change its permissions, or name another file."


def test_a_folder_that_may_not_be_written_says_so(public_folder: Path) -> None:
    public_folder.chmod(0o555)
    with without_privileges():
        assert refusal(public_folder / "x.db", create=True) == (
            "x.db: can't be opened. Check the path and its permissions."
        )


def test_a_folder_that_may_not_be_entered_says_so(public_folder: Path) -> None:
    public_folder.chmod(0o000)
    with without_privileges():
        assert "Permission denied" in refusal(public_folder / "x.db")


# --- URLs ---


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_would_forget(address: str) -> None:
    with pytest.raises(StorageError, match=r"is lost when the process ends\. Write"):
        open_storage(address, create=True)


@pytest.mark.parametrize("address", ["", "x.db", "sqlite:/x.db", "journal.log"])
def test_what_is_no_url_is_answered_with_one(address: str) -> None:
    with pytest.raises(StorageError, match=r"is not a URL\. Write sqlite:///FILE or postgresql:"):
        open_storage(address, create=True)


def test_a_url_names_a_file_relative_or_absolute() -> None:
    assert str(locate("sqlite:///storage/x.db")) == "storage/x.db"
    assert str(locate("sqlite:////var/lib/x.db")) == "/var/lib/x.db"


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "{day} 100% #1" / "x.db"
    open_storage(url(path), create=True)
    assert path.is_file()


@pytest.mark.parametrize("closed", ["file", "folder", "both"])
def test_what_may_only_be_read_can_be_looked_at_and_backed_up(
    public_folder: Path, closed: str, tmp_path: Path
) -> None:
    path, out = public_folder / "x.db", Path(tempfile.mkdtemp(dir="/tmp")) / "out.db"
    out.parent.chmod(0o777)
    fill(url(path))
    gc.collect()  # the writer's connections: the last one takes the -wal file along
    checkpoints = path.with_name("x.db.checkpoints")
    for part in (path, checkpoints, *checkpoints.rglob("*")):
        part.chmod(0o755 if part.is_dir() else 0o644)
    path.chmod(0o444 if closed != "folder" else 0o666)
    public_folder.chmod(0o555 if closed != "file" else 0o777)
    with without_privileges():
        assert len(open_storage(url(path)).get_all_studies()) == 1
        assert all(result.ok for result in check(url(path)))
        assert backup(url(path), out) == (0, [])
    assert all(result.ok for result in check(url(out)))
    shutil.rmtree(out.parent)


def test_a_private_folder_of_checkpoints_is_named_to_other_users(public_folder: Path) -> None:
    path = public_folder / "x.db"
    fill(url(path))
    gc.collect()
    path.chmod(0o644)
    with without_privileges():
        found = {result.subject: result.detail for result in check(url(path)) if not result.ok}
    refused = f"{path}.checkpoints: Permission denied. Run the command as the user who owns it."
    assert found.keys() == {"checkpoints", "orphaned files"}
    assert found["checkpoints"].startswith(f"2 can't be read: {refused}")
    assert found["orphaned files"].startswith(refused)

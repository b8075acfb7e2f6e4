"""Places that a database names: nothing is touched there that isn't known to be ours."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.storage_rows import checked, execute, fill, folder_of, refused, run
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_optuna.attributes import CHECKPOINTS
from gru_optuna.checkpoints.marker import MARKER, Owner, marker_content
from gru_optuna.checkpoints.stores import Folder, adopt, open_store
from gru_optuna.checkpoints.study_checkpoints import StudyCheckpoints
from gru_optuna.errors import StorageError
from gru_optuna.storage.database.open import open_storage
from gru_optuna.worker.run import open_study_checkpoints

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("here")

OURS = "1/77-1-1.safetensors"
HOME = {
    "id_rsa": "key",
    "thesis.tex": "thesis",
    "1/notes.txt": "notes",
    "1/2/0-1-1.safetensors": "deeper",
    "photos/0-1-1.safetensors": "not in a folder of ours",
}


def make(folder: Path, files: dict[str, str]) -> None:
    """Files that were written two hours ago."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        two_hours_ago = time.time() - 7200
        os.utime(path, (two_hours_ago, two_hours_ago))


def contents(folder: Path) -> dict[str, str]:
    """All files below a folder, but for our marker."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MARKER
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of somebody's files, one of which happens to be named like a checkpoint."""
    make(tmp_path / "home", {**HOME, OURS: "looks like ours"})
    return tmp_path / "home"


def naming(url: str, place: object) -> optuna.Study:
    """A study that names this place for its checkpoints, though nobody here chose it."""
    study = optuna.create_study(storage=open_storage(url, create=True), study_name="hostile")
    study.set_user_attr(CHECKPOINTS, place)
    return study


def test_clean_refuses_a_place_without_our_marker(database_url: str, home: Path) -> None:
    naming(database_url, str(home))
    before = contents(home)
    message = refused("check", "--storage", database_url, "--clean")
    assert f"gru-optuna storage adopt {home}" in message
    (problem,) = checked(database_url).values()
    assert f"{home} is not used" in problem
    assert contents(home) == before
    assert not (home / MARKER).exists()


@pytest.mark.parametrize("place", ["folder", "missing", "s3", "list", "gs"])
def test_a_worker_refuses_such_a_place_before_it_begins(
    place: str, home: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    where = {"folder": str(home), "missing": f"{home}/missing", "list": ["x"], "gs": "gs://b/x"}
    if place == "s3":
        where["s3"] = f"s3://{request.getfixturevalue('bucket')}/x"
    before = contents(home)
    with pytest.raises(StorageError, match=r"is not used|can be kept there"):
        open_study_checkpoints(naming(url, where[place]), url)
    assert contents(home) == before
    assert not (home / "missing").exists()


@pytest.mark.parametrize("command", ["backup", "copy"])
def test_backups_and_copies_read_nothing_from_such_a_place(
    command: str, home: Path, tmp_path: Path
) -> None:
    url, out = f"sqlite:///{tmp_path / 'x.db'}", tmp_path / "out.db"
    naming(url, str(home)).add_trial(optuna.create_trial(state=optuna.trial.TrialState.RUNNING))
    execute(
        url,
        "INSERT INTO gru_optuna_checkpoints VALUES (1, 1, '1/77-1-1.safetensors', '0', NULL)",
    )
    arguments = (
        ["backup", "--storage", url, "--out", str(out)]
        if command == "backup"
        else ["copy", url, f"sqlite:///{out}"]
    )
    assert "storage adopt" in refused(*arguments)


def test_adopt_confirms_a_place_that_holds_nothing_else(home: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    naming(url, str(home))
    message = refused("adopt", str(home))
    assert "something else lies there: 1/2 and 4 more" in message
    assert "no such folder" in refused("adopt", str(tmp_path / "missing"))
    for name in HOME:
        (home / name).unlink()
    for folder in ("1/2", "photos"):
        (home / folder).rmdir()
    run("adopt", str(home))
    assert checked(url) == {"orphaned files": OURS}
    assert "1 files" in run("check", "--storage", url, "--clean")
    assert contents(home) == {}


def test_in_a_marked_place_only_checkpoints_are_removed(home: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    Folder(home).mark()
    (tmp_path / "elsewhere").mkdir()
    (home / "3").symlink_to(tmp_path / "elsewhere")
    make(tmp_path / "elsewhere", {"0-1-1.safetensors": "elsewhere"})
    (home / "1" / "0-9-9.safetensors").symlink_to(home / "id_rsa")
    study = naming(url, str(home))
    study.tell(study.ask(), 1.0)
    make(home, {"1/0-5-1.safetensors": "ours", "2/0-5-1.safetensors": "another study's"})
    checkpoints = open_study_checkpoints(study, url)
    checkpoints.sweep({0})
    others = {**HOME, "1/0-9-9.safetensors": "key"}
    assert contents(home) == others | {
        OURS: "looks like ours",
        "2/0-5-1.safetensors": "another study's",
    }
    run("check", "--storage", url, "--clean")
    assert contents(home) == others
    assert contents(tmp_path / "elsewhere") == {"0-1-1.safetensors": "elsewhere"}
    with pytest.raises(StorageError, match="is a link"):
        Folder(home).remove("3/0-1-1.safetensors")


def test_names_in_a_database_lead_nowhere_else(home: Path) -> None:
    """A worker removes the checkpoints that its new ones supersede, by the names in their rows."""
    Folder(home).mark()
    make(home, {"2/0-1-1.safetensors": "another study's"})
    before = contents(home)
    names = ["../home/id_rsa", "id_rsa", "1/notes.txt", "2/0-1-1.safetensors", f"1/../{OURS}"]
    StudyCheckpoints(1, Folder(home)).remove(names)
    assert contents(home) == before
    StudyCheckpoints(1, Folder(home)).remove([*names, OURS])
    assert contents(home) == {name: text for name, text in before.items() if name != OURS}


def test_a_marker_that_is_a_link_vouches_for_nothing(home: Path, tmp_path: Path) -> None:
    Folder(tmp_path / "marked").mark()
    (home / MARKER).symlink_to(tmp_path / "marked" / MARKER)
    for attempt in (Folder(home).names, Folder(home).mark, lambda: Folder(home).remove(OURS)):
        with pytest.raises(StorageError, match="is not used"):
            attempt()


def test_a_link_in_the_place_of_ours_is_noticed_by_a_worker_that_runs(
    home: Path, tmp_path: Path
) -> None:
    place = Folder(tmp_path / "place")
    place.mark()
    place.write(OURS, b"x")
    place.folder.rename(tmp_path / "moved")
    place.folder.symlink_to(home)
    before = contents(home)
    for attempt in (lambda: place.remove(OURS), lambda: place.write("1/1-1-1.safetensors", b"y")):
        with pytest.raises(StorageError, match="is not used"):
            attempt()
    assert contents(home) == before


def test_of_a_marker_without_end_only_the_beginning_is_read(home: Path) -> None:
    owner = Owner("x" * 100_000, {"host": "here", "path": "/x"})
    (home / MARKER).write_bytes(marker_content(owner))
    with pytest.raises(StorageError, match="belongs to another database"):
        Folder(home, owner=owner).remove(OURS)


def test_the_folder_of_an_earlier_version_is_used_if_it_holds_only_checkpoints(
    tmp_path: Path,
) -> None:
    """Version 0.1.0 wrote no markers."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    study = fill(url)
    folder = folder_of(url)
    (folder / MARKER).unlink()
    unfinished = "1/78-1-1.safetensors.0123abcd.writing"
    make(folder, {OURS: "x", unfinished: "x", ".DS_Store": "x"})
    assert checked(url) == {"orphaned files": f"{OURS}; {unfinished}"}
    assert not (folder / MARKER).exists()  # a check changes nothing
    run("check", "--storage", url, "--clean")
    assert (folder / MARKER).exists()
    (folder / MARKER).unlink()
    make(folder, {"thesis.tex": "thesis"})
    assert "else lies there: thesis.tex. Move it" in refused("check", "--storage", url, "--clean")
    with pytest.raises(StorageError, match=r"thesis\.tex"):
        open_study_checkpoints(study, url)


def test_a_default_folder_that_is_a_link_needs_the_marker(home: Path, tmp_path: Path) -> None:
    """An archive may hold a database, and beside it a link to a folder of its receiver."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    fill(url, "with a link")
    folder = folder_of(url)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(home)
    assert "storage adopt" in refused("check", "--storage", url, "--clean")
    folder.unlink()
    folder.symlink_to(tmp_path / "moved")
    assert checked(url, code=0) == {}


def test_a_bucket_needs_the_marker_too(bucket: str) -> None:
    store = open_store(f"s3://{bucket}/prefix")
    store.mark()
    store.write(OURS, b"x")
    client = store.store.client  # type: ignore[attr-defined]
    client.delete_object(Bucket=bucket, Key=f"prefix/{MARKER}")
    other = open_store(f"s3://{bucket}/prefix")
    for attempt in (
        other.names,
        lambda: other.read(OURS),
        lambda: other.remove(OURS),
        lambda: other.write(OURS, b"y"),
    ):
        with pytest.raises(StorageError, match=f"storage adopt s3://{bucket}/prefix"):
            attempt()
    client.put_object(Bucket=bucket, Key="prefix/thesis.tex", Body=b"thesis")
    with pytest.raises(StorageError, match=r"something else lies there: thesis\.tex"):
        adopt(f"s3://{bucket}/prefix")
    client.delete_object(Bucket=bucket, Key="prefix/thesis.tex")
    adopt(f"s3://{bucket}/prefix")
    assert other.read(OURS) == b"x"


folders = st.sampled_from(["", "1/", "01/", "2/", "a/", "1/2/"])
stems = st.sampled_from(["0-1-1", "12-1-1", "0-1", "x-1-1", "0-1-1-1", "3-1-1"])
suffixes = st.sampled_from(
    [".safetensors", ".safetensors.0123abcd.writing", ".safetensors.bak", ".writing", ""]
)


@settings(max_examples=50)
@given(files=st.sets(st.tuples(folders, stems, suffixes).map("".join)))
def test_whatever_lies_in_a_place_a_sweep_takes_only_its_studys_checkpoints(
    files: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("place")
    Folder(folder).mark()
    make(folder, dict.fromkeys(files, "x"))
    StudyCheckpoints(1, Folder(folder)).sweep({0, 12})
    swept = {
        f"1/{number}-1-1.safetensors{end}"
        for number in (0, 12)
        for end in ("", ".0123abcd.writing")
    }
    assert set(contents(folder)) == files - swept

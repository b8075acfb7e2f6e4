"""``gru-optuna storage backup``: one file, of one moment, while workers write."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.storage_rows import checked, fill, folder_of, meaning, refused, run

from gru_optuna.checkpoints.stores import Folder
from gru_optuna.storage.database.open import open_storage

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("here")


def test_a_backup_is_one_file_with_everything(database_url: str, tmp_path: Path) -> None:
    fill(database_url)
    out = tmp_path / "backups" / "x.db"
    out.parent.mkdir()
    assert run("backup", "--storage", database_url, "--out", str(out)) == "backups/x.db\n"
    assert list(out.parent.iterdir()) == [out]
    before = meaning(database_url)
    copy = f"sqlite:///{out}"
    assert meaning(copy) == before
    assert checked(copy, code=0) == {}
    held = r"running trials +1: 0 held by workers, 1 to be adopted"
    assert re.search(held, run("check", "--storage", copy))


def test_a_backup_is_called_after_its_database_and_time(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    fill(f"sqlite:///{tmp_path / 'my.db'}")
    printed = run("backup", "--storage", "sqlite:///my.db").strip()
    assert re.fullmatch(r"storage/my-\d{8}-\d{6}\.db", printed)
    assert (tmp_path / printed).is_file()


WRITER = """
import os, sys
from sqlalchemy import insert, delete
from gru_optuna.checkpoints.checkpoint import digest
from gru_optuna.checkpoints.stores import Folder
from gru_optuna.storage.database.open import checkpoint_folder, lock_study, open_engine
from gru_optuna.storage.database.tables import checkpoints

url, trial = sys.argv[1], int(sys.argv[2])
engine, folder = open_engine(url), checkpoint_folder(url)
store = folder and Folder(folder, default=True)
epoch = 0
while True:
    epoch += 1
    name, content = f"1/{trial}-{epoch}-1.safetensors", os.urandom(20_000)
    if store:
        store.write(name, content)
    with engine.begin() as connection:
        assert lock_study(connection, 1)
        connection.execute(delete(checkpoints).where(checkpoints.c.trial_id == trial))
        row = {"trial_id": trial, "epoch": epoch, "name": name, "sha256": digest(content)}
        connection.execute(insert(checkpoints), [row | {"content": None if store else content}])
    if store:
        store.remove(f"1/{trial}-{epoch - 1}-1.safetensors")
    if epoch == 5:
        print("ready", flush=True)
"""


def test_a_backup_is_of_one_moment_while_workers_write(database_url: str, tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(database_url, create=True), study_name="x")
    trials = [study.ask()._trial_id for _ in range(2)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WRITER, database_url, str(trial)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for trial in trials
    ]
    try:
        for writer in writers:
            assert writer.stdout
            assert writer.stdout.readline() == "ready\n"
        for number in range(5):
            out = f"backup-{number}.db"
            assert run("backup", "--storage", database_url, "--out", out) == f"{out}\n"
            assert checked(f"sqlite:///{out}", code=0) == {}
            assert len(meaning(f"sqlite:///{out}")["gru_optuna_checkpoints"]) == 2
            assert checked(database_url, code=0) == {}
        assert all(writer.poll() is None for writer in writers)
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


def test_a_backup_overwrites_nothing_and_leaves_nothing_half(
    database_url: str, tmp_path: Path
) -> None:
    fill(database_url)
    (tmp_path / "kept.db").write_text("precious")
    arguments = ("backup", "--storage", database_url, "--out")
    assert refused(*arguments, "kept.db") == (
        "kept.db exists already. Name another file with --out."
    )
    assert (tmp_path / "kept.db").read_text() == "precious"
    assert refused(*arguments, "none/x.db") == (
        "none/x.db: there is no folder none. Create it, or name another file."
    )
    before = sorted(tmp_path.iterdir())
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40960, 40960)); "
    code = limit + "import sys; from gru_optuna.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, "storage", *arguments, "new.db"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("new.db: ")
    assert sorted(tmp_path.iterdir()) == before


def test_an_unreadable_checkpoint_is_left_out_and_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    fill(url)
    names = Folder(folder_of(url)).names()
    Folder(folder_of(url)).write(names[0], b"something else")
    for command in (("backup", "--storage", url, "--out", "b.db"), ("copy", url, "sqlite:///c.db")):
        assert "1 checkpoints can't be read" in run(*command)
    for copy in ("b.db", "c.db"):
        (row,) = meaning(f"sqlite:///{copy}")["gru_optuna_checkpoints"]
        assert names[1].partition("/")[2] in row

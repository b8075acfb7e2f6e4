"""Who may read what the commands create."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.processes import wait_for
from helpers.workspaces import write_tiny_study

from gru_optuna.files import written_whole
from gru_optuna.storage.database.open import open_storage
from gru_optuna.worker.run import open_study_checkpoints

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.processes import Nursery


def modes(folder: Path) -> dict[str, int]:
    """The permissions of everything below a folder, links left out."""
    return {
        path.relative_to(folder).as_posix(): stat.S_IMODE(path.lstat().st_mode)
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


def test_what_tune_and_export_create_is_private(nursery: Nursery, tmp_path: Path) -> None:
    study = write_tiny_study(tmp_path / "studies")
    study.chmod(0o644)
    tune = nursery.start(
        "tune", "studies/tiny.toml", "--no-confirm", "--trials", 2,
        folder=tmp_path, faults={"slow": {"seconds": 0.3}},
    )  # fmt: skip
    database = tmp_path / "storage" / "gru_optuna.db"
    log = database.with_name("gru_optuna.db-wal")
    wait_for("the database", log.exists)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert tune.wait() == 0, tune.said
    export = nursery.start("export", "tiny", "--out", "bundle", folder=tmp_path)
    assert export.wait() == 0, export.said
    found = modes(tmp_path)
    assert {"storage/gru_optuna.db", "dashboards/tiny/index.html", "bundle"} <= found.keys()
    created = {name: mode for name, mode in found.items() if not name.startswith("studies")}
    assert {name: oct(mode) for name, mode in created.items() if mode & 0o077} == {}
    assert found["studies/tiny.toml"] == 0o644


@pytest.mark.parametrize(("shared", "mode"), [("", 0o600), ("group", 0o660), ("umask", 0o644)])
def test_a_setting_shares_files(shared: str, mode: int, tmp_path: Path) -> None:
    script = (
        "import os, sys; os.umask(0o022); from gru_optuna import cli;"
        "sys.argv = ['gru-optuna', 'studies', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "from gru_optuna.storage.database.open import open_storage\n"
        "open_storage('sqlite:///x.db', create=True)\n"
    )
    environment = os.environ | {"GRU_OPTUNA_SHARED": shared}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=environment)
    assert modes(tmp_path)["x.db"] == mode


@pytest.mark.parametrize(
    ("shared", "file", "folder"),
    [("", 0o600, 0o2700), ("group", 0o660, 0o2770), ("umask", 0o644, 0o2755)],
)
def test_what_python_creates_is_private_too(
    shared: str, file: int, folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The umask of the process stays, and so does the group of a shared folder."""
    monkeypatch.setenv("GRU_OPTUNA_SHARED", shared)
    tmp_path.chmod(0o2777)
    before = os.umask(0o022)
    try:
        url = f"sqlite:///{tmp_path / 'x.db'}"
        study = optuna.create_study(storage=open_storage(url, create=True))
        open_study_checkpoints(study, url)
        with written_whole(tmp_path / "bundle") as beside:
            beside.mkdir()
        with written_whole(tmp_path / "predictions.csv") as beside:
            beside.write_text("")
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    found = modes(tmp_path)
    assert {found["x.db"], found["predictions.csv"]} == {file}
    assert {found["x.db.checkpoints"], found["x.db.locks"], found["bundle"]} == {folder}


def test_another_value_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gru_optuna", "studies"], check=False, cwd=tmp_path, text=True,
        env=os.environ | {"GRU_OPTUNA_SHARED": "yes"}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == 'GRU_OPTUNA_SHARED="yes" is unknown. Set it to group or umask.\n'

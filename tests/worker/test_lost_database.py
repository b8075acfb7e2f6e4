"""A database whose file is deleted, replaced or overwritten: noticed, and everything saved."""

from __future__ import annotations

import gc
import re
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.processes import DEADLINE, wait_for
from helpers.storage_rows import checked
from helpers.workspaces import write_tiny_study
from optuna.trial import TrialState

from gru_optuna.attributes import CONFIRMATION_RUNS
from gru_optuna.errors import DatabaseLost
from gru_optuna.storage.database.open import open_engine, open_storage

if TYPE_CHECKING:
    from helpers.processes import Nursery, Process


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """By an older copy of itself."""
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    copy.replace(path)


def overwrite(path: Path) -> None:
    """By something else, under the same inode."""
    path.write_bytes(b"something else " * 1000)


def truncate(path: Path) -> None:
    """As ``> study.db`` does."""
    path.write_bytes(b"")


def restore(path: Path) -> None:
    """An older state, through SQLite itself."""
    older = sqlite3.connect(path.with_name("older.db"))
    with closing(older), closing(sqlite3.connect(path, timeout=30)) as target:
        older.backup(target)


def delete_the_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


@pytest.mark.parametrize("harm", [delete, replace, delete_the_log])
def test_an_engine_refuses_to_commit_to_a_file_that_is_gone(harm: object, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    storage = open_storage(f"sqlite:///{path}", create=True)
    optuna.create_study(storage=storage, study_name="x")
    engine = open_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE studies SET study_name = 'y'")
    connection = engine.connect()
    connection.exec_driver_sql("UPDATE studies SET study_name = 'z'")
    harm(path)  # type: ignore[operator]
    with pytest.raises(DatabaseLost):
        connection.commit()
    with pytest.raises(DatabaseLost), engine.begin():
        pass


@pytest.mark.parametrize("ending", ["dispose", "invalidate"])
def test_a_log_that_goes_with_the_last_connection_is_no_loss(ending: str, tmp_path: Path) -> None:
    """SQLite removes the -wal file itself; the next connection makes another one."""
    path = tmp_path / "x.db"
    engine = open_engine(f"sqlite:///{path}")  # before there is a file
    optuna.create_study(storage=open_storage(f"sqlite:///{path}", create=True), study_name="x")
    for name in ("y", "z"):
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE studies SET study_name = ?", (name,))
        if ending == "dispose":
            engine.dispose()
        else:
            with engine.connect() as connection:
                connection.invalidate()
            gc.collect()  # Optuna's own connections
        path.with_name("other").write_text("takes the inode that has become free")
    assert optuna.get_all_study_names(f"sqlite:///{path}") == ["z"]


def run(nursery: Nursery, folder: Path, *arguments: str) -> tuple[Process, Path]:
    """A ``tune`` that takes a while, and its database."""
    write_tiny_study(folder / "studies")
    path = folder / "storage" / "gru_optuna.db"
    process = nursery.start("tune", "studies/tiny.toml", *arguments, folder=folder)
    return process, path


def query(path: Path, sql: str) -> int:
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return int(db.execute(sql).fetchone()[0])
    return 0


OVER = "SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'"
RUNNING = "SELECT COUNT(*) FROM trials WHERE state = 'RUNNING'"
CONFIRMED = (
    "SELECT COUNT(*) FROM study_user_attributes "
    "WHERE key = 'confirmation_runs' AND value_json != '{}'"
)


def rescued(process: Process, folder: Path) -> list[optuna.Study]:
    """The study in each database that the process and its workers saved before it failed."""
    assert process.wait() == 1, process.said
    assert "Traceback" not in process.said
    said = r"gru_optuna\.db was .* while this command used it\. .* is in (\S+)\."
    found = re.findall(said, process.said)
    assert found, process.said
    assert {Path(path) for path in found} == set((folder / "dashboards" / "tiny").glob("*.db"))
    urls = [f"sqlite:///{path}" for path in found]
    assert [checked(url, code=0) for url in urls] == [{}] * len(urls)
    return [optuna.load_study(storage=open_storage(url), study_name="tiny") for url in urls]


@pytest.mark.parametrize(
    ("harm", "workers"),
    [
        (delete, 1),
        (replace, 1),
        (overwrite, 1),
        (truncate, 1),
        (restore, 1),
        (delete_the_log, 1),
        (delete, 2),
        (overwrite, 2),
    ],
)
def test_tune_stops_and_saves_everything(
    harm: object, workers: int, nursery: Nursery, tmp_path: Path
) -> None:
    long = ("--trials", "500", "--set", "training.epochs=30", "--workers", str(workers))
    process, path = run(nursery, tmp_path, *long, "--set", "pruner.name=none")
    wait_for("a study", lambda: process.code is not None or query(path, RUNNING) >= 2)
    with (
        closing(sqlite3.connect(path)) as now,
        closing(sqlite3.connect(path.with_name("older.db"))) as older,
    ):
        now.backup(older)
    wait_for("some trials", lambda: process.code is not None or query(path, OVER) >= 3)
    over = query(path, OVER)
    harm(path)  # type: ignore[operator]
    # Each worker saves what it knows, which is everything if the old file can still be read.
    studies = rescued(process, tmp_path)
    complete = [t for study in studies for t in study.get_trials(states=(TrialState.COMPLETE,))]
    assert len({trial.number for trial in complete}) >= over
    assert all(len(t.intermediate_values) == t.user_attrs["epochs"] for t in complete)
    if harm is delete:
        assert not path.exists()  # no empty file has taken its place


def test_a_loss_during_the_confirmation_is_noticed_too(nursery: Nursery, tmp_path: Path) -> None:
    process, path = run(
        nursery, tmp_path, "--trials", "2", "--set", "confirmation.seeds=200",
        "--set", "training.epochs=20",
    )  # fmt: skip
    wait_for("a confirmed run", lambda: process.code is not None or query(path, CONFIRMED))
    path.unlink()
    (study,) = rescued(process, tmp_path)
    assert study.user_attrs[CONFIRMATION_RUNS]


@pytest.mark.parametrize("harm", [delete, overwrite])
def test_the_rescued_study_goes_on(harm: object, nursery: Nursery, tmp_path: Path) -> None:
    process, path = run(nursery, tmp_path, "--trials", "4", "--set", "training.epochs=30")
    wait_for("a trial", lambda: process.code is not None or query(path, OVER) >= 1)
    harm(path)  # type: ignore[operator]
    assert process.wait() == 1
    (saved,) = (tmp_path / "dashboards" / "tiny").glob("*.db")
    again = nursery.start(
        "tune", "studies/tiny.toml", "--trials", "4", "--set", "training.epochs=30",
        "--no-confirm", "--storage", f"sqlite:///{saved}", folder=tmp_path,
    )  # fmt: skip
    assert again.wait(DEADLINE) == 0, again.said
    study = optuna.load_study(storage=open_storage(f"sqlite:///{saved}"), study_name="tiny")
    assert [trial.number for trial in study.trials] == list(range(4))
    assert all(trial.state.is_finished() for trial in study.trials)

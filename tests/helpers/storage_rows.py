"""Databases with rows of every kind, what they mean, and ``gru-optuna storage`` on them."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import optuna
from optuna.storages._rdb import models
from optuna.trial import TrialState
from optuna_dashboard import save_note
from sqlalchemy import insert, select, text
from typer.testing import CliRunner

from gru_optuna.checkpoints.checkpoint import digest
from gru_optuna.checkpoints.stores import Folder
from gru_optuna.cli import app
from gru_optuna.storage.database import tables
from gru_optuna.storage.database.open import (
    checkpoint_folder,
    locate,
    now,
    open_engine,
    open_storage,
)

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result
    from optuna import Study


def run(*arguments: str, code: int = 0) -> str:
    """What ``gru-optuna storage`` says, at an exit code that was to be expected."""
    return invoke("storage", *arguments, code=code).output


def invoke(*arguments: str, code: int) -> Result:
    """The command line, in this process."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output + repr(done.exception)
    return done


def refused(*arguments: str) -> str:
    message = run(*arguments, code=2).strip()
    assert "\n" not in message
    return message


def execute(url: str, *statements: str) -> None:
    with locate(url).passing_engine().begin() as connection:
        if url.startswith("sqlite"):
            # As another program, that knows nothing of our tables.
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        for statement in statements:
            connection.execute(text(statement))


def save_checkpoint(url: str, study: Study, trial_id: int, epoch: int, content: bytes) -> str:
    """As a worker does: first the file, where there are files, then the row."""
    name = f"{study._study_id}/{trial_id}-{epoch}-1.safetensors"
    if folder := checkpoint_folder(url):
        Folder(folder, default=True).write(name, content)
    with open_engine(url).begin() as connection:
        connection.execute(
            insert(tables.checkpoints).values(
                trial_id=trial_id,
                epoch=epoch,
                name=name,
                sha256=digest(content),
                content=None if folder else content,
            )
        )
    return name


def register(url: str, study: Study, trial_id: int) -> None:
    """A worker, and its lease on a trial."""
    with open_engine(url).begin() as connection:
        moment = now(connection)
        row = {"host": "here", "process": 1, "device": "cpu", "slots": 1}
        row |= {"study_id": study._study_id, "started_at": moment, "beaten_at": moment}
        worker = connection.scalar(
            insert(tables.workers).returning(tables.workers.c.worker_id), row
        )
        connection.execute(
            insert(tables.leases).values(
                trial_id=trial_id, study_id=study._study_id, worker_id=worker, token=1
            )
        )


def fill(url: str, name: str = "all kinds") -> Study:
    """A study with rows of every kind, and every value that is stored in its own way."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=open_storage(url, create=True),
        study_name=name,
        directions=["minimize", "maximize"],
        sampler=optuna.samplers.RandomSampler(seed=1),
    )
    study.set_user_attr("specification", {"name": "Ünïcode 音", "zero": "\0", "list": [1, None]})
    study._storage.set_study_system_attr(
        study._study_id, "study:metric_names", ["loss", "accuracy"]
    )
    for values in ([1.5, 0.1], [math.inf, -math.inf], None):
        trial = study.ask()
        trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        trial.suggest_int("hidden", 8, 64)
        trial.suggest_categorical("decay", ["constant", "cosine", None])
        trial.set_user_attr("curve", [1.0, 0.5])
        study.tell(trial, values, state=None if values else TrialState.FAIL)
        save_note(trial, f"a note on trial {trial.number}")
    study.enqueue_trial({"hidden": 16})
    with locate(url).passing_engine().begin() as connection:
        first = connection.scalar(
            select(tables.trials.c.trial_id).where(tables.trials.c.study_id == study._study_id)
        )
        for step, value in enumerate((0.1 + 0.2, math.nan, math.inf, -math.inf)):
            model = models.TrialIntermediateValueModel
            stored, kind = model.intermediate_value_to_stored_repr(value)
            connection.execute(
                insert(model.__table__).values(
                    trial_id=first,
                    step=step,
                    intermediate_value=stored,
                    intermediate_value_type=kind,
                )
            )
        connection.execute(insert(models.TrialHeartbeatModel.__table__).values(trial_id=first))
    running = study.add_trial(optuna.create_trial(state=TrialState.RUNNING)) or study.trials[-1]
    save_checkpoint(url, study, running._trial_id, 4, b"weights of epoch 4")
    save_checkpoint(url, study, running._trial_id, 5, b"weights of epoch 5" * 1000)
    register(url, study, running._trial_id)
    return study


def meaning(url: str) -> dict[str, list[str]]:
    """Every row of a database, with names and numbers in place of ids."""
    found: dict[str, list[str]] = defaultdict(list)
    with locate(url).passing_engine().connect() as connection:
        studies = connection.execute(select(tables.studies)).mappings()
        names = {row["study_id"]: row["study_name"] for row in studies}
        trial = tables.trials.c
        numbers = {
            row.trial_id: f"{names[row.study_id]} {row.number}"
            for row in connection.execute(select(trial.trial_id, trial.study_id, trial.number))
        }
        for table in [*models.BaseModel.metadata.sorted_tables, tables.checkpoints]:
            if table.name == "version_info":
                continue
            for row in connection.execute(select(table)).mappings():
                readable = {k: v for k, v in row.items() if k not in table.primary_key.c}
                if "study_id" in row:
                    readable["study_id"] = names[row["study_id"]]
                if "trial_id" in row:
                    readable["trial_id"] = numbers[row["trial_id"]]
                if table is tables.checkpoints:
                    readable["epoch"] = row["epoch"]
                    readable["content"] = row["content"] or Folder(folder_of(url)).read(row["name"])
                    readable["name"] = row["name"].partition("/")[2]
                if key := re.fullmatch(r"dashboard:(\d+):(.*)", readable.get("key", "")):
                    readable["key"] = f"{numbers[int(key[1])]} {key[2]}"
                found[table.name].append(repr(sorted(readable.items())))
    return {table: sorted(rows) for table, rows in found.items()}


def folder_of(url: str) -> Path:
    """Where a SQLite database's checkpoints lie."""
    folder = checkpoint_folder(url)
    assert folder
    return folder


def checked(url: str, *flags: str, code: int = 1) -> dict[str, str]:
    """What ``check`` says that isn't as it should be."""
    done = invoke("storage", "check", "--storage", url, "--json", *flags, code=code)
    report = json.loads(done.stdout)
    assert report["clean"] == (code == 0)
    return {one["subject"]: one["detail"] for one in report["findings"] if not one["ok"]}

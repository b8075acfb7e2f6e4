"""``gru-optuna storage``: maintains the database."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated

import typer

from gru_optuna.cli.console import (
    EXIT_FAILED,
    AsJson,
    Command,
    Group,
    Storage,
    current_workspace,
    plain_errors,
    say,
)
from gru_optuna.cli.output import print_json, print_table
from gru_optuna.urls import given_url
from gru_optuna.workspace import shown, storage_url

if TYPE_CHECKING:
    from collections.abc import Sequence

storage_app = typer.Typer(
    name="storage",
    cls=Group,
    help="Maintain the database: check, back up, copy and upgrade it.",
    no_args_is_help=True,
)


@storage_app.command("check", cls=Command)
def check_storage(
    storage: Storage = None,
    remove: Annotated[
        bool, typer.Option("--clean", help="Remove rows and files that no trial needs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check the database for faults. Workers may keep running.

    Example: gru-optuna storage check
    """
    with plain_errors():
        from gru_optuna.storage.maintenance.check import check, clean

        url = storage_url(storage, current_workspace())
        removed = clean(url) if remove else None
        findings = check(url)
        problems = [finding for finding in findings if not finding.ok]
        if as_json:
            print_json(
                {
                    "clean": not problems,
                    "findings": [
                        {"subject": f.subject, "ok": f.ok, "detail": f.detail} for f in findings
                    ],
                    "removed": {"rows": removed.rows, "files": removed.files} if removed else None,
                }
            )
        else:
            print_table(
                ("", "what", "found"),
                [("ok" if f.ok else "BAD", f.subject, f.detail) for f in findings],
            )
        if removed:
            say(f"removed {removed.rows} rows and {removed.files} files that no trial needs")
        elif any(finding.removable for finding in problems):
            say("gru-optuna storage check --clean removes what no trial needs")
        if problems:
            sys.exit(EXIT_FAILED)


@storage_app.command("backup", cls=Command)
def back_up_storage(
    storage: Storage = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A new file. Default: storage/NAME-DATE-TIME.db."),
    ] = None,
) -> None:
    """Write the whole database to one SQLite file. Workers may keep running.

    The file is a database like any other: `--storage sqlite:///FILE` opens it.

    Example: gru-optuna storage backup --out before-upgrade.db
    """
    with plain_errors():
        from gru_optuna.storage.maintenance.backup import backup

        workspace = current_workspace()
        url = storage_url(storage, workspace)
        lost = backup(url, out := out or _dated(workspace.folder / "storage", url))
        _say_lost(*lost)
        print(shown(out))


@storage_app.command(cls=Command)
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The database to copy from.")],
    target: Annotated[
        str,
        typer.Argument(metavar="TO", help="The database to copy to; created if it doesn't exist."),
    ],
    study: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A study to copy. Default: all. Repeatable."),
    ] = None,
) -> None:
    """Copy complete studies to another database, SQLite or PostgreSQL.

    Stop their workers first: their later results would not be copied. Running trials resume in
    the target database, from their checkpoints. Instead of a URL, env:VARIABLE and file:PATH are
    read, too: they keep a password out of the list of processes.

    Example: gru-optuna storage copy sqlite:///storage/gru_optuna.db postgresql://me@host/tuning
    """
    with plain_errors():
        from gru_optuna.storage.maintenance.copy import copy_studies

        copied, lost = copy_studies(given_url(source), given_url(target), study or ())
        print_table(
            ("study", "trials", "checkpoints"),
            [(one.study, str(one.trials), str(one.checkpoints)) for one in copied],
        )
        _say_lost(sum(one.lost for one in copied), lost)


@storage_app.command("adopt", cls=Command)
def adopt_place(
    place: Annotated[
        str, typer.Argument(metavar="WHERE", help="The folder, or s3://BUCKET/PREFIX.")
    ],
    storage: Storage = None,
) -> None:
    """Confirm that a place holds gru-optuna's checkpoints or uploads, so that they are used.

    Needed after an update for a place that version 0.1.0 created for tune --checkpoints, and for
    a database that was moved to another host: a place belongs to one database, so that a copy
    of the database never removes the original's files.

    Example: gru-optuna storage adopt /mnt/shared/japanese-vowels-1f0c22ab
    """
    with plain_errors():
        from gru_optuna.storage.maintenance.checkpoint_stores import adopt

        url = storage_url(storage, current_workspace())
        owner = adopt(place, url, required=storage is not None)
        print(f"{place} is used from now on{f' by {owner.name}' if owner else ''}")


@storage_app.command("uploads", cls=Command)
def keep_uploads(
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="[WHERE]",
            help="A folder, s3://BUCKET/PREFIX, or: database. Default: say where they are kept.",
        ),
    ] = None,
    storage: Storage = None,
) -> None:
    """Choose where uploads, bundles and predictions are kept: in the database unless you do.

    The database remembers the place, for the service and all workers; each of their machines has
    to reach it. A folder must be one that all of them see under this path. What is stored already
    stays where it is.

    Example: gru-optuna storage uploads s3://tuning/uploads
    """
    with plain_errors():
        from gru_optuna.storage.database.open import open_engine, open_storage
        from gru_optuna.storage.upload_places import DATABASE, choose, chosen

        url = storage_url(storage, current_workspace())
        open_storage(url, create=where is not None)
        engine = open_engine(url)
        if where is not None:
            print(choose(engine, where))
            return
        with engine.connect() as connection:
            place = chosen(connection)
        print(place.where if place else DATABASE)


@storage_app.command(cls=Command)
def upgrade(storage: Storage = None) -> None:
    """Upgrade a database that an older version wrote. Stop its workers first.

    Example: gru-optuna storage upgrade
    """
    with plain_errors():
        from gru_optuna.storage.database.open import upgrade_storage

        before, now = upgrade_storage(storage_url(storage, current_workspace()))
        if before == now:
            print(f"nothing to upgrade: {now} is the newest version")
        else:
            print(f"from {before}\nto   {now}")


def _say_lost(checkpoints: int, uploads: Sequence[str]) -> None:
    if checkpoints:
        say(f"{checkpoints} checkpoints can't be read: their trials resume from an earlier epoch")
    for name in uploads:
        say(f"{name} can't be read: upload it again there")


def _dated(room: Path, url: str) -> Path:
    """A new file name in the workspace's storage folder."""
    from gru_optuna.storage.database.open import existing

    name = existing(url).name
    room.mkdir(exist_ok=True)
    return room / f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}.db"

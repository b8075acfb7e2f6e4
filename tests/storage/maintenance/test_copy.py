"""``gru-optuna storage copy``: studies arrive whole, on the other kind of database too."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.storage_rows import checked, execute, fill, meaning, refused, run
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import Engine, event, insert, select

from gru_optuna.storage.database import tables
from gru_optuna.storage.database.open import locate, open_engine, open_storage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("here")


def test_a_round_trip_brings_back_every_row(
    tmp_path: Path, new_postgresql: Callable[[], str]
) -> None:
    first, second = (f"sqlite:///{tmp_path / name}.db" for name in ("first", "second"))
    server = new_postgresql()
    fill(server, "another one")  # so that ids differ
    fill(first)
    output = run("copy", first, server)
    assert re.search(r"^all kinds +5 +2$", output, re.MULTILINE)
    run("copy", server, second, "--study", "all kinds")
    before, after = meaning(first), meaning(second)
    assert before.keys() == after.keys() >= {"gru_optuna_checkpoints", "trial_heartbeats"}
    for table, rows in before.items():
        assert after[table] == rows, table


def test_a_copy_can_be_gone_on_with(database_url: str, tmp_path: Path) -> None:
    fill(database_url)
    target = f"sqlite:///{tmp_path / 'target.db'}"
    run("copy", database_url, target)
    assert checked(target, code=0) == {}
    study = optuna.load_study(storage=open_storage(target), study_name="all kinds")
    assert study.ask().number == 3  # the one that waits
    assert study.ask().number == 5
    with open_engine(target).begin() as connection:
        assert connection.execute(select(tables.leases)).all() == []
        assert connection.execute(select(tables.workers)).all() == []


def test_thousands_of_trials_are_copied_in_a_few_statements(
    tmp_path: Path, new_postgresql: Callable[[], str]
) -> None:
    source = f"sqlite:///{tmp_path / 'large.db'}"
    study = optuna.create_study(storage=open_storage(source, create=True), study_name="large")
    with locate(source).passing_engine().begin() as connection:
        row = {"study_id": study._study_id, "state": TrialState.COMPLETE}
        connection.execute(insert(tables.trials), [row | {"number": n} for n in range(5000)])
        ids = connection.scalars(select(tables.trials.c.trial_id)).all()
        values = models.TrialValueModel
        kind = values.TrialValueType.FINITE
        row = {"objective": 0, "value_type": kind}
        connection.execute(
            insert(values.__table__), [row | {"trial_id": i, "value": i / 7} for i in ids]
        )
    server = new_postgresql()
    statements: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        run("copy", source, server)
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert len(statements) < 500
    assert meaning(server) == meaning(source)


def test_a_copy_arrives_whole_or_not_at_all(
    tmp_path: Path, new_postgresql: Callable[[], str]
) -> None:
    source, server = f"sqlite:///{tmp_path / 'source.db'}", new_postgresql()
    fill(source, "a good one")
    fill(source, "a study that holds more than PostgreSQL")
    longer = "param_name || hex(zeroblob(300))"
    execute(source, f"UPDATE trial_params SET param_name = {longer} WHERE trial_id > 5")  # noqa: S608
    assert "too long" in refused("copy", source, server)
    assert open_storage(server).get_all_studies() == []


def test_what_cant_be_copied_is_refused_before_anything_is_written(
    database_url: str, tmp_path: Path
) -> None:
    fill(database_url)
    other, here = f"sqlite:///{tmp_path / 'other.db'}", locate(database_url)
    assert refused("copy", database_url, other, "--study", "al kinds") == (
        f'no study "al kinds" in {here}. Did you mean "all kinds"?'
    )
    assert not (tmp_path / "other.db").exists()
    assert refused("copy", database_url, database_url) == (
        f"{here} is both source and target. Name another target."
    )
    run("copy", database_url, other)
    before = meaning(database_url)
    assert refused("copy", other, database_url) == (
        f'{here} already has a study "all kinds". Nothing was copied. '
        f"Choose other studies with --study, or another target."
    )
    assert meaning(database_url) == before
    assert "no database yet" in refused("copy", f"sqlite:///{tmp_path}/none.db", other)
    (tmp_path / "notes.db").write_text("milk, bread\n" * 100)
    assert "not a SQLite database" in refused("copy", other, f"sqlite:///{tmp_path}/notes.db")


def test_the_same_file_by_another_way_is_the_same(tmp_path: Path) -> None:
    fill(f"sqlite:///{tmp_path / 'x.db'}")
    (tmp_path / "link.db").symlink_to(tmp_path / "x.db")
    for way in ("x.db", "./x.db", "link.db"):
        assert "both source and target" in refused(
            "copy", f"sqlite:///{tmp_path / 'x.db'}", f"sqlite:///{way}"
        )

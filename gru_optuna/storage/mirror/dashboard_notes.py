"""Notes and figures, written where optuna-dashboard looks for them.

It keeps them in the study's system attributes, those of trials too, in pieces that fit into a
column. Through its own functions each piece is a commit; here all of them are part of a
transaction that happens anyway.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optuna.storages._rdb import models
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from gru_optuna.attributes import DESCRIBED_AT, WORKED_UNTIL
from gru_optuna.storage.mirror.optuna_rows import Changes, decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial
    from sqlalchemy import ColumnElement, Connection

    from gru_optuna.storage.mirror.study_attributes import StudyAttrs

PREFIX = "dashboard:"
"""Begins every key of optuna-dashboard. No sampler, pruner or worker needs any of them."""

MOST_TRIALS = 300
"""Trials from this number on get no note. optuna-dashboard goes through all of a study's notes for
each of its trials: with a thousand notes, the page of 10,000 trials takes 9 s. A trial's attribute
``outcome`` says how it ended as well."""

PAUSE_SECONDS = 15.0
SHARE = 0.005
"""The largest share of a worker's time that goes into describing the study."""

_INSERTS: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

logger = logging.getLogger(__name__)

_PIECE = 2045
_OURS = 0
"""The version of an unedited note; optuna-dashboard counts edits from 1."""


@dataclass(frozen=True)
class Description:
    """What optuna-dashboard shows with a study."""

    note: str  # Markdown
    figures: Mapping[str, str]  # Plotly's JSON, by name: letters, digits and - _ : .
    goals: Sequence[str] = ("value",)  # titles of the axes, in place of "Objective 0"


@dataclass
class NoteWriter:
    """Writes notes now and then, at almost no cost to the worker.

    Parameters
    ----------
    study, trial
        Describe a study, and a trial that is over; both may be in memory.
    pause
        Seconds between two descriptions of a study, whichever worker writes them.
    """

    study: Callable[[Study], Description | None]
    trial: Callable[[Study, FrozenTrial], str | None]
    pause: float = PAUSE_SECONDS

    def if_due(self, study: Study, attrs: StudyAttrs) -> Description | None:
        """A description, if the last one is old enough by the study's attributes."""
        if DESCRIBED_AT in attrs.system and WORKED_UNTIL in attrs.user:
            last, latest = attrs.system[DESCRIBED_AT], attrs.user[WORKED_UNTIL]
            age = datetime.fromisoformat(latest) - datetime.fromisoformat(last)
            if age.total_seconds() < self.pause:
                return None
        began, description = time.monotonic(), None
        with _errors_logged():
            description = self.study(study)
        self.pause = max(PAUSE_SECONDS, (time.monotonic() - began) / SHARE)
        return description

    def words(self, study: Study, trial: FrozenTrial) -> str | None:
        """The note of an ended trial, if it gets one."""
        if trial.number < MOST_TRIALS:
            with _errors_logged():
                return self.trial(study, trial)
        return None


SILENT = NoteWriter(lambda study: None, lambda study, trial: None)
"""Writes no notes."""


@contextmanager
def _errors_logged() -> Iterator[None]:
    """Logs an error instead of raising it: a worker must not stop because of a note."""
    try:
        yield
    except Exception:
        logger.warning("could not write the notes for optuna-dashboard", exc_info=True)


def write_description(connection: Connection, study_id: int, description: Description) -> None:
    """Writes those parts of a study's note and figures that have changed.

    A note that a user edited stays as it is, until it is emptied.

    Parameters
    ----------
    connection
        In a transaction that holds the study's lock.
    study_id
        The study's in the database.
    description
        What to show.
    """
    column = _table().c.key
    ours = [f"{PREFIX}plot_data:{name}:" for name in description.figures]
    before = _read(
        connection,
        study_id,
        column.startswith(f"{PREFIX}note_")
        | column.startswith(f"{PREFIX}plot_data:")
        | (column == f"{PREFIX}objective_names"),
    )
    note = {key: text for key, text in before.items() if key.startswith(f"{PREFIX}note_str:")}
    now: dict[str, Any] = {f"{PREFIX}objective_names": [*description.goals]}
    if before.get(f"{PREFIX}note_ver", _OURS) == _OURS or not any(note.values()):
        now[f"{PREFIX}note_ver"] = before.get(f"{PREFIX}note_ver", _OURS)
        now |= _pieces(f"{PREFIX}note_str:", description.note, note)
    for prefix, figure in zip(ours, description.figures.values(), strict=True):
        known = {key: text for key, text in before.items() if key.startswith(prefix)}
        now |= _pieces(prefix, figure, known)
    _write(connection, study_id, before, now)


def write_trial_notes(
    connection: Connection, study_id: int, notes: Mapping[int, str | None]
) -> None:
    """Writes notes for trials that have none yet, by the trials' ids in the database."""
    attrs: dict[str, Any] = {}
    for trial_id, text in notes.items():
        if text is not None:
            attrs[f"{PREFIX}{trial_id}:note_ver"] = _OURS
            attrs |= _pieces(f"{PREFIX}{trial_id}:note_str:", text, {})
    if attrs:
        rows = [
            {"study_id": study_id, "key": key, "value_json": json.dumps(value)}
            for key, value in attrs.items()
        ]
        insert = _INSERTS[connection.dialect.name](_table())
        # Somebody may have written one while the trial trained.
        connection.execute(insert.on_conflict_do_nothing(), rows)


def _pieces(prefix: str, text: str, known: Mapping[str, str]) -> dict[str, str]:
    """A text in pieces; those that remain of a longer earlier text become empty."""
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    count = max(len(pieces), len(known))
    return {f"{prefix}{i}": pieces[i] if i < len(pieces) else "" for i in range(count)}


def _read(connection: Connection, study_id: int, which: ColumnElement[bool]) -> dict[str, Any]:
    table = _table()
    query = select(table.c.key, table.c.value_json)
    rows = connection.execute(query.where(table.c.study_id == study_id, which)).all()
    values = decoded([row.value_json for row in rows])
    return {row.key: value for row, value in zip(rows, values, strict=True)}


def _write(
    connection: Connection, study_id: int, before: dict[str, Any], now: dict[str, Any]
) -> None:
    changes = Changes()
    changes.attrs(models.StudySystemAttributeModel, {"study_id": study_id}, before, now)
    changes.write(connection)


def _table() -> Any:
    return models.StudySystemAttributeModel.__table__

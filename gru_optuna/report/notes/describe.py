"""Note and figures together, and who writes them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from gru_optuna.report.notes.key_figures import key_figures
from gru_optuna.report.notes.note import study_note, trial_note
from gru_optuna.storage.database.open import lock_study, open_engine
from gru_optuna.storage.mirror.dashboard_notes import Description, NoteWriter, write_description
from gru_optuna.storage.optuna_private import study_id
from gru_optuna.study.study import stored_specification
from gru_optuna.study.summary import summarize

if TYPE_CHECKING:
    from optuna import Study
    from sqlalchemy import Engine


def make_note_writer() -> NoteWriter:
    """For a worker, which writes its descriptions with its other transactions."""
    return NoteWriter(_description, trial_note)


def write_note(study: Study, engine: Engine, study_id: int) -> None:
    """Describes a study now, in a transaction of its own.

    Parameters
    ----------
    study
        As it is now; it may lie in memory.
    engine
        The database's.
    study_id
        The study's in the database.

    Raises
    ------
    sqlalchemy.exc.SQLAlchemyError
        If the database fails.
    """
    description = _description(study)
    with engine.begin() as connection:
        if lock_study(connection, study_id):
            write_description(connection, study_id, description)


def describe_at(study: Study, url: str) -> None:
    """The same for whoever has no engine; it is decoration, and no reason to fail."""
    engine = open_engine(url)
    try:
        with suppress(SQLAlchemyError):
            write_note(study, engine, study_id(study))
    finally:
        engine.dispose()


def _description(study: Study) -> Description:
    spec = stored_specification(study)
    summary = summarize(study, spec)
    note, figures = study_note(study, spec, summary), key_figures(study, spec, summary)
    return Description(note, figures, spec.metric)

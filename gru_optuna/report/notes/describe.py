"""Writes the note and the figures of a study to its database."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from gru_optuna.report.notes.key_figures import key_figures
from gru_optuna.report.notes.note import study_note, trial_note
from gru_optuna.search.study_view import StudyView
from gru_optuna.storage.database.open import lock_study, open_engine
from gru_optuna.storage.mirror.dashboard_notes import Description, NoteWriter, write_description
from gru_optuna.storage.optuna_private import study_id
from gru_optuna.study.study import stored_specification
from gru_optuna.study.summary import summarize

if TYPE_CHECKING:
    from optuna import Study
    from sqlalchemy import Engine


def make_note_writer() -> NoteWriter:
    """The writer for a worker, which adds notes to transactions that it commits anyway."""
    return NoteWriter(_description, trial_note)


def write_note(study: Study, engine: Engine, study_id: int) -> None:
    """Describes a study now, in a separate transaction.

    Parameters
    ----------
    study
        The study as it is now; it may be in memory.
    engine
        The engine of its database.
    study_id
        Its id in the database.

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
    """Describes a study now. If the database fails, the note is left out: it is only an extra."""
    engine = open_engine(url)
    try:
        with suppress(SQLAlchemyError):
            write_note(study, engine, study_id(study))
    finally:
        engine.dispose()


def _description(study: Study) -> Description:
    spec = stored_specification(study)
    # The trials of one moment, which are gone through many times.
    view: Any = StudyView(study, study.get_trials(deepcopy=False))
    summary = summarize(view, spec)
    note, figures = study_note(view, spec, summary), key_figures(view, spec, summary)
    return Description(note, figures, spec.goals)

"""How many trials a study has in each state, and its best ones, without reading all trials."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import Float, func, or_, select, type_coerce

from gru_optuna.storage.database.tables import trials
from gru_optuna.storage.mirror.optuna_rows import read_trials
from gru_optuna.storage.optuna_private import engine_of, study_id

if TYPE_CHECKING:
    from collections.abc import Collection

    from optuna import Study
    from optuna.trial import FrozenTrial


def count_trials(study: Study) -> Counter[TrialState]:
    """The number of trials in each state of a study in a database."""
    with engine_of(study).connect() as connection:
        rows = connection.execute(
            select(trials.c.state, func.count().label("many"))
            .where(trials.c.study_id == study_id(study))
            .group_by(trials.c.state)
        )
        return Counter({row.state: row.many for row in rows})


def read_best_trials(
    study: Study, having: str, besides: Collection[int] = ()
) -> list[FrozenTrial] | None:
    """The complete trials that share the best value, and some others, of a study in a database.

    Parameters
    ----------
    study
        The study, with one objective.
    having
        A user attribute without which a trial doesn't count.
    besides
        Numbers of further trials to read.

    Returns
    -------
    list
        By number; None if no value is finite, so that all trials have to be compared.
    """
    values: Any = models.TrialValueModel.__table__.c
    attrs: Any = models.TrialUserAttributeModel.__table__.c
    complete = (trials.c.study_id == study_id(study)) & (trials.c.state == TrialState.COMPLETE)
    ours = select(attrs.trial_id).where(attrs.key == having)
    counts = complete & trials.c.trial_id.in_(ours)
    best = func.min if study.direction == StudyDirection.MINIMIZE else func.max
    joined = trials.join(models.TrialValueModel.__table__, values.trial_id == trials.c.trial_id)
    with engine_of(study).connect() as connection:
        value = connection.scalar(
            select(type_coerce(best(values.value), Float)).select_from(joined).where(counts)
        )
        if value is None:
            return None
        ids = connection.scalars(
            select(trials.c.trial_id)
            .select_from(joined)
            .where(complete, or_(counts & (values.value == value), trials.c.number.in_(besides)))
        ).all()
        return read_trials(connection, ids)

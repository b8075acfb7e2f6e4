"""How many trials a study has in each state, and its best ones, without reading all trials."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import Float, func, select, type_coerce, union_all

from gru_optuna.storage.database.tables import trials
from gru_optuna.storage.mirror.optuna_rows import read_trials
from gru_optuna.storage.optuna_private import engine_of, study_id
from gru_optuna.storage.paused_trials import row_is_paused

if TYPE_CHECKING:
    from collections.abc import Collection

    from optuna import Study
    from optuna.trial import FrozenTrial


def count_trials(study: Study) -> tuple[Counter[TrialState], int]:
    """The number of trials in each state of a study in a database, and of the paused ones.

    Those count as running, too.
    """
    mine = trials.c.study_id == study_id(study)
    with engine_of(study).connect() as connection:
        rows = connection.execute(
            select(trials.c.state, func.count().label("many")).where(mine).group_by(trials.c.state)
        )
        counts = Counter({row.state: row.many for row in rows})
        # Most studies have few running trials, and none that is paused.
        paused = select(func.count()).select_from(trials).where(mine, row_is_paused())
        return counts, connection.scalar(paused) or 0 if counts[TrialState.RUNNING] else 0


def read_best_trials(
    study: Study, having: str, besides: Collection[int] = (), *, complete_only: bool = False
) -> list[FrozenTrial] | None:
    """The trials that share the best value, and some others, of a study in a database.

    A complete trial has its value; one that was pruned, or runs, the best one that it reported.

    Parameters
    ----------
    study
        The study; of several objectives, the first one decides.
    having
        A user attribute without which a trial doesn't count.
    besides
        Numbers of further trials to read.
    complete_only
        Whether other trials than complete ones don't count.

    Returns
    -------
    list
        By number; None if no value is finite, so that all trials have to be compared.
    """
    values: Any = models.TrialValueModel.__table__.c
    reports: Any = models.TrialIntermediateValueModel.__table__.c
    attrs: Any = models.TrialUserAttributeModel.__table__.c
    of_study = trials.c.study_id == study_id(study)
    ours = trials.c.trial_id.in_(select(attrs.trial_id).where(attrs.key == having))
    maximizes = study.directions[0] == StudyDirection.MAXIMIZE
    found = [
        select(trials.c.trial_id, type_coerce(values.value, Float).label("value"))
        .join(models.TrialValueModel.__table__, values.trial_id == trials.c.trial_id)
        .where(of_study, ours, trials.c.state == TrialState.COMPLETE, values.value.is_not(None))
        .where(values.objective == 0)
    ]
    if not complete_only:
        best = (func.max if maximizes else func.min)(reports.intermediate_value)
        found.append(
            select(trials.c.trial_id, type_coerce(best, Float).label("value"))
            .join(
                models.TrialIntermediateValueModel.__table__,
                reports.trial_id == trials.c.trial_id,
            )
            .where(of_study, ours, trials.c.state.in_((TrialState.PRUNED, TrialState.RUNNING)))
            .where(reports.intermediate_value.is_not(None))
            .group_by(trials.c.trial_id)
        )
    reached = union_all(*found).cte("reached")
    value = (func.max if maximizes else func.min)(reached.c.value)
    with engine_of(study).connect() as connection:
        ids = connection.scalars(
            select(reached.c.trial_id).where(reached.c.value == select(value).scalar_subquery())
        ).all()
        if not ids:
            return None
        also = connection.scalars(
            select(trials.c.trial_id).where(of_study, trials.c.number.in_(besides))
        ).all()
        return read_trials(connection, list({*ids, *also}))

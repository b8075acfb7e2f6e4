"""The trials of a study, in pages of JSON or as a CSV file."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from optuna.trial import TrialState
from pydantic import BaseModel, Field
from sqlalchemy import select

from gru_optuna.report.trial_table import list_rows, trial_columns, trials_csv
from gru_optuna.report.trials import outcome, state_of
from gru_optuna.service.access import Viewer
from gru_optuna.service.api.parameters import Name, Time
from gru_optuna.service.api.studies import find_study, finite, summary_of
from gru_optuna.service.context import Context
from gru_optuna.service.problems import RequestRefused, problems_of
from gru_optuna.storage.database.tables import trials
from gru_optuna.storage.mirror.optuna_rows import read_trials
from gru_optuna.study.study import load_study
from gru_optuna.study.summary import Summary
from gru_optuna.study.trial_attributes import CURVES, TrialAttributes, epochs_trained

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from optuna.trial import FrozenTrial
    from sqlalchemy import Connection

    from gru_optuna.service.context import ServiceContext
    from gru_optuna.study.submissions import QueuedStudy


router = APIRouter(tags=["studies"])

_MOST = 1_000


class TrialView(BaseModel):
    """A trial as it is now."""

    number: int
    state: str = Field(description="complete, pruned, running, paused, waiting or failed.")
    value: float | None = Field(description="The metric of the trial, once it is complete.")
    epochs: int
    curve: list[float | None] = Field(description="The metric on the validation rows, by epoch.")
    seconds: float | None
    params: dict[str, Any]
    outcome: str = Field(description="How it ended, in words.")
    started_at: Time | None
    ended_at: Time | None


class TrialPage(BaseModel):
    """Some trials, in the order of their numbers."""

    trials: list[TrialView]
    after: int | None = Field(description="For the next page; null: this is the last one.")


@router.get(
    "/studies/{name}/trials",
    responses={
        HTTPStatus.OK.value: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **problems_of(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    },
    response_model=TrialPage,
)
def list_trials(
    context: Context,
    caller: Viewer,
    name: Name,
    after: Annotated[int, Query(description="The number before the first.", ge=-1, lt=2**31)] = -1,
    limit: Annotated[int, Query(description="How many trials.", ge=1, le=_MOST)] = 100,
    kind: Annotated[
        Literal["json", "csv"], Query(alias="format", description="csv: all of them in one file.")
    ] = "json",
) -> TrialPage | Response:
    """Lists the trials: a page of JSON, or all of them as CSV."""
    study = find_study(context, name)
    if kind == "csv":
        return Response(_csv(context, study), media_type="text/csv; charset=utf-8")
    with context.engine.connect() as connection:
        mine = (trials.c.study_id == study.study_id) & (trials.c.number > after)
        ids = connection.scalars(
            select(trials.c.trial_id).where(mine).order_by(trials.c.number).limit(limit)
        ).all()
        found = views_of(connection, ids)
    return TrialPage(trials=found, after=found[-1].number if len(found) == limit else None)


def _csv(context: ServiceContext, study: QueuedStudy) -> str:
    """All trials, as gru-optuna trials prints them."""
    if study.spec is None:
        raise RequestRefused(HTTPStatus.CONFLICT, study.error or "The study can't be read.")
    if study.study_id is None:  # no worker has begun with it
        return trials_csv(trial_columns([], study.spec))
    opened, spec = load_study(context.storage, study.name)
    summary = summary_of(context, study)
    winner = summary.best if isinstance(summary, Summary) else None
    rows = list_rows(opened, spec, winner.number if winner else None)
    return trials_csv(trial_columns(rows, spec))


def views_of(connection: Connection, trial_ids: Sequence[int]) -> list[TrialView]:
    """Trials as the API shows them, by number."""
    return [_view(trial) for trial in read_trials(connection, trial_ids, without=CURVES)]


def _view(trial: FrozenTrial) -> TrialView:
    reports = trial.intermediate_values
    waits = trial.state == TrialState.WAITING
    return TrialView(
        number=trial.number,
        state="waiting" if waits else state_of(trial),
        # The metric is the first of two goals.
        value=finite(trial.values[0]) if trial.state == TrialState.COMPLETE else None,
        epochs=epochs_trained(trial),
        curve=[finite(reports[step]) for step in sorted(reports)],
        seconds=finite(TrialAttributes.read(trial).seconds),
        params=finite(trial.params),
        outcome="" if waits else outcome(trial),
        started_at=_with_zone(trial.datetime_start),
        ended_at=_with_zone(trial.datetime_complete),
    )


def _with_zone(local: datetime | None) -> datetime | None:
    return None if local is None else local.astimezone()

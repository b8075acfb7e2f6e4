"""Studies: submitted, watched, suspended, continued, given more budget, deleted."""

from __future__ import annotations

import math
import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from gru_optuna.errors import StudyError, StudyFileError, UserError
from gru_optuna.report.best_text import best_lines
from gru_optuna.service.access import Editor, Viewer
from gru_optuna.service.api.parameters import Name, OptionalSha256, Time
from gru_optuna.service.context import Context
from gru_optuna.service.problems import RequestRefused, problems_of
from gru_optuna.service.reports import REPORT_POLICY, report_file
from gru_optuna.study import submissions
from gru_optuna.study.study import load_study
from gru_optuna.study.summary import Summary, summarize_stored

if TYPE_CHECKING:
    from gru_optuna.service.context import ServiceContext
    from gru_optuna.study.submissions import QueuedStudy

router = APIRouter(tags=["studies"])

StateName = Literal["queued", "running", "suspended", "confirming", "done", "failed", "cancelled"]

_FRESH_SECONDS = 1.0

_STATES = ("complete", "pruned", "running", "waiting", "failed", "paused")

_TOML: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/toml": {"schema": {"type": "string"}}},
    }
}


class BudgetView(BaseModel):
    """The limits of a study; null: no limit."""

    model_config = ConfigDict(extra="forbid")

    trials: int | None = Field(None, ge=1, lt=2**31)
    epochs: int | None = Field(None, ge=1, lt=2**31)
    hours: float | None = Field(None, gt=0, le=1e6, allow_inf_nan=False)


class StudyChange(BaseModel):
    """What to change of a study; a limit that is left out stays."""

    model_config = ConfigDict(extra="forbid")

    budget: BudgetView | None = None
    state: Literal["queued", "suspended", "cancelled"] | None = Field(
        None,
        description="queued continues a suspended study, and tries a failed one again; cancelled "
        "ends it for good.",
    )


class BestTrial(BaseModel):
    """The trial to use so far."""

    number: int
    value: float = Field(description="The metric on the validation rows, in the search.")
    confirmed: bool = Field(description="Whether fresh seeds have confirmed it.")


class StudyEntry(BaseModel):
    """A study at one moment."""

    name: str
    state: StateName
    error: str | None = Field(description="Why it failed, or can't be read.")
    task: str | None
    metric: str | None
    trials: dict[str, int] = Field(description="How many trials there are, by state.")
    budget: BudgetView | None
    workers: int
    best: BestTrial | None
    data: dict[str, str] = Field(description="The SHA-256 of each file that it reads.")
    submitted_at: Time | None = Field(description="null: gru-optuna tune made it.")
    submitted_by: str | None
    version: int = Field(description="Rises with every change; its ETag.")


class StudyDetails(StudyEntry):
    """A study, with its study file."""

    toml: str | None


async def _toml(request: Request) -> str:
    """The body of a request, which is a study file."""
    kind = request.headers.get("content-type", "application/toml").partition(";")[0].strip()
    if kind not in ("application/toml", "text/plain", "application/octet-stream"):
        raise RequestRefused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The body is {kind[:80]}. Send a study file as application/toml.",
        )
    try:
        return (await request.body()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyFileError(
            f"study file: byte {error.start} is not UTF-8. Save the file as UTF-8."
        ) from None


TomlBody = Annotated[str, Depends(_toml)]


@router.get("/studies")
def list_studies(context: Context, caller: Viewer) -> list[StudyEntry]:
    """Lists the studies, in the order of their names."""
    return [study_view(context, study) for study in submissions.list_all(context.engine)]


@router.post(
    "/studies",
    status_code=HTTPStatus.CREATED,
    openapi_extra=_TOML,
    responses=problems_of(HTTPStatus.CONFLICT, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
)
def submit(
    context: Context,
    caller: Editor,
    response: Response,
    body: TomlBody,
    train: OptionalSha256 = None,
    validation: OptionalSha256 = None,
    test: OptionalSha256 = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Of your choice: however often you send the same study under the same key, "
            "it is submitted once.",
            min_length=1,
            max_length=255,
        ),
    ] = None,
) -> StudyDetails:
    """Submits a study file.

    A file that it names is an upload: by its path ``SHA256/NAME``, or by the parameter of its part.
    """
    parts = {"train": train, "validation": validation, "test": test}
    given = {part: sha256 for part, sha256 in parts.items() if sha256 is not None}
    try:
        made = submissions.submit(context.engine, body, given, caller.name, idempotency_key)
    except StudyFileError:
        raise
    except submissions.KeyUsed as error:
        raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
    except StudyError as error:
        raise RequestRefused(HTTPStatus.CONFLICT, str(error)) from None
    response.headers["Location"] = f"/v1/studies/{quote(made.name, safe='')}"
    return _details(context, response, find_study(context, made.name))


@router.get("/studies/{name}", responses=problems_of(HTTPStatus.NOT_FOUND))
def show_study(context: Context, caller: Viewer, response: Response, name: Name) -> StudyDetails:
    """Shows a study. Its ETag is the version that a change has to name."""
    return _details(context, response, find_study(context, name))


@router.patch(
    "/studies/{name}",
    responses=problems_of(
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        HTTPStatus.PRECONDITION_FAILED,
        HTTPStatus.PRECONDITION_REQUIRED,
    ),
)
def change_study(
    context: Context,
    caller: Editor,
    response: Response,
    name: Name,
    wanted: StudyChange,
    if_match: Annotated[
        str | None, Header(description="The ETag of the study as you have seen it, or *.")
    ] = None,
) -> StudyDetails:
    """Changes the budget of a study, suspends, continues or cancels it."""
    find_study(context, name)
    version = _version(if_match)
    budget = None if wanted.budget is None else wanted.budget.model_dump(exclude_unset=True)
    try:
        submissions.change(
            context.engine, name, state=wanted.state, budget=budget or None, version=version
        )
    except submissions.OtherVersion as error:
        raise RequestRefused(HTTPStatus.PRECONDITION_FAILED, str(error)) from None
    except StudyError as error:
        raise RequestRefused(HTTPStatus.CONFLICT, str(error)) from None
    return _details(context, response, find_study(context, name))


@router.delete(
    "/studies/{name}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems_of(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def delete_study(context: Context, caller: Editor, name: Name) -> Response:
    """Deletes a study with its trials. Its uploads stay."""
    find_study(context, name)
    try:
        submissions.delete(context.engine, name)
    except StudyError as error:
        raise RequestRefused(HTTPStatus.CONFLICT, str(error)) from None
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.get(
    "/studies/{name}/best",
    responses={
        HTTPStatus.OK.value: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems_of(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    },
    response_model=dict[str, Any],
)
def show_best(
    context: Context,
    caller: Viewer,
    name: Name,
    kind: Annotated[
        Literal["json", "text"], Query(alias="format", description="text: for people.")
    ] = "json",
) -> dict[str, Any] | Response:
    """Shows the best configuration, as gru-optuna best prints it, with --json or as text."""
    summary = summary_of(context, find_study(context, name))
    if not isinstance(summary, Summary) or summary.best is None:
        raise RequestRefused(HTTPStatus.CONFLICT, no_result(name, summary))
    if kind == "text":
        return Response("\n".join([*best_lines(summary), ""]), media_type="text/plain")
    found: dict[str, Any] = finite(summary.best_as_json())
    return found


@router.get(
    "/studies/{name}/report/{file:path}",
    response_class=Response,
    responses={
        HTTPStatus.OK.value: {"description": "The file.", "content": {"text/html": {}}},
        **problems_of(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    },
)
def show_report(
    context: Context,
    caller: Viewer,
    name: Name,
    file: Annotated[str, Path(description="A file of the report; empty: its page.")],
) -> Response:
    """Shows the report, rendered again if the study has progressed, or one of its files."""
    study = find_study(context, name)
    return FileResponse(
        report_file(context, study, file), headers={"Content-Security-Policy": REPORT_POLICY}
    )


def find_study(context: ServiceContext, name: str) -> QueuedStudy:
    """A study as it is now.

    Raises
    ------
    RequestRefused
        If there is none.
    """
    try:
        return submissions.get(context.engine, name)
    except StudyError as error:
        raise RequestRefused(HTTPStatus.NOT_FOUND, str(error)) from None


def summary_of(context: ServiceContext, study: QueuedStudy) -> Summary | UserError | None:
    """What `status` and `best` say of a study, or why it can't be read.

    None if no worker has begun with it.
    """
    if study.study_id is None or study.spec is None:
        return None
    # Many look at the same study at once: they share what was found within a second, unless a
    # trial has begun or ended since.
    reached = (study.study_id, tuple(study.trials.items()), study.worked_until)
    at, seen, summary = context.summaries.get(study.name, (-_FRESH_SECONDS, None, None))
    if seen != reached or time.monotonic() - at >= _FRESH_SECONDS:
        try:
            summary = summarize_stored(*load_study(context.storage, study.name))
        except UserError as error:
            summary = error
        context.summaries[study.name] = (time.monotonic(), reached, summary)
    return summary


def no_result(name: str, summary: Summary | UserError | None) -> str:
    """Why a study has no winner."""
    if isinstance(summary, UserError):
        return str(summary)
    reason = "No worker has begun with it yet." if summary is None else summary.no_result
    return f'study "{name}" has no result: {reason}'


def study_view(context: ServiceContext, study: QueuedStudy) -> StudyEntry:
    """A study as the API shows it."""
    found, spec, submission = summary_of(context, study), study.spec, study.submission
    summary, problem = (None, found) if isinstance(found, UserError) else (found, None)
    best = None if summary is None else summary.best
    return StudyEntry.model_validate(
        {
            "name": study.name,
            "state": study.state,
            "error": study.error or (problem and str(problem)),
            "task": spec and spec.task,
            "metric": spec and spec.metric,
            "trials": dict.fromkeys(_STATES, 0) if summary is None else summary.trials,
            "budget": spec
            and {
                "trials": spec.budget.trials,
                "epochs": spec.budget.epochs,
                "hours": spec.budget.hours,
            },
            "workers": study.workers,
            "best": best
            and {
                "number": best.number,
                "value": best.value,
                "confirmed": best.confirmed is not None,
            },
            "data": {} if submission is None else submission.data,
            "submitted_at": submission and submission.submitted_at,
            "submitted_by": submission and submission.submitted_by,
            "version": 0 if submission is None else submission.version,
        }
    )


def finite(content: Any) -> Any:
    """Content for JSON, which has no infinity and no NaN: null stands for them."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _details(context: ServiceContext, response: Response, study: QueuedStudy) -> StudyDetails:
    view = study_view(context, study)
    response.headers["ETag"] = f'"{view.version}"'
    toml = None if study.submission is None else study.submission.toml
    return StudyDetails(**view.model_dump(), toml=toml)


def _version(if_match: str | None) -> int | None:
    """The version that a change is meant for; None: any."""
    if if_match is None:
        raise RequestRefused(
            HTTPStatus.PRECONDITION_REQUIRED,
            "Send the header If-Match with the ETag of the study as you have seen it.",
        )
    if if_match.strip() == "*":
        return None
    found = re.fullmatch(r'\s*(?:W/)?"(\d{1,9})"\s*', if_match, re.ASCII)
    if found is None:
        raise RequestRefused(
            HTTPStatus.PRECONDITION_FAILED,
            f"If-Match: {if_match[:80]} is not the ETag of a study. Read the study again.",
        )
    return int(found[1])

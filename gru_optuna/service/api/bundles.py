"""Bundles of confirmed networks, and predictions with them: made by a worker, kept as files."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from gru_optuna.errors import StorageError
from gru_optuna.service.access import Editor, Viewer
from gru_optuna.service.api.data import find_upload, receive_upload
from gru_optuna.service.api.parameters import FileName, Id, Name, Time
from gru_optuna.service.api.studies import find_study, no_result, summary_of
from gru_optuna.service.context import Context
from gru_optuna.service.problems import RequestRefused, problems_of
from gru_optuna.storage import jobs, uploads
from gru_optuna.study.summary import Summary

if TYPE_CHECKING:
    from gru_optuna.service.context import ServiceContext
    from gru_optuna.storage.jobs import Job, Kind

router = APIRouter(tags=["bundles"])

MOST_ROWS_BYTES = 16 << 20
"""The most bytes of rows that are predicted at once; more of them are an upload."""

JobState = Literal["waiting", "running", "done", "failed"]


class BundleRequest(BaseModel):
    """Which networks the bundle holds."""

    model_config = ConfigDict(extra="forbid")

    single: bool = Field(False, description="One network in place of the ensemble.")
    refit: bool | None = Field(
        None, description="Whether it is trained again on all rows; null: where that helps."
    )


class JobView(BaseModel):
    """Work that a worker does, or has done."""

    id: int
    study: str
    state: JobState
    error: str | None = Field(description="Why it failed.")
    created_at: Time
    ended_at: Time | None


@router.post(
    "/studies/{name}/bundles",
    status_code=HTTPStatus.ACCEPTED,
    responses=problems_of(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def make_bundle(
    context: Context,
    caller: Editor,
    response: Response,
    name: Name,
    wanted: BundleRequest | None = None,
) -> JobView:
    """Lets a worker make a bundle of the winner."""
    summary = summary_of(context, find_study(context, name))
    if not isinstance(summary, Summary) or summary.best is None:
        raise RequestRefused(HTTPStatus.CONFLICT, no_result(name, summary))
    request = (wanted or BundleRequest()).model_dump()
    # The same networks are exported once, and others once they have won.
    request["winner"] = summary.best.number
    job = jobs.create(context.engine, name, "export", request)
    response.headers["Location"] = f"/v1/bundles/{job.job_id}"
    return _view(job)


@router.get("/studies/{name}/bundles", responses=problems_of(HTTPStatus.NOT_FOUND))
def list_bundles(context: Context, caller: Viewer, name: Name) -> list[JobView]:
    """Lists the bundles of a study, the oldest first."""
    find_study(context, name)
    return [_view(job) for job in jobs.list_all(context.engine, name, "export")]


@router.get(
    "/bundles/{id}",
    response_class=StreamingResponse,
    responses={
        HTTPStatus.OK.value: {
            "description": "The bundle's folder.",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        },
        **problems_of(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    },
)
def download_bundle(context: Context, caller: Viewer, id: Id) -> Response:  # noqa: A002
    """Downloads a bundle as a zip file; 409 while it is being made."""
    job = _find(context, id, "export")
    return _file_of(context, job, "bundle", f"{job.study}.zip", "application/zip")


@router.post(
    "/bundles/{id}/predictions",
    status_code=HTTPStatus.ACCEPTED,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"text/csv": {"schema": {"type": "string"}}},
        }
    },
    responses=problems_of(HTTPStatus.NOT_FOUND, HTTPStatus.INSUFFICIENT_STORAGE),
)
async def predict(
    context: Context,
    caller: Editor,
    request: Request,
    response: Response,
    id: Id,  # noqa: A002
    name: FileName = "rows.csv",
) -> JobView:
    """Lets a worker predict the rows of the body, a file of at most 16 MiB."""
    job = await to_thread.run_sync(_find, context, id, "export")
    rows = await receive_upload(context, request, name, None, MOST_ROWS_BYTES)
    order = {"bundle": job.job_id, "data": rows.sha256}
    made = await to_thread.run_sync(jobs.create, context.engine, job.study, "predict", order)
    response.headers["Location"] = f"/v1/bundles/{id}/predictions/{made.job_id}"
    return _view(made)


@router.get("/bundles/{id}/predictions", responses=problems_of(HTTPStatus.NOT_FOUND))
def list_predictions(context: Context, caller: Viewer, id: Id) -> list[JobView]:  # noqa: A002
    """Lists what was predicted with a bundle, the oldest first."""
    made = jobs.list_all(context.engine, _find(context, id, "export").study, "predict")
    return [_view(job) for job in made if job.request.get("bundle") == id]


@router.get(
    "/bundles/{id}/predictions/{prediction}",
    response_class=StreamingResponse,
    responses={
        HTTPStatus.OK.value: {
            "description": "The predictions, in the order of the rows.",
            "content": {"text/csv": {"schema": {"type": "string"}}},
        },
        **problems_of(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    },
)
def download_predictions(
    context: Context,
    caller: Viewer,
    id: Id,  # noqa: A002
    prediction: Id,
) -> Response:
    """Downloads predictions; 409 while they are being made."""
    job = _find(context, prediction, "predict")
    if job.request.get("bundle") != id:
        raise RequestRefused(HTTPStatus.NOT_FOUND, f"Bundle {id} has no predictions {prediction}.")
    return _file_of(context, job, "predictions", "predictions.csv", "text/csv; charset=utf-8")


def _find(context: ServiceContext, number: int, kind: Kind) -> Job:
    what = "bundle" if kind == "export" else "predictions"
    try:
        job = jobs.get(context.engine, number)
    except StorageError:
        job = None
    if job is None or job.kind != kind:
        raise RequestRefused(HTTPStatus.NOT_FOUND, f"There is no {what} {number}.")
    return job


def _file_of(context: ServiceContext, job: Job, what: str, name: str, media_type: str) -> Response:
    if job.state == jobs.FAILED:
        raise RequestRefused(
            HTTPStatus.CONFLICT, f"The {what} could not be made: {job.error or 'no reason'}"
        )
    if job.sha256 is None:
        raise RequestRefused(
            HTTPStatus.CONFLICT,
            f"The {what} is still being made. Try again in some seconds."
            if job.state == jobs.RUNNING
            else f"The {what} waits for a worker. Start one with gru-optuna worker.",
            {"Retry-After": "2"},
        )
    stored = find_upload(context, job.sha256)
    return StreamingResponse(
        uploads.read(context.engine, stored.sha256),
        media_type=media_type,
        headers={
            "Content-Length": str(stored.bytes),
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        },
    )


def _view(job: Job) -> JobView:
    return JobView.model_validate(vars(job) | {"id": job.job_id})

"""Uploads, by the SHA-256 of their content, and drafts of study files for them."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from gru_optuna.errors import StorageError
from gru_optuna.service.access import Editor, Viewer
from gru_optuna.service.api.parameters import FileName, Sha256, Time
from gru_optuna.service.context import Context
from gru_optuna.service.problems import RequestRefused, problems_of
from gru_optuna.service.processes import draft_upload, inspect_upload
from gru_optuna.storage import uploads
from gru_optuna.storage.upload_places import local_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gru_optuna.service.context import ServiceContext
    from gru_optuna.storage.uploads import Upload

router = APIRouter(tags=["data"])

_BINARY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class UploadView(BaseModel):
    """A stored file."""

    sha256: str
    name: str
    bytes: int
    created_at: Time
    path: str = Field(description="How a study file names it.")


class InspectedUpload(UploadView):
    """A stored file, and what it holds."""

    inspection: dict[str, Any] = Field(description="As gru-optuna inspect --json prints it.")


class ColumnRoles(BaseModel):
    """The roles of columns that are known; the others are guessed."""

    model_config = ConfigDict(extra="forbid")

    task: Literal["classification", "regression", "forecasting"] | None = None
    text: str | None = None
    label: str | None = None
    target: str | None = None
    time: str | list[str] | None = None
    series: str | None = None
    id: str | None = None
    group: str | None = None
    covariates: list[str] = []
    known: list[str] = []
    horizon: int | None = Field(None, ge=1, lt=2**31)
    season: int | None = Field(None, ge=1, lt=2**31)
    steps: list[str] = []


class DraftRequest(BaseModel):
    """Data to draft a study file for."""

    model_config = ConfigDict(extra="forbid")

    data: str = Field(description="The SHA-256 of the training rows.", pattern="^[0-9a-f]{64}$")
    test: str | None = Field(
        None, description="The SHA-256 of the test rows.", pattern="^[0-9a-f]{64}$"
    )
    roles: ColumnRoles = ColumnRoles()


class DraftView(BaseModel):
    """A study file that is ready to submit, and what was found in the data."""

    name: str
    toml: str
    findings: list[dict[str, Any]]
    task: str
    role: str = Field(description="The role of the column to predict: label or target.")
    targets: list[str] = Field(description="The column that is predicted, then likely others.")
    columns: list[str] = Field(description="All columns, in the order of the file.")
    reason: str = Field(description="Why this is predicted.")
    sizes: str | None = Field(description="How many rows each part has.")


@router.get("/data")
def list_data(context: Context, caller: Viewer) -> list[UploadView]:
    """Lists the stored files, the newest first."""
    return [view_of(upload) for upload in uploads.list_all(context.engine)]


@router.put(
    "/data/{sha256}",
    status_code=HTTPStatus.CREATED,
    openapi_extra=_BINARY,
    responses=problems_of(HTTPStatus.INSUFFICIENT_STORAGE),
)
async def put_data(
    context: Context, caller: Editor, request: Request, sha256: Sha256, name: FileName
) -> UploadView:
    """Stores the body as a file. It is refused if its SHA-256 is another one."""
    return view_of(await receive_upload(context, request, name, sha256))


@router.get("/data/{sha256}", responses=problems_of(HTTPStatus.NOT_FOUND))
def inspect_data(context: Context, caller: Viewer, sha256: Sha256) -> InspectedUpload:
    """Inspects a stored file: what it holds, and what is wrong with it."""
    upload = find_upload(context, sha256)
    found = inspect_upload(context.engine, context.settings, upload)
    return InspectedUpload(**view_of(upload).model_dump(), inspection=found)


@router.delete(
    "/data/{sha256}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems_of(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def delete_data(context: Context, caller: Editor, sha256: Sha256) -> Response:
    """Deletes a stored file that no study uses."""
    find_upload(context, sha256)
    with refused_as(HTTPStatus.CONFLICT):
        uploads.delete(context.engine, sha256)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post("/drafts", responses=problems_of(HTTPStatus.NOT_FOUND))
def draft(context: Context, caller: Editor, wanted: DraftRequest) -> DraftView:
    """Drafts a study file for stored files."""
    train = find_upload(context, wanted.data)
    test = None if wanted.test is None else find_upload(context, wanted.test)
    roles = wanted.roles.model_dump(exclude_defaults=True)
    return DraftView(**draft_upload(context.engine, context.settings, train, test, roles))


async def receive_upload(
    context: ServiceContext,
    request: Request,
    name: str,
    sha256: str | None,
    most: int | None = None,
) -> Upload:
    """Stores the body of a request as a file, whole or not at all.

    Raises
    ------
    RequestRefused
        If it is too large, the disk too full, the name not a file's, or the hash another one.
    StorageError
        If the place of uploads can't be used.
    """
    with refused_as(HTTPStatus.UNPROCESSABLE_ENTITY):
        uploads.refuse_bad_name(name)
    most, reserve = most or context.settings.most_upload_bytes, context.settings.reserve_bytes
    declared = request.headers.get("content-length", "0")
    too_large = RequestRefused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The file is larger than {most / 2**20:,.0f} MiB, the most that is taken here.",
    )
    # Before the first byte: who is refused at the end has sent a gigabyte for nothing.
    if not declared.isdecimal() or int(declared) > most:
        raise too_large
    digest, size = hashlib.sha256(), 0
    with tempfile.TemporaryFile() as spooled:
        folders = [
            Path(tempfile.gettempdir()),
            *await to_thread.run_sync(local_folders, context.engine),
        ]
        free = min(shutil.disk_usage(folder).free for folder in folders) - reserve
        async for piece in request.stream():
            size += len(piece)
            if size > most:
                raise too_large
            if max(size, int(declared)) > free:
                raise RequestRefused(
                    HTTPStatus.INSUFFICIENT_STORAGE,
                    f"The disk of the service has no room for {max(size, int(declared)):,} bytes "
                    f"beside the {reserve / 2**30:.3g} GiB that stay free. Ask who runs it.",
                )
            digest.update(piece)
            spooled.write(piece)
        found = digest.hexdigest()
        if sha256 is not None and found != sha256:
            raise RequestRefused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"The body's SHA-256 is {found}, not {sha256}. Nothing was stored. Send the file "
                f"again, or correct the hash.",
            )
        if not size:
            raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, "The body is empty.")
        return await to_thread.run_sync(uploads.put, context.engine, name, spooled, found)


def find_upload(context: ServiceContext, sha256: str) -> Upload:
    """A stored file.

    Raises
    ------
    RequestRefused
        If there is none.
    """
    with refused_as(HTTPStatus.NOT_FOUND):
        return uploads.find(context.engine, sha256)


@contextmanager
def refused_as(status: HTTPStatus) -> Iterator[None]:
    """Refuses the request with this status for what the database lacks or forbids."""
    try:
        yield
    except StorageError as error:
        raise RequestRefused(status, str(error)) from None


def view_of(upload: Upload) -> UploadView:
    """A stored file as the API shows it."""
    return UploadView(**vars(upload), path=upload.path)

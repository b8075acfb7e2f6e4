"""Who uses the service, and who works for it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from gru_optuna.errors import UserError
from gru_optuna.service.access import Administrator, Viewer
from gru_optuna.service.api.parameters import Time
from gru_optuna.service.context import Context
from gru_optuna.service.problems import RequestRefused, problems_of
from gru_optuna.storage.tokens import Role, Token, create_token, list_tokens, revoke_token
from gru_optuna.storage.workers.status import list_workers

router = APIRouter(tags=["people"])

RoleName = Literal["viewer", "editor", "administrator"]


class Me(BaseModel):
    """Who you are here."""

    name: str
    role: RoleName


class WorkerEntry(BaseModel):
    """A worker at one moment."""

    host: str
    process: int
    device: str
    study: str | None = Field(description="What it trains; null: it is idle, or does a job.")
    last_beat_seconds: float
    silent: bool = Field(description="Whether others may take over its work.")


class TokenView(BaseModel):
    """A token, without its secret."""

    name: str
    role: RoleName
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None
    has_expired: bool


class TokenRequest(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    role: RoleName = "viewer"
    days: float | None = Field(None, description="After how many days it expires.", gt=0, le=36_500)


class NewToken(BaseModel):
    """A token that was just made. Nothing shows it a second time."""

    name: str
    role: RoleName
    token: str


@router.get("/me")
def who_am_i(caller: Viewer) -> Me:
    """Says whose token the request bears."""
    return Me.model_validate({"name": caller.name, "role": str(caller.role)})


@router.get("/workers")
def show_workers(context: Context, caller: Viewer) -> list[WorkerEntry]:
    """Lists the workers of all studies."""
    return [
        WorkerEntry.model_validate(vars(worker) | {"silent": worker.silent})
        for worker in list_workers(context.engine)
    ]


@router.get("/tokens")
def show_tokens(context: Context, caller: Administrator) -> list[TokenView]:
    """Lists the tokens."""
    return [_view(token) for token in list_tokens(context.engine)]


@router.post("/tokens", status_code=HTTPStatus.CREATED, responses=problems_of(HTTPStatus.CONFLICT))
def make_token(context: Context, caller: Administrator, wanted: TokenRequest) -> NewToken:
    """Makes a token."""
    try:
        secret = create_token(context.engine, wanted.name, Role[wanted.role.upper()], wanted.days)
    except UserError as error:
        raise RequestRefused(HTTPStatus.CONFLICT, str(error)) from None
    return NewToken(name=wanted.name, role=wanted.role, token=secret)


@router.delete(
    "/tokens/{name}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems_of(HTTPStatus.NOT_FOUND),
)
def delete_token(
    context: Context,
    caller: Administrator,
    name: Annotated[str, Path(min_length=1, max_length=100)],
) -> Response:
    """Revokes a token: requests that bear it are refused from now on."""
    try:
        revoke_token(context.engine, name)
    except UserError as error:
        raise RequestRefused(HTTPStatus.NOT_FOUND, str(error)) from None
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _view(token: Token) -> TokenView:
    return TokenView.model_validate(vars(token) | {"role": str(token.role)})

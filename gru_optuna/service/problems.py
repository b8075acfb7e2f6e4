"""Errors as problem documents (RFC 9457), with the command line's own sentences."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gru_optuna.errors import GRUOptunaError, StorageError, UserError
from gru_optuna.formatting import shortened
from gru_optuna.urls import masked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

MEDIA_TYPE = "application/problem+json"

_PLACE = re.compile(r"^[^\n\[]* \[(?P<place>[^\]\n]+)\]: ")


class ProblemPart(BaseModel):
    """One of several mistakes."""

    detail: str = Field(description="What is wrong, what was found, and what to try.")
    place: str | None = Field(None, description="Where: a key of the study file, or a parameter.")


class Problem(BaseModel):
    """What went wrong with a request (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(description="The name of the status.")
    status: int
    detail: str = Field(description="What is wrong, where, what was found, and what to try.")
    errors: list[ProblemPart] = Field([], description="Each mistake with its place.")


class RequestRefused(GRUOptunaError):  # noqa: N818 (an answer, not a fault)
    """A request that can't be answered as it stands.

    Parameters
    ----------
    status
        The status of the answer.
    detail
        What is wrong, and what to try.
    headers
        Further headers of the answer.
    """

    def __init__(
        self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.headers = status, dict(headers or {})


def problem_response(
    status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer whose body is a problem document."""
    detail = shortened(masked(detail))
    found = [(line, _PLACE.match(line)) for line in detail.splitlines()]
    # A mistake in the file as a whole has no place, but stands among others that have.
    parts = [ProblemPart(detail=line, place=at["place"] if at else None) for line, at in found]
    if not any(at for _, at in found):
        parts = []
    return _response(status, detail, parts, headers)


def problems_of(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """How the OpenAPI document declares that an operation may answer with these problems."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status.value: {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def answer_with_problems(app: FastAPI) -> None:
    """Lets an application answer every error with a problem document."""

    @app.exception_handler(RequestRefused)
    def refused(_: Request, error: RequestRefused) -> Response:
        return problem_response(error.status, str(error), error.headers)

    @app.exception_handler(StorageError)
    def unavailable(_: Request, error: StorageError) -> Response:
        return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, str(error))

    @app.exception_handler(UserError)
    def wrong_input(_: Request, error: UserError) -> Response:
        return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    @app.exception_handler(GRUOptunaError)
    def failed(_: Request, error: GRUOptunaError) -> Response:
        return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, str(error))

    @app.exception_handler(HTTPException)
    def of_the_framework(_: Request, error: HTTPException) -> Response:
        return problem_response(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(ClientDisconnect)
    def gone(_: Request, error: ClientDisconnect) -> Response:
        return problem_response(HTTPStatus.BAD_REQUEST, "The connection ended before the body did.")

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        if any(detail["type"] == "json_invalid" for detail in error.errors()):
            return problem_response(
                HTTPStatus.BAD_REQUEST,
                f"The body is not JSON: {error.errors()[0]['ctx']['error']}.",
            )
        parts = [
            ProblemPart(detail=f"{detail['msg']}.", place=".".join(map(str, detail["loc"][1:])))
            for detail in error.errors()
        ]
        sentences = [f"{part.place}: {part.detail}" for part in parts]
        return _response(HTTPStatus.UNPROCESSABLE_ENTITY, "\n".join(sentences), parts, None)

    @app.exception_handler(Exception)
    def unexpected(_: Request, error: Exception) -> Response:  # uvicorn logs it
        detail = "The service failed. Its log says why."
        return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, detail)


def _response(
    status: int, detail: str, parts: list[ProblemPart], headers: Mapping[str, str] | None
) -> Response:
    title = HTTPStatus(status).phrase
    problem = Problem(title=title, status=status, detail=detail, errors=parts)
    return Response(problem.model_dump_json(), status, headers, MEDIA_TYPE)

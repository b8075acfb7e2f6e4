"""The API below ``/v1``, one file for each resource."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter

from gru_optuna.service.api import bundles, data, events, people, studies, trials
from gru_optuna.service.problems import problems_of

PREFIX = "/v1"

api = APIRouter(
    prefix=PREFIX,
    responses=problems_of(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
)
for resource in (data, studies, trials, events, bundles, people):
    api.include_router(resource.router)

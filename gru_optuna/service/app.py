"""The whole service: API, pages, optuna-dashboard and reports, behind the access rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from gru_optuna.service.access import Access, refuse_without_tokens
from gru_optuna.service.api import PREFIX, api
from gru_optuna.service.context import ServiceContext
from gru_optuna.service.operation import operation
from gru_optuna.service.optuna_dashboard import WithOptunaDashboard
from gru_optuna.service.pages import pages
from gru_optuna.service.problems import Problem, answer_with_problems
from gru_optuna.storage.database.open import open_storage, shown_url
from gru_optuna.storage.database.schema import refuse_other_revisions
from gru_optuna.storage.upload_places import require_usable

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from gru_optuna.service.access import AccessRules
    from gru_optuna.service.context import ServiceSettings


def make_service(settings: ServiceSettings, rules: AccessRules) -> ASGIApp:
    """Builds the ASGI application.

    Parameters
    ----------
    settings
        Where it works, and its limits.
    rules
        Which requests are accepted.

    Raises
    ------
    UserError
        If the database can't be opened, its uploads can't be reached, or nobody could log in.
    """
    refuse_without_tokens(rules, settings.url)
    context = ServiceContext(settings, open_storage(settings.url, create=settings.create))
    if settings.create:
        require_usable(context.engine)
    else:
        # `open_storage` also opens tables of an earlier version that can't be upgraded here.
        with context.engine.connect() as connection:
            refuse_other_revisions(shown_url(settings.url), connection)
    app = FastAPI(
        title="gru-optuna",
        version="1",
        description="Studies of GRU networks: submitted, watched and taken home.",
        openapi_url=f"{PREFIX}/openapi.json",
        # Both load their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    app.include_router(operation)
    app.include_router(api)
    app.include_router(pages)
    answer_with_problems(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return Access(WithOptunaDashboard(app, context), rules, context.engine, _takes_files)


def _takes_files(path: str) -> bool:
    """Whether the body of a request may be a file, whose size its operation limits itself."""
    return path.startswith((f"{PREFIX}/data/", f"{PREFIX}/bundles/")) or path == "/upload"


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the problems that every operation may answer with."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs"), Problem=problem)
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        for name in ("/healthz", "/readyz"):
            document["paths"][name]["get"]["security"] = []
    assert app.openapi_schema is not None
    return app.openapi_schema

"""Sends requests through the checks in front of the service, in this process."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from gru_optuna.service.access import Access

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Engine

    from gru_optuna.service.access import AccessRules
    from gru_optuna.storage.tokens import Role

OURS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
POLICY = "default-src 'none'; frame-ancestors 'self'"


@dataclass(frozen=True)
class Answer:
    """The answer to a request, and the role of the caller that the application saw."""

    status: int
    headers: dict[str, str]
    body: str
    role: Role | None


def ask(
    rules: AccessRules,
    path: str = "/dashboard/",
    method: str = "GET",
    query: str = "",
    host: str | None = "localhost:8080",
    scheme: str = "http",
    engine: Engine | None = None,
    app_headers: Iterable[tuple[str, str]] = (),
    **headers: str,
) -> Answer:
    """Sends a request through the checks."""
    roles: list[Role | None] = []
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        caller = scope["state"]["caller"]
        roles.append(caller and caller.role)
        started = [(name.encode(), value.encode()) for name, value in app_headers]
        await send({"type": "http.response.start", "status": 200, "headers": started})
        await send({"type": "http.response.body", "body": b"inside"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    given = ({} if host is None else {"host": host}) | headers
    scope = {
        "type": "http", "method": method, "path": unquote(path), "query_string": query.encode(),
        "scheme": scheme, "server": ("127.0.0.1", 8080), "root_path": "", "http_version": "1.1",
        "headers": [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in given.items()],
    }  # fmt: skip
    checks: Any = Access(app, rules, engine, lambda path: False)
    # In a thread of its own: the browser of another test may have left this one an event loop.
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, checks(scope, receive, send)).result()
    start, *rest = sent
    names = [name.decode() for name, _ in start["headers"]]
    assert len(set(names)) == len(names), names
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    assert found.items() >= OURS.items()
    assert found["content-security-policy"]
    text = b"".join(message["body"] for message in rest).decode()
    assert bool(roles) == (text == "inside")
    return Answer(start["status"], found, text, roles[0] if roles else None)

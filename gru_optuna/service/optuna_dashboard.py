"""optuna-dashboard on its own prefixes, read-only unless the caller's role allows more.

It has no login and no read-only mode: whoever reaches it can delete studies.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response

from gru_optuna.service.access import READING
from gru_optuna.service.read_only_badge import with_badge
from gru_optuna.storage.tokens import Role

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gru_optuna.service.access import Caller
    from gru_optuna.service.context import ServiceContext

_PREFIXES = ("/dashboard", "/api/", "/csv/", "/static/", "/artifacts/", "/favicon.ico")

_QUEUED_PIECES = 128
"""Pieces of 64 KiB that may wait for a slow reader. An answer that waits as a whole, as the 6 MB of
the script, holds none of the few threads that answer everybody."""

_ARTIFACT_HEADERS = {
    # Otherwise, an uploaded HTML page would run with the rights of the service's own pages.
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}


class WithOptunaDashboard:
    """An application, and optuna-dashboard next to it.

    It is loaded when it is first asked for: that takes seconds, and 150 MiB for good.
    """

    def __init__(self, app: ASGIApp, context: ServiceContext) -> None:
        self._app, self._context = app, context
        self._lock = Lock()
        self._loaded: dict[str, ASGIApp] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers requests to optuna-dashboard, and lets others pass."""
        if scope["type"] != "http" or not scope["path"].startswith(_PREFIXES):
            await self._app(scope, receive, send)
            return
        caller: Caller = scope["state"]["caller"]
        may_write = caller.role >= Role.ADMINISTRATOR
        request = Request(scope)
        if request.method not in READING and not may_write:
            # The JSON whose "reason" its pages show.
            body = json.dumps({"reason": caller.refusal})
            refusal = Response(body, HTTPStatus.FORBIDDEN, media_type="application/json")
            await refusal(scope, receive, send)
            return
        if "accept-encoding" not in request.headers:  # it fails without this header
            scope["headers"] = [*scope["headers"], (b"accept-encoding", b"identity")]
        badge = "" if may_write else f"read-only; {caller.who_may_write}"
        app = await to_thread.run_sync(self._load, badge)
        await app(scope, receive, _with_headers(send, scope["path"]))

    def _load(self, badge: str) -> ASGIApp:
        """optuna-dashboard, with a badge on its pages unless the text is empty."""
        with self._lock:
            if badge not in self._loaded:
                import optuna_dashboard
                from a2wsgi import WSGIMiddleware

                settings = self._context.settings
                store = None
                if settings.artifact_dir is not None:
                    from optuna.artifacts import FileSystemArtifactStore

                    store = FileSystemArtifactStore(settings.artifact_dir)
                app: Any = optuna_dashboard.wsgi(self._context.storage, artifact_store=store)
                shown: Any = with_badge(app, badge) if badge else app
                answering: Any = WSGIMiddleware(shown, send_queue_size=_QUEUED_PIECES)
                self._loaded[badge] = answering
            return self._loaded[badge]


def _with_headers(send: Send, path: str) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if path.startswith("/artifacts/"):
                headers.update(_ARTIFACT_HEADERS)
            elif path.startswith("/static/"):
                # Several megabytes that only an upgrade changes: the browser asks whether one has.
                headers.setdefault("Cache-Control", "no-cache")
        await send(message)

    return send_with_headers

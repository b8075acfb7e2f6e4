"""optuna-dashboard over a study's storage, on this machine only.

optuna-dashboard has no login and no read-only mode: whoever reaches it can delete studies. So it
listens on loopback, answers only to loopback's names (a web page elsewhere can point its own
name at 127.0.0.1), and lets nothing be changed unless asked to.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna_dashboard

from gru_optuna.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from optuna.storages import BaseStorage

HOST = "127.0.0.1"
_NAMES = {"127.0.0.1", "localhost"}
_READING = {"GET", "HEAD", "OPTIONS"}


def make_app(storage: BaseStorage, *, write: bool = False) -> WSGIApplication:
    """optuna-dashboard behind the two checks of this module."""
    inner: WSGIApplication = optuna_dashboard.wsgi(storage)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = str(environ.get("HTTP_HOST", "")).rsplit(":", 1)[0]
        if host not in _NAMES:
            return _refuse(start_response, f"This dashboard answers to {HOST} only.")
        if not write and environ["REQUEST_METHOD"] not in _READING:
            return _refuse(start_response, "Read-only. Start it with --write to change studies.")
        return inner(environ, start_response)

    return app


def serve(storage: BaseStorage, port: int, *, write: bool = False) -> WSGIServer:
    """A server that is bound and ready for ``serve_forever``.

    Raises
    ------
    UserError
        If the port is taken.
    """
    try:
        return make_server(HOST, port, make_app(storage, write=write), _Server, _Handler)
    except OSError as error:
        raise UserError(
            f"port {port} can't be opened ({error.strerror}). Try another one; 0 takes any free."
        ) from None


class _Server(ThreadingMixIn, WSGIServer):
    """One thread a request: a slow one doesn't hold up the page."""

    daemon_threads = True

    def server_bind(self) -> None:
        # The library's own asks for the machine's name, which can wait for a name server.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = HOST, self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        with suppress(ConnectionError):  # a browser that left is nobody's error
            super().handle_error(request, client_address)


class _Handler(WSGIRequestHandler):
    """Without a line a request."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def _refuse(start_response: StartResponse, reason: str) -> Iterable[bytes]:
    start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
    return [reason.encode()]

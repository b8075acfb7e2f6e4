"""The HTTP server: it listens on an address of this machine, one thread per request."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from gru_optuna.service.addresses import HOST, PORT, listen

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

_IDLE_SECONDS = 60
_REQUEST_SECONDS = 120
"""The longest a request may take: a client that sends a byte now and then can't hold a thread."""

_LOOK_SECONDS = 0.2
_MOST_THREADS = 64
"""Requests at once; further connections wait in the queue."""


def bind(app: WSGIApplication, host: str = HOST, port: int = PORT) -> WSGIServer:
    """Makes a server that listens and is ready for ``serve_forever``.

    Parameters
    ----------
    app
        The application to serve.
    host
        An address or name of this machine; ``0.0.0.0`` or ``::`` for all its addresses.
    port
        The port; 0 for any free one.

    Raises
    ------
    UserError
        If the port is taken, or the host isn't this machine's.
    """
    server = _Server(listen(host, port))
    server.set_app(app)
    return server


class _Server(ThreadingMixIn, WSGIServer):
    """One thread per request, so that a slow request doesn't delay the others."""

    daemon_threads = True

    def __init__(self, listening: socket.socket) -> None:
        self.address_family = listening.family
        self._is_closing = False
        self._free = threading.BoundedSemaphore(_MOST_THREADS)
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        # Not `HTTPServer.server_bind`: it looks up the host's name and may wait for a DNS server.
        self.server_address = listening.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        # Only for a moment, as the caller also has to notice that it is to shut down.
        while not self._free.acquire(timeout=_LOOK_SECONDS):
            if self._is_closing:
                self.shutdown_request(request)
                return
        try:
            super().process_request(request, client_address)
        except BaseException:
            # No thread was started, and it is the thread that gives the place back.
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # `settimeout` limits each read and write; this timer, all of them together.
        timer = threading.Timer(_REQUEST_SECONDS, _cut_off, [request])
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._free.release()

    def shutdown(self) -> None:
        self._is_closing = True
        super().shutdown()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A browser may close its connection at any time; that needs no traceback.
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(WSGIRequestHandler):
    """Logs no requests, since their addresses may contain a token."""

    timeout = _IDLE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def _cut_off(request: socket.socket) -> None:
    with suppress(OSError):  # it has ended meanwhile
        request.shutdown(socket.SHUT_RDWR)

"""The HTTP server: it listens on an address of this machine, one thread per request."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
import threading
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from gru_optuna.errors import UserError

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

HOST = "127.0.0.1"
PORT = 8080

_PORTS_TRIED = 100
_IDLE_SECONDS = 60
_REQUEST_SECONDS = 120
"""The longest a request may take: a client that sends a byte now and then can't hold a thread."""

_QUEUE = 256
"""Connections that wait for `accept`: the system's default of 5 lets browsers wait for minutes."""

_LOOK_SECONDS = 0.2
_MOST_THREADS = 64
"""Requests at once; further connections wait in the queue."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to a host.

    Raises
    ------
    UserError
        If the host is unknown.
    """
    _, (number, *_) = _resolved(host, 0)
    return ipaddress.ip_address(number.partition("%")[0]).is_loopback


def own_names(host: str) -> frozenset[str]:
    """The names under which browsers may open a server on this host."""
    machine = socket.gethostname().lower()
    return frozenset({host.lower().strip("[]"), machine, machine.partition(".")[0]})


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
    family, place = _resolved(host, port)
    try:
        server = _Server(family, place)
    except OSError as error:
        raise UserError(_bind_problem(error, host, port)) from None
    server.set_app(app)
    return server


def address(server: WSGIServer, path: str = "/") -> str:
    """The address at which a browser on this machine opens a server."""
    host = str(server.server_address[0])
    number = ipaddress.ip_address(host.partition("%")[0])
    if number.is_unspecified:
        host = socket.gethostname()
    elif number.version == 6:
        host = f"[{host}]"
    return f"http://{host}:{server.server_port}{path}"


class _Server(ThreadingMixIn, WSGIServer):
    """One thread per request, so that a slow request doesn't delay the others."""

    daemon_threads = True
    request_queue_size = _QUEUE

    def __init__(self, family: socket.AddressFamily, place: tuple[Any, ...]) -> None:
        self.address_family = family
        self._is_closing = False
        self._free = threading.BoundedSemaphore(_MOST_THREADS)
        super().__init__(place, _Handler)

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

    def server_bind(self) -> None:
        # Not `HTTPServer.server_bind`: it looks up the host's name and may wait for a DNS server.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

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


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    try:
        (family, _, _, _, place), *_ = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError):
        raise UserError(
            f'host "{host}" is unknown. Give an address of this machine, or 0.0.0.0 for all.'
        ) from None
    return family, place


def _bind_problem(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        free = _next_free(host, port)
        other = f"--port {free}, the next free one" if free else "--port 0 for any free one"
        return f"port {port} is used by another program. Try {other}."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"host {host} is not an address of this machine. Try 0.0.0.0 for all its addresses."
    return f"port {port} can't be opened ({error.strerror}). Try another one, or --port 0."


def _next_free(host: str, port: int) -> int | None:
    for other in range(port + 1, min(port + _PORTS_TRIED, 65536)):
        family, place = _resolved(host, other)
        with socket.socket(family) as trial, suppress(OSError):
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(place)
            return other
    return None

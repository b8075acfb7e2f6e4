"""Addresses of this machine: which one to listen on, and under which names others reach it."""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextlib import suppress
from typing import Any

from gru_optuna.errors import UserError

HOST = "127.0.0.1"
PORT = 8080

_PORTS_TRIED = 100

_QUEUE = 256
"""Connections that wait for `accept`: the system's default of 5 lets browsers wait for minutes."""


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


def listen(host: str = HOST, port: int = PORT) -> socket.socket:
    """A socket that listens; connections wait in its queue until a server accepts them.

    Parameters
    ----------
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
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(_QUEUE)
    except OSError as error:
        listening.close()
        raise UserError(_bind_problem(error, host, port)) from None
    return listening


def address(listening: socket.socket, path: str = "/") -> str:
    """The address at which a browser on this machine opens a server."""
    host, port, *_ = listening.getsockname()
    number = ipaddress.ip_address(str(host).partition("%")[0])
    if number.is_unspecified:
        host = socket.gethostname()
    elif number.version == 6:
        host = f"[{host}]"
    return f"http://{host}:{port}{path}"


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

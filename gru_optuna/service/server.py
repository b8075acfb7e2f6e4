"""Runs the service: uvicorn in a thread, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

_FINISH_SECONDS = 2
"""How long requests may still take after Ctrl-C: event streams never end by themselves."""

_IDLE_SECONDS = 60
"""How long a connection may stay open between two requests."""


class RunningServer:
    """An application that is served in a thread of its own.

    Parameters
    ----------
    app
        The application.
    listening
        The socket that listens for it.
    """

    def __init__(self, app: ASGIApp, listening: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            # Errors alone: the addresses of requests say what somebody looks at.
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_FINISH_SECONDS,
        )
        self._server, self._listening = uvicorn.Server(config), listening
        self._thread = threading.Thread(target=self._serve, name="serve", daemon=True)

    def __enter__(self) -> RunningServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listening]))


def serve_until_stopped(app: ASGIApp, listening: socket.socket) -> None:
    """Serves until Ctrl-C or SIGTERM."""
    # Waited for, not handled: a handler that raises may do so between any two instructions of the
    # server, and it only runs once the main thread does, which a signal that the system gives to
    # another thread never wakes. Threads inherit what is blocked here.
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with RunningServer(app, listening):
        signal.sigwait(ends)

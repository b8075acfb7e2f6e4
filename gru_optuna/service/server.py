"""Runs the service: uvicorn in a thread, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

_FINISH_SECONDS = 2
"""How long requests may still take after Ctrl-C: event streams never end by themselves."""

_IDLE_SECONDS = 60
"""How long a connection may stay open between two requests."""

_HEAD_SECONDS = 60
"""How long a client may take to send the head of a request."""

_LEAST_BYTES, _LEAST_SECONDS = 16 << 10, 60
"""How much of a body a client must send in this time, or the rest of it; and how much of an answer
it must read."""

_MOST_CONNECTIONS = 900
"""Others are answered 503 at once. Below the 1,024 open files that many systems allow a process."""


class TimedProtocol(H11Protocol):
    """Cuts off clients that send or read a byte now and then: uvicorn would wait for ever."""

    _cut_off: asyncio.TimerHandle | None = None  # unless it sends more
    _stuck: asyncio.TimerHandle | None = None  # unless it reads more
    _received: int | None = None  # bytes of a body since the timer was started; None: no body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait(_HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        self._forget_reader()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch(len(data))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # The beginning of the next request may have come together with the last one.
        if self.conn.their_state is h11.SEND_BODY:
            self._watch(0)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_reader()

    def _watch(self, received: int) -> None:
        if self.conn.their_state is h11.SEND_BODY:
            if self._received is None or self._received + received >= _LEAST_BYTES:
                self._received = 0
                self._wait(_LEAST_SECONDS)
            else:
                self._received += received
            return
        self._received = None
        if self.conn.their_state is not h11.IDLE:
            self._wait(None)  # the request is complete
        elif self._cut_off is None:
            self._wait(_HEAD_SECONDS)

    def _wait(self, seconds: float | None) -> None:
        if self._cut_off is not None:
            self._cut_off.cancel()
        self._cut_off = None if seconds is None else self.loop.call_later(seconds, self._end)

    def _end(self) -> None:
        if self.flow.read_paused:  # it is us who are slow
            self._wait(_LEAST_SECONDS)
        else:
            self.transport.abort()

    def _watch_reader(self) -> None:
        before = self.transport.get_write_buffer_size()  # grows no more until it is nearly empty

        def check() -> None:
            if self.transport.get_write_buffer_size() > before - _LEAST_BYTES:
                self.transport.abort()
            else:
                self._watch_reader()

        self._stuck = self.loop.call_later(_LEAST_SECONDS, check)

    def _forget_reader(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()

    def _unsupported_upgrade_warning(self) -> None:
        """Says nothing: uvicorn would advise to install what we don't want."""


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
            http=TimedProtocol,
            ws="none",
            limit_concurrency=_MOST_CONNECTIONS,
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

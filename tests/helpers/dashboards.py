"""Dashboards that are served for as long as a test needs them."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gru_optuna.dashboard import Rules, bind, make_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from wsgiref.simple_server import WSGIServer

    from optuna.artifacts import FileSystemArtifactStore
    from optuna.storages import BaseStorage


HOST = "127.0.0.1"


TOKEN = "a-token-that-nobody-guesses"  # noqa: S105


@contextmanager
def running(server: WSGIServer) -> Iterator[int]:
    """The port of a server that runs as long as the block does."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serving(
    storage: BaseStorage,
    rules: Rules | None = None,
    *,
    write: bool = False,
    reports: Path | None = None,
    artifacts: FileSystemArtifactStore | None = None,
) -> Iterator[int]:
    """The port of a dashboard that runs as long as the block does."""

    def folder(name: str) -> Path:
        assert reports is not None
        return reports / name

    app = make_app(storage, rules or Rules(write=write), folder, artifacts)
    with running(bind(app, HOST, 0)) as port:
        yield port

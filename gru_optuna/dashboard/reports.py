"""Serves reports under ``/report/NAME/`` and renders them as ``gru-optuna report`` does."""

from __future__ import annotations

import html
import logging
import mimetypes
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from gru_optuna.errors import GRUOptunaError
from gru_optuna.report.page import render_report
from gru_optuna.study.study import load_study
from gru_optuna.workspace import is_plain_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from optuna.storages import BaseStorage

PREFIX = "/report/"

PAUSE_SECONDS = 30.0
"""The least time between two renderings of a report, however often it is opened."""

# A report can't load or send anything, and has no access to the dashboard or its cookies.
# 'unsafe-eval': Plotly compiles its WebGL drawing code.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; "
    "sandbox allow-scripts allow-downloads allow-popups allow-top-navigation-by-user-activation"
)

logger = logging.getLogger(__name__)


class Reports:
    """A WSGI application that renders a report on request, if its study has progressed.

    Parameters
    ----------
    storage
        The studies.
    folder_of
        Returns the folder of a study's report, given the study's name.
    """

    def __init__(self, storage: BaseStorage, folder_of: Callable[[str], Path]) -> None:
        self._storage = storage
        self._folder_of = folder_of
        self._lock = threading.Lock()
        self._rendered: dict[str, float] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # In WSGI, a path is its UTF-8 bytes, decoded as Latin-1.
        path = str(environ["PATH_INFO"]).encode("latin-1").decode(errors="replace")
        name, slash, rest = path.removeprefix(PREFIX).partition("/")
        if not is_plain_name(name) or not all(map(is_plain_name, filter(None, rest.split("/")))):
            return _not_found(start_response, "Page not found.")
        if not slash:
            location = f"{PREFIX}{quote(name, safe='')}/"
            start_response("308 Permanent Redirect", [("Location", location)])
            return [b""]
        folder = self._folder_of(name)
        if not rest and (problem := self._refresh(name, folder / "index.html")):
            return _not_found(start_response, problem)
        return _file(start_response, folder, rest or "index.html")

    def _refresh(self, name: str, page: Path) -> str | None:
        """Renders a report that is missing or outdated; returns the reason if there is none."""
        with self._lock:
            try:
                study, spec = load_study(self._storage, name)
                ended = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
                if not ended:
                    return f"No trial of {name} has ended yet, so there is nothing to report."
                if self._is_outdated(name, page, ended[-1].datetime_complete):
                    render_report(study, spec, page.parent)
                    self._rendered[name] = time.monotonic()
            except GRUOptunaError as error:
                return None if page.is_file() else str(error)
            except Exception:
                # An outdated report is better than none.
                logger.exception("the report of %s could not be rendered", name)
                return None if page.is_file() else f"The report of {name} could not be rendered."
        return None

    def _is_outdated(self, name: str, page: Path, latest: datetime | None) -> bool:
        if not page.is_file():
            return True
        if time.monotonic() - self._rendered.get(name, float("-inf")) < PAUSE_SECONDS:
            return False
        return latest is not None and latest > datetime.fromtimestamp(page.stat().st_mtime)


def with_reports(app: WSGIApplication, reports: Reports) -> WSGIApplication:
    """Serves the reports under their prefix, and everything else by the application."""

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        is_report = str(environ.get("PATH_INFO", "")).startswith(PREFIX)
        return (reports if is_report else app)(environ, start_response)

    return respond


def _file(start_response: StartResponse, folder: Path, name: str) -> Iterable[bytes]:
    file = (folder / name).resolve()
    # A symbolic link in the folder may point out of it.
    if not file.is_relative_to(folder.resolve()) or not file.is_file():
        return _not_found(start_response, "Page not found.")
    content = file.read_bytes()
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(content))),
        ("Cache-Control", "no-cache"),
        ("Content-Security-Policy", _POLICY),
    ]
    start_response("200 OK", headers)
    return [content]


def _not_found(start_response: StartResponse, reason: str) -> Iterable[bytes]:
    body = (
        "<!DOCTYPE html><meta charset=utf-8><title>No report</title>"
        '<body style="font:1.1rem system-ui;margin:3rem;max-width:40rem">'
        f'<p>{html.escape(reason)}</p><p><a href="/dashboard/">Back to the studies</a></p>'
    ).encode()
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
    ]
    start_response("404 Not Found", headers)
    return [body]

"""Reports, rendered as ``gru-optuna report`` does, in a process of their own, and served."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from http import HTTPStatus
from typing import TYPE_CHECKING

from gru_optuna.errors import UserError
from gru_optuna.service.problems import RequestRefused
from gru_optuna.service.processes import render
from gru_optuna.workspace import is_plain_name

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.service.context import ServiceContext
    from gru_optuna.study.submissions import QueuedStudy

PAUSE_SECONDS = 30.0
"""The least time between two renderings of a report, however often it is opened."""

# A report can't load or send anything, and has no access to the service or its cookies.
# 'unsafe-eval': Plotly compiles its WebGL drawing code.
REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; "
    "sandbox allow-scripts allow-downloads allow-popups allow-top-navigation-by-user-activation"
)

_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
_rendered: dict[str, tuple[float, object]] = {}  # when, and how far the study was


def report_file(context: ServiceContext, study: QueuedStudy, name: str = "") -> Path:
    """A file of a study's report; of the page itself, a new one if the study has progressed.

    Raises
    ------
    RequestRefused
        If there is no such file, or nothing to report yet.
    """
    missing = RequestRefused(HTTPStatus.NOT_FOUND, "Page not found.")
    if not all(map(is_plain_name, filter(None, name.split("/")))):
        raise missing
    try:
        folder = context.settings.workspace.report_folder(study.name)
    except UserError as error:
        raise RequestRefused(HTTPStatus.NOT_FOUND, str(error)) from None
    if not name:
        _refresh(context, study, folder)
    file = (folder / (name or "index.html")).resolve()
    # A symbolic link in the folder may point out of it.
    if not file.is_relative_to(folder.resolve()) or not file.is_file():
        raise missing
    return file


def _refresh(context: ServiceContext, study: QueuedStudy, folder: Path) -> None:
    """Renders a report that is missing or outdated."""
    if not study.ended:
        raise RequestRefused(
            HTTPStatus.CONFLICT,
            f"No trial of {study.name} has ended yet, so there is nothing to report.",
        )
    page, place = folder / "index.html", str(folder)
    with _locks[place]:
        at, seen = _rendered.get(place, (-PAUSE_SECONDS, None))
        now, reached = time.monotonic(), (study.study_id, study.ended, study.worked_until)
        if page.is_file() and (seen == reached or now - at < PAUSE_SECONDS):
            return
        try:
            render(context.settings.url, study.name, folder)
        except UserError as error:
            # An outdated report is better than none.
            if not page.is_file():
                raise RequestRefused(HTTPStatus.CONFLICT, str(error)) from None
        _rendered[place] = (now, reached)

"""Dashboards of one user that are served for as long as a test needs them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from gru_optuna.service.access import AccessRules, OneUser
from gru_optuna.service.addresses import HOST, listen
from gru_optuna.service.app import make_service
from gru_optuna.service.context import ServiceSettings
from gru_optuna.service.server import RunningServer
from gru_optuna.storage.tokens import Role
from gru_optuna.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "a-token-that-nobody-guesses"  # noqa: S105


def reader(secret: str | None = None) -> AccessRules:
    """The rules of a read-only dashboard on this machine."""
    return AccessRules(one_user=OneUser(Role.VIEWER, secret))


def writer(secret: str | None = None) -> AccessRules:
    """The rules of one with ``--write``."""
    return AccessRules(one_user=OneUser(Role.ADMINISTRATOR, secret))


@contextmanager
def serving(
    url: str, folder: Path, rules: AccessRules | None = None, artifacts: Path | None = None
) -> Iterator[int]:
    """The port of a dashboard that runs as long as the block does."""
    settings = ServiceSettings(url, Workspace(folder), artifact_dir=artifacts, create=False)
    listening = listen(HOST, 0)
    with RunningServer(make_service(settings, rules or reader()), listening):
        yield listening.getsockname()[1]

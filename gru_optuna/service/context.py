"""What the operations of the service work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request

from gru_optuna.storage.optuna_private import engine_behind

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.storages import BaseStorage
    from sqlalchemy import Engine

    from gru_optuna.errors import UserError
    from gru_optuna.study.summary import Summary
    from gru_optuna.workspace import Workspace


@dataclass(frozen=True)
class ServiceSettings:
    """Where the service works, and its limits.

    Parameters
    ----------
    url
        The database.
    workspace
        The folder in which reports are rendered.
    most_upload_bytes
        The largest file that may be uploaded.
    reserve_bytes
        What uploads leave free on the disk.
    inspection_seconds
        How long the inspection of a file may take; its processor time and the clock are limited.
    inspection_bytes
        How much memory it may take.
    artifact_dir
        Where scripts have put files that optuna-dashboard shows; None: nowhere.
    create
        Whether a database that is missing is created.
    """

    url: str
    workspace: Workspace
    most_upload_bytes: int = 1 << 30
    reserve_bytes: int = 1 << 30
    inspection_seconds: float = 120.0
    inspection_bytes: int = 4 << 30
    artifact_dir: Path | None = None
    create: bool = True


@dataclass(frozen=True)
class ServiceContext:
    """The settings, and the open database."""

    settings: ServiceSettings
    storage: BaseStorage
    engine: Engine = field(init=False)
    feeds: dict[str, Any] = field(default_factory=dict)  # of events, by study
    summaries: dict[str, tuple[float, object, Summary | UserError | None]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "engine", engine_behind(self.storage))


def _context(request: Request) -> ServiceContext:
    context: ServiceContext = request.app.state.context
    return context


Context = Annotated[ServiceContext, Depends(_context)]

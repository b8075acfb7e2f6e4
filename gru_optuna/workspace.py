"""A folder with three rooms: ``studies/`` (what to tune), ``storage/`` (what is remembered),
``dashboards/`` (what is shown)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gru_optuna.errors import UserError
from gru_optuna.urls import given_url

STORAGE_VARIABLE = "GRU_OPTUNA_STORAGE"

TOKEN_VARIABLE = "GRU_OPTUNA_TOKEN"  # noqa: S105 (its name)
"""Holds the token that a client sends to a service, or that a dashboard asks for."""

JOB_VARIABLE, NODE_VARIABLE = "GRU_OPTUNA_JOB", "GRU_OPTUNA_NODE"
"""The variables in which a cluster tells a worker the job and the node that it runs in."""


def is_plain_name(part: str) -> bool:
    """Whether a part of a path is an ordinary name that can't leave its folder, on any system."""
    return part not in ("", ".", "..") and not set(part) & set("/\\:\0") and part.isprintable()


@dataclass(frozen=True)
class Workspace:
    """One workspace, by its folder."""

    folder: Path

    @classmethod
    def around(cls, place: Path) -> Workspace:
        """The workspace a file or folder stands in.

        The nearest folder upwards that has a room ``studies``; without one, the current folder.
        """
        place = place.absolute()
        for folder in (place, *place.parents):
            if (folder / "studies").is_dir():
                return cls(folder)
        return cls(Path.cwd())

    @property
    def storage_url(self) -> str:
        """The default database."""
        return f"sqlite:///{self.folder / 'storage' / 'gru_optuna.db'}"

    @property
    def logs(self) -> Path:
        """Where workers that a cluster placed write what they print."""
        return self.folder / "storage" / "logs"

    @property
    def dashboard_settings(self) -> Path:
        """What optuna-dashboard reads, and ``gru-optuna dashboard`` too."""
        return self.folder / "dashboards" / "optuna-dashboard.toml"

    def report_folder(self, study: str) -> Path:
        """Where a study's report is rendered.

        Raises
        ------
        UserError
            If the study has a name in the database that is no folder's name.
        """
        if not is_plain_name(study):
            raise UserError(
                f'the study\'s name "{study}" names no folder, so its report has no place of its '
                f"own. Name one: gru-optuna report NAME --out DIR."
            )
        return self.folder / "dashboards" / study


def storage_url(flag: str | None, workspace: Workspace) -> str:
    """Which database to use: the flag, else the environment, else the workspace's own."""
    return given_url(flag or os.environ.get(STORAGE_VARIABLE) or workspace.storage_url)


def shown(path: Path) -> str:
    """A path as a person types it: relative to the current folder where it lies below it."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

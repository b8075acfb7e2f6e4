"""Reads ``dashboards/optuna-dashboard.toml``, which is optuna-dashboard's own configuration too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gru_optuna.errors import UserError
from gru_optuna.service.addresses import HOST, PORT
from gru_optuna.toml import parse_toml
from gru_optuna.workspace import shown

if TYPE_CHECKING:
    from pathlib import Path

_KINDS = {"host": str, "port": int, "artifact_dir": str}


@dataclass(frozen=True)
class DashboardSettings:
    """Where to listen and where artifacts are stored; other keys of the file are ignored."""

    host: str = HOST
    port: int = PORT
    artifact_dir: Path | None = None

    @classmethod
    def read(cls, file: Path, host: str | None, port: int | None) -> DashboardSettings:
        """Combines options, the file and the defaults, in this order of precedence.

        Parameters
        ----------
        file
            May be missing. Its paths are relative to the workspace, as for optuna-dashboard
            started in that folder.
        host, port
            The command's options; None if they weren't given.

        Raises
        ------
        UserError
            If the file can't be read.
        """
        table = _table(file)
        folder = table.get("artifact_dir")
        return cls(
            host=table.get("host", HOST) if host is None else host,
            port=table.get("port", PORT) if port is None else port,
            artifact_dir=None if folder is None else file.parent.parent / folder,
        )


def _table(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = parse_toml(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{shown(file)} can't be read: {error}.") from None
    table = content.get("optuna_dashboard", {})
    for key, kind in _KINDS.items():
        if key in table and type(table[key]) is not kind:
            expected = "a number" if kind is int else "a string in quotes"
            raise UserError(
                f"{shown(file)} [optuna_dashboard]: {key} = {table[key]!r} must be {expected}."
            )
    return {key: table[key] for key in _KINDS if key in table}

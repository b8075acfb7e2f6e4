"""The whole dashboard: optuna-dashboard and the reports, behind the access control."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna_dashboard

from gru_optuna.dashboard.access import guarded
from gru_optuna.dashboard.read_only_badge import with_badge
from gru_optuna.dashboard.reports import Reports, with_reports

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from wsgiref.types import WSGIApplication

    from optuna.artifacts import FileSystemArtifactStore
    from optuna.storages import BaseStorage

    from gru_optuna.dashboard.access import Rules


def make_app(
    storage: BaseStorage,
    rules: Rules,
    report_folder: Callable[[str], Path],
    artifacts: FileSystemArtifactStore | None = None,
) -> WSGIApplication:
    """Builds the WSGI application.

    Parameters
    ----------
    storage
        The studies. It should be cached, as from `open_storage`: optuna-dashboard reads every
        trial at each refresh.
    rules
        Which requests are accepted.
    report_folder
        Returns the folder of a study's report, given the study's name.
    artifacts
        The files that scripts have attached to trials.
    """
    app: WSGIApplication = optuna_dashboard.wsgi(storage, artifact_store=artifacts)
    if not rules.write:
        app = with_badge(app)
    return guarded(with_reports(app, Reports(storage, report_folder)), rules)

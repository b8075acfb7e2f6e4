"""The launchers by name, and the supervision of what they start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.launch.kubernetes import Kubernetes
from gru_optuna.launch.local import Local
from gru_optuna.launch.ray import Ray
from gru_optuna.launch.slurm import Slurm
from gru_optuna.launch.supervise import supervise
from gru_optuna.storage.database.open import exclusively, open_engine
from gru_optuna.worker.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from optuna import Study

    from gru_optuna.launch.placement import Launcher, LauncherName, Placement
    from gru_optuna.worker.events import WorkerEvent

_LAUNCHERS: dict[LauncherName, Callable[[Placement], Launcher]] = {
    "local": Local,
    "ray": Ray,
    "slurm": Slurm,
    "kubernetes": Kubernetes,
}


def run_workers(
    placement: Placement,
    study: Study | None,
    stop: Event,
    on_event: Callable[[WorkerEvent], None],
) -> None:
    """Places workers, and keeps them running until nothing is left to do.

    Parameters
    ----------
    placement
        Which workers, and where.
    study
        The study that they work on; None: they serve the whole queue.
    stop, on_event
        As in `supervise`.

    Raises
    ------
    UserError, StudyFailed
        If the cluster refuses them, if one of them gives up, or all die again and again.
    """
    launcher = _LAUNCHERS[placement.request.on](placement)
    alone = exclusively(placement.url, placement.name)
    if study is None:
        supervise(launcher, None, stop, on_event, alone)
        return
    engine = open_engine(placement.url)
    try:
        watcher = Watcher(study, engine, placement.settings.budget, placement.confirmation)
        supervise(launcher, watcher, stop, on_event, alone)
    finally:
        engine.dispose()

"""What a command asks of a launcher: to start workers, to say how they are, and to stop them.

A launcher places processes: on this machine, or through Slurm, Kubernetes or Ray. It isn't told
which trials to train: the workers agree on that in the database, so any of them may be lost at any
moment, and started again on another node.

The exit code of a worker decides what follows. 0 (nothing is left to do), 1 (the study fails) and
2 (the input is wrong) are final. 130 and signals aren't: the worker starts again, unless somebody
asked for its end.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from gru_optuna.errors import StudyFailed, UserError
from gru_optuna.workspace import STORAGE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gru_optuna.errors import GRUOptunaError
    from gru_optuna.study_file import Confirmation
    from gru_optuna.worker.run import WorkerSettings

LauncherName: TypeAlias = Literal["local", "ray", "slurm", "kubernetes"]
"""The launchers, as ``--on`` names them."""


@dataclass(frozen=True)
class WorkerRequest:
    """How many workers a command asks for, where, and what each gets of its node.

    Parameters
    ----------
    count
        How many workers.
    on
        The launcher that places them.
    cpus, gpus
        Of each worker; None: the cluster's default, and no GPU.
    image
        Of the containers; None: that of this version.
    apply
        Whether to create the job, or only to describe it, for Kubernetes.
    """

    count: int = 1
    on: LauncherName = "local"
    cpus: int | None = None
    gpus: int | None = None
    image: str | None = None
    apply: bool = True

    def require_sense(self, url: str) -> None:
        """Refuses what can't work with this database, or means nothing where the workers run.

        Raises
        ------
        UserError
        """
        if self.on != "local" and url.startswith("sqlite"):
            raise UserError(
                f"--on {self.on}: workers on several machines need a PostgreSQL server that all "
                f"of them reach, and this study would be in the file of a SQLite database. Name "
                f"a server with --storage or {STORAGE_VARIABLE}."
            )
        if self.on == "local" and self.gpus is not None:
            raise UserError(
                "--gpus-per-worker: workers on this machine share its GPUs. Leave it out, or name "
                "a cluster with --on."
            )
        if self.on != "kubernetes" and self.image is not None:
            raise UserError("--image: only workers on Kubernetes run in containers. Leave it out.")

    @property
    def shares_files(self) -> bool:
        """Whether the workers see the folder of the study file; others fetch files by hash."""
        return self.on in ("local", "slurm")

    @property
    def is_here(self) -> bool:
        """Whether the one worker is the command's own process."""
        return self.on == "local" and self.count == 1


DONE, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130
"""The exit codes of a worker that say what follows."""

Phase: TypeAlias = Literal["waiting", "running", "ended"]


@dataclass(frozen=True)
class Placement:
    """Which workers to start.

    Parameters
    ----------
    study
        The study's name. None: they serve every study of the database.
    url
        The database's.
    folder
        What the paths of the data are relative to. None: workers fetch the files by their hash.
    settings
        The settings of each worker.
    request
        How many, and what each gets.
    logs
        The folder for what they print, where the cluster itself keeps nothing.
    confirmation
        How they confirm the winner once the search is over; None: they don't.
    """

    study: str | None
    url: str
    folder: Path | None
    settings: WorkerSettings
    request: WorkerRequest
    logs: Path
    confirmation: Confirmation | None = None

    @property
    def name(self) -> str:
        """What the cluster calls the job: the same for each call with this study and database."""
        shown = re.sub(r"[^a-z0-9]+", "-", (self.study or "queue").lower()).strip("-")[:30]
        digest = hashlib.sha256(f"{self.study}\n{self.url}".encode()).hexdigest()[:8]
        return f"gru-optuna-{shown or 'study'}-{digest}"

    def arguments(self, settings: WorkerSettings) -> list[str]:
        """The arguments of ``gru-optuna`` for one worker: nothing secret, as others see them."""
        options = {
            "--data": self.folder and self.folder.absolute(),
            "--device": settings.device,
            "--threads": settings.threads,
            "--slots": settings.slots,
            "--lease": settings.lease_seconds,
            "--budget": settings.budget and settings.budget.model_dump_json(),
            "--confirm": self.confirmation and self.confirmation.model_dump_json(),
        }
        given = [
            str(part) for option in options.items() if option[1] is not None for part in option
        ]
        return ["worker", *([] if self.study is None else [self.study]), *given]


@dataclass(frozen=True)
class WorkerState:
    """One worker, as its launcher sees it."""

    index: int  # from 0
    phase: Phase
    place: str = ""  # where it runs, for people; another one after each restart
    deaths: int = 0  # how often it ended before its work was done
    death: str = ""  # how it died last
    last_words: str = ""  # the last line that it wrote before
    waits_for: str = ""  # what the cluster says that it lacks
    done: bool = False  # it ended because nothing was left to do
    failure: GRUOptunaError | None = None  # of a worker that starting again can't mend


class Launcher(Protocol):
    """Starts, watches and stops workers."""

    look_seconds: float
    """The pause between two looks: a scheduler that serves hundreds is asked less often."""

    def start(self) -> Sequence[str]:
        """Starts the workers, or finds those that an earlier command has started.

        Returns
        -------
        sequence of str
            What to tell the user: the cluster's own commands to scale the job and to read its logs.

        Raises
        ------
        UserError
            If the cluster can't be reached, or refuses the job.
        """

    def states(self) -> Sequence[WorkerState]:
        """The workers as they are now; none if the cluster knows the job no longer."""

    def stop(self, *, save: bool = False) -> Sequence[WorkerState]:
        """Stops the workers for good, and returns how they ended as far as that is known.

        With `save`, workers that have noticed themselves that the database is lost may take the
        time to save what they know.
        """


def failure_of(code: int, words: str) -> GRUOptunaError | None:
    """The error that a worker's exit code and its last words stand for; None: it isn't final."""
    if code == USER_ERROR:
        return UserError(words)
    return StudyFailed(words) if code == FAILED else None

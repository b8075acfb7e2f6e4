"""Real workers for tests: started, signalled, waited for; and what they leave in the database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState
from sqlalchemy import Table, delete, select

from gru_optuna import seeds, study_file
from gru_optuna.checkpoints.marker import MARKER
from gru_optuna.data.load import load_dataset
from gru_optuna.storage.database.open import checkpoint_folder, open_engine, open_storage
from gru_optuna.storage.database.tables import checkpoints, leases, workers
from gru_optuna.study.study import create_or_resume
from helpers.workspaces import REPOSITORY, TINY_STUDY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.study_file import Specification

DEADLINE = 120.0
"""Seconds: longer, and something hangs."""


def wait_for(
    what: str | Callable[[], str], happened: Callable[[], Any], seconds: float = DEADLINE
) -> Any:
    """Waits until something has happened; fails with what hasn't, as it is known then.

    Looks that cost much take about half of the time: the rest is for what is waited for.
    """
    end = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if result := happened():
            return result
        if (now := time.monotonic()) >= end:
            missing = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {seconds:g} s in vain for {missing}")
        time.sleep(min(max(0.01, now - began), 0.1))


@dataclass
class Process:
    """One of ours, alive or dead."""

    pid: int
    folder: Path
    code: int | None = None  # negative: the signal it died of

    def signal(self, number: int) -> None:
        """Sends a signal; a dead one doesn't mind."""
        with suppress(ProcessLookupError):
            if self.code is None:
                os.kill(self.pid, number)

    def is_asleep(self) -> bool:
        """Whether it was stopped, and can continue."""
        assert self.code is None, f"it ended with {self.code}: {self.said}"
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return stat.rpartition(") ")[2].startswith("T")

    def wait(self, seconds: float = DEADLINE) -> int:
        """Waits for its end."""
        wait_for(
            f"the end of process {self.pid}, which said: {self.said}",
            lambda: self.code is not None,
            seconds,
        )
        assert self.code is not None
        return self.code

    def kill(self) -> None:
        """Kills it, and waits until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    @property
    def said(self) -> str:
        """Its stderr so far."""
        return (self.folder / "stderr").read_text()

    @property
    def printed(self) -> str:
        """Its stdout so far."""
        return (self.folder / "stdout").read_text()


class Nursery:
    """Starts processes of ``gru-optuna``; at its end none is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._born: list[int] = []
        self._living: dict[int, Process] = {}
        self._count = 0
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # or none could fork
        found = os.pathsep.join(
            filter(None, [str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH")])
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith("GRU_OPTUNA_")}
        self._program = subprocess.Popen(
            [sys.executable, "-m", "helpers.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=kept | one_thread | {"PYTHONPATH": found},
        )
        assert self._program.stdout is not None
        assert json.loads(self._program.stdout.readline()) == ["ready"]
        threading.Thread(target=self._listen, daemon=True).start()

    def start(
        self,
        *arguments: object,
        folder: Path,
        faults: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
    ) -> Process:
        """Starts ``gru-optuna ARGUMENTS`` in a folder."""
        self._count += 1
        own = self.folder / f"process-{self._count}"
        own.mkdir()
        order = {
            "arguments": [str(a) for a in arguments],
            "folder": str(folder),
            "environment": {"NO_COLOR": "1", "COLUMNS": "120", **(environment or {})},
            "output": [str(own / "stdout"), str(own / "stderr")],
            "faults": faults or {},
        }
        (own / "stdout").touch()
        (own / "stderr").touch()
        assert self._program.stdin is not None
        self._program.stdin.write((json.dumps(order) + "\n").encode())
        self._program.stdin.flush()
        pid = wait_for("a process to be born", lambda: self._born and self._born.pop())
        process = self._living[pid] = Process(pid, own)
        return process

    def close(self) -> None:
        """Kills what is left."""
        assert self._program.stdin is not None
        self._program.stdin.close()
        self._program.wait(DEADLINE)

    def _listen(self) -> None:
        assert self._program.stdout is not None
        for line in self._program.stdout:
            match json.loads(line):
                case ["started", pid]:
                    self._born.append(pid)
                case ["ended", pid, code]:
                    process = wait_for("a process to be known", lambda: self._living.pop(pid, None))
                    process.code = code


@dataclass
class Lab:
    """A study in a database, and workers on it."""

    nursery: Nursery
    folder: Path
    url: str
    spec: Specification
    started: list[Process] = field(default_factory=list)

    @classmethod
    def open(cls, nursery: Nursery, folder: Path, url: str, *overrides: str) -> Lab:
        """Makes the study ``tiny``, with these settings."""
        folder.mkdir(exist_ok=True)
        path = folder / "tiny.toml"
        path.write_text(TINY_STUDY.replace('"data/', f'"{REPOSITORY}/studies/data/'))
        spec = study_file.load(path, overrides)
        dataset = load_dataset(spec, folder)
        create_or_resume(open_storage(url, create=True), spec, dataset.fingerprint)
        return cls(nursery, folder, url, spec)

    def renew(self, *overrides: str) -> None:
        """Resumes the study with other settings, such as a higher budget."""
        self.spec = study_file.load(self.folder / "tiny.toml", overrides)
        fingerprint = self.study.user_attrs["fingerprint"]
        create_or_resume(open_storage(self.url), self.spec, fingerprint)

    def worker(self, slots: int = 2, lease: float | None = None, **faults: Any) -> Process:
        """Starts a worker, with faults; all of them log what they train."""
        if lease is None:
            # On SQLite a death is seen at once. On PostgreSQL the others wait for the lease, and
            # a busy machine must not keep a living worker silent for as long.
            lease = 20 if self.url.startswith("sqlite") else 3
        process = self.nursery.start(
            "worker", "tiny", "--storage", self.url, "--data", self.folder,
            "--lease", lease, "--threads", 1, "--slots", slots, "--device", "cpu",
            folder=self.folder, faults={"log": {"path": str(self.log)}, **faults},
        )  # fmt: skip
        self.started.append(process)
        return process

    def end(self) -> None:
        """Kills the workers that still run."""
        for process in self.started:
            process.kill()

    @property
    def log(self) -> Path:
        """What all workers trained and committed."""
        return self.folder / "log"

    @property
    def study(self) -> Study:
        """The study as it is now."""
        return optuna.load_study(study_name="tiny", storage=open_storage(self.url))

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials as they are now."""
        return self.study.trials

    @property
    def files(self) -> list[Path]:
        """All files where checkpoints lie, but for the marker of the place."""
        folder = checkpoint_folder(self.url)
        found = folder.rglob("*") if folder else ()
        return sorted(path for path in found if path.is_file() and path.name != MARKER)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        """The rows of one of our own tables."""
        engine = open_engine(self.url)
        with engine.connect() as connection:
            found = [dict(row._mapping) for row in connection.execute(select(table))]
        engine.dispose()
        return found

    def forget(self, process: Process) -> None:
        """Removes a dead worker from the database, as others do once its lease is over."""
        engine = open_engine(self.url)
        with engine.begin() as connection:
            connection.execute(delete(workers).where(workers.c.process == process.pid))
        engine.dispose()

    def entries(self) -> Iterator[tuple[str, int, int, int]]:
        """The log: trained or saved, trial number, epoch, process; in order."""
        limit = self.spec.budget.trials or 1000
        numbers = {seeds.trial_seed(self.spec.seed, n): n for n in range(limit)}
        text = self.log.read_text() if self.log.exists() else ""
        for line in text.splitlines():
            what, trial, epoch, pid = line.split()
            number = numbers[int(trial)] if what == "trained" else int(trial)
            yield what, number, int(epoch), int(pid)

    def trained(self) -> Counter[tuple[int, int]]:
        """How often each epoch of each trial was trained."""
        return Counter((n, epoch) for what, n, epoch, _ in self.entries() if what == "trained")

    def saved(self) -> set[tuple[int, int]]:
        """Trials and epochs whose checkpoints were committed."""
        return {(n, epoch) for what, n, epoch, _ in self.entries() if what == "saved"}


def curves(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    """Everything that training a trial determines."""
    kept = ("best_epoch", "best_validation_loss", "train_loss", "validation_loss", "epochs")
    return [
        {
            "number": trial.number,
            "params": trial.params,
            "state": trial.state.name,
            "values": trial.values,
            "curve": trial.intermediate_values,
            "outcome": trial.user_attrs.get("outcome"),
            **{key: trial.user_attrs.get(key) for key in kept},
        }
        for trial in trials
    ]


def check_exact(lab: Lab) -> None:
    """The study has its trials, each once and whole, and nothing that a worker needed is left."""
    trials = lab.trials
    assert [trial.number for trial in trials] == list(range(lab.spec.budget.trials or 0))
    for trial in trials:
        assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED), trial
        epochs = trial.user_attrs["epochs"]
        assert sorted(trial.intermediate_values) == list(range(1, epochs + 1)), trial
        assert len(trial.user_attrs["train_loss"]) == epochs, trial
        assert len(trial.user_attrs["validation_loss"]) == epochs, trial
    assert lab.rows(leases) == []
    assert lab.rows(checkpoints) == []
    assert lab.rows(workers) == []
    assert lab.files == []


def check_work(lab: Lab) -> Counter[int]:
    """What was committed is never trained again, and nothing is trained again without a death.

    Returns how many epochs were trained how often.
    """
    saved: dict[int, int] = {}
    by: dict[tuple[int, int], list[int]] = {}
    for what, number, epoch, pid in lab.entries():
        if what == "saved":
            saved[number] = max(epoch, saved.get(number, 0))
            continue
        assert epoch > saved.get(number, 0), f"trial {number}: epoch {epoch} was committed"
        by.setdefault((number, epoch), []).append(pid)
    dead = {process.pid for process in lab.started if process.code not in (None, 0, 130)}
    for (number, epoch), pids in by.items():
        assert len(set(pids)) == len(pids), f"trial {number}: {pids} trained epoch {epoch}"
        alive = set(pids[:-1]) - dead
        assert not alive, f"trial {number}: {alive} live, and epoch {epoch} was trained again"
    return Counter(len(pids) for pids in by.values())


SEARCH = (
    "sampler.name=random", "pruner.name=none", "training.patience=8",
    "model.hidden_size=[24, 96]", "search.batch_size=[16, 32]",
)  # fmt: skip
"""Settings under which no trial's result changes another's proposal or end."""


_UNDISTURBED: dict[tuple[str, ...], list[dict[str, Any]]] = {}


def undisturbed(
    new_lab: Callable[..., Lab], folder: Path, *overrides: str, slots: int = 3
) -> list[dict[str, Any]]:
    """The curves of the study after one worker that nothing disturbed, which is trained once."""
    if overrides not in _UNDISTURBED:
        lab = new_lab(f"sqlite:///{folder / 'undisturbed.db'}", *overrides)
        assert lab.worker(slots=slots).wait() == 0
        _UNDISTURBED[overrides] = curves(lab.trials)
    return _UNDISTURBED[overrides]


SMALL = (*SEARCH, "budget.trials=6", "training.epochs=15", "training.patience='off'")

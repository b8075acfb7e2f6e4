"""A queue with small studies, and real workers on it."""

from __future__ import annotations

import io
import random
import signal
import time
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState
from sqlalchemy import select

from gru_optuna import study_file
from gru_optuna.data.load import load_dataset
from gru_optuna.storage import jobs, uploads
from gru_optuna.storage.database.open import open_engine, open_storage
from gru_optuna.storage.database.tables import checkpoints, leases, queue_workers
from gru_optuna.study import submissions
from gru_optuna.study.confirmation import is_current, read_decision
from gru_optuna.study.study import create_or_resume, load_study
from helpers.processes import DEADLINE, wait_for
from helpers.workspaces import empty_cache

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine, Select

    from gru_optuna.storage.jobs import Job
    from helpers.processes import Nursery, Process

_ROWS = "text,label\n" + "".join(
    f"a {word} film number {i},{word}\n" for i in range(24) for word in ("good", "bad")
)
_TOML = """
name = "{name}"
fit_baselines = false
[data]
train = "{path}"
text = "text"
label = "{label}"
tokenizer = "word"
[model]
hidden_size = 4
embedding_size = 4
[training]
epochs = {epochs}
patience = "off"
[budget]
trials = {trials}
[sampler]
name = "random"
[pruner]
name = "none"
[confirmation]
candidates = 1
seeds = 1
"""


@dataclass
class Queue:
    """A queue in a database, and the workers that a test has started."""

    nursery: Nursery
    folder: Path
    url: str
    started: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        open_storage(self.url, create=True)
        self.engine: Engine = open_engine(self.url)
        data = uploads.put(self.engine, "films.csv", io.BytesIO(_ROWS.encode()))
        self.sha256, self.path = data.sha256, data.path

    def submit(self, name: str, *, trials: int, epochs: int = 2, label: str = "label") -> None:
        """Submits a study of a few texts."""
        toml = _TOML.format(name=name, path=self.path, trials=trials, epochs=epochs, label=label)
        submissions.submit(self.engine, toml)

    def tune(self, name: str, folder: Path, path: str) -> None:
        """Makes a study as `tune` does, of one trial that nobody has begun."""
        toml = _TOML.format(name=name, path=path, trials=1, epochs=1, label="label")
        spec = study_file.loads(toml, name)
        fingerprint = load_dataset(spec, folder).fingerprint
        create_or_resume(open_storage(self.url), spec, fingerprint)

    def start_worker(
        self, *options: object, slots: int = 2, lease: float = 3, turn: float = 300
    ) -> Process:
        """Starts a worker of every study."""
        process = self.nursery.start(
            "worker", "--storage", self.url, "--lease", lease, "--turn", turn,
            "--threads", 1, "--slots", slots, "--device", "cpu", *options,
            folder=self.folder, environment=empty_cache(self.folder / "cache"),
        )  # fmt: skip
        self.started.append(process)
        return process

    def state(self, name: str) -> str:
        """What a study is doing."""
        return submissions.get(self.engine, name).state

    def wait_until(self, name: str, state: str) -> None:
        """Waits until a study is in a state."""
        wait_for(
            lambda: f"{name} to be {state}; it is {self.state(name)}. The workers: {self.said}",
            lambda: self.state(name) == state,
        )

    def wait_until_over(self, name: str, seconds: float = DEADLINE) -> str:
        """Waits until nothing more happens in a study; returns whether it is done or failed."""
        over: str = wait_for(
            lambda: f"the end of {name}; it is {self.state(name)}. The workers: {self.said}",
            lambda: (state := self.state(name)) in ("done", "failed") and state,
            seconds,
        )
        return over

    def wait_for_job(self, job_id: int) -> Job:
        """Waits until a job is over."""
        found: Job = wait_for(
            lambda: f"job {job_id}. The workers said: {self.said}",
            lambda: (job := jobs.get(self.engine, job_id)).is_over and job,
        )
        return found

    def ended_trials(self, name: str) -> int:
        """How many trials have ended."""
        return submissions.get(self.engine, name).ended

    def epochs(self, name: str) -> int:
        """How many epochs its trials have reported together."""
        if submissions.get(self.engine, name).study_id is None:
            return 0
        return sum(len(trial.intermediate_values) for trial in self.study(name).trials)

    def wait_for_epochs(self, name: str, count: int) -> None:
        """Waits until its trials have reported so many epochs together."""
        wait_for(
            lambda: f"{count} epochs of {name}. The workers said: {self.said}",
            lambda: self.epochs(name) >= count,
        )

    def is_shared_well(self) -> bool:
        """Whether no study waits for a worker while another has two."""
        found = submissions.list_all(self.engine)
        waits = any(study.wants_work and not study.workers for study in found)
        return not (waits and any(study.workers > 1 for study in found))

    def study(self, name: str) -> optuna.Study:
        """Optuna's study."""
        return optuna.load_study(study_name=name, storage=open_storage(self.url))

    def files_of(self, job: Job) -> set[str]:
        """The names of the files in the zip that a job made."""
        assert job.sha256 is not None
        content = b"".join(uploads.read(self.engine, job.sha256))
        return set(zipfile.ZipFile(io.BytesIO(content)).namelist())

    def rows(self, query: Select[Any]) -> list[Any]:
        """The rows of a query."""
        with self.engine.connect() as connection:
            return list(connection.execute(query))

    @property
    def said(self) -> list[str]:
        """What each worker has written to stderr."""
        return [process.said for process in self.started]

    def close(self) -> None:
        """Kills the workers that still run."""
        for process in self.started:
            process.kill()
        self.engine.dispose()


def kill_at_random(queue: Queue, *, workers: int, kills: int, seed: int) -> None:
    """Keeps workers at work, and kills one of them again and again, until all studies are done."""
    draws = random.Random(seed)
    living = [queue.start_worker(turn=1) for _ in range(workers)]
    for _ in range(kills):
        time.sleep(draws.uniform(0, 3))
        if all(study.state == "done" for study in submissions.list_all(queue.engine)):
            break
        living.pop(draws.randrange(workers)).kill()
        living.append(queue.start_worker(turn=1))
        wait_for(lambda: f"workers to be shared; they said: {queue.said}", queue.is_shared_well)
    # The last ones stay longer at a study: on a busy machine, a turn of a second is mostly set-up.
    for process in living:
        process.kill()
    living = [queue.start_worker(turn=10) for _ in range(workers)]
    for name in [study.name for study in submissions.list_all(queue.engine)]:
        over = queue.wait_until_over(name, 5 * DEADLINE)
        if over == "failed":  # by chance, all kills met one job
            assert "workers in a row died" in (submissions.get(queue.engine, name).error or "")
            submissions.change(queue.engine, name, state="queued")
            queue.wait_until(name, "done")
    # Before the last ones leave: nobody would remove the rows of those that were killed.
    registered = select(queue_workers.c.process)
    wait_for(
        lambda: f"the living workers alone to be registered; they said: {queue.said}",
        lambda: {row.process for row in queue.rows(registered)} == {each.pid for each in living},
    )
    for worker in living:
        worker.signal(signal.SIGTERM)
    for worker in living:
        assert worker.wait() == 130, worker.said


def check_all_done(queue: Queue, *, trials: int, epochs: int) -> None:
    """Each study has its trials, each whole; it is confirmed, and nothing is left behind."""
    for queued in submissions.list_all(queue.engine):
        study, spec = load_study(open_storage(queue.url), queued.name)
        assert [trial.number for trial in study.trials] == list(range(trials))
        for trial in study.trials:
            assert trial.state == TrialState.COMPLETE
            assert sorted(trial.intermediate_values) == list(range(1, epochs + 1))
        assert is_current(read_decision(study), study, spec)
        assert [job.state for job in jobs.list_all(queue.engine, queued.name)] == ["done"]
    for table in (leases, checkpoints, queue_workers):
        left = queue.rows(select(table))
        assert not left, f"{table.name}: {left}"

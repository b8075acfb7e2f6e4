"""A study that `tune` works on through a real cluster, for soak tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import select

from gru_optuna.attributes import CONFIRMATION_RUNS
from gru_optuna.storage.database.open import open_engine, open_storage
from gru_optuna.storage.database.tables import checkpoints, leases, workers
from gru_optuna.study.confirmation import is_current, read_decision
from gru_optuna.study.study import load_study
from helpers.processes import Lab, wait_for

if TYPE_CHECKING:
    from pathlib import Path

TRIALS, EPOCHS = 40, 500

LIMIT = 3600
"""Seconds for a test, which trains 20,000 epochs: that took ten minutes on two cores that others
used as well. Fewer epochs might be over before a cluster has noticed that a node is dead."""

SETTINGS = (
    f"budget.trials={TRIALS}", "pruner.name=none", "sampler.name=random",
    f"training.epochs={EPOCHS}", "training.patience='off'", "model.hidden_size=64",
    "confirmation.candidates=1", "confirmation.seeds=1",
)  # fmt: skip
"""A study of minutes, whose trials all run to their end."""


class Cluster(Protocol):
    """What a cluster of tests can do."""

    @property
    def environment(self) -> dict[str, str]:
        """What commands need besides the usual."""

    def enter(self, *command: str) -> list[str]:
        """A command that runs in the cluster's network."""


class Tuning:
    """The command, and what it leaves in the database."""

    def __init__(self, cluster: Cluster, on: str, lab: Lab, log: Path) -> None:
        self.cluster, self.on, self.lab, self.log = cluster, on, lab, log
        self.engine = open_engine(lab.url)

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Runs the command in the cluster's network."""
        command = self.cluster.enter(
            sys.executable, "-m", "gru_optuna", "tune", "tiny.toml", "--on", self.on,
            "--workers", "4", "--cpus-per-worker", "1", "--slots", "2", "--lease", "5",
            *(part for setting in SETTINGS for part in ("--set", setting)), *options,
        )  # fmt: skip
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.lab.folder, stdout=log, stderr=log,
                env=os.environ | self.cluster.environment | {
                    "GRU_OPTUNA_STORAGE": self.lab.url, "NO_COLOR": "1",
                },
            )  # fmt: skip

    def close_and_attach(self) -> subprocess.Popen[bytes]:
        """Kills the command, sees its workers go on, and starts it again, which finds them."""
        first = self.start()
        self.wait_for_epochs(100)
        first.kill()
        first.wait()
        self.wait_for_epochs(100)
        again = self.start()
        wait_for("the job to be found", lambda: "started earlier" in self.log.read_text())
        return again

    def interrupt(self, command: subprocess.Popen[bytes]) -> None:
        """Ctrl-C: the command leaves, and can be resumed."""
        command.send_signal(signal.SIGINT)
        code = wait_for(lambda: f"its end: {self.log.read_text()[-2000:]}", command.poll)
        assert code == 130, self.log.read_text()

    def wait_for_the_end(self, command: subprocess.Popen[bytes]) -> None:
        """Waits until the study is done, as long as epochs or runs are trained."""
        before = None
        while command.poll() is None:
            done = self.epochs, self.lab.study.user_attrs.get(CONFIRMATION_RUNS)
            assert done != before, f"nothing was trained for a while: {self.log.read_text()}"
            before = done
            with suppress(subprocess.TimeoutExpired):
                command.wait(300)
        assert command.returncode == 0, self.log.read_text()

    def rows(self, table: Any) -> list[Any]:
        """The rows of one of our tables."""
        with self.engine.connect() as connection:
            return list(connection.execute(select(table)))

    @property
    def epochs(self) -> int:
        """How many epochs all trials have reported together."""
        return sum(len(trial.intermediate_values) for trial in self.lab.trials)

    def wait_for_epochs(self, more: int) -> None:
        """Waits until the workers have trained so many epochs more."""
        before = self.epochs
        wait_for(
            lambda: f"{more} epochs after {before}: {self.epochs}; {self.log.read_text()[-2000:]}",
            lambda: self.epochs >= before + more,
            seconds=300,
        )

    def check_exact(self) -> None:
        """The study has its trials, each once and whole; it is confirmed, and nobody holds one."""
        assert [trial.number for trial in self.lab.trials] == list(range(TRIALS))
        for trial in self.lab.trials:
            assert trial.state.name == "COMPLETE"
            assert sorted(trial.intermediate_values) == list(range(1, EPOCHS + 1))
        study, spec = load_study(open_storage(self.lab.url), "tiny")
        assert is_current(read_decision(study), study, spec)
        for table in (leases, checkpoints, workers):
            assert self.rows(table) == []

"""Workspaces in temporary folders, and the command line in them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

from gru_optuna.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from helpers.processes import Nursery, Process

REPOSITORY = Path(__file__).parents[2]


PLAIN = Hyperparameters(
    hidden_size=16,
    layers=1,
    bidirectional=False,
    pooling="last",
    learning_rate=0.01,
    optimizer="adam",
    decay="constant",
    clip_norm=1.0,
    initializer="xavier_uniform",
    l1=0.0,
    l2=0.0,
    dropout=0.0,
    batch_size=64,
)
"""A trial without anything special, for `replace`."""


TINY_STUDY = """
name = "tiny"
fit_baselines = false
[data]
train = "data/japanese_vowels_train.ts"
test = "data/japanese_vowels_test.ts"
[model]
hidden_size = 8
[search]
learning_rate = { low = 1e-3, high = 3e-2, log = true }
optimizer = "adam"
decay = "constant"
clip_norm = 1.0
initializer = "xavier_uniform"
l1 = 0
l2 = 0
dropout = { low = 0.0, high = 0.4 }
batch_size = 64
[training]
epochs = 3
[budget]
trials = 3
"""
"""A study of seconds on the real data."""


def write_tiny_study(folder: Path, text: str = TINY_STUDY) -> Path:
    """A study file in a folder of its own, beside the real data."""
    folder.mkdir(exist_ok=True)
    (folder / "data").symlink_to(REPOSITORY / "studies" / "data")
    path = folder / "tiny.toml"
    path.write_text(text)
    return path


def empty_cache(folder: Path) -> dict[str, str]:
    """Environment variables of a machine that has no data yet, but has compiled the code."""
    from gru_optuna.training.engines.compiled.compiler import code_folder

    return {"XDG_CACHE_HOME": str(folder), "NUMBA_CACHE_DIR": str(code_folder().parent)}


@dataclass(frozen=True)
class Workspace:
    """A workspace in a temporary folder, and the command line in it."""

    folder: Path
    nursery: Nursery

    def write(self, name: str, text: str) -> Path:
        """Writes a file below the workspace."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, *arguments: object) -> Process:
        """Starts ``gru-optuna`` as a real process, which has nothing left to import."""
        return self.nursery.start(*arguments, folder=self.folder)

    def run(self, *arguments: object) -> CompletedProcess[str]:
        """Runs ``gru-optuna`` to its end, in a process as `start` makes them."""
        process = self.start(*arguments)
        code = process.wait(200)
        return CompletedProcess(arguments, code, process.printed, process.said)

    def environment(self) -> dict[str, str]:
        """One thread a process, no colours, no storage from outside."""
        kept = {key: value for key, value in os.environ.items() if key != "GRU_OPTUNA_STORAGE"}
        return kept | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "120"}

    def run_afresh(self, *arguments: str) -> CompletedProcess[str]:
        """Runs ``gru-optuna`` in an interpreter of its own, as a user's shell does.

        Importing takes it seconds, so one test of each command does so.
        """
        return subprocess.run(
            [sys.executable, "-m", "gru_optuna", *arguments],
            cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=200,
            check=False,
        )  # fmt: skip

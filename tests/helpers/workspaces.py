"""Workspaces in temporary folders, and the command line in them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gru_optuna.hyperparameters import Hyperparameters

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


@dataclass(frozen=True)
class Workspace:
    """A workspace in a temporary folder, and the command line in it."""

    folder: Path

    def write(self, name: str, text: str) -> Path:
        """Writes a file below the workspace."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def environment(self) -> dict[str, str]:
        """One thread a process, no colours, no storage from outside."""
        kept = {key: value for key, value in os.environ.items() if key != "GRU_OPTUNA_STORAGE"}
        return kept | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "120"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts ``gru-optuna`` as a real process."""
        return subprocess.Popen(
            [sys.executable, "-m", "gru_optuna", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs ``gru-optuna`` to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=200)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

"""Measures how much each option slows a trial's training, with one thread on real data.

    python benchmarks/options.py               about two minutes
    python benchmarks/options.py --quick       about twenty seconds
    python benchmarks/options.py --json FILE   the numbers besides

A trial with one option trains next to the same trial without it, epoch by epoch in turns, and the
median of the ratios is shown: above 1 the option is slower. Processor time counts, so that other
work on the machine weighs little. How long a view takes to prepare is shown too.
"""

# ruff: noqa: E402 (threads are set before numpy and torch start theirs)

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from gru_optuna import study_file
from gru_optuna.data.load import load_dataset
from gru_optuna.errors import DataError
from gru_optuna.hyperparameters import Hyperparameters
from gru_optuna.training.engines.cpu import CPUEngine
from gru_optuna.training.pool import Pool

STUDIES = Path(__file__).parent.parent / "studies"

TRIAL = Hyperparameters(
    hidden_size=64, layers=1, bidirectional=False, pooling="last", learning_rate=1e-3,
    optimizer="adam", decay="constant", clip_norm=1.0, initializer="orthogonal", l1=0.0, l2=0.0,
    dropout=0.0, batch_size=32,
)  # fmt: skip

POOLINGS: list[dict[str, Any]] = [{"pooling": "mean"}, {"pooling": "max"}, {"pooling": "mean_max"}]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "japanese-vowels.toml": [
        *POOLINGS,
        {"normalize": "row"},
        {"normalize": "row_stats"},
        {"differences": 1},
        {"differences": 2},
        {"patch": 2},
        {"patch": 4},
        {"patch": 4, "spectrum": True},
        {"jitter": 0.1},
    ],
    "traffic.toml": [
        {"residual": "level"},
        {"residual": "drift"},
        {"residual": "last"},
        {"residual": "none"},
        {"residual": "yearly"},
        {"normalize": "row"},
        {"normalize": "row_stats"},
        {"differences": 1},
        {"log": True},
        {"patch": 4},
    ],
    "movie-snippets.toml": [*POOLINGS, {"token_deletion": 0.1}, {"word_dropout": 0.1}],
}
"""The options of each kind of rows."""


def measure(study: str, option: dict[str, Any], rounds: int) -> dict[str, Any]:
    """The ratio of one option's epochs to those without it, and the time to prepare its view."""
    path = STUDIES / study
    spec = study_file.load(path)
    plain = replace(TRIAL, embedding_size=64) if spec.kind == "texts" else TRIAL
    chosen = [f"data.{key}={json.dumps(value)}" for key, value in option.items()]
    in_data = option.keys() & study_file.DATA_HYPERPARAMETERS
    pools = []
    for overrides in ([], chosen if in_data else []):
        began = time.process_time()
        spec = study_file.load(path, overrides)
        dataset = load_dataset(spec, path.parent)
        pools.append((Pool(spec, dataset, CPUEngine(spec, dataset)), time.process_time() - began))
    (without, before), (with_option, after) = pools
    without.admit(plain, seed=0)
    with_option.admit(replace(plain, **option), seed=0)
    ratios = []
    for number in range(rounds + 1):
        seconds = []
        for pool in (without, with_option):
            began = time.process_time()
            pool.train_epoch()
            seconds.append(time.process_time() - began)
        if number:  # the first epoch allocates the workspaces
            ratios.append(seconds[1] / seconds[0])
    return {"study": study, "option": option, "ratio": median(ratios), "preparing": after - before}


def main() -> None:
    """Measures and prints all options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for study, options in OPTIONS.items():
        for option in options:
            try:
                row = measure(study, option, 2 if arguments.quick else 9)
            except DataError as error:  # traffic has zeros, and less than a year for training
                row = {"study": study, "option": option, "refused": str(error)}
            rows.append(row)
            shown = ", ".join(f"{key} = {value}" for key, value in option.items())
            if "refused" in row:
                print(f"{study:24}{shown:26}{row['refused']}")
            else:
                print(f"{study:24}{shown:26}{row['ratio']:6.2f} x{row['preparing']:8.2f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()

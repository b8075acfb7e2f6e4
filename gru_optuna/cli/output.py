"""Results on standard output: tables, the best configuration, JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gru_optuna.formatting import NONE, format_list, table_lines
from gru_optuna.report.best_text import best_lines, front_lines

if TYPE_CHECKING:
    from gru_optuna.storage.workers.status import WorkerStatus
    from gru_optuna.study.summary import Summary


_MOST_NUMBERS = 12  # trials of a worker; a GPU holds more than a line does


def print_workers(workers: list[WorkerStatus]) -> None:
    """Prints the workers of a study as a table."""
    if not workers:
        print("workers  none")
        return
    print()
    print_table(
        ("worker", "process", "device", "slots", "last beat", "epochs/s", "trials"),
        [
            (
                worker.host,
                str(worker.process),
                worker.device,
                str(worker.slots),
                f"{worker.last_beat_seconds:.0f} s ago{', silent' if worker.silent else ''}",
                f"{worker.epochs_per_second:.1f}",
                format_list(worker.trials, _MOST_NUMBERS, last=", ") or NONE,
            )
            for worker in workers
        ],
    )


def print_best(summary: Summary) -> None:
    """Prints the best configuration as text."""
    for line in best_lines(summary):
        print(line)


def print_front(summary: Summary) -> None:
    """Prints the front of a study with two goals."""
    for line in front_lines(summary):
        print(line)


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Prints aligned columns."""
    for line in table_lines(header, rows):
        print(line)


def print_json(content: object) -> None:
    """Prints JSON for programs."""
    print(json.dumps(content, indent=2, ensure_ascii=False))

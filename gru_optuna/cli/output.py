"""Results on standard output: tables, the best configuration, JSON."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gru_optuna.storage.workers.status import WorkerStatus
    from gru_optuna.study.confirmation import Confirmation
    from gru_optuna.study.summary import Summary, Winner


_MOST_NUMBERS = 12


def print_workers(workers: list[WorkerStatus]) -> None:
    """Who works on a study, for people."""
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
                _shown_numbers(worker.trials),
            )
            for worker in workers
        ],
    )


def _shown_numbers(numbers: tuple[int, ...]) -> str:
    """Of trials; a GPU holds more than a line does."""
    more = f" and {len(numbers) - _MOST_NUMBERS} more" if len(numbers) > _MOST_NUMBERS else ""
    return (", ".join(map(str, numbers[:_MOST_NUMBERS])) or "–") + more


def print_best(summary: Summary) -> None:
    """The best configuration, for people."""
    from gru_optuna.cli.progress.messages import value as metric_value

    winner = summary.best
    assert winner is not None
    trials = summary.trials
    ended = trials["complete"] + trials["pruned"] + trials["failed"]
    print(f"{summary.study}: {ended} trials, {trials['pruned']} pruned, {trials['failed']} failed")
    print(
        f"best validation {summary.metric} {metric_value(winner.value)} "
        f"(trial {winner.number}, epoch {winner.best_epoch})"
    )
    if winner.confirmed is not None:
        _print_confirmed(winner.confirmed, summary.metric)
    if summary.baselines:
        named = (f"{name} {metric_value(value)}" for name, value in summary.baselines.items())
        print(f"to beat: {', '.join(named)}")
    configuration = winner.configuration()
    width = max(map(len, configuration)) + 1
    for key, value in configuration.items():
        mark = "" if key in winner.params else "  (fixed)"
        print(f"  {key:<{width}} {shown_number(value)}{mark}")


def _print_confirmed(found: Confirmation, metric: str) -> None:
    """What is left of the best of many on fresh seeds, and the look at the test."""
    from gru_optuna.cli.progress.messages import value as metric_value

    won, first = found.won, found.candidates[0]
    assert won.mean is not None
    if first is not won:
        print(f"the search's best was trial {first.number} with {metric_value(first.search_value)}")
    good = sum(value is not None for value in won.values)
    fresh = f"mean of {good} fresh seeds" if good > 1 else "one fresh seed"
    print(
        f"confirmed validation {metric} {metric_value(won.mean)} ({_between(won.interval)}{fresh})"
    )
    if found.test is None:
        print("no test rows: how it does on rows that chose nothing is not known")
        return
    uses = "" if found.test_uses == 1 else f"; test rows looked at {found.test_uses} times"
    value, between = metric_value(found.test.value), _between(found.test.interval)
    print(f"test {metric} {value} ({between}same networks{uses})")


def _between(interval: list[float] | None) -> str:
    from gru_optuna.cli.progress.messages import value

    return (
        "" if interval is None else f"95 % interval {value(interval[0])} to {value(interval[1])}, "
    )


def shown_value(winner: Winner | None, metric: str) -> str:
    """A winner's value in one line."""
    if winner is None:
        return "–"
    test = f", test {winner.test:.4f}" if winner.test is not None else ""
    return f"{metric} {winner.value:.4f} (trial {winner.number}{test})"


def shown_number(value: object) -> str:
    """A hyperparameter as a person reads it."""
    return f"{value:.6g}" if isinstance(value, float) else str(value).lower()


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns, aligned."""
    widths = [max(_width(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        cells = (cell + " " * (w - _width(cell)) for cell, w in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _width(text: str) -> int:
    """Columns of a terminal: signs of East Asian scripts take two."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def print_json(content: object) -> None:
    """JSON for programs, on stdout."""
    print(json.dumps(content, indent=2, ensure_ascii=False))

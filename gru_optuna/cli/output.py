"""Results on standard output: tables, the best configuration, JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gru_optuna.formatting import (
    NONE,
    format_list,
    format_measured,
    format_metric,
    format_value,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.storage.workers.status import WorkerStatus
    from gru_optuna.study.confirmation import Decision
    from gru_optuna.study.summary import Summary, Winner


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
    winner = summary.best
    assert winner is not None
    for sentence in (compared := summary.compared()):
        print(sentence)
    if compared:
        print()
    trials = summary.trials
    ended = trials["complete"] + trials["pruned"] + trials["failed"]
    print(f"{summary.study}: {ended} trials, {trials['pruned']} pruned, {trials['failed']} failed")
    found = f"{format_metric(winner.value)} (trial {winner.number}, epoch {winner.best_epoch})"
    if winner.confirmed is None or winner.confirmed.candidates[0].number == winner.number:
        print(f"best validation {summary.metric} {found}")
    else:
        first = winner.confirmed.candidates[0]
        print(
            f"validation {summary.metric} in the search {found}; trial {first.number} had "
            f"{format_metric(first.search_value)}, and fresh seeds decided"
        )
    if winner.confirmed is not None:
        _print_confirmed(winner.confirmed, summary.metric)
        if winner.intervals is not None and (held := winner.intervals.in_words()):
            print(held)
    else:
        print(f"not confirmed on fresh seeds: {winner.unconfirmed}")
    if summary.baselines:
        named = (f"{name} {format_metric(value)}" for name, value in summary.baselines.items())
        print(f"to beat: {', '.join(named)}")
    _print_fitted(summary)
    print_front(summary)
    print(f"trial {winner.number}, the best single configuration:")
    configuration = winner.configuration()
    width = max(map(len, configuration)) + 1
    for key, value in configuration.items():
        mark = "" if key in winner.params else "  (fixed)"
        print(f"  {key:<{width}} {format_value(value)}{mark}")


def print_front(summary: Summary) -> None:
    """Prints the front of a study with two goals: trials that no other one beats in both."""
    if not summary.front:
        return
    print()
    print_table(
        ("front", "parameters", summary.metric, "confirmed", "95% interval"),
        [
            (
                f"trial {member.number}",
                f"{member.network_parameters:,}",
                format_metric(member.value),
                *mean_and_interval(member.mean, member.interval),
            )
            for member in summary.front
        ],
    )
    print()


def _print_fitted(summary: Summary) -> None:
    """The simple models that were fitted, before they are tested; and what isn't there."""
    fitted = summary.fitted_baselines
    if fitted is None:
        return
    if fitted.models and not fitted.tested():
        named = (f"{model.name} {format_metric(model.validation)}" for model in fitted.models)
        print(f"simple models on the validation rows: {', '.join(named)}")
    for sentence in fitted.about_fit():
        print(f"simple models: {sentence[0].lower()}{sentence[1:]}")


def _print_confirmed(found: Decision, metric: str) -> None:
    """Prints the winner's mean on fresh seeds, and its value on the test rows."""
    won = found.won
    assert won.mean is not None
    good = sum(value is not None for value in won.values)
    fresh = f"mean of {good} fresh seeds" if good > 1 else "one fresh seed"
    print(f"confirmed validation {metric} {_measured(won.mean, won.interval, fresh)}")
    if found.test is None:
        print("no test rows: its value on rows that weren't used to choose it is unknown")
        return
    uses = "" if found.test_uses == 1 else f"; test rows used {found.test_uses} times"
    test, one = found.test, f"one network{uses}"
    if test.ensemble is not None:
        who = f"ensemble of {found.members.in_words()}"
        print(f"test {metric} {_measured(test.ensemble['value'], test.ensemble['interval'], who)}")
    print(f"test {metric} {_measured(test.value, test.interval, one)}")


def mean_and_interval(mean: float | None, interval: Sequence[float] | None) -> tuple[str, str]:
    """Two cells of a table."""
    shown, ends = (NONE, None) if mean is None else format_measured(mean, interval)
    return shown, ends or NONE


def _measured(value: float, interval: list[float] | None, of: str) -> str:
    """A value, its interval, and what it was measured of."""
    shown, ends = format_measured(value, interval)
    return f"{shown} ({of})" if ends is None else f"{shown} (95% interval {ends}, {of})"


def shown_value(winner: Winner | None, metric: str) -> str:
    """A winner's value in one line."""
    if winner is None:
        return NONE
    test = f", test {format_metric(winner.test)}" if winner.test is not None else ""
    return f"{metric} {format_metric(winner.value)} (trial {winner.number}{test})"


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Prints aligned columns."""
    rows = [tuple(visible(cell, keep="") for cell in row) for row in rows]
    widths = [max(_width(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        cells = (cell + " " * (w - _width(cell)) for cell, w in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _width(text: str) -> int:
    """Columns of a terminal that a text takes: East Asian characters take two."""
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def print_json(content: object) -> None:
    """Prints JSON for programs."""
    print(json.dumps(content, indent=2, ensure_ascii=False))

"""The best configuration of a study as text, as `best` and `tune` print it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.formatting import NONE, format_measured, format_metric, format_value, table_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gru_optuna.study.confirmation import Decision
    from gru_optuna.study.summary import Summary, Winner


def best_lines(summary: Summary) -> Iterator[str]:
    """The best configuration, as `best` and `tune` print it."""
    winner = summary.best
    assert winner is not None
    yield from (compared := summary.compared())
    if compared:
        yield ""
    trials = summary.trials
    ended = trials["complete"] + trials["pruned"] + trials["failed"]
    yield f"{summary.study}: {ended} trials, {trials['pruned']} pruned, {trials['failed']} failed"
    found = f"{format_metric(winner.value)} (trial {winner.number}, epoch {winner.best_epoch})"
    if winner.confirmed is None or winner.confirmed.candidates[0].number == winner.number:
        yield f"best validation {summary.metric} {found}"
    else:
        first = winner.confirmed.candidates[0]
        yield (
            f"validation {summary.metric} in the search {found}; trial {first.number} had "
            f"{format_metric(first.search_value)}, and fresh seeds decided"
        )
    if winner.confirmed is not None:
        yield from _confirmed_lines(winner.confirmed, summary.metric)
        if winner.intervals is not None and (held := winner.intervals.in_words()):
            yield held
    else:
        yield f"not confirmed on fresh seeds: {winner.unconfirmed}"
    if summary.baselines:
        named = (f"{name} {format_metric(value)}" for name, value in summary.baselines.items())
        yield f"to beat: {', '.join(named)}"
    yield from _fitted_lines(summary)
    yield from front_lines(summary)
    yield f"trial {winner.number}, the best single configuration:"
    configuration = winner.configuration()
    width = max(map(len, configuration)) + 1
    for key, value in configuration.items():
        mark = "" if key in winner.params else "  (fixed)"
        yield f"  {key:<{width}} {format_value(value)}{mark}"


def front_lines(summary: Summary) -> Iterator[str]:
    """The front of a study with two goals: trials that no other one beats in both."""
    if not summary.front:
        return
    yield ""
    yield from table_lines(
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
    yield ""


def _fitted_lines(summary: Summary) -> Iterator[str]:
    """The simple models that were fitted, before they are tested; and what isn't there."""
    fitted = summary.fitted_baselines
    if fitted is None:
        return
    if fitted.models and not fitted.tested():
        named = (f"{model.name} {format_metric(model.validation)}" for model in fitted.models)
        yield f"simple models on the validation rows: {', '.join(named)}"
    for sentence in fitted.about_fit():
        yield f"simple models: {sentence[0].lower()}{sentence[1:]}"


def _confirmed_lines(found: Decision, metric: str) -> Iterator[str]:
    """The winner's mean on fresh seeds, and its value on the test rows."""
    won = found.won
    assert won.mean is not None
    good = sum(value is not None for value in won.values)
    fresh = f"mean of {good} fresh seeds" if good > 1 else "one fresh seed"
    yield f"confirmed validation {metric} {_measured(won.mean, won.interval, fresh)}"
    if found.test is None:
        yield "no test rows: its value on rows that weren't used to choose it is unknown"
        return
    uses = "" if found.test_uses == 1 else f"; test rows used {found.test_uses} times"
    test, one = found.test, f"one network{uses}"
    if test.ensemble is not None:
        who = f"ensemble of {found.members.in_words()}"
        yield f"test {metric} {_measured(test.ensemble['value'], test.ensemble['interval'], who)}"
    yield f"test {metric} {_measured(test.value, test.interval, one)}"


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

"""Draws a running ``tune`` as text that fits the terminal.

Every line fits, so that nothing wraps: a terminal of 60 columns or 10 lines shows less, not worse.
No line ends in spaces: when a window becomes narrower, the terminal would wrap those too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from gru_optuna.cli.progress.messages import COMPILING, engine, headline, sparkline
from gru_optuna.formatting import format_duration, format_estimate, format_metric, format_rate
from gru_optuna.report.trials import STATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from gru_optuna.cli.progress.run_state import RunState, Trial

_STYLES = {"complete": "green", "pruned": "dim", "failed": "red"}
_MOST_RUNNING = 16
_MOST_OVER = 6
_WIDEST_BAR = 40
_WIDEST_CURVE = 40
_NARROWEST_CURVE = 8
_GAP = "  "


def draw(
    tally: RunState, notices: Sequence[str], width: int, height: int, *, last: bool = False
) -> RenderableType:
    """Draws a run as it is now.

    Parameters
    ----------
    tally
        The state of the run.
    notices
        Recent unusual events in sentences, the newest last.
    width, height
        The size of the terminal in characters.
    last
        Whether this is the last drawing, without running trials and the time that is left.
    """
    # A terminal scrolls when its last line is written to its end.
    room = height - 1
    # Before the first trial, the preparation is all there is to see.
    full = room >= 14 or not (tally.slots or tally.over)
    head = _head(tally, width, last, full=full)
    room -= len(head)
    below = (
        [Text(words, "yellow") for words in list(notices)[-max(1, room // 4) :]] if room > 2 else []
    )
    room -= len(below)
    trials = _trials(tally, width, room, last) if room >= 3 else []
    lines = [*head, *trials, *below]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Group(*lines)


def _head(tally: RunState, width: int, last: bool, *, full: bool) -> list[Text]:
    assert tally.opening is not None
    name, rest = headline(tally.opening)
    lines = [Text.assemble((name, "bold"), (f": {rest}", "dim"))]
    if full and (team := _team(tally)):
        lines.append(Text(team, "dim"))
    lines += [_progress(tally, width, last), _numbers(tally)]
    if full:
        lines.append(Text())
    return lines


def _team(tally: RunState) -> str:
    """How many workers train, and in how many threads and slots."""
    assert tally.opening is not None
    workers = tally.opening.workers
    run = f"{len(tally.workers)} of {workers}"
    if tally.engine is None:  # it is compiled, or those of the workers' own nodes are
        placed = f"{run} workers run" if tally.workers else ""
        return COMPILING if tally.opening.compiles else placed
    words = engine(tally.engine, workers)
    return f"{words}; {run} run" if workers > 1 else words


def _progress(tally: RunState, width: int, last: bool) -> Text:
    """How much of the budget is used, and how long the rest will take."""
    words = f"{tally.ended}{f'/{tally.limit}' if tally.limit else ''} trials"
    seconds, share = tally.seconds_left(), tally.share()
    if last:
        words += f"  in {format_duration(tally.elapsed())}" if tally.began else ""
    elif seconds is not None and share is not None and share < 1:
        words += f"  {format_estimate(seconds)} left"
    if share is None:
        return Text(words)
    columns = min(_WIDEST_BAR, width - len(words) - 2)
    return Text.assemble(_bar(share, columns), "  ", words) if columns >= 8 else Text(words)


def _bar(share: float, columns: int) -> Text:
    full = round(share * columns)
    return Text.assemble(("━" * full, "green"), ("─" * (columns - full), "dim"))


def _numbers(tally: RunState) -> Text:
    line = Text()
    if tally.best is not None:
        best, number = tally.best
        line.append(f"best {format_metric(best)}", "bold green")
        line.append(f" (trial {number})  ")
    line.append(f"{tally.pruned} pruned  ")
    if tally.failed:
        line.append(f"{tally.failed} failed  ", "red")
    if epochs := tally.epochs_per_second():
        line.append(f"{format_rate(epochs)} epochs/s  ")
    if trials := tally.trials_per_minute():
        line.append(f"{format_rate(trials)} trials/min")
    return line


def _trials(tally: RunState, width: int, room: int, last: bool) -> list[Text]:
    """The table: the last trials that ended, and below them those in training, in their places."""
    assert tally.opening is not None
    rows = room - 1  # the heads of the columns
    running = [] if last else tally.running[:_MOST_RUNNING]
    more = 0 if last else len(tally.running) - len(running)
    if len(running) + bool(more) > rows:
        running = running[: rows - 1]
        more = len(tally.running) - len(running)
    free = rows - len(running) - bool(more)
    # When trials end one after the other, the number of rows stays the same, so nothing jumps.
    over = list(tally.over)[-min(_MOST_OVER, free) :] if free > 0 else []
    if not running and not over:
        return []
    shown = [*over, *running]
    cells = [("trial", "state", str(tally.opening.spec.metric), "epoch")]
    cells += [_cells(trial, tally) for trial in shown]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    scale, columns = _scale(shown), min(_WIDEST_CURVE, width - sum(widths) - 4 * len(_GAP))
    lines = [Text(_aligned(cells[0], widths) + _GAP + "curve", "dim")]
    for trial, row in zip(shown, cells[1:], strict=True):
        curve = sparkline(trial.curve, columns, scale) if columns >= _NARROWEST_CURVE else ""
        lines.append(Text((_aligned(row, widths) + _GAP + curve).rstrip(), _style(trial, tally)))
    if more:
        lines.append(Text(" " * widths[0] + _GAP + f"and {more} more", "dim"))
    return lines


def _scale(shown: Sequence[Trial]) -> tuple[float, float] | None:
    """The lowest and the highest value that curves are drawn to; a few outliers are clipped."""
    values = sorted(value for trial in shown for value in trial.curve)
    if not values:
        return None
    outside = len(values) // 10
    return values[outside], values[-1 - outside // 2]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """A row of the table: numbers stand at the right of their columns, and states at the left."""
    return _GAP.join(
        cell.ljust(width) if column == 1 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )


def _cells(trial: Trial, tally: RunState) -> tuple[str, str, str, str]:
    assert tally.opening is not None
    if trial.ended is None:
        most = tally.opening.spec.training.epochs
        return str(trial.number), "training", format_metric(trial.value), f"{trial.epochs}/{most}"
    is_best = tally.best is not None and tally.best[1] == trial.number
    state = "best" if is_best else STATES[trial.ended.state]
    return str(trial.number), state, format_metric(trial.value), str(trial.epochs)


def _style(trial: Trial, tally: RunState) -> str:
    if trial.ended is None:
        return ""
    if tally.best is not None and tally.best[1] == trial.number:
        return "bold green"
    return _STYLES[STATES[trial.ended.state]]

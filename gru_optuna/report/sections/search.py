"""How the search went: history, what pruning saved, workers and slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.report.figures.history import draw_best_by_time, draw_history
from gru_optuna.report.figures.savings import draw_savings
from gru_optuna.report.figures.timeline import draw_timeline
from gru_optuna.report.numbers.history import best_by_time, history
from gru_optuna.report.numbers.timeline import timeline
from gru_optuna.report.scales import duration
from gru_optuna.report.sections.base import Panel, Section

if TYPE_CHECKING:
    from gru_optuna.report.sections.base import Context

GROUP = "How the search went"


def history_section(context: Context) -> Section:
    """Values by trial and by time."""
    points, steps = history(context.study), best_by_time(context.study)
    caption = (
        f"Each mark is a trial, in the order they began; {context.better} is better. A pruned "
        f"trial (cross) stands at its last epoch's value, a failed one (triangle) has none. The "
        f"line is the best complete trial so far; below, the same against the time worked."
    )
    missing = None if points else "No trial is over yet."
    panels = []
    if points:
        best = points[-1].best
        reached = f"; the best is {context.show(best)}" if best is not None else ""
        panels = [Panel(draw_history(points, context.spec), f"{len(points)} trials{reached}.")]
    if steps:
        alt = f"The best value after {duration(steps[-1].seconds)}: {context.show(steps[-1].best)}."
        panels.append(Panel(draw_best_by_time(steps, context.spec), alt))
    numbers = {"trials": points, "by_time": steps}
    return Section(
        "optimization_history",
        "Optimization history",
        "History",
        GROUP,
        caption,
        numbers,
        panels,
        missing,
    )


def savings_section(context: Context) -> Section:
    """Epochs that were run and that weren't."""
    numbers = context.savings
    if numbers is None:
        missing = "Nothing to compare: no trial was pruned, or none is complete."
        return Section("savings", "What pruning saved", "Pruning", GROUP, "", None, [], missing)
    caption = (
        f"{numbers.run:,} epochs were run, about {numbers.unpruned:,.0f} would have been without "
        f"pruning: {numbers.saved:.0%} less. That takes each of the {numbers.pruned:,} pruned "
        f"trials for as long as complete ones are on average, {numbers.typical:.1f} of at most "
        f"{numbers.most} epochs; what one of them would have become, nobody knows."
    )
    panels = [Panel(draw_savings(numbers), f"{numbers.saved:.0%} of the epochs were saved.")]
    return Section("savings", "What pruning saved", "Pruning", GROUP, caption, numbers, panels)


def timeline_section(context: Context) -> Section:
    """Who trained what when."""
    numbers = timeline(context.study)
    if not numbers.bars:
        missing = "No trial has begun."
        return Section("timeline", "Workers and slots", "Workers", GROUP, "", None, [], missing)
    slots = sum(numbers.workers.values())
    pauses = (
        f" {len(numbers.pauses)} pause{'s' if len(numbers.pauses) > 1 else ''} in which nobody "
        f"trained, {duration(sum(pause.seconds for pause in numbers.pauses))} in all, "
        f"{'are' if len(numbers.pauses) > 1 else 'is'} cut out."
        if numbers.pauses
        else ""
    )
    caption = (
        f"A row for each slot, a bar for each trial: {slots} slots were busy for "
        f"{numbers.occupied:.0%} of {duration(numbers.seconds)}.{pauses} A trial that was taken "
        f"over stands with the worker that ended it."
    )
    alt = f"{len(numbers.bars)} trials in {slots} slots of {len(numbers.workers)} workers."
    panels = [Panel(draw_timeline(numbers), alt)]
    return Section("timeline", "Workers and slots", "Workers", GROUP, caption, numbers, panels)

"""What matters: importance, and the trials over all parameters, two, and one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.report.figures.importance import draw_importance
from gru_optuna.report.figures.interactions import draw_pair
from gru_optuna.report.figures.parallel import (
    AXIS_WIDTH,
    LINES,
    SLICE_POINTS,
    draw_parallel_coordinates,
    draw_slice,
)
from gru_optuna.report.numbers.importance import STEADY_TRIALS
from gru_optuna.report.numbers.interactions import interactions
from gru_optuna.report.numbers.parallel import ABSENT, parallel_coordinates, slices
from gru_optuna.report.sections.base import Panel, Section

if TYPE_CHECKING:
    from gru_optuna.report.sections.base import Context

GROUP = "What matters"


def importance_section(context: Context) -> Section:
    """Both importances, and why they differ."""
    numbers = context.importance
    hint = (
        f" Among {numbers.trials} trials the best tenth is only a few, so take it as a hint."
        if numbers.trials < STEADY_TRIALS
        else ""
    )
    fewer = (
        f" fANOVA read {numbers.fanova_trials:,} of the {numbers.trials:,} trials, evenly chosen."
        if numbers.fanova_trials < numbers.trials
        else ""
    )
    caption = (
        f"Two questions to the {numbers.trials:,} complete trials. The thick bar (PED-ANOVA): "
        f"which parameters set the best tenth of the trials apart? The thin one (fANOVA): which "
        f"move the {context.spec.metric} at all, over the whole range searched? A parameter that "
        f"ruins trials at one end of its range, and makes no difference among the good ones, has "
        f"a long thin bar and a short thick one. fANOVA knows only parameters that every trial "
        f"has. Each kind of bar makes 100 % together.{hint}{fewer}"
    )
    alt = "Importance: " + ", ".join(
        f"{name} {share:.0%}" for name, share in numbers.shares.items() if share >= 0.01
    )
    panels = [] if numbers.missing else [Panel(draw_importance(numbers), alt)]
    return Section(
        "importance", "Importance", "Importance", GROUP, caption, numbers, panels, numbers.missing
    )


def parallel_section(context: Context) -> Section:
    """All complete trials at once."""
    lines = parallel_coordinates(context.study, context.spec)
    missing = _nothing_complete(len(lines.numbers), len(lines.columns) - 1)
    thinned = (
        f" Of more than {LINES:,} trials, an even selection is drawn."
        if len(lines.numbers) > LINES
        else ""
    )
    caption = (
        f"Each line is a complete trial; the darker it is on a light page, the brighter on a dark "
        f"one, the better its rank by {context.spec.metric}. Drag along an axis to keep only the "
        f"trials that pass there, click the axis to let go, drag a name to move its axis. A line "
        f"through “{ABSENT}” has no such parameter: its decay is another one.{thinned}"
    )
    panels = []
    if not missing:
        alt = f"{len(lines.numbers)} trials over {len(lines.columns) - 1} parameters."
        width = AXIS_WIDTH * len(lines.columns)
        figure = draw_parallel_coordinates(lines, context.spec, context.best)
        panels = [Panel(figure, alt, min_width=width)]
    return Section(
        "parallel_coordinates",
        "Parallel coordinates",
        "Parallel",
        GROUP,
        caption,
        lines,
        panels,
        missing,
    )


def interactions_section(context: Context) -> Section:
    """The most important parameters in pairs."""
    pairs = interactions(context.study, context.spec, list(context.importance.shares))
    surfaces = [pair.surface for pair in pairs if pair.surface]
    model = (
        " The colour between them is what a random forest expects there, averaged over the other "
        "parameters; the percentage, how much of it the two do together and neither alone "
        "(Friedman's H²)."
        if surfaces
        else ""
    )
    caption = (
        f"The most important parameters in pairs. Each dot is a complete trial, coloured by its "
        f"rank as above; the diamond is the winner.{model}"
    )
    panels = [
        Panel(
            draw_pair(pair, context.spec, context.best),
            f"{pair.x.name} and {pair.y.name}, {len(pair.numbers)} trials.",
            f"{pair.x.name} × {pair.y.name}"
            + (f", together {pair.surface.together:.0%}" if pair.surface else ""),
        )
        for pair in pairs
    ]
    missing = (
        None if pairs else "There are no two parameters to pair in complete trials that differ."
    )
    return Section(
        "interactions", "Two at a time", "Pairs", GROUP, caption, pairs, panels, missing, small=True
    )


def slices_section(context: Context) -> Section:
    """Each parameter alone."""
    cuts = slices(context.study, context.spec)
    lines = parallel_coordinates(context.study, context.spec)
    missing = _nothing_complete(len(lines.numbers), len(cuts))
    thinned = (
        f" Of more than {SLICE_POINTS:,} trials, an even selection is drawn."
        if len(lines.numbers) > SLICE_POINTS
        else ""
    )
    caption = (
        f"Each panel sets one parameter against the validation {context.spec.metric} of the "
        f"complete trials; the diamond is the winner. Trials of one category are spread "
        f"sideways, to be seen. A slope or a hill says that the parameter matters, a good value at "
        f"the edge that the range may be too narrow.{thinned}"
    )
    metric = lines.columns[-1].scale
    panels = [
        Panel(
            draw_slice(cut, metric, context.best),
            f"{cut.scale.name} against {context.spec.metric}, {len(cut.numbers)} trials.",
            cut.scale.name,
        )
        for cut in ([] if missing else cuts)
    ]
    return Section(
        "slices", "One at a time", "Slices", GROUP, caption, cuts, panels, missing, small=True
    )


def _nothing_complete(complete: int, searched: int) -> str | None:
    if not complete:
        return "No trial is complete yet."
    return None if searched else "Nothing was searched: every hyperparameter is fixed."

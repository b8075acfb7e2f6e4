"""The winner beside what it had to beat, each on a line, with a bar where it isn't sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gru_optuna.report.figures.base import Panel, Section, canvas, plain
from gru_optuna.report.theme import BEST, COMPLETE, GRID, INK, PAPER, PRUNED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import plotly.graph_objects as go

    from gru_optuna.report.figures.base import Context
    from gru_optuna.report.result import Estimate, Result
    from gru_optuna.study_file import Specification


@dataclass(frozen=True)
class Mark:
    """One value."""

    name: str
    kind: Literal["baseline", "validation", "test"]
    value: float
    interval: tuple[float, float] | None
    shown: str  # the value as text
    text: str  # all of it


def compare(answer: Result, spec: Specification, show: Callable[[float], str]) -> list[Mark]:
    """The values to beat from the worst to the best, then the winner's own.

    Parameters
    ----------
    answer
        Of the study.
    spec
        Its metric.
    show
        A value of the metric as text.
    """
    rows = "test rows" if spec.data.test is not None else "validation rows"
    best_last = sorted(
        answer.baselines.items(), key=lambda one: one[1], reverse=spec.direction == "minimize"
    )
    marks = [
        Mark(name, "baseline", value, None, show(value), f"{name}: {show(value)} ({rows})")
        for name, value in best_last
    ]
    if answer.start:
        name = f"median of the first {answer.start.trials} trials"
        value = answer.start.median
        marks.append(Mark(name, "validation", value, None, show(value), f"{name}: {show(value)}"))
    name = "winner, validation, in the search" if answer.confirmed else "winner, validation"
    marks.append(_mark(name, "validation", answer.validation, show))
    if answer.confirmation and answer.confirmed:
        name = f"winner, validation, {answer.confirmation.seeds} fresh seeds"
        marks.append(_mark(name, "validation", answer.confirmed, show))
    if answer.test:
        marks.append(_mark("winner, test", "test", answer.test, show))
    return marks


def _mark(
    name: str,
    kind: Literal["validation", "test"],
    estimate: Estimate,
    show: Callable[[float], str],
) -> Mark:
    interval = estimate.interval
    sure = f", 95 % interval {show(interval[0])} to {show(interval[1])}" if interval else ""
    shown = show(estimate.value)
    return Mark(name, kind, estimate.value, interval, shown, f"{name}: {shown}{sure}")


LOG_RATIO = 4.0

_COLOURS = {"baseline": PRUNED, "validation": COMPLETE, "test": BEST}


def draw_comparison(marks: Sequence[Mark], spec: Specification) -> go.Figure:
    """The worst on top, the test value last."""
    figure = canvas(
        64 + 46 * len(marks), showlegend=False, margin={"l": 8, "t": 8, "b": 44, "r": 16}
    )
    for row, mark in enumerate(marks):
        colour = _COLOURS[mark.kind]
        # Names lie above their lines: beside them they would take half of a small screen.
        figure.add_annotation(
            text=_label(mark),
            x=0,
            xref="paper",
            xanchor="left",
            y=row,
            yshift=16,
            showarrow=False,
            font={"size": 13, "color": INK},
        )
        if mark.interval:
            figure.add_scatter(
                x=list(mark.interval),
                y=[row, row],
                mode="lines",
                line={"color": colour, "width": 7},
                opacity=0.35,
                hoverinfo="skip",
            )
        figure.add_scatter(
            x=[mark.value],
            y=[row],
            mode="markers",
            marker={
                "size": 13,
                "symbol": "diamond" if mark.kind == "test" else "circle",
                "color": PAPER if mark.kind == "baseline" else colour,
                "line": {"color": colour, "width": 2.5},
            },
            text=[plain(mark.text)],
            hovertemplate="%{text}<extra></extra>",
        )
    values = [mark.value for mark in marks]
    # One hopeless prediction would push all others together.
    wide = spec.direction == "minimize" and 0 < LOG_RATIO * min(values) < max(values)
    figure.update_xaxes(
        type="log" if wide else "linear",
        dtick="D1" if wide else None,
        title=f"{spec.metric}, {'more' if spec.direction == 'maximize' else 'less'} is better",
        tickformat="~g",
        showgrid=True,
        ticks="",
    )
    return figure.update_yaxes(
        range=[len(marks) - 0.6, -0.75],
        tickvals=list(range(len(marks))),
        showticklabels=False,
        gridcolor=GRID,
    )


def _label(mark: Mark) -> str:
    """The name, cut where a small screen would cut it, and the value."""
    name = mark.name if len(mark.name) <= 44 else f"{mark.name[:43]}…"
    return f"{plain(name)}  <b>{mark.shown}</b>"


def comparison_section(context: Context, result: Result | None) -> list[Section]:
    """Values to beat, where the search began, and what came of it."""
    if result is None:
        return []
    marks = compare(result, context.spec, context.show)
    figure = draw_comparison(marks, context.spec)
    caption = (
        "Rings are values to beat, circles what validation rows say, the diamond what test rows "
        "say. A bar is the 95 % interval, over rows or, with fresh seeds, over seeds. What the "
        "search saw is flattered by the choice among many, and no bar tells by how much."
    )
    alt = "; ".join(mark.text for mark in marks)
    return [
        Section("standing", "Against what", "Against", "", caption, marks, [Panel(figure, alt)])
    ]

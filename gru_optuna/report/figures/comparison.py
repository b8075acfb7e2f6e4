"""The winner's values next to those it had to beat, each on a line, with its interval as a bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gru_optuna.formatting import format_metric
from gru_optuna.report.figures.base import Panel, canvas, plain, section
from gru_optuna.report.theme import BEST, COMPLETE, GRID, PAPER, PRUNED, STYLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go

    from gru_optuna.report.figures.base import Context, FigureSection
    from gru_optuna.report.result import Estimate, Result
    from gru_optuna.study_file import Specification


@dataclass(frozen=True)
class Mark:
    """One value on its line."""

    name: str
    kind: Literal["baseline", "validation", "test"]
    value: float
    interval: tuple[float, float] | None
    shown: str  # the value as text
    text: str  # name, value and interval as text


def compare(result: Result, spec: Specification) -> list[Mark]:
    """The values to beat from the worst to the best, then the winner's own."""
    rows = "test rows" if spec.data.test is not None else "validation rows"
    best_last = sorted(
        result.baselines.items(), key=lambda item: item[1], reverse=spec.direction == "minimize"
    )
    marks = [_mark(name, "baseline", value, f" ({rows})") for name, value in best_last]
    if result.start and result.start.later is not None:
        name = f"best of the first {result.start.trials} trials"
        marks.append(_mark(name, "validation", result.start.best))
    name = "winner, validation, in the search" if result.confirmed else "winner, validation"
    marks.append(_winner_mark(name, "validation", result.validation))
    if result.confirmation and result.confirmed:
        name = f"winner, validation, {result.confirmation.seeds} fresh seeds"
        marks.append(_winner_mark(name, "validation", result.confirmed))
    if result.test:
        name = "one network, test" if result.ensemble else "winner, test"
        marks.append(_winner_mark(name, "test", result.test))
    if result.ensemble:
        marks.append(_winner_mark("ensemble, test", "test", result.ensemble))
    return marks


def _mark(
    name: str,
    kind: Literal["baseline", "validation", "test"],
    value: float,
    note: str = "",
) -> Mark:
    shown = format_metric(value)
    return Mark(name, kind, value, None, shown, f"{name}: {shown}{note}")


def _winner_mark(name: str, kind: Literal["validation", "test"], estimate: Estimate) -> Mark:
    note = f", {estimate.sureness}" if estimate.interval else ""
    text = f"{name}: {estimate.shown}{note}"
    return Mark(name, kind, estimate.value, estimate.interval, estimate.shown, text)


LOG_RATIO = 4.0
"""A log axis is used if the worst value is at least this many times the best: on a linear one, a
hopeless baseline would push all others together."""

_COLOURS = {"baseline": PRUNED, "validation": COMPLETE, "test": BEST}
_MEASURED_ON = {"validation": "measured on validation rows", "test": "measured on test rows"}


def draw_comparison(marks: Sequence[Mark], spec: Specification) -> go.Figure:
    """The worst value to beat is at the top, the test value at the bottom."""
    figure = canvas(96 + 46 * len(marks), margin={"l": 8, "t": 40, "b": 44, "r": 16})
    tested = "test" if spec.data.test is not None else "validation"
    names = _MEASURED_ON | {"baseline": f"to beat, {_MEASURED_ON[tested]}"}
    unnamed = set(names)
    for row, mark in enumerate(marks):
        colour = _COLOURS[mark.kind]
        figure.add_annotation(text=_label(mark), y=row, **STYLES["comparison_name"])
        if mark.interval:
            figure.add_scatter(
                x=list(mark.interval),
                y=[row, row],
                line={"color": colour, "width": 7},
                **STYLES["comparison_interval"],
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
            name=names[mark.kind],
            showlegend=mark.kind in unnamed,
        )
        unnamed.discard(mark.kind)
    values = [mark.value for mark in marks]
    wide = spec.direction == "minimize" and 0 < LOG_RATIO * min(values) < max(values)
    figure.update_xaxes(
        type="log" if wide else "linear",
        dtick="D1" if wide else None,
        title=f"{spec.metric}, {'higher' if spec.direction == 'maximize' else 'lower'} is better",
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
    """The value and its name, shortened to what a small screen can show."""
    name = mark.name if len(mark.name) <= 44 else f"{mark.name[:43]}…"
    return f"{plain(name)}  <b>{mark.shown}</b>"


def comparison_section(context: Context, result: Result | None) -> list[FigureSection]:
    """The winner next to what it had to beat; nothing while no trial is complete."""
    if result is None:
        return []
    marks = compare(result, context.spec)
    panel = Panel(draw_comparison(marks, context.spec), "; ".join(mark.text for mark in marks))
    return [section("comparison", marks, [panel])]

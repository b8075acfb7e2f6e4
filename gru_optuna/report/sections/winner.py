"""The winner: beside what it had to beat, and row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gru_optuna.report.figures.predictions import (
    draw_confusion,
    draw_errors_ahead,
    draw_forecast,
    draw_points,
)
from gru_optuna.report.figures.standing import draw_standing
from gru_optuna.report.numbers.predictions import stored_predictions
from gru_optuna.report.numbers.standing import standing
from gru_optuna.report.scales import label
from gru_optuna.report.sections.base import Panel, Section

if TYPE_CHECKING:
    from gru_optuna.report.sections.base import Context


def standing_section(context: Context) -> list[Section]:
    """Values to beat, where the search began, and what came of it."""
    if context.answer is None:
        return []
    marks = standing(context.answer, context.spec, context.show)
    figure = draw_standing(marks, context.spec)
    caption = (
        "Rings are values to beat, circles what validation rows say, the diamond what test rows "
        "say. A bar is the 95 % interval, over rows or, with fresh seeds, over seeds. What the "
        "search saw is flattered by the choice among many, and no bar tells by how much."
    )
    alt = "; ".join(mark.text for mark in marks)
    return [
        Section("standing", "Against what", "Against", "", caption, marks, [Panel(figure, alt)])
    ]


def predictions_section(context: Context) -> list[Section]:
    """What the winner says of rows, if that was kept."""
    kept = None if context.best is None else stored_predictions(context.study, context.best)
    if kept is None:
        return []
    part = "test" if "test" in kept else "validation"
    shown: dict[str, Any] = kept.get(part, {})
    if not shown:
        return []
    title, rows = "The winner at work", f"{shown['rows']:,} {part} rows"
    if matrix := shown.get("confusion"):
        right = sum(row[n] for n, row in enumerate(matrix["counts"]))
        caption = (
            f"Each row of the matrix is a true class of the {rows}, each column what the winner "
            f"says. The darker, the larger the share of that class; what lies off the diagonal "
            f"is wrong."
        )
        if any(count != int(count) for row in matrix["counts"] for count in row):
            caption += " Counts are means over the winner's networks, of all seeds or folds."
        alt = f"Confusion matrix of {len(matrix['classes'])} classes: {label(right)} rows right."
        figure = draw_confusion(matrix)
        panels = [Panel(figure, alt, min_width=300, max_width=figure.layout.height + 60)]
    elif forecast := shown.get("forecast"):
        caption = (
            f"A stretch of the {part} part. Each forecast looks {forecast['horizon']} steps ahead "
            f"and was made where the dotted line is, without what comes after it. Below, how the "
            f"error grows with the distance, over all {rows}."
        )
        alt = f"Forecasts beside the truth over {len(forecast['truth'])} steps."
        errors = draw_errors_ahead(forecast)
        target = context.spec.data.target or "value"
        panels = [
            Panel(draw_forecast(forecast, target), alt),
            Panel(errors, "Mean absolute error by step ahead.", "Error by distance"),
        ]
    elif points := shown.get("points"):
        count = len(points["truth"])
        chosen = f"{count} of them, evenly chosen" if count < shown["rows"] else "all of them"
        caption = f"The {rows}, {chosen}. On the dotted line a prediction is right."
        panels = [Panel(draw_points(points), f"Predicted against true values of {count} rows.")]
    else:
        return []
    return [Section("predictions", title, "At work", "", caption, shown, panels)]

"""The winner's predictions: confusion matrix, forecast and truth, or predicted against true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gru_optuna.formatting import format_value
from gru_optuna.report.figures.base import (
    Panel,
    add_diagonal,
    canvas,
    opacity,
    plain,
    section,
    whole,
)
from gru_optuna.report.theme import AXIS, COMPLETE, INK, PAPER, QUIET, STYLES
from gru_optuna.study.prediction_intervals import read_intervals
from gru_optuna.study.predictions import stored_future, stored_predictions

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from gru_optuna.report.figures.base import Context, FigureSection
    from gru_optuna.study.prediction_intervals import PredictionIntervals

_LEVEL = "80"
"""The intervals that are drawn. Wider ones would hide how far the forecasts are off."""


def draw_confusion(numbers: dict[str, Any]) -> go.Figure:
    """True classes in rows, predicted ones in columns; colours are shares of the true class."""
    classes, counts = numbers["classes"], numbers["counts"]
    size = len(classes)
    shares = [[n / max(1.0, sum(row)) for n in row] for row in counts]
    cell = 46 if size <= 12 else 30
    height = 96 + cell * size + 40
    figure = canvas(height, showlegend=False, margin={"l": 8, "r": 8, "t": 40, "b": 8})
    places = list(range(size))
    # Cells have numbers, and names are only labels: two may be equal, and names that look like
    # numbers would become a numeric axis.
    figure.add_heatmap(
        x=places,
        y=places,
        z=shares,
        customdata=[
            [
                f"{format_value(n)} rows of {plain(true)} predicted as {plain(predicted)}"
                for n, predicted in zip(row, classes, strict=True)
            ]
            for row, true in zip(counts, classes, strict=True)
        ],
        **STYLES["confusion"],
    )
    # All at once: to add one, Plotly checks all the others again.
    figure.update_layout(
        annotations=[
            {
                "x": x,
                "y": y,
                "text": format_value(count) if count != int(count) else f"{count:,.0f}",
                "showarrow": False,
                "font": {
                    "size": 13 if size <= 12 else 10,
                    "color": PAPER if shares[y][x] > 0.5 else INK,
                },
            }
            for y, row in enumerate(counts)
            for x, count in enumerate(row)
            if count
        ]
    )
    axis = {"tickvals": places, "ticktext": [plain(name) for name in classes], "showgrid": False}
    figure.update_xaxes(title="predicted", side="top", ticks="", **axis, range=[-0.5, size - 0.5])
    return figure.update_yaxes(title="true", range=[size - 0.5, -0.5], **axis)


def draw_forecast(
    stretch: dict[str, Any], target: str, intervals: PredictionIntervals | None
) -> go.Figure:
    """A stretch of a series, and each forecast from where it was made, with its 80% interval."""
    figure = canvas(380, target)
    truth, windows = stretch["truth"], stretch["windows"]
    # Studies of earlier versions kept no times.
    x = stretch.get("times") or list(range(len(truth)))
    forecasts = [value for window in windows for value in window["values"]]
    unit = stretch.get("naive") if intervals is not None and intervals.relative else 1.0
    if intervals is not None and unit is not None:
        unit *= intervals.scales.get(stretch.get("name", ""), 1.0)
    if intervals is not None and _LEVEL in intervals.levels and unit is not None:
        apart = [unit * (width or 0.0) for width in intervals.widths[_LEVEL] * len(windows)]
        for sign, style in ((-1, "interval_from"), (1, "interval")):
            bound = [
                None if value is None else value + sign * width
                for value, width in zip(forecasts, apart, strict=True)
            ]
            figure.add_scatter(x=x, y=bound, **STYLES[style])
    figure.add_scatter(x=x, y=truth, **STYLES["truth"])
    for index, window in enumerate(windows):
        start = window["start"]
        figure.add_scatter(
            x=x[start : start + len(window["values"])],
            y=window["values"],
            showlegend=index == 0,
            **STYLES["forecast"],
        )
        figure.add_vline(x=x[start], line={"color": AXIS, "width": 0.5, "dash": "dot"})
    figure.update_xaxes(**_axis_of(x))
    return figure.update_yaxes(tickformat="~g")


def _axis_of(times: list[str] | list[int]) -> dict[str, str]:
    """The axis of times, or of numbers of steps; unless told, plotly reads years as numbers."""
    return {"title": "steps"} if isinstance(times[0], int) else {"type": "date"}


def draw_errors_ahead(numbers: dict[str, Any]) -> go.Figure:
    """The mean absolute error at each step ahead."""
    figure = canvas(260, "mean absolute error", showlegend=False, bargap=0.25)
    errors = numbers["errors"]
    figure.add_bar(
        x=list(range(1, len(errors) + 1)),
        y=errors,
        marker={"color": COMPLETE},
        hovertemplate="%{x} steps ahead: %{y:.4g}<extra></extra>",
    )
    figure.update_xaxes(title="steps ahead", **whole(len(errors)))
    return figure.update_yaxes(tickformat="~g", rangemode="tozero")


def draw_points(numbers: dict[str, Any]) -> go.Figure:
    """Predicted against true values; a perfect prediction lies on the line."""
    figure = canvas(440, "predicted", showlegend=False)
    truth, predicted = numbers["truth"], numbers["predicted"]
    known = [value for value in (*truth, *predicted) if value is not None]
    add_diagonal(figure, min(known), max(known))
    figure.add_scatter(
        x=truth,
        y=predicted,
        mode="markers",
        marker={"color": COMPLETE, "size": 7, "opacity": opacity(len(truth))},
        hovertemplate="true %{x:.4g}, predicted %{y:.4g}<extra></extra>",
    )
    figure.update_xaxes(title={"text": "true", "font": {"color": QUIET}}, tickformat="~g")
    return figure.update_yaxes(tickformat="~g")


def predictions_section(context: Context) -> list[FigureSection]:
    """The winner's predictions; nothing if none are stored."""
    kept = None if context.best is None else stored_predictions(context.study, context.best)
    if kept is None:
        return []
    part = "test" if "test" in kept else "validation"
    shown: dict[str, Any] = kept.get(part, {})
    if not shown:
        return []
    kind = "windows" if "forecast" in shown else "rows"
    rows, count, every = f"{shown['rows']:,} {part} {kind}", 0, 0
    if matrix := shown.get("confusion"):
        right = sum(row[n] for n, row in enumerate(matrix["counts"]))
        means = any(count != int(count) for row in matrix["counts"] for count in row)
        sentences = {"confusion": True, "means": means}
        count = len(matrix["classes"])
        alt = f"Confusion matrix of {count} classes: {format_value(right)} rows are right."
        figure = draw_confusion(matrix)
        panels = [Panel(figure, alt, min_width=300, max_width=figure.layout.height + 60)]
    elif forecast := shown.get("forecast"):
        # earlier versions kept one stretch, next to the errors.
        stretches = forecast.get("stretches") or [forecast]
        intervals = read_intervals(context.study, kept["number"])
        every = forecast.get("series", len(stretches))
        banded = intervals is not None and _LEVEL in intervals.levels
        sentences = {"forecast": True, "chosen": every > len(stretches), "banded": banded}
        target = context.spec.data.target or "value"
        panels = [
            Panel(
                draw_forecast(stretch, plain(target), intervals),
                f"Forecasts and true values over {len(stretch['truth'])} steps{_of(stretch)}.",
                plain(stretch.get("name", "")),
                min_width=480,
            )
            for stretch in stretches
        ]
        errors = draw_errors_ahead(forecast)
        panels.append(Panel(errors, "Mean absolute error by steps ahead.", "Error by distance"))
    elif points := shown.get("points"):
        count = len(points["truth"])
        sentences = {"some_points" if count < shown["rows"] else "points": True}
        panels = [Panel(draw_points(points), f"Predicted against true values of {count} rows.")]
    else:
        return []
    horizon = shown.get("forecast", {}).get("horizon")
    values = {"rows": rows, "part": part, "horizon": horizon, "count": count, "every": every}
    return [section("predictions", shown, panels, sentences, **values)]


def draw_future(stretch: dict[str, Any], target: str) -> go.Figure:
    """The newest values of a series, and the forecast of what comes after them."""
    figure = canvas(380, target)
    times, observed = stretch["times"], stretch["observed"]
    ahead = times[len(observed) :]
    for style, bound in zip(("interval_from", "interval"), stretch["bounds"], strict=False):
        figure.add_scatter(x=ahead, y=bound, **STYLES[style])
    figure.add_scatter(x=times[: len(observed)], y=observed, **STYLES["truth"])
    figure.add_scatter(x=ahead, y=stretch["forecast"], **STYLES["forecast"])
    figure.update_xaxes(**_axis_of(times))
    return figure.update_yaxes(tickformat="~g")


def future_section(context: Context) -> list[FigureSection]:
    """What comes after the newest rows, once it was forecast; only forecasting has a future."""
    if context.spec.task != "forecasting":
        return []
    kept = None if context.best is None else stored_future(context.study, context.best)
    numbers: dict[str, Any] = kept or {"series": 0, "stretches": []}
    stretches, target = numbers["stretches"], context.spec.data.target or "value"
    panels = [
        Panel(
            draw_future(stretch, plain(target)),
            f"The forecast of {len(stretch['forecast'])} steps{_of(stretch)}.",
            plain(stretch["name"]),
            min_width=480,
        )
        for stretch in stretches
    ]
    sentences = {
        "future": True,
        "some": numbers["series"] > len(stretches),
        "banded": all(stretch["bounds"] for stretch in stretches),
    }
    steps = len(stretches[0]["forecast"]) if stretches else 0
    missing = (
        None
        if stretches
        else (
            "What comes after the newest rows hasn't been forecast yet. "
            f"This does it: gru-optuna forecast {context.spec.name}"
        )
    )
    values = {"steps": steps, "count": len(stretches)}
    return [section("future", numbers, panels, sentences, missing=missing, **values)]


def _of(stretch: dict[str, Any]) -> str:
    return f" of {stretch['name']}" if stretch.get("name") else ""

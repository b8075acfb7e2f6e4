"""Draws the results: ``plot.py STEPS.json STUDY.json DATABASE.json OUT.html``."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from plotly.subplots import make_subplots

BLUE, ORANGE = "#0072b2", "#d55e00"  # Okabe & Ito 2008: distinguished by everyone


def main(steps_path: str, study_path: str, database_path: str, out: str) -> None:
    """Draws steps per second by shape, trials per minute, and the database's time for a trial."""
    steps = json.loads(Path(steps_path).read_text())
    runs = json.loads(Path(study_path).read_text())
    costs = json.loads(Path(database_path).read_text())["sides"]
    figure = make_subplots(
        rows=1,
        cols=3,
        column_widths=[0.5, 0.22, 0.28],
        subplot_titles=(
            "training steps per second, times torch.nn.GRU",
            "trials per minute",
            "database, milliseconds per trial",
        ),
    )
    shapes = [
        "batch {}<br>time {}<br>inputs {}<br>hidden {}".format(*row["shape"])
        for row in steps["shapes"]
    ]
    ratios = [row["ratio"] for row in steps["shapes"]]
    labels = [f"{ratio:.1f} ×" for ratio in ratios]
    figure.add_bar(x=shapes, y=ratios, text=labels, marker_color=BLUE, row=1, col=1)
    figure.add_hline(y=1, line_dash="dot", row=1, col=1)
    for side, colour in (("plain Optuna", ORANGE), ("pool", BLUE)):
        rates = [60 * r["trials"] / r["working_seconds"] for r in runs if r["side"] == side]
        middle = statistics.median(rates)
        figure.add_bar(
            x=[side], y=[middle], text=[f"{middle:.0f}"], marker_color=colour, row=1, col=2
        )
    for side, cost in costs.items():
        colour = ORANGE if side == "plain Optuna" else BLUE
        label = side.replace("8 slots a commit", "pool of 8 slots").replace(" an ", "<br>an ")
        middle = cost["milliseconds"]
        figure.add_bar(
            x=[label], y=[middle], text=[f"{middle:.0f}"], marker_color=colour, row=1, col=3
        )
    figure.update_layout(
        template="plotly_white",
        showlegend=False,
        width=980,
        height=380,
        margin={"t": 40, "r": 20, "b": 80, "l": 50},
    )
    figure.write_html(out, include_plotlyjs=True, config={"displayModeBar": False})


if __name__ == "__main__":
    main(*sys.argv[1:])

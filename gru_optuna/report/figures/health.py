"""Training health: endings, where trials diverged, the gap to training, the clip norm at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gru_optuna.report.figures.base import canvas, opacity, scatter, whole
from gru_optuna.report.scales import label
from gru_optuna.report.theme import (
    AXIS,
    BEST,
    COMPLETE,
    FAILED,
    FROM_WORST_TO_BEST,
    PRUNED,
    RUNNING,
    STATE_COLOURS,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from gru_optuna.report.numbers.health import Ending, Health
    from gru_optuna.spec import Specification

_COLOURS: dict[Ending, str] = {
    "trained to the end": COMPLETE,
    "stopped early": "var(--scale-2)",
    "pruned": PRUNED,
    "diverged": FAILED,
    "failed otherwise": BEST,
    "running": RUNNING,
}


def draw_endings(numbers: Health) -> go.Figure:
    """One bar for all trials, cut by how they ended."""
    figure = canvas(150, barmode="stack", margin={"l": 8, "r": 8, "t": 48, "b": 28})
    for ending, count in numbers.endings.items():
        figure.add_bar(
            x=[count],
            y=[0],
            orientation="h",
            width=0.6,
            name=ending,
            text=[f"{count:,}"],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"color": "var(--paper)", "size": 13},
            marker={"color": _COLOURS[ending], "line": {"width": 1.5, "color": "var(--paper)"}},
            hovertemplate=f"{ending}: %{{x:,}} trials<extra></extra>",
        )
    figure.update_xaxes(range=[0, sum(numbers.endings.values())], tickformat="d")
    figure.update_yaxes(visible=False)
    return figure.update_layout(legend={"x": 0, "xanchor": "left", "traceorder": "normal"})


def draw_diverged(numbers: Health) -> go.Figure:
    """In which epoch trials diverged."""
    figure = canvas(260, "trials that diverged", showlegend=False, bargap=0.3)
    figure.add_bar(
        x=list(numbers.diverged_in),
        y=list(numbers.diverged_in.values()),
        marker={"color": FAILED},
        hovertemplate="epoch %{x}: %{y} diverged<extra></extra>",
    )
    last = max(numbers.diverged_in)
    figure.update_xaxes(title="epoch", range=[0.4, max(last, 5) + 0.6], **whole(last))
    most = max(numbers.diverged_in.values())
    return figure.update_yaxes(**whole(most), rangemode="tozero")


def draw_gap(numbers: Health) -> go.Figure:
    """Training loss against validation loss, each trial at its best epoch."""
    figure = canvas(300, "validation loss")
    gaps = [gap for gap in numbers.gaps if gap.train_loss > 0 and gap.validation_loss > 0]
    for state in ("pruned", "complete"):
        group = [gap for gap in gaps if gap.state == state]
        if group:
            figure.add_trace(
                scatter(len(group))(
                    x=[gap.train_loss for gap in group],
                    y=[gap.validation_loss for gap in group],
                    customdata=[gap.number for gap in group],
                    name=state,
                    mode="markers",
                    marker={
                        "color": STATE_COLOURS[state],
                        "size": 7,
                        "opacity": opacity(len(group)),
                    },
                    hovertemplate="trial %{customdata}: training %{x:.3g}, validation %{y:.3g}"
                    "<extra></extra>",
                )
            )
    both = [loss for gap in gaps for loss in (gap.train_loss, gap.validation_loss)]
    low, high = min(both), max(both)
    figure.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": AXIS, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        name="equal",
    )
    kind = "log" if high > 30 * low else "linear"
    axis = {"type": kind, "tickformat": "~g", **_log_ticks(kind, low, high)}
    figure.update_xaxes(title="training loss", **axis)
    return figure.update_yaxes(**axis)


def draw_clipping(numbers: Health, spec: Specification) -> go.Figure:
    """How often updates were clipped, against the norm they were clipped at."""
    figure = canvas(300, "share of updates that were clipped", showlegend=False)
    clipped = [clip for clip in numbers.clipping if clip.clip_norm is not None]
    worst_first = sorted(clipped, key=lambda clip: clip.value, reverse=spec.direction == "minimize")
    figure.add_trace(
        scatter(len(clipped))(
            x=[clip.clip_norm for clip in worst_first],
            y=[clip.share for clip in worst_first],
            # By rank: one trial that went astray would leave all others one colour.
            marker={
                "color": list(range(len(worst_first))),
                "colorscale": FROM_WORST_TO_BEST,
                "size": 8,
                "opacity": max(0.5, opacity(len(clipped))),
            },
            text=[
                f"trial {clip.number}: {clip.share:.0%} at clip_norm {label(clip.clip_norm or 0)}, "
                f"{spec.metric} {label(clip.value)}"
                for clip in worst_first
            ],
            mode="markers",
            hovertemplate="%{text}<extra></extra>",
        )
    )
    norms = [clip.clip_norm for clip in clipped if clip.clip_norm]
    low, high = min(norms), max(norms)
    kind = "log" if high > 5 * low else "linear"
    figure.update_xaxes(
        title="clip_norm", type=kind, tickformat="~g", **_log_ticks(kind, low, high)
    )
    return figure.update_yaxes(range=[-0.04, 1.04], tickformat=".0%")


def _log_ticks(kind: str, low: float, high: float) -> dict[str, Any]:
    """Whole powers on a long axis, 2 and 5 between them on a short one."""
    return {"dtick": 1 if high > 300 * low else "D2"} if kind == "log" else {}

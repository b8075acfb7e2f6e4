"""Which worker trained which trial when: a row for each slot, a bar for each trial."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import TrialState

from gru_optuna.formatting import format_duration
from gru_optuna.report.axes import duration_ticks
from gru_optuna.report.figures.base import Panel, canvas, plain, section
from gru_optuna.report.theme import AXIS, PAPER, QUIET, STATE_COLOURS, STYLES
from gru_optuna.report.trials import STATES, State, state_of, trials_in
from gru_optuna.storage.paused_trials import PAUSED, is_paused
from gru_optuna.study.trial_attributes import TrialAttributes, epochs_trained, paused_outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import plotly.graph_objects as go
    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.report.figures.base import Context, FigureSection


UNKNOWN_WORKER = "workers"
"""The worker of trials that an old version trained, which didn't record it."""
PAUSE_SHARE, PAUSE_SECONDS = 0.05, 10.0
"""A time without trials is a pause if it is longer than this share of the time with trials, and
than these seconds."""


@dataclass(frozen=True)
class Pause:
    """A time in which no trial was training."""

    at: float  # seconds on the clock, where it is cut out
    seconds: float


@dataclass(frozen=True)
class StudyClock:
    """Time since the first trial started, without pauses."""

    first: datetime | None  # None: no trial has started
    pauses: list[Pause]
    starts: list[float]  # of the pauses, in seconds since the first trial started
    total: float  # seconds with trials

    @classmethod
    def of(cls, study: Study) -> StudyClock:
        """The clock of a study, from the times when its trials ran."""
        trials = _timed(study)
        if not trials:
            return cls(None, [], [], 0.0)
        first = trials[0][0]
        spans = sorted(
            ((start - first).total_seconds(), (end - first).total_seconds())
            for start, end, _ in trials
        )
        gaps, reached, busy = [], 0.0, 0.0
        for start, end in spans:
            if start > reached:
                gaps.append((reached, start - reached))
            busy += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        long = [gap for gap in gaps if gap[1] > max(PAUSE_SECONDS, PAUSE_SHARE * busy)]
        pauses, before = [], 0.0
        for start, seconds in long:
            pauses.append(Pause(start - before, seconds))
            before += seconds
        return cls(first, pauses, [start for start, _ in long], reached - before)

    def seconds(self, moment: datetime) -> float:
        """The time of a moment on this clock."""
        assert self.first is not None, "a study without trials has no time"
        since = (moment - self.first).total_seconds()
        passed = bisect_right(self.starts, since - 1e-9)
        paused = sum(pause.seconds for pause in self.pauses[:passed])
        if passed:
            # The clock stands still during a pause.
            start, pause = self.starts[passed - 1], self.pauses[passed - 1]
            paused -= max(0.0, start + pause.seconds - since)
        return since - paused


@dataclass(frozen=True)
class Bar:
    """One trial in its lane; a lane is a row of the figure."""

    number: int
    state: State
    worker: str
    lane: int  # counted over all workers, from 0
    start: float  # seconds on the study's clock
    end: float


@dataclass(frozen=True)
class Timeline:
    """All trials that have started."""

    bars: list[Bar]
    workers: dict[str, int]  # how many lanes each has, in the order in which they joined
    seconds: float
    pauses: list[Pause]

    @property
    def occupied(self) -> float:
        """The share of all lanes' time in which a trial was training."""
        room = self.seconds * sum(self.workers.values())
        return sum(bar.end - bar.start for bar in self.bars) / room if room else 0.0


def lay_out_trials(study: Study) -> Timeline:
    """Gives each trial a lane, worker by worker; a running trial ends at the last moment known."""
    clock = StudyClock.of(study)
    by_worker: dict[str, list[tuple[float, float, FrozenTrial]]] = {}
    for start, end, trial in _timed(study):
        worker = TrialAttributes.read(trial).worker or UNKNOWN_WORKER
        span = (clock.seconds(start), clock.seconds(end), trial)
        by_worker.setdefault(worker, []).append(span)
    bars: list[Bar] = []
    workers: dict[str, int] = {}
    first = 0
    for worker, spans in by_worker.items():
        free: list[int] = []  # lanes, lowest first
        busy: list[tuple[float, int]] = []  # (end, lane)
        lanes = 0
        for begun, over, trial in spans:
            while busy and busy[0][0] <= begun:
                heapq.heappush(free, heapq.heappop(busy)[1])
            if free:
                lane = heapq.heappop(free)
            else:
                lane, lanes = lanes, lanes + 1
            heapq.heappush(busy, (over, lane))
            bars.append(Bar(trial.number, state_of(trial), worker, first + lane, begun, over))
        workers[worker] = lanes
        first += lanes
    return Timeline(bars, workers, clock.total, clock.pauses)


def _timed(study: Study) -> list[tuple[datetime, datetime, FrozenTrial]]:
    """Start, end and trial of all that have started, in the order of their starts."""
    trials = trials_in(study, *STATES)
    moments = [
        moment
        for trial in trials
        for moment in (trial.datetime_start, trial.datetime_complete)
        if moment is not None
    ]
    if not moments:
        return []
    now = max(moments)
    timed = []
    for trial in trials:
        start = trial.datetime_start
        end = now if trial.state == TrialState.RUNNING else trial.datetime_complete
        if start is None or end is None:
            continue
        attributes = TrialAttributes.read(trial)
        if PAUSED in trial.user_attrs:
            # While it waits it holds no slot. When it waited isn't noted, only how long it has
            # trained: most of that after it was continued for the last time, if it was.
            trained = timedelta(seconds=attributes.seconds or 0.0)
            if is_paused(trial) or attributes.outcome == paused_outcome(epochs_trained(trial)):
                end = min(end, start + trained)
            else:
                # While it runs, the attributes are those of its last pause. Its epochs since then
                # are taken to be as long as those before.
                noted = len(attributes.train_loss) or len(trial.intermediate_values) or 1
                start = max(start, end - trained * (len(trial.intermediate_values) / noted))
        timed.append((start, max(end, start), trial))
    return sorted(timed, key=lambda span: (span[0], span[2].number))


BARS = 1_500
"""More trials than this are drawn by WebGL, as lines."""

TALLEST = 640  # pixels


def draw_timeline(numbers: Timeline) -> go.Figure:
    """One worker below another, with its name at the middle of its rows."""
    rows = sum(numbers.workers.values())
    height = min(TALLEST, 96 + 18 * rows)
    figure = canvas(max(190, height), barmode="overlay", bargap=0)
    thickness = max(1.5, 0.72 * (max(190, height) - 96) / rows)
    for state, colour in STATE_COLOURS.items():
        group = [bar for bar in numbers.bars if bar.state == state]
        if not group:
            continue
        if len(numbers.bars) <= BARS:
            figure.add_bar(
                x=[round(bar.end - bar.start, 3) for bar in group],
                base=[round(bar.start, 3) for bar in group],
                y=[bar.lane for bar in group],
                text=[
                    f"trial {bar.number}: {format_duration(bar.end - bar.start)}" for bar in group
                ],
                name=state,
                marker={"color": colour, "line": {"width": 0.5, "color": PAPER}},
                hovertemplate="%{text}<extra>" + state + "</extra>",
                **STYLES["timeline"],
            )
        else:
            figure.add_scattergl(
                **_lines(group),
                mode="lines",
                name=state,
                line={"color": colour, "width": thickness},
                hovertemplate="trial %{customdata}<extra>" + state + "</extra>",
            )
    first = 0
    names = []
    for worker, lanes in numbers.workers.items():
        name = plain(worker) + (f"<br>{lanes} slots" if lanes > 1 else "")
        names.append((first + (lanes - 1) / 2, name))
        if first:
            figure.add_hline(y=first - 0.5, line={"color": AXIS, "width": 1})
        first += lanes
    for pause in numbers.pauses:
        figure.add_vline(
            x=pause.at,
            line={"color": QUIET, "width": 1, "dash": "dot"},
            annotation={"text": f"paused {format_duration(pause.seconds)}", **STYLES["pause"]},
        )
    places, labels = duration_ticks(numbers.seconds)
    figure.update_xaxes(
        title="time worked",
        tickvals=places,
        ticktext=labels,
        range=[-0.005 * numbers.seconds, 1.005 * numbers.seconds or 1],
    )
    figure.update_yaxes(
        range=[rows - 0.4, -0.6],
        tickvals=[place for place, _ in names],
        ticktext=[name for _, name in names],
        **STYLES["workers"],
    )
    return figure


def _lines(bars: Sequence[Bar]) -> dict[str, np.ndarray]:
    """Joins bars to one line with gaps."""
    x = [place for bar in bars for place in (bar.start, bar.end, math.nan)]
    return {
        "x": np.array(x, dtype=np.float32),
        "y": np.repeat(np.array([bar.lane for bar in bars], dtype=np.int16), 3),
        "customdata": np.repeat(np.array([bar.number for bar in bars], dtype=np.int32), 3),
    }


def timeline_section(context: Context) -> FigureSection:
    """Which worker trained which trial when."""
    numbers = lay_out_trials(context.study)
    slots, pauses = sum(numbers.workers.values()), len(numbers.pauses)
    waited = any(PAUSED in trial.user_attrs for trial in trials_in(context.study, *STATES))
    alt = f"{len(numbers.bars)} trials in {slots} slots of {len(numbers.workers)} workers."
    return section(
        "timeline",
        numbers,
        [Panel(draw_timeline(numbers), alt)] if numbers.bars else [],
        {
            "busy": True,
            "pause": pauses == 1,
            "pauses": pauses > 1,
            "caption": True,
            "waited": waited,
        },
        slots=slots,
        pauses=pauses,
        paused=sum(pause.seconds for pause in numbers.pauses),
    )

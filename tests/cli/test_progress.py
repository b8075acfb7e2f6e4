"""What `tune` shows while it runs: both views, shown everything that can happen."""

from __future__ import annotations

import io
import re
import tomllib
from dataclasses import replace

import pytest
from helpers.workspaces import TINY_STUDY
from optuna.trial import TrialState
from rich.console import Console

from gru_optuna import study_file
from gru_optuna.cli.progress import LiveView, PlainView, ProgressView, make_view
from gru_optuna.cli.progress.messages import notice, sparkline
from gru_optuna.cli.progress.time_left import Rate, epochs_left, survival
from gru_optuna.study.summary import Summary
from gru_optuna.training.sizing import Size
from gru_optuna.tuning.tune import RunStart
from gru_optuna.worker.events import (
    BudgetChanged,
    CheckpointDamaged,
    Confirming,
    ConfirmingElsewhere,
    EngineReady,
    EpochTrained,
    FewerSlots,
    LauncherNote,
    LeaseLost,
    StandingBy,
    StorageAway,
    StorageBack,
    TrainingOtherTrials,
    TrialEnded,
    TrialPaused,
    TrialStarted,
    WaitingForBaselines,
    WorkerDied,
    WorkerEvent,
    WorkerStarted,
    WorkersWaiting,
)

SPEC = study_file.parse(tomllib.loads(TINY_STUDY), source="tiny.toml")
COUNTS = {"complete": 0, "pruned": 0, "running": 0, "waiting": 0, "failed": 0, "paused": 0}
BEFORE = Summary(
    study="tiny",
    task="classification",
    metric="accuracy",
    direction="maximize",
    trials=COUNTS,
    budget={"trials": 9, "claimed": 0},
    best=None,
    baselines={},
)
OPENING = RunStart(
    spec=SPEC,
    storage="sqlite:///study.db",
    device="cpu",
    rows=(216, 54, 370),
    before=BEFORE,
    workers=1,
    compiles=False,
)

TOLD: list[tuple[WorkerEvent, str]] = [
    (TrialStarted(7, adopted=True, epochs=12), "trial 7 adopted after epoch 12"),
    (TrialStarted(7, adopted=True), "trial 7 adopted, from its start"),
    (
        CheckpointDamaged(3, 5, "1/3-5-1.safetensors: its content has changed"),
        "trial 3: its checkpoint of epoch 5 is not used: 1/3-5-1.safetensors: "
        "its content has changed",
    ),
    (LeaseLost(4), "trial 4: another worker has taken it over"),
    (
        BudgetChanged(12, 1.5),
        "another process gave this study another budget; 12 trials and 1.5 hours count",
    ),
    (
        BudgetChanged(12, None, 700),
        "another process gave this study another budget; 12 trials and 700 epochs count",
    ),
    (FewerSlots(2, "out of memory"), "2 trials train together from now on: out of memory"),
    (FewerSlots(1, "out of memory"), "one trial trains alone from now on: out of memory"),
    (StorageAway("the disk is full"), "waiting for the storage: the disk is full"),
    (Confirming(0, 25, 5, 5), "confirming the best 5 on 5 fresh seeds: 0 of 25 runs done"),
    (
        TrainingOtherTrials(3),
        "training the 3 next best trials again: candidates for the ensemble",
    ),
    (
        WaitingForBaselines(30.0),
        "waiting for the simple models to compare with, at most 30 s",
    ),
    (ConfirmingElsewhere(), "another process confirms the winner; waiting for it"),
    (StorageBack(73.2), "the storage works again after 1 min 13 s"),
    (StandingBy(2), "no trial is left to start; standing by while other workers train 2 trials"),
    (StandingBy(1), "no trial is left to start; standing by while other workers train a trial"),
    (WorkerStarted(0, "process 4711"), "worker 1 started, process 4711"),
    (LauncherNote("Slurm job 12: submitted"), "Slurm job 12: submitted"),
    (WorkersWaiting(1, "Resources"), "a worker waits for a place: Resources"),
    (WorkersWaiting(3, "Priority"), "3 workers wait for a place: Priority"),
    (
        WorkerDied(1, "SIGKILL", restarts=True),
        "worker 2 died (SIGKILL); it is restarted",
    ),
    (
        WorkerDied(1, "exit code 3", restarts=False),
        "worker 2 died (exit code 3); it is not restarted again",
    ),
]


class Terminal(io.StringIO):
    """Says that it is one."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


Happening = WorkerEvent | float
"""What happens, or so many seconds pass."""


def tell(view: ProgressView, clock: Clock, events: tuple[Happening, ...]) -> None:
    for one in events:
        if isinstance(one, float):
            clock.seconds += one
        else:
            view.happened(one)


def plain(*events: Happening, opening: RunStart = OPENING) -> list[str]:
    """The lines that a file gets, without the headline."""
    file, clock = io.StringIO(), Clock()
    view = PlainView(Console(file=file, width=40), clock)
    view.opened(opening)
    tell(view, clock, events)
    view.close()
    return [without_time(line) for line in file.getvalue().splitlines()[1:]]


def without_time(line: str) -> str:
    """A line of a log without the time of day before it."""
    found = re.fullmatch(r"[0-2]\d:[0-5]\d:[0-5]\d  (.*)", line)
    assert found, line
    return found[1]


def live(
    *events: Happening,
    opening: RunStart = OPENING,
    width: int = 120,
    height: int = 60,
    end: bool = False,
) -> list[str]:
    """The lines of the picture that is there then; without colours."""
    clock = Clock()
    view = LiveView(Console(file=io.StringIO(), width=width, height=height), clock)
    view.opened(opening)
    tell(view, clock, events)
    if end:
        view.close()
    paper = Console(file=io.StringIO(), width=width, height=height)
    paper.print(view.picture())
    view.close()
    return [line for line in paper.file.getvalue().splitlines() if line.strip()]


def rows(*events: Happening) -> dict[int, list[str]]:
    """The table's rows, by trial."""
    lines = live(*events)
    heads = [line.split()[:1] for line in lines].index(["trial"]) if events else 0
    cells = [line.split() for line in lines[heads + 1 :]]
    return {int(row[0]): row[1:] for row in cells if row[0].isdigit()}


def ended(number: int, value: float | None = None, epochs: int = 3) -> TrialEnded:
    """A complete trial, or a pruned one without a value."""
    if value is None:
        return TrialEnded(number, TrialState.PRUNED, None, f"pruned after epoch {epochs}", epochs)
    return TrialEnded(number, TrialState.COMPLETE, value, f"trained all {epochs} epochs", epochs)


def started(number: int) -> TrialStarted:
    return TrialStarted(number, adopted=False)


def test_the_headline_tells_of_folds() -> None:
    data = SPEC.data.model_copy(update={"folds": 5})
    opening = replace(OPENING, spec=SPEC.model_copy(update={"data": data}))
    file = io.StringIO()
    make_view(Console(file=file)).opened(opening)
    assert "mean of 5 folds, the first with 216 training and 54 validation" in file.getvalue()


def test_every_event_is_known() -> None:
    ordinary = {EngineReady, EpochTrained, TrialEnded, TrialPaused}
    assert {type(event) for event, _ in TOLD} | ordinary == set(WorkerEvent.__subclasses__())


@pytest.mark.parametrize(("event", "words"), TOLD, ids=lambda part: type(part).__name__)
def test_what_is_out_of_the_ordinary_is_reported_in_plain_words(
    event: WorkerEvent, words: str
) -> None:
    assert notice(event) == words
    assert plain(event) == [words]


@pytest.mark.parametrize(("event", "words"), TOLD, ids=lambda part: type(part).__name__)
def test_the_table_has_it_below(event: WorkerEvent, words: str) -> None:
    # That a worker runs is counted instead.
    below = live(event)[-1]
    assert (below == words) is not isinstance(event, WorkerStarted)


def test_what_is_ordinary_is_not_news() -> None:
    assert plain(started(0), EpochTrained(0, 1, 0.5), TrialPaused(0, 1)) == []
    assert live(started(0))[-1].split() == ["0", "training", "–", "0/3"]


# --- lines ---


def test_the_first_trials_have_a_line_each() -> None:
    failed = TrialEnded(2, TrialState.FAIL, None, "diverged in epoch 1", 1)
    assert plain(ended(0, epochs=2), ended(1, 0.91234), failed, ended(3, 0.5)) == [
        "trial 0: pruned after epoch 2",
        "trial 1: accuracy 0.9123, trained all 3 epochs, the best so far",
        "trial 2: failed: diverged in epoch 1",
        "trial 3: accuracy 0.5000, trained all 3 epochs",
    ]


def test_then_there_is_a_line_now_and_then() -> None:
    """Five hundred trials in a minute and a half: the first ones, the better ones, progress."""
    opening = replace(OPENING, before=replace(BEFORE, budget={"trials": 500, "claimed": 0}))
    events: list[Happening] = [started(0), ended(0, 0.5)]
    for number in range(1, 500):
        events += [0.18, started(number), ended(number, 0.9 if number == 99 else None, 1)]
    lines = plain(*events, opening=opening)
    assert lines[:2] == [
        "trial 0: accuracy 0.5000, trained all 3 epochs, the best so far",
        "trial 1: pruned after epoch 1",
    ]
    assert [re.sub(r"\d+ trials/min", "* trials/min", line) for line in lines[12:]] == [
        "56 of 500 trials, 55 pruned, best 0.5000 (trial 0), * trials/min",
        "trial 99: accuracy 0.9000, trained all 1 epochs, the best so far",
        "140 of 500 trials, 138 pruned, best 0.9000 (trial 99), * trials/min",
        "265 of 500 trials, 263 pruned, best 0.9000 (trial 99), * trials/min",
        "453 of 500 trials, 451 pruned, best 0.9000 (trial 99), * trials/min",
        "500 of 500 trials, 498 pruned, best 0.9000 (trial 99), * trials/min",
    ]
    rates = [float(line.split()[-2]) for line in lines[12:] if "trials/min" in line]
    assert rates == pytest.approx([60 / 0.18] * 5, rel=0.05)


def test_failures_that_say_the_same_again_and_again_are_counted() -> None:
    failed = [TrialEnded(n, TrialState.FAIL, None, "diverged in epoch 1", 1) for n in range(90)]
    lines = plain(started(0), *failed)
    assert lines[-2] == "trial 19: failed: diverged in epoch 1"
    assert lines[-1] == "90 of 9 trials, 0 pruned, 90 failed"


def test_a_worker_that_joins_a_study_tells_values_without_their_name() -> None:
    """Its view is never opened: the headline is for the command that began the study."""
    file = io.StringIO()
    view = PlainView(Console(file=file))
    view.happened(EngineReady(Size(1, 4, None)))
    view.happened(TrialEnded(1, TrialState.COMPLETE, 0.5, "trained all 3 epochs", 3))
    assert [without_time(line) for line in file.getvalue().splitlines()] == [
        "4 trials train together in 1 thread", "trial 1: 0.5000, trained all 3 epochs",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "drawn"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TTY_INTERACTIVE": "0"}, False)],
    ids=["xterm", "dumb", "by hand"],
)
def test_a_terminal_that_cannot_draw_gets_lines(environment: dict[str, str], drawn: bool) -> None:
    console = Console(file=Terminal(), _environ=environment)
    assert isinstance(make_view(console), LiveView) is drawn


def test_a_terminal_without_our_signs_gets_lines() -> None:
    ascii_only = Terminal()
    ascii_only.encoding = "ANSI_X3.4-1968"
    assert isinstance(make_view(Console(file=ascii_only, _environ={})), PlainView)


def test_no_color_means_none() -> None:
    def written(environment: dict[str, str]) -> str:
        terminal = Terminal()
        view = make_view(Console(file=terminal, width=80, height=24, _environ=environment))
        view.opened(OPENING)
        for event in (started(0), EpochTrained(0, 1, 0.5), ended(0, 0.5)):
            view.happened(event)
        view.close()
        return terminal.getvalue()

    colours = re.compile(r"\x1b\[[0-9;]*\b(3[0-7]|4[0-7]|9[0-7])m")
    assert colours.search(written({"TERM": "xterm-256color"}))
    assert not colours.search(written({"TERM": "xterm-256color", "NO_COLOR": "1"}))


# --- the picture ---


def test_standing_by_is_reported_once_until_a_trial_begins() -> None:
    events = [
        StandingBy(2),
        StandingBy(2),
        StorageAway("the disk is full"),
        StandingBy(1),
        TrialStarted(5, adopted=True, epochs=1),
        StandingBy(1),
        StandingBy(1),
    ]
    for lines in (plain(*events), live(*events)):
        assert sum("standing by" in line for line in lines) == 2


def test_an_adopted_trial_shows_the_curve_it_had() -> None:
    adopted = TrialStarted(7, adopted=True, epochs=3, curve=(0.1, 0.5, 0.8))
    assert rows(adopted)[7] == ["training", "0.8000", "3/3", "▁▅█"]
    assert rows(adopted, EpochTrained(7, 4, 0.8))[7] == ["training", "0.8000", "4/3", "▁▅██"]


def test_a_trial_adopted_a_second_time_begins_where_it_then_goes_on() -> None:
    again = TrialStarted(7, adopted=True, epochs=1, curve=(0.1,))
    shown = rows(started(7), EpochTrained(7, 1, 0.1), EpochTrained(7, 2, 0.2), again)
    assert shown[7][:3] == ["training", "0.1000", "1/3"]


def test_a_lost_lease_removes_the_row() -> None:
    assert rows(started(3), started(4), LeaseLost(4)).keys() == {3}
    assert rows(LeaseLost(4)) == {}


def test_what_happens_to_an_unknown_trial_is_no_error() -> None:
    """A watcher may come in the middle; a trial can be over before it gets a slot."""
    died = TrialEnded(8, TrialState.FAIL, None, "5 workers in a row died in epoch 3", 2)
    assert rows(EpochTrained(7, 4, 0.5), died) == {8: ["failed", "–", "2"]}


def test_a_complete_trial_shows_its_best_epoch_and_a_pruned_one_its_last() -> None:
    trained = [EpochTrained(n, e, v) for n in (0, 1, 2) for e, v in ((1, 0.9), (2, 0.5))]
    begun = [started(number) for number in (0, 1, 2)]
    shown = rows(*begun, *trained, ended(0, 0.9, 2), ended(1, epochs=2), ended(2, 0.7, 2))
    assert [shown[n][:3] for n in (0, 1, 2)] == [
        ["best", "0.9000", "2"],
        ["pruned", "0.5000", "2"],
        ["complete", "0.7000", "2"],
    ]


def test_a_trial_keeps_its_place_and_the_next_one_takes_it() -> None:
    begun = [started(number) for number in (0, 1, 2)]
    lines = live(*begun, ended(1), started(3))
    assert [line.split()[0] for line in lines[-3:]] == ["0", "3", "2"]


def test_only_the_last_notices_stay() -> None:
    events = live(*[LeaseLost(number) for number in range(9)])
    assert events[-4:] == [f"trial {n}: another worker has taken it over" for n in (5, 6, 7, 8)]
    assert not any(line.startswith("trial 4:") for line in events)


def test_several_workers_are_counted() -> None:
    opening = replace(OPENING, workers=3)
    ready = EngineReady(Size(1, 4, 8 * 2**20))
    words = "4 trials train together in 1 thread, at most 8 MiB for them, in each of 3 workers"
    begun = [WorkerStarted(index, f"process {100 + index}") for index in range(3)]
    assert plain(ready, opening=opening) == [words]
    assert live(ready, *begun, opening=opening)[1] == f"{words}; 3 of 3 run"
    died = WorkerDied(1, "SIGKILL", restarts=True)
    assert live(ready, *begun, died, opening=opening)[1] == f"{words}; 2 of 3 run"
    again = WorkerStarted(1, "process 200")
    assert live(ready, *begun, died, again, opening=opening)[1] == f"{words}; 3 of 3 run"


@pytest.mark.parametrize(("metric", "best"), [("accuracy", 1), ("log_loss", 0)])
def test_the_best_follows_the_direction(metric: str, best: int) -> None:
    values = (0.5, 0.9, 0.7)
    opening = replace(OPENING, spec=SPEC.model_copy(update={"metric": metric}))
    events = [ended(number, value) for number, value in enumerate(values)]
    lines = live(*events, opening=opening)
    assert any(f"best {values[best]:.4f} (trial {best})  0 pruned" in line for line in lines)
    assert any(line.endswith("3/9 trials") for line in lines)


BUSY: tuple[Happening, ...] = (
    EngineReady(Size(2, 24, 2**30)),
    *(started(number) for number in range(30)),
    *(EpochTrained(n, e, 0.04 * n + 0.01 * e) for e in range(1, 40) for n in range(30)),
    12.0,
    *(ended(number, 0.04 * number, 39) for number in range(8)),
    FewerSlots(4, "out of memory: " + "something long about allocators " * 9),
    StorageAway("the disk is full"),
)


@pytest.mark.parametrize("width", [120, 80, 60, 32])
@pytest.mark.parametrize("height", [60, 24, 10, 5])
def test_the_picture_fits_into_any_terminal(width: int, height: int) -> None:
    lines = live(*BUSY, width=width, height=height)
    assert max(map(len, lines)) <= width
    assert not any(line.endswith(" ") for line in lines)
    assert len(lines) < height
    assert lines[0].startswith("tiny: maximize")
    assert any("best 0.2800 (trial 7)" in line for line in lines)
    if height >= 10:  # what trains is seen before what is over
        assert any(line.split()[1] == "training" for line in lines if line.strip()[0].isdigit())
    if height >= 24:
        assert any("and " in line for line in lines)
        assert lines[-1].startswith("waiting for the storage")


def test_a_small_terminal_tells_what_it_waits_for() -> None:
    opening = replace(OPENING, compiles=True)
    assert any(line.startswith("compiling") for line in live(opening=opening, height=10))
    assert not any("compiling" in line for line in live(started(0), opening=opening, height=10))


def test_the_last_picture_says_how_long_it_took() -> None:
    lines = live(started(0), 70.0, ended(0, 0.5), started(1), end=True)
    assert any(line.endswith("1/9 trials  in 1 min 10 s") for line in lines)
    assert not any("training" in line for line in lines[1:])


# --- the time left ---


def left(
    *events: Happening, hours: float | None = None, worked: float = 0.0, trials: int = 9
) -> str:
    """What is said about the time left."""
    budget = SPEC.budget.model_copy(update={"hours": hours})
    training = SPEC.training.model_copy(update={"epochs": 10})
    spec = SPEC.model_copy(update={"budget": budget, "training": training})
    before = replace(BEFORE, budget={"trials": trials or None, "claimed": 0})
    opening = replace(OPENING, spec=spec, before=before, worked_seconds=worked)
    line = next(line for line in live(*events, opening=opening) if "trials" in line)
    return line.split("trials")[1].strip()


def trained(number: int, epochs: int) -> list[Happening]:
    """A trial that trains an epoch a second and is pruned then."""
    epochs_of_it = [[1.0, EpochTrained(number, epoch + 1, 0.5)] for epoch in range(epochs)]
    return [
        started(number),
        *(one for pair in epochs_of_it for one in pair),
        ended(number, epochs=epochs),
    ]


def test_nothing_is_said_before_anybody_can_know() -> None:
    assert left(started(0), 5.0, EpochTrained(0, 1, 0.5)) == ""


def test_trials_that_train_still_are_known_to_be_long() -> None:
    """Five were pruned after an epoch, one of two trains its ninth: the next ones may be long."""
    ends = [TrialEnded(n, TrialState.PRUNED, None, "pruned after epoch 1", 1) for n in range(5)]
    long = [EpochTrained(9, epoch + 1, 0.5) for epoch in range(9)]
    short = [EpochTrained(number, 1, 0.5) for number in range(5)]
    events = [*(started(n) for n in (9, 0, 1, 2, 3, 4)), *short, *long, 14.0, *ends]
    # 14 epochs in 14 s. Of six trials one goes on after epoch 1, up to epoch 10 as far as is
    # known: 1 + 9/6 epochs for each of 94 trials, and 1 for the one in training.
    assert left(*events, trials=100) == "about 4 min left"
    # By counting endings it would be 14 s / 5 * 95, or 4 min 26 s; once all short ones have ended.


def test_pruning_that_sets_in_is_believed_soon() -> None:
    before = [one for number in range(6) for one in trained(number, 10)]
    after = [one for number in range(6, 60) for one in trained(number, 1)]
    # The first six let the rest look ten times as long as it is; forty trials later they are
    # forgotten.
    assert left(*before, 0.9, trials=106) == "about 17 min left"
    assert left(*before, *after, trials=106) == "about 40 s left"


def test_hours_are_counted_over_all_runs() -> None:
    assert left(started(0), 600.0, hours=1.0, worked=1800.0, trials=0) == "about 20 min left"


def test_the_nearer_of_two_limits_counts() -> None:
    events = [one for number in range(6) for one in trained(number, 10)]
    assert left(*events, 0.9, hours=1.0, trials=106) == "about 17 min left"
    assert left(*events, hours=0.1, trials=106) == "about 5 min left"


def test_survival_by_hand() -> None:
    # Of four trials one ends after epoch 1; of the three that are left one is only known to have
    # trained 2; of two one ends after epoch 3.
    assert survival([1, 3, 4], [2], 4) == [1.0, 0.75, 0.75, 0.375]
    assert epochs_left([1, 3, 4], [2], 2, 4) == 2 * 2.875 + 1.5
    assert epochs_left([], [], 3, 4) == 12  # nothing is known: each may train to its end
    assert epochs_left([4], [9], 0, 4) == 0


def test_a_rate_is_of_the_last_half_minute() -> None:
    rates = Rate(0.0)
    for second in range(100):
        for _ in range(10 if second < 50 else 2):
            rates.happened(float(second))
    assert rates.per_second(0.5) is None
    assert rates.per_second(100.0) == pytest.approx(2.0, rel=0.05)
    slow = Rate(0.0)
    for minute in range(5):
        slow.happened(60.0 * minute)
    assert slow.per_second(300.0) == pytest.approx(5 / 300)


def test_a_curve_as_bars() -> None:
    assert sparkline([]) == ""
    assert sparkline([0.5]) == "▁"
    assert sparkline([0.1, 0.5, 0.9]) == "▁▄█"
    assert sparkline([0.1, 0.5, 0.9], scale=(0.5, 0.6)) == "▁▁█"
    assert sparkline(list(range(80)), 8) == "▁▂▃▄▅▆▇█"

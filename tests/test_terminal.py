"""What `tune` shows while it runs: both views, told of everything that can happen."""

from __future__ import annotations

import io
import re
import tomllib
from dataclasses import replace
from typing import get_args

import pytest
from conftest import TINY_STUDY
from optuna.trial import TrialState
from rich.console import Console

from gru_optuna import spec as study_file
from gru_optuna.report.summary import Summary
from gru_optuna.terminal import LiveView, PlainView, clock, make_view, notice, sparkline
from gru_optuna.tuning import Opening
from gru_optuna.worker.events import (
    CheckpointDamaged,
    Confirming,
    ConfirmingElsewhere,
    EngineReady,
    EpochTrained,
    Event,
    FewerSlots,
    LeaseLost,
    StandingBy,
    StorageAway,
    StorageBack,
    TrialEnded,
    TrialStarted,
    WorkerDied,
    WorkerStarted,
)

SPEC = study_file.parse(tomllib.loads(TINY_STUDY), source="tiny.toml")
COUNTS = {"complete": 0, "pruned": 0, "running": 0, "waiting": 0, "failed": 0}
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
OPENING = Opening(
    spec=SPEC,
    storage="sqlite:///study.db",
    device="cpu",
    rows=(216, 54, 370),
    before=BEFORE,
    workers=1,
    compiles=False,
)

TOLD: list[tuple[Event, str]] = [
    (TrialStarted(7, adopted=True, epochs=12), "trial 7 adopted after epoch 12"),
    (TrialStarted(7, adopted=True), "trial 7 adopted, from its start"),
    (
        CheckpointDamaged(3, 5, "1/3-5-1.safetensors: its content has changed"),
        "trial 3: its checkpoint of epoch 5 is not used: 1/3-5-1.safetensors: "
        "its content has changed",
    ),
    (LeaseLost(4), "trial 4: another worker has taken it over"),
    (FewerSlots(2, "out of memory"), "2 trials train together from now on: out of memory"),
    (FewerSlots(1, "out of memory"), "one trial trains alone from now on: out of memory"),
    (StorageAway("the disk is full"), "waiting for the storage: the disk is full"),
    (Confirming(0, 25, 5, 5), "confirming the best 5 on 5 fresh seeds: 0 of 25 runs done"),
    (ConfirmingElsewhere(), "another process confirms the winner; waiting for it"),
    (StorageBack(73.2), "the storage works again after 1 min 13 s"),
    (StandingBy(2), "nothing is left to begin; standing by while others train 2 trials"),
    (StandingBy(1), "nothing is left to begin; standing by while others train a trial"),
    (WorkerStarted(0, 4711), "worker 1 started, process 4711"),
    (
        WorkerDied(1, "SIGKILL", restarts=True),
        "worker 2 died (SIGKILL); it starts again",
    ),
    (WorkerDied(1, "exit code 3", restarts=False), "worker 2 died (exit code 3); it is given up"),
]


def plain(*events: Event, opening: Opening = OPENING) -> list[str]:
    """The lines that a file gets, without the headline."""
    file = io.StringIO()
    view = make_view(Console(file=file, width=40))
    assert isinstance(view, PlainView)
    view.opened(opening)
    for event in events:
        view.happened(event)
    view.close()
    return file.getvalue().splitlines()[1:]


def live(*events: Event, opening: Opening = OPENING) -> list[str]:
    """The lines of the last picture."""
    file = io.StringIO()
    view = make_view(Console(file=file, force_terminal=True, width=120, height=60))
    assert isinstance(view, LiveView)
    view.opened(opening)
    for event in events:
        view.happened(event)
    view.close()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    picture = text[text.rindex("tiny: maximize") :]
    return [line.strip() for line in picture.splitlines() if line.strip()]


def rows(*events: Event) -> dict[int, list[str]]:
    """The table's rows, by trial."""
    cells = [line.split() for line in live(*events)]
    return {int(row[0]): row[1:] for row in cells if row[0].isdigit()}


def test_the_headline_tells_of_folds() -> None:
    data = SPEC.data.model_copy(update={"folds": 5})
    opening = replace(OPENING, spec=SPEC.model_copy(update={"data": data}))
    file = io.StringIO()
    make_view(Console(file=file)).opened(opening)
    assert "mean of 5 folds, the first with 216 training and 54 validation" in file.getvalue()


def test_every_event_is_known() -> None:
    ordinary = {EngineReady, EpochTrained, TrialEnded}
    assert {type(event) for event, _ in TOLD} | ordinary == set(get_args(Event))


@pytest.mark.parametrize(("event", "words"), TOLD, ids=lambda part: type(part).__name__)
def test_what_is_out_of_the_ordinary_is_told_in_plain_words(event: Event, words: str) -> None:
    assert notice(event) == words
    assert plain(event) == [words]


@pytest.mark.parametrize(("event", "words"), TOLD, ids=lambda part: type(part).__name__)
def test_the_table_has_it_below(event: Event, words: str) -> None:
    # That a worker runs is counted instead.
    below = live(event)[-1]
    assert (below == words) is not isinstance(event, WorkerStarted)


def test_what_is_ordinary_is_not_news() -> None:
    assert plain(TrialStarted(0, adopted=False), EpochTrained(0, 1, 0.5)) == []
    assert live(TrialStarted(0, adopted=False))[-1].startswith("0  running")


def test_a_trial_that_ends_is_a_line() -> None:
    pruned = TrialEnded(0, TrialState.PRUNED, None, "pruned after epoch 2", 2)
    complete = TrialEnded(1, TrialState.COMPLETE, 0.91234, "trained all 3 epochs", 3)
    failed = TrialEnded(2, TrialState.FAIL, None, "diverged in epoch 1", 1)
    assert plain(pruned, complete, failed) == [
        "trial 0: pruned after epoch 2",
        "trial 1: accuracy 0.9123, trained all 3 epochs",
        "trial 2: failed: diverged in epoch 1",
    ]


def test_a_worker_that_joins_a_study_tells_values_without_their_name() -> None:
    """Its view is never opened: the headline is for the command that began the study."""
    file = io.StringIO()
    view = PlainView(Console(file=file))
    view.happened(EngineReady(1, 4, None))
    view.happened(TrialEnded(1, TrialState.COMPLETE, 0.5, "trained all 3 epochs", 3))
    assert file.getvalue() == (
        "4 trials train together in 1 thread\ntrial 1: 0.5000, trained all 3 epochs\n"
    )


def test_standing_by_is_told_once_until_a_trial_begins() -> None:
    events = [
        StandingBy(2),
        StandingBy(2),
        StorageAway("the disk is full"),
        StandingBy(1),
        TrialStarted(5, adopted=True, epochs=1),
        StandingBy(1),
        StandingBy(1),
    ]
    for told in (plain(*events), live(*events)):
        assert sum("standing by" in line for line in told) == 2


def test_an_adopted_trial_shows_the_curve_it_had() -> None:
    adopted = TrialStarted(7, adopted=True, epochs=3, curve=(0.1, 0.5, 0.8))
    assert rows(adopted)[7] == ["running", "0.8000", "3", "▁▅█"]
    assert rows(adopted, EpochTrained(7, 4, 0.8))[7] == ["running", "0.8000", "4", "▁▅██"]


def test_a_trial_adopted_a_second_time_begins_where_it_then_goes_on() -> None:
    shown = rows(
        TrialStarted(7, adopted=False),
        EpochTrained(7, 1, 0.1),
        EpochTrained(7, 2, 0.2),
        TrialStarted(7, adopted=True, epochs=1, curve=(0.1,)),
    )
    assert shown[7][:3] == ["running", "0.1000", "1"]


def test_a_lost_lease_removes_the_row() -> None:
    begun = [TrialStarted(number, adopted=False) for number in (3, 4)]
    assert rows(*begun, LeaseLost(4)).keys() == {3}
    assert rows(LeaseLost(4)) == {}


def test_what_happens_to_an_unknown_trial_is_no_error() -> None:
    """A watcher may come in the middle; a trial can be over before it gets a slot."""
    died = TrialEnded(8, TrialState.FAIL, None, "5 workers in a row died in epoch 3", 2)
    shown = rows(EpochTrained(7, 4, 0.5), died)
    assert shown == {8: ["failed", "–", "2"]}


def test_a_complete_trial_shows_its_best_epoch_and_a_pruned_one_its_last() -> None:
    begun = [TrialStarted(n, adopted=False) for n in (0, 1)]
    trained = [EpochTrained(n, e, v) for n in (0, 1) for e, v in ((1, 0.9), (2, 0.5))]
    complete = TrialEnded(0, TrialState.COMPLETE, 0.9, "trained all 2 epochs", 2)
    pruned = TrialEnded(1, TrialState.PRUNED, None, "pruned after epoch 2", 2)
    shown = rows(*begun, *trained, complete, pruned)
    assert [shown[n][:3] for n in (0, 1)] == [
        ["complete", "0.9000", "2"],
        ["pruned", "0.5000", "2"],
    ]


def test_only_the_last_notices_stay() -> None:
    told = live(*[LeaseLost(number) for number in range(9)])
    assert told[-4:] == [f"trial {n}: another worker has taken it over" for n in (5, 6, 7, 8)]
    assert not any(line.startswith("trial 4:") for line in told)


def test_several_workers_are_counted() -> None:
    opening = replace(OPENING, workers=3)
    ready = EngineReady(1, 4, 8 * 2**20)
    words = "4 trials train together in 1 thread, at most 8 MiB for them, in each of 3 workers"
    started = [WorkerStarted(index, 100 + index) for index in range(3)]
    assert plain(ready, opening=opening) == [words]
    assert live(ready, *started, opening=opening)[1] == f"{words}; 3 of 3 run"
    died = WorkerDied(1, "SIGKILL", restarts=True)
    assert live(ready, *started, died, opening=opening)[1] == f"{words}; 2 of 3 run"
    again = WorkerStarted(1, 200)
    assert live(ready, *started, died, again, opening=opening)[1] == f"{words}; 3 of 3 run"


def test_the_best_follows_the_direction() -> None:
    ended = [
        TrialEnded(number, TrialState.COMPLETE, value, "trained all 3 epochs", 3)
        for number, value in enumerate((0.5, 0.9, 0.7))
    ]
    assert any("best 0.9000 (trial 1)" in line for line in live(*ended))
    assert any("3/9 trials  0 pruned" in line for line in live(*ended))


def test_sparkline_and_clock() -> None:
    assert sparkline([]) == ""
    assert sparkline([0.5]) == "▁"
    assert sparkline([0.1, 0.5, 0.9]) == "▁▄█"
    assert [clock(7), clock(200), clock(7300)] == ["7 s", "3 min 20 s", "2 h 1 min"]

"""Which trials pause at rungs, and which continue."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from gru_optuna import study_file
from gru_optuna.search.thaw import MOST_PAUSED, Thaw, as_pruned
from gru_optuna.storage.paused_trials import PAUSED, is_paused

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

THAW = Thaw(first_rung=1, factor=4, epochs=40, maximizes=False, candidates=3)
RUNGS = (1, 4, 16)


def trial(
    losses: list[float],
    state: TrialState = TrialState.RUNNING,
    *,
    paused: bool = False,
    ties: tuple[float, ...] = (),
) -> FrozenTrial:
    """A trial that reported a loss at each rung; a waiting one was paused at the last."""
    reports = dict(zip((*RUNGS, 40), losses, strict=False))
    attrs: dict[str, Any] = {PAUSED: max(reports, default=0)} if paused else {}
    return create_trial(
        state=state,
        value=0.1 if state == TrialState.COMPLETE else None,
        intermediate_values=reports,
        user_attrs=attrs | ({"rung_losses": list(ties)} if ties else {}),
    )


def numbered(*trials: FrozenTrial) -> list[FrozenTrial]:
    for number, each in enumerate(trials):
        each.number = number
    return list(trials)


_LOSSES = st.lists(
    st.floats(0, 1) | st.sampled_from([math.nan, math.inf, 0.5]), min_size=1, max_size=3
)


@st.composite
def studies(draw: st.DrawFn) -> list[FrozenTrial]:
    made = []
    for losses in draw(st.lists(_LOSSES, max_size=24)):
        kind = draw(st.sampled_from(["runs", "waits", "waits", "ends", "fails"]))
        match kind:
            case "ends":
                made.append(trial([*losses, 0.1], TrialState.COMPLETE))
            case "fails":
                made.append(trial(losses, TrialState.FAIL))
            case _:
                made.append(trial(losses, paused=kind == "waits"))
    return numbered(*made)


def reached(trials: list[FrozenTrial], rung: int) -> int:
    return sum(RUNGS[rung] in each.intermediate_values for each in trials)


@given(studies())
def test_the_best_quarter_of_a_rung_continues_from_the_highest_rung_down(
    trials: list[FrozenTrial],
) -> None:
    found = THAW.to_continue(trials)
    assert all(is_paused(trials[number]) for number in found)
    assert len(set(found)) == len(found)
    levels = [len(trials[number].intermediate_values) - 1 for number in found]
    assert levels == sorted(levels, reverse=True)
    for rung in range(3):
        here = [n for n, level in zip(found, levels, strict=True) if level == rung]
        # Those that diverged on the way to a rung count there, too.
        failed = sum(t.state == TrialState.FAIL for t in trials)
        assert len(here) <= (reached(trials, rung) + failed) // 4
        values = [trials[n].intermediate_values[RUNGS[rung]] for n in here]
        assert [v for v in values if not math.isnan(v)] == sorted(
            v for v in values if not math.isnan(v)
        )


@given(studies())
def test_who_would_continue_at_once_would_also_be_fetched_later(trials: list[FrozenTrial]) -> None:
    """The same question, asked about a trial in its slot and about the same one that waits."""
    for starts_more in (True, False):
        later = THAW.to_continue(trials, starts_more=starts_more)
        for each in trials:
            if is_paused(each):
                at_once = THAW.continues(each.number, trials, starts_more=starts_more)
                assert at_once == (each.number in later)


@given(studies())
def test_after_the_last_start_enough_trials_train_on(trials: list[FrozenTrial]) -> None:
    found = THAW.to_continue(trials, starts_more=False)
    assert all(is_paused(trials[number]) for number in found)
    assert len(set(found)) == len(found)
    assert set(THAW.to_continue(trials)) <= set(found)
    unfinished = [t for t in trials if t.state == TrialState.RUNNING]
    complete = sum(t.state == TrialState.COMPLETE for t in trials)
    in_training = [t for t in unfinished if not is_paused(t) or t.number in found]
    assert len(in_training) >= min(len(unfinished), 3 - complete)


@given(studies())
def test_a_sampler_sees_paused_trials_as_pruned_and_the_study_stays_as_it_is(
    trials: list[FrozenTrial],
) -> None:
    waiting = [each.number for each in trials if is_paused(each)]
    seen = as_pruned(trials)
    assert [t.number for t in trials if is_paused(t)] == waiting
    assert [t.number for t in seen] == [t.number for t in trials]
    assert [t.state for t in seen] == [
        TrialState.PRUNED if t.number in waiting else t.state for t in trials
    ]


def test_nobody_is_promoted_before_four_have_reached_a_rung() -> None:
    three = numbered(*(trial([loss], paused=True) for loss in (0.1, 0.2, 0.3)))
    assert THAW.to_continue(three) == []
    four = numbered(*three, trial([0.9]))
    assert THAW.to_continue(four) == [0]
    assert THAW.continues(0, four)
    assert not any(THAW.continues(number, four) for number in (1, 2, 3))


def test_the_validation_loss_breaks_ties_and_what_is_no_number_comes_last() -> None:
    trials = numbered(
        trial([math.nan], paused=True, ties=(0.1,)),
        trial([0.5], paused=True, ties=(0.9,)),
        trial([0.5], paused=True, ties=(0.3,)),
        trial([0.5], paused=True),
    )
    assert THAW.to_continue(trials) == [2]
    all_of_them = replace(THAW, factor=2, candidates=0)
    assert all_of_them.to_continue(trials) == [2, 1]


def test_after_the_last_start_the_furthest_trials_are_completed_first() -> None:
    """Of one complete trial and two missing ones, a trial at a higher rung goes before a better."""
    trials = numbered(
        trial([0.1], paused=True),
        trial([0.9, 0.9], paused=True),
        trial([0.9, 0.8], paused=True),
        trial([0.9, 0.9, 0.9, 0.1], TrialState.COMPLETE),
        trial([]),
        trial([], TrialState.FAIL),
        trial([0.3], TrialState.PRUNED),
    )
    assert THAW.to_continue(trials) == [0]
    assert THAW.to_continue(trials, starts_more=False) == [0, 2, 1]
    assert THAW.continues(2, trials, starts_more=False)
    assert not THAW.continues(0, replace_losses(trials, 0, 0.95), starts_more=False)
    fewer = replace(THAW, candidates=2)
    assert fewer.to_continue(trials, starts_more=False) == [0, 2]
    assert replace(THAW, candidates=0).to_continue(trials, starts_more=False) == [0]


def replace_losses(trials: list[FrozenTrial], number: int, *losses: float) -> list[FrozenTrial]:
    """The trials, of which a paused one has come to other losses."""
    return numbered(*trials[:number], trial(list(losses), paused=True), *trials[number + 1 :])


def test_of_equal_trials_the_earlier_one_continues() -> None:
    trials = numbered(*(trial([0.5], paused=True, ties=(0.1,)) for _ in range(8)))
    assert THAW.to_continue(trials) == [0, 1]


def test_a_higher_metric_may_be_better() -> None:
    trials = numbered(*(trial([accuracy], paused=True) for accuracy in (0.1, 0.9, 0.5, 0.2)))
    assert replace(THAW, maximizes=True).to_continue(trials) == [1]


def test_a_trial_that_diverged_on_its_way_to_a_rung_counts_as_its_last() -> None:
    fail = trial([], TrialState.FAIL)
    assert THAW.to_continue(numbered(*(trial([0.5], paused=True) for _ in range(3)), fail)) == [0]


def test_only_the_best_paused_trials_of_a_rung_keep_their_checkpoints() -> None:
    trials = numbered(
        *(trial([loss / 100], paused=True) for loss in range(MOST_PAUSED + 3)),
        trial([0.9, 0.9], paused=True),
    )
    assert THAW.surplus(trials) == [MOST_PAUSED, MOST_PAUSED + 1, MOST_PAUSED + 2]
    worse = [trial([0.95, 0.9], paused=True) for _ in range(MOST_PAUSED)]
    last = MOST_PAUSED + 3 + MOST_PAUSED
    assert THAW.surplus(numbered(*trials, *worse))[3:] == [last]
    assert THAW.surplus(trials[1 : MOST_PAUSED + 1]) == []


@pytest.mark.parametrize(
    ("first", "epochs", "rungs"),
    [(1, 40, (1, 4, 16)), (3, 40, (3, 12)), (1, 16, (1, 4)), (5, 5, ()), (7, 5, ())],
)
def test_rungs_lie_below_the_last_epoch(first: int, epochs: int, rungs: tuple[int, ...]) -> None:
    assert replace(THAW, first_rung=first, epochs=epochs).rungs == rungs


def test_a_study_file_names_its_schedule() -> None:
    content: dict[str, Any] = {
        "name": "x",
        "data": {"train": "x.ts"},
        "pruner": {"name": "thaw", "first_rung": 2, "reduction_factor": 3},
        "confirmation": {"candidates": 7},
    }
    assert Thaw.of(study_file.parse(content, "x")) == Thaw(2, 3, 40, True, 7)
    content |= {"pruner": {"name": "thaw"}, "metric": "log_loss", "training": {"epochs": 9}}
    assert Thaw.of(study_file.parse(content, "x")) == Thaw(1, 4, 9, False, 7)
    content["pruner"] = {"name": "asha"}
    assert Thaw.of(study_file.parse(content, "x")) is None


def sized(loss: float, size: int, **options: Any) -> FrozenTrial:
    """A trial at the first rung, whose network learns so many parameters."""
    made = trial([loss], paused=True, **options)
    made.user_attrs["network_parameters"] = size
    return made


def test_of_two_goals_the_front_of_a_rung_continues() -> None:
    trials = numbered(
        sized(0.5, 900), sized(0.4, 900), sized(0.1, 1000), sized(0.9, 10),
        sized(0.6, 20), sized(0.3, 500), sized(0.95, 900), sized(math.nan, 5),
    )  # fmt: skip
    both = replace(THAW, two_goals=True)
    # One goal promotes the lowest losses; two promote the ends of the front.
    assert THAW.to_continue(trials) == [2, 5]
    assert both.to_continue(trials) == [2, 3]
    assert replace(both, factor=2).to_continue(trials) == [2, 3, 5, 4]
    assert both.continues(3, trials)
    assert not both.continues(5, trials)


def test_a_trial_of_unknown_size_is_the_largest() -> None:
    """As one that plain Optuna added: it is promoted by its metric alone."""
    trials = numbered(*(sized(0.2 + step / 10, 100 - step) for step in range(8)))
    del trials[0].user_attrs["network_parameters"]
    assert replace(THAW, two_goals=True).to_continue(trials) == [0, 7]


@given(studies(), st.data())
def test_with_two_goals_the_decision_at_a_rung_is_the_same_question_later(
    trials: list[FrozenTrial], data: st.DataObject
) -> None:
    both = replace(THAW, two_goals=True)
    for each in trials:
        each.user_attrs["network_parameters"] = data.draw(st.integers(1, 6))
    for starts_more in (True, False):
        later = both.to_continue(trials, starts_more=starts_more)
        assert len(set(later)) == len(later)
        for each in trials:
            if is_paused(each):
                at_once = both.continues(each.number, trials, starts_more=starts_more)
                assert at_once == (each.number in later)

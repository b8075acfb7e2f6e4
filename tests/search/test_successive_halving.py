"""Successive halving: Optuna's own pruner is the specification."""

from __future__ import annotations

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.pruners import SuccessiveHalvingPruner
from optuna.trial import TrialState

from gru_optuna.search.successive_halving import FlatHalvingPruner

# Few distinct values: ties are where a sorted list may be read one place too far.
VALUES = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.5, 0.9, float("inf"), float("nan")])
EVENTS = st.lists(st.tuples(st.sampled_from(["begin", "report", "end"]), st.integers(0, 4), VALUES))


@settings(max_examples=60)
@given(
    events=EVENTS,
    direction=st.sampled_from(["minimize", "maximize"]),
    first=st.integers(1, 3),
    factor=st.integers(2, 4),
    jump=st.integers(1, 4),
)
def test_every_decision_is_that_of_optunas_pruner(
    events: list[tuple[str, int, float]], direction: str, first: int, factor: int, jump: int
) -> None:
    studies = [
        optuna.create_study(direction=direction, pruner=pruner)
        for pruner in (
            SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor),
            FlatHalvingPruner(first, factor),
        )
    ]
    running: list[list[optuna.Trial]] = []
    for event, which, value in events:
        if event == "begin" or not running:
            running.append([study.ask() for study in studies])
            continue
        pair = running[which % len(running)]
        if event == "report":
            # Steps that pass over a rung, or over several at once.
            step = (pair[0].study.trials[pair[0].number].last_step or 0) + jump
            for trial in pair:
                trial.report(value, step)
            decisions = [trial.should_prune() for trial in pair]
            assert decisions[0] == decisions[1]
            if not decisions[0]:
                continue
        running.remove(pair)
        for trial in pair:
            trial.study.tell(
                trial, state=TrialState.PRUNED if event == "report" else TrialState.FAIL
            )
    optunas, ours = (
        [(t.state, t.system_attrs, str(t.intermediate_values)) for t in study.trials]
        for study in studies
    )
    assert optunas == ours


def test_a_rung_that_an_adopted_trial_lost_counts_no_longer() -> None:
    study = optuna.create_study(pruner=FlatHalvingPruner(1, 2))
    trials = [study.ask() for _ in range(3)]
    trials[0].report(0.1, 1)
    assert not trials[0].should_prune()
    trials[1].report(0.5, 1)
    assert trials[1].should_prune(), "0.1 is better"
    # The trial as the worker that adopted it reads it: its last report was never committed.
    lost = study.get_trials(deepcopy=False)[0]
    lost.system_attrs.clear()
    study._storage.set_trial_user_attr(lost._trial_id, "adopted", True)
    trials[2].report(0.4, 1)
    assert not trials[2].should_prune()


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_another_study_begins_with_no_values(direction: str) -> None:
    pruner = FlatHalvingPruner(1, 2)
    for _ in range(2):
        study = optuna.create_study(direction=direction, pruner=pruner)
        trial = study.ask()
        trial.report(0.5 if _ else 0.1, 1)
        assert not trial.should_prune(), "the only trial is the best"

"""A hundred kills of workers that pause trials: numbers for what ``test_pauses.py`` shows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from helpers.kill_often import kill_often
from helpers.processes import SEARCH, check_exact, check_work, undisturbed
from optuna.trial import TrialState

from gru_optuna.storage.database.tables import checkpoints, leases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helpers.processes import Lab

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

WHOLE = (*SEARCH, "budget.trials=200", "training.epochs=16", "training.patience='off'")
PAUSING = (*WHOLE, "pruner.name=thaw", "pruner.first_rung=1", "pruner.reduction_factor=2")
EPOCHS = 1200


def test_a_budget_of_epochs_is_exact_after_a_hundred_kills(
    new_lab: Callable[..., Lab], database_url: str
) -> None:
    lab = new_lab(database_url, *PAUSING, "budget.trials=2000", f"budget.epochs={EPOCHS}")
    deaths = kill_often(lab, kills=100, seed=5)
    print(f"\ndeaths at {dict(deaths)}")
    assert deaths.total() == 100
    check_work(lab)
    states = Counter(trial.state for trial in lab.trials)
    print(f"trials {dict(states)}")
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert sum(len(trial.intermediate_values) for trial in lab.trials) == EPOCHS
    assert (lab.rows(leases), lab.rows(checkpoints), lab.files) == ([], [], [])


def test_curves_of_paused_trials_are_whole_after_fifty_kills(
    new_lab: Callable[..., Lab], database_url: str, tmp_path: Path
) -> None:
    lab = new_lab(database_url, *PAUSING)
    deaths = kill_often(lab, kills=50, seed=6)
    print(f"\ndeaths at {dict(deaths)}")
    assert deaths.total() == 50
    check_exact(lab)
    print(f"epochs by how often they were trained: {dict(check_work(lab))}")
    for trial, whole in zip(lab.trials, undisturbed(new_lab, tmp_path, *WHOLE), strict=True):
        assert trial.intermediate_values.items() <= whole["curve"].items()
    complete = sum(trial.state == TrialState.COMPLETE for trial in lab.trials)
    assert complete >= lab.spec.confirmation.candidates

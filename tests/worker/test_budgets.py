"""Processes that work on one study and were given different budgets: the larger one counts."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.processes import wait_for
from helpers.workspaces import TINY_STUDY, write_tiny_study

from gru_optuna import study_file, tune
from gru_optuna.attributes import BUDGET
from gru_optuna.errors import StorageError
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.budget import renewed
from gru_optuna.study_file import Budget
from gru_optuna.tuning.confirm import Place
from gru_optuna.tuning.export import make_winner
from gru_optuna.worker.run import WorkerSettings, join

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.processes import Nursery, Process

Limits = tuple[int | None, float | None]


@pytest.mark.parametrize(
    ("own", "given", "in_force"),
    [
        ((12, None), (6, None), (12, None)),
        ((6, None), (12, None), (12, None)),
        ((12, 1.0), (6, 2.0), (12, 2.0)),
        ((None, 2.0), (None, 1.5), (None, 2.0)),
        ((12, None), (None, 1.0), (None, 1.0)),
        ((12, 1.0), (20, None), (20, None)),
        ((12, None), (6, 3.0), (12, 3.0)),
    ],
)
def test_the_larger_value_of_each_limit_counts(
    own: Limits, given: Limits, in_force: Limits, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_STUDY)
    spec = study_file.load(path)
    limits = spec.budget.model_copy(update={"trials": own[0], "hours": own[1]})
    stored = {"trials": given[0], "hours": given[1]}
    now = renewed(spec.model_copy(update={"budget": limits}), {BUDGET: stored}).budget
    assert (now.trials, now.hours) == in_force


def test_hours_in_which_no_trial_completes_give_a_winner_and_a_report(tmp_path: Path) -> None:
    path = write_tiny_study(tmp_path / "studies")
    endless = ["training.epochs=100000", "training.patience='off'", "pruner.name=none"]
    result = tune(path, hours=2 / 3600, overrides=endless, threads=1, slots=2)
    assert result.summary.trials["complete"] == 0
    assert result.best is not None
    assert result.best.confirmed is None
    assert result.best.unconfirmed is not None
    assert result.best.unconfirmed.startswith("The budget of 0.000555556 hours ended before")
    assert result.report is not None
    assert result.report.exists()
    # Not reopened: the hours are over. And what one epoch has taught can be taken away.
    assert tune(path, hours=2 / 3600, overrides=endless, threads=1, slots=2).ran == 0
    place = Place(
        f"sqlite:///{tmp_path / 'storage' / 'gru_optuna.db'}",
        path.parent,
        WorkerSettings("cpu", 1, 1),
    )
    bundle = make_winner("tiny", place, threading.Event())
    assert bundle.manifest.members[0].validation == result.best.value


@pytest.mark.parametrize(
    ("budgets", "workers"),
    [((6, 3), 1), ((3, 6), 1), pytest.param((6, 3), 2, marks=pytest.mark.soak)],
)
def test_both_end_at_the_larger_budget_and_say_so(
    budgets: tuple[int, int], workers: int, nursery: Nursery, tmp_path: Path
) -> None:
    write_tiny_study(tmp_path / "studies")
    url = f"sqlite:///{tmp_path / 'storage' / 'gru_optuna.db'}"

    def trials() -> list[optuna.trial.FrozenTrial]:
        if not (tmp_path / "storage" / "gru_optuna.db").exists():
            return []
        with suppress(StorageError, KeyError):  # being made
            return optuna.load_study(study_name="tiny", storage=open_storage(url)).trials
        return []

    both = tmp_path / "both have begun"
    # Slow, so that whoever has the smaller one sees the larger one restored before all is over.
    faults = {"held": {"until": str(both)}, "slow": {"seconds": 0.2}}

    def start(budget: int) -> Process:
        return nursery.start(
            "tune", "studies/tiny.toml", "--trials", budget, "--threads", 1, "--slots", 2,
            "--set", "training.epochs=6", "--set", "training.patience='off'",
            "--set", "pruner.name=none", "--no-confirm", "--workers", workers,
            folder=tmp_path, faults=faults if workers == 1 else {"workers": {"faults": faults}},
        )  # fmt: skip

    first = start(budgets[0])
    wait_for("the study", (tmp_path / "storage" / "gru_optuna.db").exists)
    second = start(budgets[1])
    wait_for("the second to begin", lambda: "tiny: maximize accuracy" in second.said)
    both.touch()
    for process in (first, second):
        assert process.wait() == 0, process.said
    found = trials()
    assert [trial.number for trial in found] == list(range(6))
    assert all(trial.state.is_finished() for trial in found)
    smaller, larger = (first, second)[budgets.index(3)], (first, second)[budgets.index(6)]
    assert "another budget; 6 trials count" in smaller.said
    assert "another budget; 3 trials count" not in larger.said


def test_a_worker_keeps_to_the_larger_budget_of_the_command_that_started_it(
    tmp_path: Path,
) -> None:
    """Another command may have given the study a smaller one before the worker joined."""
    path = write_tiny_study(tmp_path / "studies")
    short = ("training.epochs=1", "confirmation.candidates=1", "confirmation.seeds=2")
    tune(path, trials=2, overrides=short, threads=1, slots=2)
    url = f"sqlite:///{tmp_path / 'storage' / 'gru_optuna.db'}"
    for given, trials in ((1, 2), (3, 3)):
        settings = WorkerSettings("cpu", 1, 2, budget=Budget(trials=given))
        join("tiny", url, path.parent, settings, threading.Event())
        study = optuna.load_study(study_name="tiny", storage=open_storage(url))
        assert len(study.trials) == trials
    assert study.user_attrs[BUDGET]["trials"] == 3

"""Processes that work on one study and were given different budgets: the larger one counts."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.processes import wait_for
from helpers.workspaces import TINY_STUDY, write_tiny_study

from gru_optuna import study_file
from gru_optuna.attributes import BUDGET
from gru_optuna.errors import StorageError
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.budget import renewed

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


@pytest.mark.parametrize("budgets", [(6, 3), (3, 6)])
def test_both_end_at_the_larger_budget_and_say_so(
    budgets: tuple[int, int], nursery: Nursery, tmp_path: Path
) -> None:
    write_tiny_study(tmp_path / "studies")
    url = f"sqlite:///{tmp_path / 'storage' / 'gru_optuna.db'}"

    def trials() -> list[optuna.trial.FrozenTrial]:
        if not (tmp_path / "storage" / "gru_optuna.db").exists():
            return []
        with suppress(StorageError, KeyError):  # being made
            return optuna.load_study(study_name="tiny", storage=open_storage(url)).trials
        return []

    def tune(budget: int) -> Process:
        return nursery.start(
            "tune", "studies/tiny.toml", "--trials", budget, "--threads", 1, "--slots", 2,
            "--set", "training.epochs=6", "--set", "training.patience='off'",
            "--set", "pruner.name=none", "--no-confirm",
            folder=tmp_path, faults={"slow": {"seconds": 0.2}},
        )  # fmt: skip

    first = tune(budgets[0])
    wait_for("the study", (tmp_path / "storage" / "gru_optuna.db").exists)
    second = tune(budgets[1])
    for process in (first, second):
        assert process.wait() == 0, process.said
    found = trials()
    assert [trial.number for trial in found] == list(range(6))
    assert all(trial.state.is_finished() for trial in found)
    smaller = (first, second)[budgets.index(3)]
    assert "another budget; 6 trials count" in smaller.said

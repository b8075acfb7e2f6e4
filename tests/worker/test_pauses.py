"""Trials that are paused and continued, by workers that die and work side by side."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from helpers.kill_often import kill_often
from helpers.processes import SEARCH, check_exact, check_work, curves, undisturbed, wait_for
from helpers.storage_rows import run
from optuna.trial import TrialState

from gru_optuna.storage.database.tables import checkpoints, leases
from gru_optuna.storage.paused_trials import ENDING, PAUSED, is_paused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from helpers.processes import Lab

EPOCHS = 9
WHOLE = (*SEARCH, "budget.trials=12", f"training.epochs={EPOCHS}", "training.patience='off'")
PAUSING = (
    *WHOLE, "pruner.name=thaw", "pruner.first_rung=1", "pruner.reduction_factor=2",
    "confirmation.candidates=3",
)  # fmt: skip

ONE = ()
TWO = ("metric=['accuracy', 'network_parameters']", "model.hidden_size=[4, 8, 16, 24]")


def check_pauses(lab: Lab, whole: list[dict[str, Any]]) -> None:
    """Every curve is the beginning of the whole one, and enough trials are complete."""
    check_exact(lab)
    complete = 0
    for trial, undisturbed_one in zip(lab.trials, whole, strict=True):
        epochs = len(trial.intermediate_values)
        begun = dict(list(undisturbed_one["curve"].items())[:epochs])
        assert trial.intermediate_values == begun
        complete += trial.state == TrialState.COMPLETE
        if trial.state == TrialState.PRUNED:
            assert trial.user_attrs["outcome"] == f"paused after epoch {epochs}"
            assert epochs in (1, 2, 4, 8)
    assert complete >= 3


@pytest.mark.parametrize(("goals", "kills"), [(ONE, 6), (TWO, 4)], ids=["one goal", "two goals"])
def test_decisions_and_curves_are_those_of_a_worker_that_nobody_killed(
    new_lab: Callable[..., Lab], database_url: str, tmp_path: Path, goals: Sequence[str], kills: int
) -> None:
    """With one slot the order of all events is fixed, so that every decision can be compared.

    The workers die between a pause and its commit, within the commit, between the commit and the
    next claim, and after a continuation. A later worker knows of a death at once; on PostgreSQL it
    would wait for a lease otherwise, and train another trial meanwhile.
    """
    lab = new_lab(database_url, *PAUSING, *goals)
    deaths = kill_often(
        lab, kills=kills, workers=1, slots=(1, 1), known=True,
        points=("checkpoint", "written", "claim", "commit", "committed"),
    )  # fmt: skip
    assert deaths.total() == kills
    check_work(lab)
    check_exact(lab)
    assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *PAUSING, *goals, slots=1)


def test_no_trial_is_continued_twice_by_workers_that_die(
    new_lab: Callable[..., Lab], database_url: str, tmp_path: Path
) -> None:
    lab = new_lab(database_url, *PAUSING)
    kill_often(lab, kills=6, workers=3)
    check_work(lab)
    check_pauses(lab, undisturbed(new_lab, tmp_path, *WHOLE))


@pytest.mark.parametrize("pruner", ["thaw", "none"])
def test_a_budget_of_epochs_is_exact_however_often_workers_die(
    new_lab: Callable[..., Lab], tmp_path: Path, pruner: str
) -> None:
    settings = (*PAUSING, "budget.trials=500", "budget.epochs=61", f"pruner.name={pruner}")
    lab = new_lab(f"sqlite:///{tmp_path / 'epochs.db'}", *settings)
    kill_often(lab, kills=5, workers=3)
    check_work(lab)
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in lab.trials)
    assert sum(len(trial.intermediate_values) for trial in lab.trials) == 61
    assert (lab.rows(leases), lab.rows(checkpoints), lab.files) == ([], [], [])


def test_paused_trials_that_were_being_ended_by_a_worker_that_died_end_as_they_are(
    new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    """The last commit but one claims all that are to end; its worker dies right after it."""
    whole = undisturbed(new_lab, tmp_path, *PAUSING, slots=1)
    lab = new_lab(f"sqlite:///{tmp_path / 'ends.db'}", *PAUSING)
    first = lab.worker(slots=1, strike={"at": "ending", "occurrence": 3})
    assert first.wait() == -signal.SIGKILL
    over = [t for t in lab.trials if t.user_attrs.get(PAUSED) == ENDING]
    assert len(over) == sum(trial["state"] == "PRUNED" for trial in whole)
    assert lab.worker(slots=1).wait() == 0
    check_work(lab)
    check_exact(lab)
    assert curves(lab.trials) == whole


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_checkpoint_of_a_paused_trial_falls_back(
    new_lab: Callable[..., Lab], tmp_path: Path, damage: str
) -> None:
    lab = new_lab(f"sqlite:///{tmp_path / 'damaged.db'}", *PAUSING)
    first = lab.worker(slots=2, slow={"seconds": 0.05})
    wait_for("four paused trials", lambda: sum(map(is_paused, lab.trials)) >= 4)
    first.signal(signal.SIGTERM)
    assert first.wait() == 130
    waiting = {trial._trial_id for trial in lab.trials if is_paused(trial)}
    rows = [row for row in lab.rows(checkpoints) if row["trial_id"] in waiting]
    assert len(rows) == len(waiting)  # one each
    for file in lab.files:
        file.write_bytes(b"") if damage == "changed" else file.unlink()
    assert lab.worker(slots=2).wait() == 0
    check_pauses(lab, undisturbed(new_lab, tmp_path, *WHOLE))


def test_paused_trials_continue_from_their_checkpoints_in_a_copy_of_a_backup(
    new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = new_lab(f"sqlite:///{tmp_path / 'first.db'}", *PAUSING)
    worker = lab.worker(slots=2, slow={"seconds": 0.05})
    wait_for("four paused trials", lambda: sum(map(is_paused, lab.trials)) >= 4)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 130
    before = {trial.number for trial in lab.trials if is_paused(trial)}
    backup, target = tmp_path / "backup.db", f"sqlite:///{tmp_path / 'second.db'}"
    run("backup", "--storage", lab.url, "--out", str(backup))
    run("copy", f"sqlite:///{backup}", target)
    moved = replace(lab, url=target, started=[])
    assert {trial.number for trial in moved.trials if is_paused(trial)} == before
    assert len(moved.rows(checkpoints)) == len(lab.rows(checkpoints))
    assert moved.worker(slots=2).wait() == 0
    assert set(lab.trained().values()) == {1}  # nothing is trained again
    check_pauses(moved, undisturbed(new_lab, tmp_path, *WHOLE))

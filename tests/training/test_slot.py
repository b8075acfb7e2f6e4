"""Best epoch, patience, ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.workspaces import write_tiny_study

from gru_optuna import study_file
from gru_optuna.training.slot import EpochResult, Progress

if TYPE_CHECKING:
    from pathlib import Path


def epoch(value: float, validation_loss: float = 1.0) -> EpochResult:
    return EpochResult(train_loss=1.0, validation_loss=validation_loss, value=value)


def test_the_best_epoch_counts_from_one() -> None:
    progress = Progress("maximize", epochs=9, patience=None)
    improved = [progress.record(epoch(value)) for value in (0.5, 0.7, 0.6)]
    assert improved == [True, True, False]
    assert progress.best_epoch == 2
    assert progress.best.value == 0.7


def test_lower_is_better_when_minimizing() -> None:
    progress = Progress("minimize", epochs=9, patience=None)
    for value in (0.5, 0.7, 0.4):
        progress.record(epoch(value))
    assert progress.best_epoch == 3


def test_patience_runs_out_after_so_many_epochs_without_a_better_one() -> None:
    progress = Progress("maximize", epochs=9, patience=2)
    seen = []
    for value in (0.5, 0.6, 0.6, 0.6):
        progress.record(epoch(value))
        seen.append(progress.out_of_patience)
    assert seen == [False, False, False, True]


def test_equal_values_are_ranked_by_validation_loss_and_renew_the_patience() -> None:
    progress = Progress("maximize", epochs=9, patience=1)
    progress.record(epoch(1.0, validation_loss=0.5))
    progress.record(epoch(1.0, validation_loss=0.3))
    assert progress.best_epoch == 2
    assert not progress.out_of_patience
    progress.record(epoch(1.0, validation_loss=0.3))
    assert progress.best_epoch == 2
    assert progress.out_of_patience


def test_no_patience_means_all_epochs() -> None:
    progress = Progress("maximize", epochs=3, patience=None)
    for _ in range(3):
        assert not progress.finished
        progress.record(epoch(0.0))
    assert progress.finished
    assert not progress.out_of_patience


def test_how_a_trial_ended_is_said_in_a_sentence() -> None:
    progress = Progress("maximize", epochs=3, patience=2)
    endings = []
    for value in (0.5, 0.4, 0.4):
        assert progress.ending is None
        progress.record(epoch(value))
        endings.append((progress.epoch, progress.out_of_patience))
    # Out of patience in the last epoch, too: that all were trained is what counts.
    assert endings == [(1, False), (2, False), (3, True)]
    assert progress.ending == "trained all 3 epochs"
    early = Progress("maximize", epochs=9, patience=2)
    for value in (0.5, 0.4, 0.4):
        early.record(epoch(value))
    assert early.ending == "stopped early after epoch 3, none better since epoch 1"


def test_a_study_without_patience_trains_all_epochs(tmp_path: Path) -> None:
    path = write_tiny_study(tmp_path)
    for given, expected in (("'off'", None), ("7", 7)):
        spec = study_file.load(path, ["training.epochs=9", f"training.patience={given}"])
        assert Progress.of(spec) == Progress(spec.direction, 9, expected)

"""Small studies of all values of all keys, and of random combinations."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from helpers.small_studies import (
    TASKS,
    covering_studies,
    data_folder,
    study_content,
    use_study,
    write_rows,
)

from gru_optuna.data import intervals

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("data")
    write_rows(folder)
    return folder


@pytest.fixture(autouse=True)
def _coarse_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval of a rank metric takes seconds, and isn't what is tried here."""
    monkeypatch.setattr(intervals, "FEWEST_RESAMPLES", 5)
    monkeypatch.setattr(intervals, "RESAMPLES", 5)


@pytest.mark.parametrize("number", range(len(covering_studies())))
def test_every_value_of_every_key_works_from_tuning_to_predictions(data: Path, number: int) -> None:
    rows, task, content = covering_studies()[number]
    use_study(data_folder(data, rows, task), content, refit=number % 3 == 0, onnx=number % 2 == 0)


@pytest.mark.parametrize("seed", range(210))
def test_random_combinations_work_from_tuning_to_predictions(data: Path, seed: int) -> None:
    rows, task = TASKS[seed % len(TASKS)]
    drawn = random.Random(seed)
    content = study_content(rows, task, lambda _, values: drawn.choice(values))
    folder = data_folder(data, rows, task)
    use_study(folder, content, refit=drawn.random() < 0.3, onnx=drawn.random() < 0.3)

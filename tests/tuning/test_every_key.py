"""Every key of the study file, with every kind of value, works from tuning to predictions.

Here one study for each task; the soak tests try every value, and random combinations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.small_studies import (
    TASKS,
    all_keys,
    covering_studies,
    data_folder,
    use_study,
    values_of,
    write_rows,
)

from gru_optuna.data import intervals

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("data")
    write_rows(folder)
    return folder


def test_every_key_of_the_study_file_is_tried() -> None:
    assert {key for rows, task in TASKS for key in values_of(rows, task)} == all_keys()


@pytest.mark.parametrize("number", range(len(TASKS)))
def test_a_study_with_any_keys_can_be_tuned_confirmed_exported_and_used(
    data: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The interval of a rank metric takes seconds, and isn't what is tried here.
    monkeypatch.setattr(intervals, "FEWEST_RESAMPLES", 5)
    monkeypatch.setattr(intervals, "RESAMPLES", 5)
    rows, task, content = covering_studies()[number]
    use_study(data_folder(data, rows, task), content, refit=number % 3 == 0, onnx=number % 2 == 0)


def test_sequences_that_are_not_standardized_can_be_exported_and_used(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, task, content = covering_studies()[TASKS.index(("arrays", "classification"))]
    unscaled = {**content["data"], "standardize": False}
    unscaled.pop("normalize", None)
    raw = {**content, "data": unscaled}
    monkeypatch.setattr(intervals, "FEWEST_RESAMPLES", 5)
    monkeypatch.setattr(intervals, "RESAMPLES", 5)
    use_study(data_folder(data, rows, task), raw)

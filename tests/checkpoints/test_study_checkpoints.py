"""The checkpoints of one study, in a folder or in rows of the database."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gru_optuna.checkpoints.checkpoint import Checkpoint, DamagedCheckpoint
from gru_optuna.checkpoints.stores import Folder
from gru_optuna.checkpoints.study_checkpoints import StudyCheckpoints

if TYPE_CHECKING:
    from pathlib import Path

SIMPLE = Checkpoint({}, {"curve": [0.5, 0.25, 0.125]})


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "checkpoints", default=True)


@pytest.fixture(params=["folder", "rows"])
def own(request: pytest.FixtureRequest, folder: Folder) -> StudyCheckpoints:
    return StudyCheckpoints(1, folder if request.param == "folder" else None)


def test_what_was_put_is_taken_back(own: StudyCheckpoints) -> None:
    saved = own.put(7, 2, SIMPLE)
    assert (saved.epoch, saved.name) == (3, "1/7-3-2.safetensors")
    assert own.take(saved).state == SIMPLE.state


def test_the_content_is_in_one_place(folder: Folder) -> None:
    in_row = StudyCheckpoints(1, None).put(7, 2, SIMPLE)
    in_file = StudyCheckpoints(1, folder).put(7, 2, SIMPLE)
    assert in_row.content == folder.read(in_file.name) == SIMPLE.to_bytes()
    assert in_file.content is None
    assert in_row.sha256 == in_file.sha256


def test_a_content_that_is_not_what_was_written_is_damaged(own: StudyCheckpoints) -> None:
    saved = own.put(7, 2, SIMPLE)
    with pytest.raises(DamagedCheckpoint, match="its content has changed"):
        own.take(replace(saved, sha256="0" * 64))


def test_a_content_that_neither_row_nor_file_holds_is_damaged(folder: Folder) -> None:
    saved = StudyCheckpoints(1, folder).put(7, 2, SIMPLE)
    with pytest.raises(DamagedCheckpoint, match="its content is not in the database"):
        StudyCheckpoints(1, None).take(saved)
    folder.remove(saved.name)
    with pytest.raises(DamagedCheckpoint, match="there is no such file"):
        StudyCheckpoints(1, folder).take(saved)


def test_rows_leave_nothing_to_remove() -> None:
    own = StudyCheckpoints(1, None)
    own.remove([own.put(7, 2, SIMPLE).name])
    own.clear(7)
    own.sweep({7})


def test_only_a_studys_own_checkpoints_are_removed(folder: Folder) -> None:
    """Of trials that are over, whether they were written whole or not."""
    own, other = StudyCheckpoints(1, folder), StudyCheckpoints(11, folder)
    for number in (1, 2, 11, 12):
        own.put(number, 1, SIMPLE)
        other.put(number, 1, SIMPLE)
    unfinished = folder.folder / "1" / "2-4-1.safetensors.01234567.writing"
    unfinished.touch()
    own.clear(1)
    kept = {"1/2-3-1.safetensors", "1/11-3-1.safetensors", "1/12-3-1.safetensors"}
    foreign = {f"11/{number}-3-1.safetensors" for number in (1, 2, 11, 12)}
    assert set(folder.names()) == kept | foreign
    own.sweep({2, 12})
    assert set(folder.names(unfinished=True)) == {"1/11-3-1.safetensors"} | foreign
    own.remove(["11/1-3-1.safetensors", "1/../thesis.tex", "1/thesis.tex", "1/11-3-1.safetensors"])
    assert set(folder.names()) == foreign

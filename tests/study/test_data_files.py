"""The files of a study in the database, for workers on machines without them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from helpers.workspaces import REPOSITORY, TINY_STUDY

from gru_optuna import study_file
from gru_optuna.errors import StorageError, StudyError
from gru_optuna.storage import uploads
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.data_files import Unavailable, fetch_missing_files, store_files
from gru_optuna.study.study import create_or_resume

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study
    from sqlalchemy import Engine

    from gru_optuna.study_file import Specification

FILES = ("data/japanese_vowels_train.ts", "data/japanese_vowels_test.ts")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a study file, with its data; what is fetched is kept beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(REPOSITORY / "studies" / "data", tmp_path / "studies" / "data")
    return tmp_path / "studies"


def create(url: str, toml: str = TINY_STUDY) -> tuple[Study, Specification]:
    """The study ``tiny`` without trials."""
    spec = study_file.loads(toml, "tiny")
    return create_or_resume(open_storage(url), spec, "fingerprint"), spec


def test_a_machine_without_the_files_gets_the_same(
    folder: Path, database_url: str, engine: Engine, tmp_path: Path
) -> None:
    study, spec = create(database_url)
    store_files(engine, study, spec, folder)
    assert fetch_missing_files(engine, study, folder) == folder
    elsewhere = fetch_missing_files(engine, study, tmp_path / "nothing")
    for path in FILES:
        assert (elsewhere / path).read_bytes() == (folder / path).read_bytes()
    assert elsewhere.is_relative_to(tmp_path / "cache")


def test_files_that_a_study_names_are_not_deleted(
    folder: Path, database_url: str, engine: Engine
) -> None:
    study, spec = create(database_url)
    store_files(engine, study, spec, folder)
    stored = uploads.list_all(engine)
    assert {upload.name for upload in stored} == {
        "japanese_vowels_train.ts",
        "japanese_vowels_test.ts",
    }
    for upload in stored:
        with pytest.raises(StorageError, match='used by the study "tiny"'):
            uploads.delete(engine, upload.sha256)


def test_a_path_that_leads_out_of_the_folder_is_refused_on_both_sides(
    folder: Path, database_url: str, engine: Engine, tmp_path: Path
) -> None:
    shutil.copy(folder / FILES[0], tmp_path / "rows.ts")
    study, spec = create(database_url, TINY_STUDY.replace(FILES[0], "../rows.ts"))
    with pytest.raises(StudyError, match=r"\.\./rows\.ts doesn't lie below"):
        store_files(engine, study, spec, folder)
    study.set_user_attr("data_files", {"../../rows.ts": "0" * 64})
    with pytest.raises(Unavailable, match="don't lie below"):
        fetch_missing_files(engine, study, folder)


def test_a_file_with_an_absolute_path_is_left_to_the_machines(
    folder: Path, database_url: str, engine: Engine
) -> None:
    absolute = TINY_STUDY
    for path in FILES:
        absolute = absolute.replace(path, str(folder / path))
    study, spec = create(database_url, absolute)
    store_files(engine, study, spec, folder)
    assert uploads.list_all(engine) == []
    assert fetch_missing_files(engine, study, folder) == folder

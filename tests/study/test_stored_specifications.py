"""Stored specifications are complete, and a default that changes touches no study that exists.

``assets/studies-0.1.0.db`` was written by version 0.1.0, with a study for each section of a study
file and one without any; ``assets/studies-0.1.0.json`` holds the study files, and each
specification as that version read it back.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from helpers.workspaces import write_tiny_study

from gru_optuna import study_file
from gru_optuna.errors import StudyError, StudyFileError
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.study import (
    create_or_resume,
    load_studies,
    load_study,
    stored_specification,
    with_stored_defaults,
)
from gru_optuna.study_file import Data, Model, Pruner, Sampler, Search, Specification, Training
from gru_optuna.study_file.stored import VERSION
from gru_optuna.tuning.tune import tune

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.storages import BaseStorage

    from gru_optuna.study_file.data_section import StudySection
    from gru_optuna.tuning.tune import RunStart

ASSETS = Path(__file__).parent / "assets"
STUDIES: dict[str, dict[str, Any]] = json.loads((ASSETS / "studies-0.1.0.json").read_text())


@pytest.fixture
def storage(tmp_path: Path) -> BaseStorage:
    shutil.copy(ASSETS / "studies-0.1.0.db", tmp_path / "old.db")
    return open_storage(f"sqlite:///{tmp_path / 'old.db'}")


def parse(name: str) -> Specification:
    return study_file.parse(STUDIES[name]["file"], source="x.toml")


NEW_DEFAULTS: dict[type[StudySection], dict[str, Any]] = {
    Data: {"validation": 0.4, "standardize": False, "tokenizer": "word", "missing": "drop"},
    Model: {"hidden_size": 7, "embedding_size": 7, "layers": 3},
    Search: {"l1": 0.5, "dropout": 0.25, "jitter": 0.25, "token_swap": 0.25, "optimizer": "adam"},
    Training: {"epochs": 7, "patience": "off"},
    Sampler: {"name": "random", "n_startup_trials": 77},
    Pruner: {"name": "percentile", "percentile": 50.0},
    study_file.Confirmation: {"candidates": 1, "seeds": 1},
}


def set_defaults(values: dict[type[StudySection], dict[str, Any]]) -> None:
    for section, defaults in values.items():
        for name, value in defaults.items():
            section.model_fields[name].default = value
        section.model_rebuild(force=True)
    for field in Specification.model_fields.values():
        if field.annotation in values and not field.is_required():
            field.default = field.annotation()
    Specification.model_rebuild(force=True)


@pytest.fixture
def new_defaults() -> Iterator[None]:
    """Defaults as a later version may have them, in every section."""
    old = {
        section: {name: section.model_fields[name].default for name in names}
        for section, names in NEW_DEFAULTS.items()
    }
    set_defaults(NEW_DEFAULTS)
    yield
    set_defaults(old)


# --- as version 0.1.0 read them ---


def without_rungs(content: dict[str, Any]) -> dict[str, Any]:
    """Version 0.1.0 left two keys to the pruner's own defaults, which are now written out."""
    return content | {"pruner": content["pruner"] | {"min_resource": 0, "reduction_factor": 0}}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_of_version_0_1_0_has_the_specification_it_was_made_with(
    storage: BaseStorage, name: str
) -> None:
    spec = load_study(storage, name)[1]
    stored = STUDIES[name]["specification"]
    assert without_rungs(spec.model_dump(mode="json")) == without_rungs(stored)
    assert spec.pruner == study_file.complete_pruner(parse(name))


@pytest.mark.usefixtures("new_defaults")
def test_new_defaults_change_no_study_of_version_0_1_0(storage: BaseStorage) -> None:
    found = {study.study_name: spec for study, spec in load_studies(storage)}
    for name in STUDIES:
        dumped = without_rungs(found[name].model_dump(mode="json"))
        assert dumped == without_rungs(STUDIES[name]["specification"]), name


@pytest.mark.parametrize(
    "left_out", [key for key in Specification.model_fields if key not in ("name", "task", "data")]
)
@pytest.mark.usefixtures("new_defaults")
def test_a_section_that_was_not_stored_has_the_defaults_of_version_0_1_0(
    storage: BaseStorage, left_out: str
) -> None:
    study, before = load_study(storage, "minimal")
    content = {k: v for k, v in study.user_attrs["specification"].items() if k != left_out}
    study.set_user_attr("specification", content)
    assert stored_specification(study) == before


@pytest.mark.usefixtures("new_defaults")
def test_keys_that_were_not_stored_have_the_defaults_of_version_0_1_0(storage: BaseStorage) -> None:
    study, before = load_study(storage, "texts")
    content = study.user_attrs["specification"]
    del content["data"]["standardize"], content["search"]["jitter"]
    del content["model"]["layers"], content["pruner"]["percentile"]
    study.set_user_attr("specification", content)
    assert stored_specification(study) == before


# --- resumed ---


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.usefixtures("new_defaults")
def test_a_key_that_the_file_leaves_out_keeps_its_stored_default(
    storage: BaseStorage, name: str
) -> None:
    stored = load_study(storage, name)[1]
    spec = with_stored_defaults(parse(name), storage)
    assert spec == stored
    study = create_or_resume(storage, spec, f"fingerprint of {name}")
    assert stored_specification(study) == stored


def test_the_same_file_resumes_while_no_default_has_changed(storage: BaseStorage) -> None:
    for name in STUDIES:
        study = create_or_resume(storage, parse(name), f"fingerprint of {name}")
        assert "defaults_version" not in study.user_attrs


@pytest.mark.usefixtures("new_defaults")
def test_a_value_that_was_no_default_is_not_forgotten_with_its_key(storage: BaseStorage) -> None:
    file = {key: value for key, value in STUDIES["training"]["file"].items() if key != "training"}
    spec = with_stored_defaults(study_file.parse(file, "x.toml"), storage)
    with pytest.raises(StudyError, match=r"training\.epochs: 100 in the database, 40 now"):
        create_or_resume(storage, spec, "fingerprint of training")


@pytest.mark.usefixtures("new_defaults")
def test_a_new_study_has_the_new_defaults(storage: BaseStorage) -> None:
    file = STUDIES["minimal"]["file"] | {"name": "new"}
    spec = with_stored_defaults(study_file.parse(file, "x.toml"), storage)
    study = create_or_resume(storage, spec, "data")
    stored = study.user_attrs["specification"]
    assert (stored["training"]["epochs"], stored["pruner"]["name"]) == (7, "percentile")
    assert study.user_attrs["defaults_version"] == VERSION


def test_tune_resumes_with_the_defaults_the_study_was_made_with(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = write_tiny_study(tmp_path / "study")
    options: dict[str, Any] = {
        "storage": f"sqlite:///{tmp_path / 'x.db'}",
        "report": tmp_path / "report",
        "overrides": ["confirmation.candidates=0"],
        "threads": 1,
        "slots": 1,
    }
    tune(path, trials=1, **options)
    request.getfixturevalue("new_defaults")
    starts: list[RunStart] = []
    again = tune(path, trials=2, on_open=starts.append, **options)
    assert (again.ran, again.summary.trials["complete"]) == (1, 2)
    assert starts[0].spec.search.jitter == 0.0
    assert starts[0].spec.pruner.name == "asha"


# --- the table ---


def test_the_newest_table_holds_the_defaults_of_this_version() -> None:
    spec = study_file.parse({"name": "x", "data": {"train": "x.ts"}}, "x.toml")
    assert study_file.with_defaults_of(VERSION, spec, "x.toml") == spec.model_copy(
        update={"pruner": study_file.complete_pruner(spec)}
    )
    for task, metrics in study_file.METRICS.items():
        series = {"time": "t", "target": "y", "horizon": 3} if task == "forecasting" else {}
        content = {"name": "x", "task": task, "data": {"train": "x"} | series}
        assert study_file.parse_stored(content, "x", VERSION).metric == metrics[0]


@pytest.mark.parametrize(
    ("pruner", "rungs"),
    [
        ({}, (2, 4)),
        ({"name": "hyperband"}, (2, 3)),
        ({"min_resource": 5}, (5, 4)),
        ({"name": "median"}, (None, None)),
    ],
)
def test_the_defaults_of_a_pruner_follow_from_its_name_and_the_epochs(
    pruner: dict[str, Any], rungs: tuple[int | None, int | None]
) -> None:
    content = {"name": "x", "data": {"train": "x.ts"}, "pruner": pruner}
    found = study_file.complete_pruner(study_file.parse(content, "x.toml"))
    assert (found.min_resource, found.reduction_factor) == rungs


def test_a_study_of_a_newer_version_is_refused(storage: BaseStorage) -> None:
    study = optuna.load_study(storage=storage, study_name="minimal")
    study.set_user_attr("defaults_version", VERSION + 1)
    with pytest.raises(StudyFileError, match="stored by a newer version of gru-optuna"):
        load_study(storage, "minimal")

"""``studies`` with a study among them whose records can't be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from helpers.storage_rows import invoke
from helpers.workspaces import TINY_STUDY
from optuna.storages._rdb import models
from optuna.trial import create_trial
from sqlalchemy import update

from gru_optuna import attributes, study_file
from gru_optuna.attributes import (
    BUDGET,
    CALIBRATION,
    CONFIRMATION,
    DEFAULTS_VERSION,
    SPECIFICATION,
    TEST,
)
from gru_optuna.storage.database.open import locate, open_storage
from gru_optuna.study.study import create_or_resume

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("here")

RECORDS = [
    key for name, key in vars(attributes).items() if name.isupper() and name != "DESCRIBED_AT"
]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[(SPECIFICATION, value) for value in (None, 3, "text", [], ["ab"], {}, {"task": []})],
        (SPECIFICATION, {"task": "classification", "data": 7, "pruner": None}),
        (SPECIFICATION, {"task": "classification", "training": {"epochs": "many"}}),
        (SPECIFICATION, {"task": "classification", "pruner": {"name": ["hyperband"]}}),
        *[(BUDGET, value) for value in ("text", [1], {"trials": -1}, {"trials": {}})],
        *[(DEFAULTS_VERSION, value) for value in (99, "new", [], None, 1.5)],
        (CONFIRMATION, {"candidates": [], "winner": 3}),
        (CALIBRATION, {"number": 3}),
        (TEST, None),
        *[(key, [["nothing", "of", "the", "kind"]]) for key in RECORDS],
    ],
)
def test_a_broken_study_is_shown_in_its_row_and_hides_no_other(
    key: str, value: Any, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    storage = open_storage(url, create=True)
    (tmp_path / "tiny.toml").write_text(TINY_STUDY)
    spec = study_file.load(tmp_path / "tiny.toml")
    create_or_resume(storage, spec, "fingerprint")
    create_or_resume(storage, spec.model_copy(update={"name": "broken"}), "fingerprint")
    optuna.load_study(storage=storage, study_name="broken").set_user_attr(key, value)
    broken, tiny = json.loads(invoke("studies", "--storage", url, "--json", code=0).stdout)
    assert (broken["study"], broken["trials"], broken["best"]) == ("broken", 0, None)
    assert 'study "broken" in the database' in broken["error"]
    assert tiny == {"study": "tiny", "task": "classification", "trials": 0, "best": None}
    table = invoke("studies", "--storage", url, code=0).stdout
    assert len(table.splitlines()) == 3
    assert 'study "broken" in the database' in table
    message = invoke("status", "broken", "--storage", url, code=2).output
    assert 'study "broken" in the database' in message


def test_a_trial_of_another_program_is_named_in_its_studys_row(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    storage = open_storage(url, create=True)
    (tmp_path / "tiny.toml").write_text(TINY_STUDY)
    spec = study_file.load(tmp_path / "tiny.toml")
    for name in ("broken", "tiny"):
        study = create_or_resume(storage, spec.model_copy(update={"name": name}), "fingerprint")
        if name == "broken":
            best = {"best_epoch": 1, "best_validation_loss": 0.5}
            study.add_trial(create_trial(value=0.5, intermediate_values={1: 0.5}, user_attrs=best))
    broken, tiny = json.loads(invoke("studies", "--storage", url, "--json", code=0).stdout)
    assert (broken["study"], broken["trials"], broken["best"]) == ("broken", 1, None)
    assert 'study "broken": a trial has no parameter' in broken["error"]
    assert "error" not in tiny
    assert "a trial has no parameter" in invoke("best", "broken", "--storage", url, code=2).output


@pytest.mark.parametrize("text", ["", '{"name":', "1, 2", "[" * 100_000])
def test_attributes_that_are_not_json_hide_no_other_study(text: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    storage = open_storage(url, create=True)
    (tmp_path / "tiny.toml").write_text(TINY_STUDY)
    spec = study_file.load(tmp_path / "tiny.toml")
    for name in ("broken", "tiny"):
        study = create_or_resume(storage, spec.model_copy(update={"name": name}), "fingerprint")
        study.ask().set_user_attr("outcome", "done")
    with locate(url).passing_engine().begin() as connection:
        for model, of_first in (
            (models.StudyUserAttributeModel, models.StudyUserAttributeModel.study_id == 1),
            (models.TrialUserAttributeModel, models.TrialUserAttributeModel.trial_id <= 2),
        ):
            connection.execute(update(model).where(of_first).values(value_json=text))
    broken, tiny = json.loads(invoke("studies", "--storage", url, "--json", code=0).stdout)
    assert "its specification can't be read" in broken["error"]
    assert (tiny["study"], tiny["trials"]) == ("tiny", 1)
    assert (
        "its specification can't be read"
        in invoke("best", "broken", "--storage", url, code=2).output
    )
    assert "1 running" in invoke("status", "tiny", "--storage", url, code=0).output
    invoke("storage", "check", "--storage", url, code=0)
    (*_, study) = open_storage(url).get_all_studies()
    assert study.study_name == "tiny"
    assert study.user_attrs["specification"]["name"] == "tiny"

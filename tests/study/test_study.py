"""The study in the database: plain Optuna's, found again, and never mixed up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna
import pytest

from gru_optuna import study_file
from gru_optuna.errors import StudyError
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.study import create_or_resume, load_studies, load_study

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.storages import BaseStorage

    from gru_optuna.study_file import Specification


def specification(**sections: Any) -> Specification:
    return study_file.parse(
        {"name": "vowels", "data": {"train": "x.ts"}} | sections, source="x.toml"
    )


WRITTEN_OUT_PRUNER = {
    "name": "asha",
    "min_resource": 2,
    "reduction_factor": 4,
    "percentile": 25.0,
    "n_startup_trials": 5,
    "n_warmup_steps": 0,
}


def refusal(storage: BaseStorage, spec: Specification, fingerprint: str = "data") -> str:
    with pytest.raises(StudyError) as caught:
        create_or_resume(storage, spec, fingerprint)
    return str(caught.value)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'x.db'}"


@pytest.fixture
def storage(url: str) -> BaseStorage:
    return open_storage(url, create=True)


# --- made ---


def test_plain_optuna_opens_the_study_and_finds_all_it_needs(
    storage: BaseStorage, url: str
) -> None:
    spec = specification(metric="log_loss", budget={"trials": 7})
    create_or_resume(storage, spec, "data")
    study = optuna.load_study(study_name="vowels", storage=url)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert study.user_attrs == {
        "specification": spec.model_dump(mode="json") | {"pruner": WRITTEN_OUT_PRUNER},
        "defaults_version": study_file.VERSION,
        "fingerprint": "data",
        "budget": {"trials": 7, "hours": None},
    }


def test_a_half_made_study_is_completed(storage: BaseStorage) -> None:
    # Its maker died before it could write a word.
    optuna.create_study(storage=storage, study_name="vowels", direction="maximize")
    create_or_resume(storage, specification(), "data")
    assert load_study(storage, "vowels")[1] == specification(pruner=WRITTEN_OUT_PRUNER)


def test_a_study_made_without_its_budget_yet_is_completed(storage: BaseStorage) -> None:
    spec = specification(budget={"trials": 7})
    made = optuna.create_study(storage=storage, study_name="vowels", direction="maximize")
    made.set_user_attr("fingerprint", "data")
    made.set_user_attr("specification", spec.model_dump(mode="json"))
    assert create_or_resume(storage, spec, "data").user_attrs["budget"]["trials"] == 7


# --- found again ---


def test_the_same_file_goes_on_with_the_same_study(storage: BaseStorage, url: str) -> None:
    study = create_or_resume(storage, specification(), "data")
    study.tell(study.ask(), 0.5)
    again = create_or_resume(open_storage(url), specification(), "data")
    assert again._study_id == study._study_id
    assert [trial.value for trial in again.trials] == [0.5]


CHANGES = [
    ({"seed": 1}, "seed: 0 in the database, 1 now"),
    ({"training": {"epochs": 7}}, "training.epochs: 40 in the database, 7 now"),
    ({"model": {"layers": [1, 2]}}, "model.layers: 1 in the database, [1, 2] now"),
    (
        {"search": {"dropout": 0.3}},
        "search.dropout: {'low': 0.0, 'high': 0.6} in the database, 0.3",
    ),
    ({"search": {"l1": {"low": 0, "high": 1}}}, "search.l1: {'low': 1e-08, 'high': 0.001, 'log'"),
    ({"metric": "log_loss"}, "metric: accuracy in the database, log_loss now"),
    ({"sampler": {"name": "random"}}, "sampler.name: tpe in the database, random now"),
    ({"pruner": {"name": "none"}}, "pruner.name: asha in the database, none now"),
    ({"data": {"train": "x.ts", "validation": 0.3}}, "data.validation: 0.2 in the database, 0.3"),
    (
        {"data": {"train": "x.ts", "validation": "y.ts"}},
        "data.validation: 0.2 in the database, y.ts",
    ),
    ({"data": {"train": "x.ts", "test": "y.ts"}}, "data.test: None in the database, y.ts now"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_a_changed_field_is_named(storage: BaseStorage, change: dict, words: str) -> None:
    create_or_resume(storage, specification(), "data")
    message = refusal(storage, specification(**change))
    assert message.startswith('study "vowels" was made with another specification:\n')
    assert words in message
    assert message.endswith("Undo the change, or give the study a new name.")
    assert len(message.splitlines()) == 3


def test_all_changed_fields_are_named(storage: BaseStorage) -> None:
    create_or_resume(storage, specification(), "data")
    message = refusal(storage, specification(seed=1, training={"epochs": 7, "patience": "off"}))
    assert [line.partition(":")[0].strip() for line in message.splitlines()[1:-1]] == [
        "seed",
        "training.epochs",
        "training.patience",
    ]


def test_a_refused_study_is_left_as_it_was(storage: BaseStorage) -> None:
    before = create_or_resume(storage, specification(), "data").user_attrs
    refusal(storage, specification(seed=1, budget={"trials": 7}))
    refusal(storage, specification(budget={"trials": 7}), "other data")
    assert load_study(storage, "vowels")[0].user_attrs == before


def test_the_budget_may_change_at_any_time(storage: BaseStorage) -> None:
    create_or_resume(storage, specification(budget={"trials": 7}), "data")
    create_or_resume(storage, specification(budget={"hours": 2.0}), "data")
    assert load_study(storage, "vowels")[1].budget == study_file.Budget(hours=2.0)


def test_the_data_may_move_and_may_not_change(storage: BaseStorage) -> None:
    create_or_resume(storage, specification(), "data")
    moved = specification(data={"train": "/elsewhere/y.ts"})
    assert create_or_resume(storage, moved, "data").trials == []
    message = refusal(storage, moved, "other data")
    assert 'study "vowels": the data differ from those it was made with' in message
    assert "/elsewhere/y.ts" in message


def test_a_written_default_is_no_change(storage: BaseStorage) -> None:
    create_or_resume(storage, specification(), "data")
    written = specification(seed=0, search={"l1": {"low": 1e-8, "high": 1e-3, "log": True}})
    assert create_or_resume(storage, written, "data").trials == []


# --- not ours ---


def test_a_study_of_plain_optuna_is_neither_resumed_nor_shown(storage: BaseStorage) -> None:
    plain = optuna.create_study(storage=storage, study_name="vowels", direction="maximize")
    plain.tell(plain.ask(), 0.5)
    words = 'study "vowels" was not made by gru-optuna: it holds no specification.'
    assert refusal(storage, specification()).startswith(words)
    with pytest.raises(StudyError, match="was not made by gru-optuna"):
        load_study(storage, "vowels")
    assert plain.user_attrs == {}


def test_an_empty_study_of_another_direction_is_not_taken_over(storage: BaseStorage) -> None:
    optuna.create_study(storage=storage, study_name="vowels", direction="minimize")
    refusal(storage, specification(metric="accuracy"))


def test_an_unknown_name_is_answered_with_the_nearest(storage: BaseStorage) -> None:
    create_or_resume(storage, specification(), "data")
    with pytest.raises(StudyError, match=r'no study "vowel" here\. Did you mean "vowels"\?'):
        load_study(storage, "vowel")


def test_an_unknown_name_in_an_empty_database_says_that_there_is_none(storage: BaseStorage) -> None:
    with pytest.raises(StudyError, match=r'no study "vowels" here\. There is none\.'):
        load_study(storage, "vowels")


def test_only_our_studies_are_listed_by_name(storage: BaseStorage) -> None:
    optuna.create_study(storage=storage, study_name="plain")
    for name in ("b", "a"):
        create_or_resume(storage, specification(name=name), "data")
    assert [(study.study_name, spec.name) for study, spec in load_studies(storage)] == [
        ("a", "a"),
        ("b", "b"),
    ]

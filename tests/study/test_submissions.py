"""Submissions: what is put into the queue, what is refused, and what a study is doing."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from threading import Thread
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState

from gru_optuna.errors import StorageError, StudyError, StudyFileError
from gru_optuna.storage import jobs, uploads
from gru_optuna.storage.database.open import open_engine, open_storage
from gru_optuna.study import submissions
from gru_optuna.study.study import create_or_resume
from gru_optuna.study.submissions import KeyUsed, OtherVersion, change, get, list_all, submit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

ROWS = b"text,label\ngood,1\nbad,0\n"
SHA256 = hashlib.sha256(ROWS).hexdigest()
TOML = """
name = "reviews"
[data]
train = "reviews.csv"
text = "text"
label = "label"
[budget]
trials = 4
"""


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database of each kind, with one upload."""
    engine = open_engine(database_url)
    uploads.put(engine, "reviews.csv", io.BytesIO(ROWS))
    yield engine
    engine.dispose()


@pytest.fixture
def trained(engine: Engine, database_url: str) -> Callable[[int], optuna.Study]:
    """Lets a worker create the submitted study, and end some trials of it."""

    def train(trials: int) -> optuna.Study:
        storage = open_storage(database_url)
        found = get(engine, "reviews")
        assert found.spec is not None
        study = create_or_resume(storage, found.spec, "fingerprint")
        for _ in range(trials):
            study.tell(study.ask(), state=TrialState.FAIL)
        return study

    return train


def test_a_study_is_submitted_with_its_files(engine: Engine) -> None:
    made = submit(engine, TOML, {"train": SHA256}, by="ann")
    assert (made.name, made.data, made.state, made.version) == (
        "reviews", {"train": SHA256}, "queued", 1,
    )  # fmt: skip
    assert made.specification().budget.trials == 4
    found = get(engine, "reviews")
    assert (found.state, found.workers, found.study_id) == ("queued", 0, None)
    assert found.submission == made
    assert [study.name for study in list_all(engine)] == ["reviews"]


def test_a_path_may_name_its_content(engine: Engine) -> None:
    path = uploads.find(engine, SHA256).path
    made = submit(engine, TOML.replace("reviews.csv", path))
    assert made.data == {"train": SHA256}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("trials = 4", "trails = 4", 'study file [budget]: unknown key "trails"'),
        ("[data]", "[data", "study file: not valid TOML"),
        ('"reviews"', '"../reviews"', 'study file [name]: name = "../reviews" also names a folder'),
        ("reviews.csv", "/etc/passwd", '[data.train]: "/etc/passwd" leads out of the study\'s own'),
        ("reviews.csv", "../reviews.csv", "leads out of the study's own folder"),
        ("reviews.csv", f"{'0' * 64}/rows.csv", f"no file with the SHA-256 {'0' * 64}"),
        ("reviews.csv", "rows.csv", '"rows.csv" was not uploaded'),
    ],
)
def test_a_wrong_study_file_is_refused_with_its_place(
    engine: Engine, old: str, new: str, says: str
) -> None:
    with pytest.raises(StudyFileError) as refused:
        submit(engine, TOML.replace(old, new, 1))
    assert says in str(refused.value)
    assert list_all(engine) == []


def test_a_file_for_a_part_that_names_none_is_refused(engine: Engine) -> None:
    with pytest.raises(StudyFileError, match='"test" names no file'):
        submit(engine, TOML, {"train": SHA256, "test": SHA256})
    with pytest.raises(StudyFileError, match="not a SHA-256"):
        submit(engine, TOML, {"train": "reviews.csv"})


def test_a_name_is_taken_once(engine: Engine) -> None:
    submit(engine, TOML, {"train": SHA256})
    with pytest.raises(StudyError, match='already a study "reviews"'):
        submit(engine, TOML, {"train": SHA256})


def test_an_idempotency_key_submits_once(engine: Engine) -> None:
    first = submit(engine, TOML, {"train": SHA256}, key="a")
    assert submit(engine, TOML, {"train": SHA256}, key="a") == first
    with pytest.raises(KeyUsed, match='"a" was used for another submission'):
        submit(engine, TOML.replace("reviews", "others", 1), {"train": SHA256}, key="a")
    assert len(list_all(engine)) == 1


def test_of_two_who_submit_at_once_one_is_refused_or_both_get_the_same(
    database_url: str, engine: Engine
) -> None:
    outcomes: list[object] = []

    def send() -> None:
        own = open_engine(database_url)
        try:
            outcomes.append(submit(own, TOML, {"train": SHA256}, key="same"))
        finally:
            own.dispose()

    threads = [Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_a_study_is_suspended_continued_and_cancelled(engine: Engine) -> None:
    submit(engine, TOML, {"train": SHA256})
    assert change(engine, "reviews", state="suspended", version=1).version == 2
    assert get(engine, "reviews").state == "suspended"
    with pytest.raises(OtherVersion, match="has version 2 now, not 1"):
        change(engine, "reviews", state="queued", version=1)
    change(engine, "reviews", state="queued", version=2)
    assert get(engine, "reviews").state == "queued"
    change(engine, "reviews", state="cancelled")
    with pytest.raises(StudyError, match="was cancelled"):
        change(engine, "reviews", state="queued")
    with pytest.raises(StudyError, match='Did you mean "reviews"'):
        change(engine, "review", state="queued")


def test_a_budget_may_change_but_not_below_what_was_used(
    engine: Engine, trained: Callable[[int], optuna.Study]
) -> None:
    submit(engine, TOML, {"train": SHA256})
    assert change(engine, "reviews", budget={"trials": 3}).budget == {"trials": 3, "hours": None}
    study = trained(2)
    with pytest.raises(StudyError, match=r"trials: 1 is below what was used already \(2\)"):
        change(engine, "reviews", budget={"trials": 1})
    change(engine, "reviews", budget={"trials": 2})
    assert get(engine, "reviews").state == "confirming"
    change(engine, "reviews", budget={"trials": 9, "hours": 2.0})
    # Where the workers that train it look.
    assert study.user_attrs["budget"] == {"trials": 9, "hours": 2.0}
    assert get(engine, "reviews").state == "queued"
    for wrong, says in [
        ({"trails": 9}, 'Did you mean "trials"'),
        ({"trials": 0}, "budget.trials: got 0"),
        ({"trials": "many"}, "budget.trials: got 'many'"),
        ({"trials": None, "hours": None}, "no limit would be left"),
    ]:
        with pytest.raises(StudyError, match=says):
            change(engine, "reviews", budget=wrong)


def test_the_state_follows_from_trials_jobs_and_errors(
    engine: Engine, trained: Callable[[int], optuna.Study]
) -> None:
    submit(engine, TOML, {"train": SHA256})
    trained(3)
    assert get(engine, "reviews").state == "queued"
    study = trained(1)
    found = get(engine, "reviews")
    assert (found.state, found.ended) == ("confirming", 4)
    job = jobs.create(engine, "reviews", "confirm", {"ended": 4})
    assert jobs.create(engine, "reviews", "confirm", {"ended": 4}) == job
    claimed = jobs.claim(engine, 1)
    assert claimed is not None
    assert get(engine, "reviews").state == "confirming"
    assert jobs.finish(engine, claimed)
    assert get(engine, "reviews").state == "done"
    change(engine, "reviews", budget={"trials": 5})
    assert get(engine, "reviews").state == "queued"
    study.tell(study.ask(), state=TrialState.FAIL)
    assert get(engine, "reviews").state == "confirming"
    submissions.set_error(engine, "reviews", "its rows have no labels")
    found = get(engine, "reviews")
    assert (found.state, found.error) == ("failed", "its rows have no labels")
    change(engine, "reviews", state="queued")
    assert get(engine, "reviews").state == "confirming"
    jobs.create(engine, "reviews", "confirm", {"ended": 5})
    claimed = jobs.claim(engine, 1)
    assert claimed is not None
    jobs.fail(engine, claimed, "its workers died")
    found = get(engine, "reviews")
    assert (found.state, found.error) == ("failed", "its workers died")
    change(engine, "reviews", state="queued")
    assert get(engine, "reviews").state == "confirming"


def test_studies_that_tune_made_are_listed_but_not_changed(
    engine: Engine, trained: Callable[[int], optuna.Study], database_url: str
) -> None:
    submit(engine, TOML, {"train": SHA256})
    spec = get(engine, "reviews").spec
    assert spec is not None
    mine = spec.model_copy(update={"name": "mine"})
    create_or_resume(open_storage(database_url), mine, "fingerprint")
    optuna.create_study(study_name="foreign", storage=open_storage(database_url))
    assert [(s.name, s.state) for s in list_all(engine)] == [
        ("mine", "queued"),
        ("reviews", "queued"),
    ]
    with pytest.raises(StudyError, match='"mine" was made with gru-optuna tune'):
        change(engine, "mine", state="suspended")
    with pytest.raises(StudyError, match='already a study "mine"'):
        submit(engine, TOML.replace("reviews", "mine", 1), {"train": SHA256})


def test_a_deleted_study_leaves_nothing_and_its_name_is_free(
    engine: Engine, trained: Callable[[int], optuna.Study], database_url: str
) -> None:
    submit(engine, TOML, {"train": SHA256})
    trained(2)
    jobs.create(engine, "reviews", "export", {})
    with pytest.raises(StorageError, match='used by the study "reviews"'):
        uploads.delete(engine, SHA256)
    submissions.delete(engine, "reviews")
    assert list_all(engine) == []
    assert jobs.list_all(engine) == []
    assert open_storage(database_url).get_all_studies() == []
    submit(engine, TOML, {"train": SHA256})
    submissions.delete(engine, "reviews")
    uploads.delete(engine, SHA256)
    assert uploads.list_all(engine) == []


def test_rows_that_were_predicted_can_be_removed(engine: Engine) -> None:
    submit(engine, TOML, {"train": SHA256})
    rows = uploads.put(engine, "rows.csv", io.BytesIO(b"text\nfine\n")).sha256
    predicted = uploads.put(engine, "predictions.csv", io.BytesIO(b"yes\n")).sha256
    made = jobs.create(engine, "reviews", "predict", {"bundle": 1, "data": rows})
    for take in (None, lambda: jobs.claim(engine, 1)):
        claimed = take() if take else None
        with pytest.raises(StorageError, match=f"used by job {made.job_id} of the study"):
            uploads.delete(engine, rows)
    assert claimed is not None
    jobs.finish(engine, claimed, sha256=predicted)
    uploads.delete(engine, rows)
    with pytest.raises(StorageError, match=f"used by job {made.job_id} of the study"):
        uploads.delete(engine, predicted)


def test_a_server_imports_neither_torch_nor_numba() -> None:
    code = (
        "import sys, gru_optuna.study.submissions, gru_optuna.storage.jobs\n"
        "print(sorted({'torch', 'numba', 'sklearn', 'polars'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said == "[]\n"


# --- jobs ---


def test_a_job_that_was_taken_over_is_lost_to_its_first_worker(engine: Engine) -> None:
    made = jobs.create(engine, "reviews", "export", {"refit": None})
    first = jobs.claim(engine, 1)
    assert first is not None
    assert first.job_id == made.job_id
    assert jobs.claim(engine, 2) is None
    assert jobs.give_back(engine, first)
    second = jobs.claim(engine, 2)
    assert second is not None
    assert second.token == first.token + 1
    assert not jobs.finish(engine, first)
    assert not jobs.fail(engine, first, "late")
    assert jobs.finish(engine, second, {"trial": 3})
    found = jobs.get(engine, made.job_id)
    assert (found.state, found.result, found.error) == ("done", {"trial": 3}, None)


def test_a_suspended_study_is_exported_but_not_confirmed(engine: Engine) -> None:
    submit(engine, TOML, {"train": SHA256})
    jobs.create(engine, "reviews", "confirm", {"ended": 0})
    export = jobs.create(engine, "reviews", "export", {})
    change(engine, "reviews", state="suspended")
    claimed = jobs.claim(engine, 1)
    assert claimed is not None
    assert claimed.job_id == export.job_id
    assert jobs.claim(engine, 1) is None

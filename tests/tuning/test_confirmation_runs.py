"""Workers that share the runs of a confirmation, as real processes on real databases."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from helpers.processes import wait_for

from gru_optuna import seeds
from gru_optuna.attributes import (
    CALIBRATION,
    CONFIRMATION_LEASES,
    CONFIRMATION_RUNS,
    PREDICTIONS,
    TEST,
)
from gru_optuna.storage.database.tables import checkpoints, leases, workers
from gru_optuna.study.confirmation import finalists, read_decision

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helpers.processes import Lab, Process
    from optuna import Study

SETTINGS = (
    "sampler.name=random", "pruner.name=none", "training.epochs=8", "training.patience='off'",
    "confirmation.candidates=3", "confirmation.seeds=3",
)  # fmt: skip


def worker(lab: Lab, *options: object, slots: int = 1, **faults: Any) -> Process:
    """A worker of the study, as a cluster starts it."""
    process = lab.nursery.start(
        "worker", "tiny", "--storage", lab.url, "--data", lab.folder, "--lease", 3,
        "--threads", 1, "--slots", slots, "--device", "cpu",
        "--confirm", lab.spec.confirmation.model_dump_json(), *options,
        folder=lab.folder, faults={"log": {"path": str(lab.log)}, **faults},
    )  # fmt: skip
    lab.started.append(process)
    return process


def recorded(study: Study) -> dict[str, Any]:
    """What a confirmation leaves."""
    attrs = study.user_attrs
    kept = (CALIBRATION, CONFIRMATION_RUNS, PREDICTIONS, TEST)
    return {"decision": read_decision(study), **{key: attrs[key] for key in kept}}


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """What one worker found that nobody helped or killed: filled by the first test."""
    return {}


def by_one_worker(found: dict[str, Any], new_lab: Callable[..., Lab], folder: Path) -> None:
    if not found:
        lab = new_lab(f"sqlite:///{folder / 'alone.db'}", *SETTINGS)
        assert worker(lab, slots=2).wait() == 0
        found |= recorded(lab.study)


def holders(lab: Lab) -> dict[int, list[str]]:
    """The runs that each living process holds."""
    processes = {row["worker_id"]: row["process"] for row in lab.rows(workers)}
    held = defaultdict(list)
    for run, (holder, _) in lab.study.user_attrs.get(CONFIRMATION_LEASES, {}).items():
        if holder in processes:
            held[processes[holder]].append(run)
    return held


def test_shared_runs_decide_as_those_of_one_worker_though_workers_die(
    new_lab: Callable[..., Lab], tmp_path: Path, database_url: str, alone: dict[str, Any]
) -> None:
    by_one_worker(alone, new_lab, tmp_path)
    lab = new_lab(database_url, *SETTINGS)
    assert lab.worker().wait() == 0  # the search alone
    go_on = tmp_path / "go on"
    faults = {"held": {"until": str(go_on)}, "slow": {"seconds": 0.2}}
    first = [worker(lab, **faults) for _ in range(3)]
    held = wait_for(
        lambda: f"three workers that train: {[each.said for each in first]}",
        lambda: len(found := holders(lab)) == 3 and found,
    )
    assert len({run for runs in held.values() for run in runs}) == 3
    go_on.touch()
    wait_for(
        lambda: f"a run of each: {[each.said for each in first]}",
        lambda: len(lab.study.user_attrs[CONFIRMATION_RUNS]) >= 3,
    )
    victims = first[:2]
    for victim in victims:
        victim.kill()
        worker(lab)  # as a cluster does
    for process in lab.started:
        if process not in victims:
            assert process.wait() == 0, process.said

    assert recorded(lab.study) == alone
    assert lab.study.user_attrs[CONFIRMATION_LEASES] == {}
    for table in (leases, checkpoints, workers):
        assert lab.rows(table) == []
    assert lab.files == []
    numbers = [trial.number for trial, _ in finalists(lab.study, lab.spec)]
    of_runs = {
        str(seeds.confirmation_seed(lab.spec.seed, number, index))
        for number in numbers
        for index in range(3)
    }
    # All three trained some, and nobody trained one that another living worker had.
    by = defaultdict(set)
    for line in lab.log.read_text().splitlines():
        what, seed, epoch, process = line.split()
        if what == "trained" and seed in of_runs:
            by[seed, epoch].add(int(process))
    dead = {victim.pid for victim in victims}
    assert all(len(processes - dead) <= 1 for processes in by.values()), by
    assert len(set().union(*by.values())) >= 3


def test_the_workers_of_one_machine_share_the_runs_and_tune_decides(
    new_lab: Callable[..., Lab], tmp_path: Path, database_url: str, alone: dict[str, Any]
) -> None:
    by_one_worker(alone, new_lab, tmp_path)
    lab = new_lab(database_url, *SETTINGS)
    assert lab.worker().wait() == 0
    process = lab.nursery.start(
        "tune", "tiny.toml", "--workers", 2, "--threads", 1, "--slots", 1, "--device", "cpu",
        *(part for setting in SETTINGS for part in ("--set", setting)),
        folder=lab.folder, environment={"GRU_OPTUNA_STORAGE": lab.url},
        faults={"workers": {"faults": {"log": {"path": str(lab.log)}}}},
    )  # fmt: skip
    lab.started.append(process)
    assert process.wait() == 0, process.said
    assert recorded(lab.study) == alone
    assert "confirming the best 3 on 3 fresh seeds" in process.said
    # Nothing was left for the one that decides, whose own epochs aren't in the log.
    runs = [line for line in lab.log.read_text().splitlines() if line.startswith("trained")]
    assert len(runs) == len(alone[CONFIRMATION_RUNS]) * 8 + 3 * 8
    assert lab.rows(checkpoints) == lab.rows(workers) == []

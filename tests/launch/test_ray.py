"""Workers as Ray's tasks, against a stub of its API; the workers are shell scripts.

``tests/soak/test_soak_ray.py`` asks a real cluster.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from helpers.processes import wait_for
from helpers.ray_stub import RayStub

from gru_optuna.errors import StudyFailed, UserError
from gru_optuna.launch.placement import Placement, WorkerRequest
from gru_optuna.launch.ray import Ray
from gru_optuna.worker.run import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gru_optuna.launch.placement import WorkerState

URL = "postgresql://me:secret@host/studies"


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> RayStub:
    """A stub in place of the module."""
    stub = RayStub()
    monkeypatch.setitem(sys.modules, "ray", stub)  # type: ignore[arg-type]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return stub


def launcher(folder: Path, monkeypatch: pytest.MonkeyPatch, worker: str) -> Ray:
    """Two workers, each of them these lines of shell."""
    script = folder / "worker.sh"
    script.write_text(f"#!/bin/bash\ncd {folder}\n{worker}\n")
    # Copied by a process of its own: a file that this one has open for writing can't be run for
    # as long as a child that another thread starts meanwhile has it open, too.
    subprocess.run(["/usr/bin/install", "-m", "755", script, folder / "python"], check=True)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    request = WorkerRequest(2, "ray", cpus=3, gpus=1)
    return Ray(Placement("tiny", URL, None, WorkerSettings("auto"), request, folder))


def ended(launched: Ray) -> Sequence[WorkerState]:
    """The workers once all of them have ended."""
    states: Sequence[WorkerState] = wait_for(
        lambda: f"the end of the workers: {launched.states()}",
        lambda: all(s.phase == "ended" for s in launched.states()) and launched.states(),
    )
    return states


def test_tasks_have_resources_unlimited_retries_and_a_detached_owner(
    ray: RayStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = launcher(tmp_path, monkeypatch, "exit 0")
    launched.start()
    actor, task = ray.options
    assert (actor["lifetime"], actor["max_restarts"], actor["num_cpus"]) == ("detached", -1, 0)
    assert (task["max_retries"], task["num_cpus"], task["num_gpus"]) == (-1, 3, 1)
    assert ray.addresses == ["auto"]
    assert all(state.done for state in ended(launched))


def test_the_password_reaches_the_workers_and_no_option_that_ray_shows(
    ray: RayStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = launcher(tmp_path, monkeypatch, 'echo "$GRU_OPTUNA_STORAGE" > url; echo "$@" > said')
    launched.start()
    ended(launched)
    assert (tmp_path / "url").read_text().strip() == URL
    assert "secret" not in (tmp_path / "said").read_text() + str(ray.options)


def test_the_same_command_finds_the_workers_that_run(
    ray: RayStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = "while ! test -e go; do sleep 0.01; done"
    launcher(tmp_path, monkeypatch, wait).start()
    again = launcher(tmp_path, monkeypatch, wait)
    assert "started earlier" in again.start()[0]
    assert len(ray.options) == 2  # one actor, one kind of task
    (tmp_path / "go").touch()
    ended(again)
    # What is over isn't waited for again, as with a larger budget.
    third = launcher(tmp_path, monkeypatch, "exit 0")
    assert "started earlier" not in third.start()[0]
    ended(third)


def test_a_worker_that_a_signal_ended_is_run_again(
    ray: RayStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # mkdir: each of the first three attempts makes one folder, and dies.
    dies = "for n in 1 2 3; do mkdir $n 2>/dev/null && kill -KILL $$; done; exit 0"
    launched = launcher(tmp_path, monkeypatch, dies)
    launched.start()
    states = ended(launched)
    assert sum(state.deaths for state in states) == 3
    assert all(state.done for state in states)


@pytest.mark.parametrize(("code", "kind"), [(2, UserError), (1, StudyFailed)])
def test_a_worker_that_gave_up_is_not_run_again_and_says_why(
    ray: RayStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    said = f"echo before >&2; echo 'the data differ' >&2; exit {code}"
    launched = launcher(tmp_path, monkeypatch, said)
    launched.start()
    for state in ended(launched):
        assert type(state.failure) is kind
        assert str(state.failure) == "the data differ"
        assert state.deaths == 0


def test_a_stop_ends_the_tasks_and_their_owner(
    ray: RayStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = launcher(tmp_path, monkeypatch, "while ! test -e go; do sleep 0.01; done")
    launched.start()
    launched.stop()
    assert ray.actors == {}
    (tmp_path / "go").touch()


def test_an_owner_whose_workers_take_long_to_leave_stays_until_the_next_start(
    ray: RayStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = launcher(tmp_path, monkeypatch, "while ! test -e go; do sleep 0.01; done")
    launched.start()
    (owner,) = ray.actors.values()

    def get(*_: object, **__: object) -> None:
        raise TimeoutError  # as Ray's GetTimeoutError, which is one

    with monkeypatch.context() as patched:
        patched.setattr(ray, "get", get)
        launched.stop()
    assert list(ray.actors.values()) == [owner]  # or Ray would kill its workers
    (note, _) = launcher(tmp_path, monkeypatch, "exit 0").start()
    assert "started earlier" not in note
    assert list(ray.actors.values()) != [owner]
    (tmp_path / "go").touch()


def test_without_ray_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    launched = launcher(tmp_path, monkeypatch, "exit 0")
    with pytest.raises(UserError, match=r"pip install 'gru-optuna\[ray\]'"):
        launched.start()
    launched.stop()


def test_without_a_cluster_the_message_says_how_to_name_one(
    ray: RayStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(address: str, **_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UserError, match=r"no cluster answers at auto.*RAY_ADDRESS"):
        launcher(tmp_path, monkeypatch, "exit 0").start()

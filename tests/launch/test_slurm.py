"""Workers as a Slurm job: what is submitted, how its answers are read, and what the script does.

The answers of ``squeue`` were recorded from Slurm 22.05; ``tests/soak/test_soak_slurm.py`` asks a
real one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from helpers.processes import DEADLINE, wait_for

from gru_optuna.errors import StudyFailed, UserError
from gru_optuna.launch.placement import Placement, WorkerRequest
from gru_optuna.launch.slurm import Slurm
from gru_optuna.worker.run import WorkerSettings

if TYPE_CHECKING:
    from pathlib import Path

URL = "postgresql://me:secret@host/studies"

_FAKE = """\
#!/bin/sh
echo "$(basename "$0") $*" >> {folder}/calls
case "$(basename "$0") $*" in
  sbatch*) cat > {folder}/script; printenv GRU_OPTUNA_STORAGE > {folder}/environment; echo 12 ;;
  *-o%F*) cat {folder}/running ;;
  squeue*) cat {folder}/states ;;
esac
"""


@dataclass
class FakeSlurm:
    """Slurm's commands, which note how they are called and answer from files."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("sbatch", "squeue", "scancel", "scontrol"):
            path = self.folder / name
            path.write_text(_FAKE.format(folder=self.folder))
            path.chmod(0o755)
        for name in ("calls", "running", "states"):
            (self.folder / name).touch()

    @property
    def calls(self) -> list[str]:
        """The commands so far."""
        return (self.folder / "calls").read_text().splitlines()

    def answer(self, states: str) -> None:
        """What ``squeue`` says from now on."""
        (self.folder / "states").write_text(states)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Slurm's commands come first on the PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return FakeSlurm(tmp_path / "bin")


def placement(folder: Path, **request: int) -> Placement:
    """Four workers on the study ``tiny``."""
    settings = WorkerSettings("auto", threads=2)
    asked = WorkerRequest(4, "slurm", **request)
    return Placement("tiny", URL, folder / "studies", settings, asked, folder / "logs")


def test_an_array_is_submitted_that_slurm_may_requeue(slurm: FakeSlurm, tmp_path: Path) -> None:
    Slurm(placement(tmp_path, cpus=2, gpus=1)).start()
    _, submitted = slurm.calls
    asked = set(submitted.split()[1:])
    assert asked >= {"--array=0-3", "--requeue", "--open-mode=append", "--signal=B:USR1@30"}
    assert asked >= {"--cpus-per-task=2", "--gres=gpu:1", "--export=ALL"}


def test_the_password_reaches_the_workers_in_their_environment_alone(
    slurm: FakeSlurm, tmp_path: Path
) -> None:
    Slurm(placement(tmp_path)).start()
    assert (slurm.folder / "environment").read_text().strip() == URL
    assert "secret" not in (slurm.folder / "script").read_text()
    assert "secret" not in "".join(slurm.calls)


def test_the_same_command_finds_the_job_that_runs(slurm: FakeSlurm, tmp_path: Path) -> None:
    first, again = Slurm(placement(tmp_path)), Slurm(placement(tmp_path))
    first.start()
    (slurm.folder / "running").write_text("12\n12\n")
    words = again.start()
    assert sum(call.startswith("sbatch") for call in slurm.calls) == 1
    assert "started earlier" in words[0]
    again.stop()
    assert slurm.calls[-1] == "scancel --quiet 12"


def test_two_databases_and_two_studies_have_jobs_of_their_own(tmp_path: Path) -> None:
    mine = placement(tmp_path)
    others = [
        Placement(study, url, None, mine.settings, mine.request, tmp_path)
        for study, url in [("tiny", f"{URL}2"), ("Tiny", URL), (None, URL)]
    ]
    assert len({one.name for one in (mine, *others)}) == 4


def test_the_states_of_slurm_are_read(slurm: FakeSlurm, tmp_path: Path) -> None:
    launcher = Slurm(placement(tmp_path))
    launcher.start()
    slurm.answer(
        "0|PENDING||Resources|0|0|\n1|RUNNING|node1|None|0|0|\n"
        "2|PENDING||BeginTime|0|1|\n3|COMPLETED|node2|None|0|0|\n"
    )
    states = launcher.states()
    assert [state.phase for state in states] == ["waiting", "running", "waiting", "ended"]
    assert [state.waits_for for state in states] == ["Resources", "", "BeginTime", ""]
    assert [state.deaths for state in states] == [0, 0, 1, 0]
    assert [state.done for state in states] == [False, False, False, True]
    assert states[1].place == "task 12_1 on node1"


@pytest.mark.parametrize(("code", "kind"), [(2, UserError), (1, StudyFailed)])
def test_a_worker_that_gave_up_says_why_in_its_log(
    slurm: FakeSlurm, tmp_path: Path, code: int, kind: type[Exception]
) -> None:
    launcher = Slurm(placement(tmp_path))
    launcher.start()
    log = launcher.log("0")
    log.write_text("one line\nthe data differ\n")
    slurm.answer(f"0|FAILED|node1|NonZeroExitCode|{code << 8}|0|\n")
    (state,) = launcher.states()
    assert type(state.failure) is kind
    assert str(state.failure) == "the data differ"


def test_without_slurm_the_message_says_where_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="squeue is not on this machine"):
        Slurm(placement(tmp_path)).start()


def test_what_slurm_refuses_is_said_without_the_password(slurm: FakeSlurm, tmp_path: Path) -> None:
    (slurm.folder / "sbatch").write_text(f'#!/bin/sh\necho "no: {URL}" >&2\nexit 1\n')
    with pytest.raises(UserError, match=r"sbatch failed: no: postgresql://me:\*\*\*@host"):
        Slurm(placement(tmp_path)).start()


@dataclass
class Task:
    """The script of a job, as Slurm runs it; its worker is a shell script."""

    slurm: FakeSlurm
    process: subprocess.Popen[bytes]
    started: Path

    def wait(self) -> int:
        """Waits for the script's exit code."""
        return self.process.wait(DEADLINE)

    @property
    def requeued(self) -> bool:
        """Whether it asked Slurm to run it again."""
        return "scontrol requeue 12_3" in self.slurm.calls


def run_task(slurm: FakeSlurm, folder: Path, monkeypatch: pytest.MonkeyPatch, worker: str) -> Task:
    """Submits a job whose worker is these lines of shell, and runs one of its tasks."""
    started = folder / "started"
    (folder / "python").write_text(f"#!/bin/bash\n{worker}\n")
    (folder / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    Slurm(placement(folder)).start()
    numbers = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3", "STARTED": str(started)}
    process = subprocess.Popen(
        ["/bin/bash", slurm.folder / "script"],
        env=os.environ | numbers | {"SLURMD_NODENAME": "node1"},
        start_new_session=True,
    )
    return Task(slurm, process, started)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_final_exit_code_is_not_retried(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    task = run_task(slurm, tmp_path, monkeypatch, f"exit {code}")
    assert task.wait() == code
    assert not task.requeued


@pytest.mark.parametrize("worker", ["exit 130", "kill -KILL $$", "kill -SEGV $$"])
def test_a_worker_that_a_signal_ended_goes_back_to_the_queue(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: str
) -> None:
    task = run_task(slurm, tmp_path, monkeypatch, worker)
    assert task.wait() >= 128
    assert task.requeued


# In Python, as workers are.
_LEAVES = f"""exec {sys.executable} -c '
import os, pathlib, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(130))
pathlib.Path(os.environ["STARTED"]).touch()
signal.pause()
'"""


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_notice_lets_it_go_on_elsewhere_and_a_cancelled_job_stays_cancelled(
    slurm: FakeSlurm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    requeued: bool,
) -> None:
    task = run_task(slurm, tmp_path, monkeypatch, _LEAVES)
    wait_for("the worker", task.started.exists)
    if number == signal.SIGUSR1:  # --signal=B: means the script alone, others mean all processes
        task.process.send_signal(number)
    else:
        os.killpg(task.process.pid, number)
    # Bash may lose the code of a worker that ends while it handles the same signal.
    assert task.wait() in (130, 128 + number)
    assert task.requeued is requeued

"""Workers as one Slurm job array, through Slurm's own commands.

Slurm requeues what it preempts, and what was on a node that failed. The script asks for the rest:
a worker that ends by a signal, or because its time is up, goes back to the queue under its number.
The URL of the database reaches the workers in their environment, which Slurm keeps to itself: no
script, command line or log holds it.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Final

from gru_optuna.launch.commands import CommandFailed, run_command
from gru_optuna.launch.placement import WorkerState, failure_of
from gru_optuna.workspace import JOB_VARIABLE, NODE_VARIABLE, STORAGE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gru_optuna.launch.placement import Phase, Placement

_NOTICE_SECONDS = 30
"""How long before its end by the time limit, or a preemption, a worker is asked to leave."""

_SCRIPT = """\
#!/bin/bash
# USR1: the time limit or a preemption is near; the worker goes on elsewhere, or later.
# TERM: Slurm ends the job, by scancel or to preempt it, and knows itself what follows. The worker
# got the signal, too: a second one would end it at once.
again=yes
trap 'signalled=yes; kill -TERM $worker' USR1
trap 'signalled=yes; again=no' TERM
task="${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
export {job}="slurm $task" {node}="$SLURMD_NODENAME"
{command} &
worker=$!
# A signal ends the waiting, not the worker. 127, or -1 in bash 5.2: it ended at that moment, and
# bash has lost its code. Then the code is the signal's.
signalled=yes
while [ $signalled = yes ]; do
  signalled=no
  wait $worker
  ended=$?
  case $ended in 127|-1) ;; *) code=$ended ;; esac
done
case $code in 0|1|2) exit $code ;; esac
[ $again = no ] || scontrol requeue "$task"
exit $code
"""

_PHASES: Final[dict[str, Phase]] = {
    "PENDING": "waiting",
    "REQUEUED": "waiting",
    "REQUEUE_HOLD": "waiting",
    "SPECIAL_EXIT": "waiting",
    "RESV_DEL_HOLD": "waiting",
    "CONFIGURING": "running",
    "COMPLETING": "running",
    "RESIZING": "running",
    "RUNNING": "running",
    "SIGNALING": "running",
    "STAGE_OUT": "running",
    "STOPPED": "running",
    "SUSPENDED": "running",
}
"""What a state of Slurm's means; in any other the task has ended."""

_FIELDS = ("ArrayTaskID", "State", "NodeList", "Reason", "exit_code", "RestartCnt")


class Slurm:
    """A cluster with Slurm, from a machine where its commands work."""

    look_seconds = 5.0

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._job: str | None = None

    def start(self) -> Sequence[str]:
        """Submits the job array, unless an earlier one of the same name waits or runs.

        Raises
        ------
        UserError
            If Slurm isn't here, or refuses the job.
        """
        found = _run("squeue", "--noheader", "--me", f"--name={self._placement.name}", "-o%F")
        self._job = next(iter(found.split()), None)
        attached = self._job is not None
        if self._job is None:
            self._placement.logs.mkdir(parents=True, exist_ok=True)
            self._job = _run(
                "sbatch", *self._options(), script=self._script(), url=self._placement.url
            ).partition(";")[0].strip()  # fmt: skip
        begun = "its workers were started earlier" if attached else "submitted"
        return (
            f"Slurm job {self._job}: {begun}. Logs: {self.log('*')}",
            f"To see it: squeue --jobs={self._job} --array. Fewer workers: "
            f"scancel {self._job}_NUMBER. More: gru-optuna worker, in a job of your own.",
        )

    def states(self) -> Sequence[WorkerState]:
        """The tasks of the array, as Slurm has them."""
        assert self._job is not None
        fields = ",".join(f"{field}:|" for field in _FIELDS)
        try:
            shown = _run(
                "squeue", "--noheader", "--array", "--states=all", f"--jobs={self._job}",
                f"--Format={fields}",
            )  # fmt: skip
        except CommandFailed as refused:
            if "Invalid job id" not in str(refused):
                raise
            return []  # it has ended, and Slurm has forgotten it
        rows = [[part.strip() for part in line.split("|")] for line in shown.splitlines()]
        return [self._state(*row[: len(_FIELDS)]) for row in rows if row[0].isdigit()]

    def stop(self, *, save: bool = False) -> Sequence[WorkerState]:
        """Cancels the job; Slurm sends SIGTERM, and its workers leave within five seconds."""
        if self._job is not None:
            _run("scancel", "--quiet", self._job)
        return []

    def _options(self) -> list[str]:
        request = self._placement.request
        options = [
            "--parsable",
            f"--job-name={self._placement.name}",
            f"--array=0-{request.count - 1}",
            "--ntasks=1",
            "--requeue",
            "--open-mode=append",
            f"--signal=B:USR1@{_NOTICE_SECONDS}",
            "--export=ALL",
            f"--output={self.log('%a')}",
        ]
        if request.cpus is not None:
            options.append(f"--cpus-per-task={request.cpus}")
        if request.gpus:
            options.append(f"--gres=gpu:{request.gpus}")
        return options

    def _script(self) -> str:
        arguments = self._placement.arguments(self._placement.settings)
        return _SCRIPT.format(
            job=JOB_VARIABLE,
            node=NODE_VARIABLE,
            command=shlex.join([sys.executable, "-m", "gru_optuna", *arguments]),
        )

    def log(self, task: str) -> Path:
        """Where a task of the array writes what its worker prints."""
        return self._placement.logs / f"{self._placement.name}-{task}.log"

    def _state(
        self, task: str, state: str, nodes: str, reason: str, code: str, restarts: str
    ) -> WorkerState:
        phase = _PHASES.get(state, "ended")
        exit_code = int(code) >> 8 if code.isdigit() else 0
        words = self._last_words(task) if phase == "ended" else ""
        return WorkerState(
            int(task),
            phase,
            f"task {self._job}_{task} on {nodes}",
            int(restarts) if restarts.isdigit() else 0,
            "it was preempted or killed, or its node failed",
            words,
            waits_for=reason if phase == "waiting" and reason != "None" else "",
            done=state == "COMPLETED",
            failure=failure_of(exit_code, words) if state == "FAILED" else None,
        )

    def _last_words(self, task: str) -> str:
        """The last line of a worker's log, which is its error message."""
        try:
            with self.log(task).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 4096))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            lines = []  # on a disk of its node
        return lines[-1] if lines else f"see {self.log(task)} on its node"


def _run(program: str, *arguments: str, script: str | None = None, url: str | None = None) -> str:
    return run_command(
        "slurm",
        program,
        *arguments,
        where="Run this one where jobs are submitted, such as a login node.",
        given=script,
        environment=None if url is None else {STORAGE_VARIABLE: url},
    )

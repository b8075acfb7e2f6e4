"""Workers as tasks of a running Ray cluster, which Ray starts again wherever there is room.

A detached actor owns the tasks, so they outlive the command that asked for them, and the next one
finds the actor by its name. The URL of the database is an argument of the actor and of the tasks:
it is in no command line, log or runtime environment, which Ray's dashboard shows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gru_optuna.errors import UserError
from gru_optuna.launch.placement import DONE, FAILED, USER_ERROR, WorkerState, failure_of
from gru_optuna.workspace import JOB_VARIABLE, NODE_VARIABLE, STORAGE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.launch.placement import Placement

_NAMESPACE = "gru-optuna"
_ANSWER_SECONDS = 60.0
_LEAVING_SECONDS = 4.0  # the command that asks has five in all
_CANCELLED_SECONDS = 30.0  # a worker needs a few, on busy cores more


class Interrupted(Exception):  # noqa: N818 (Ray's retries go by its class)
    """A worker ended before its work was done."""


class Ray:
    """The cluster that ``RAY_ADDRESS`` names, or the one that runs on this machine."""

    look_seconds = 1.0

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._keeper: Any = None

    def start(self) -> Sequence[str]:
        """Starts the tasks, unless those of an earlier command still have work.

        Raises
        ------
        UserError
            If Ray isn't installed, or no cluster answers.
        """
        ray = _connected()
        name, request, begun = self._placement.name, self._placement.request, "started"
        with suppress(ValueError):  # there is none
            self._keeper = ray.get_actor(name, namespace=_NAMESPACE)
            begun = "its workers were started earlier"
        if self._keeper is not None and all(state.phase == "ended" for state in self.states()):
            ray.kill(self._keeper)
            self._keeper, begun = None, "started"
        if self._keeper is None:
            actor = ray.remote(Keeper).options(
                name=name, namespace=_NAMESPACE, lifetime="detached",
                num_cpus=0, max_restarts=-1, max_task_retries=-1,
            )  # fmt: skip
            arguments = self._placement.arguments(self._placement.settings)
            resources = {"num_cpus": request.cpus or 1, "num_gpus": request.gpus or 0}
            self._keeper = actor.remote(
                name, arguments, self._placement.url, request.count, resources
            )
        return (
            f"Ray actor {name}: {begun}. To see its workers: ray list tasks --filter "
            f"name={name}. Logs: ray logs cluster",
            "More workers: gru-optuna worker, in a task or on a node of your own.",
        )

    def states(self) -> Sequence[WorkerState]:
        """The workers as the actor knows them."""
        import ray

        found = ray.get(self._keeper.states.remote(), timeout=_ANSWER_SECONDS)
        return [_state(task) for task in found]

    def stop(self, *, save: bool = False) -> Sequence[WorkerState]:
        """Ends the tasks and their actor."""
        if self._keeper is None:
            return []
        import ray

        try:
            ray.get(self._keeper.stop.remote(), timeout=_LEAVING_SECONDS)
        except TimeoutError:
            # Workers still leave. Ray kills those of an actor that is gone, and they would leave
            # their rows behind. This one only waits for them, and the next command replaces it.
            return []
        except ray.exceptions.RayError:  # it is ended all the same
            pass
        ray.kill(self._keeper)
        return []


@dataclass
class Task:
    """What the actor knows of one worker."""

    index: int
    place: str = ""  # empty: it waits for room
    deaths: int = 0
    code: int | None = None  # None: it isn't over
    last_words: str = ""


@dataclass
class Keeper:
    """The actor that owns the tasks; if its own node dies, Ray starts it and them again."""

    name: str
    arguments: list[str]
    url: str = field(repr=False)
    count: int
    resources: dict[str, float]

    def __post_init__(self) -> None:
        import ray

        self._tasks = [Task(index) for index in range(self.count)]
        work = ray.remote(run_worker).options(
            name=self.name, max_retries=-1, retry_exceptions=[Interrupted], **self.resources
        )
        me = ray.get_runtime_context().current_actor
        self._running = {
            work.remote(me, self.name, index, self.arguments, self.url): index
            for index in range(self.count)
        }

    def begin(self, index: int, place: str) -> None:
        """A task says where it runs; again, if it ended before its work was done."""
        task = self._tasks[index]
        task.deaths += bool(task.place)
        task.place = place

    def states(self) -> list[Task]:
        """The tasks as they are now."""
        import ray

        for reference in self._wait(0.0):
            task = self._tasks[self._running.pop(reference)]
            try:
                task.code, task.last_words = ray.get(reference)
            except ray.exceptions.RayError as error:  # nothing that another try would mend
                task.code, task.last_words = FAILED, str(error).strip().splitlines()[-1]
        return self._tasks

    def stop(self) -> None:
        """Lets the workers leave, and waits for them."""
        import ray

        for reference in self._running:
            ray.cancel(reference)  # a task that is cancelled isn't tried again
        self._wait(_CANCELLED_SECONDS)

    def _wait(self, seconds: float) -> list[Any]:
        """The tasks that are over, or are within so many seconds."""
        import ray

        if not self._running:
            return []
        tasks = list(self._running)
        over: list[Any] = ray.wait(tasks, num_returns=len(tasks), timeout=seconds)[0]
        return over


def run_worker(
    keeper: Any, name: str, index: int, arguments: list[str], url: str
) -> tuple[int, str]:
    """Runs one worker in a process of its own; returns its exit code and its last words.

    Raises
    ------
    Interrupted
        If it ended before its work was done: Ray runs it again.
    """
    import ray

    node = ray.util.get_node_ip_address()
    keeper.begin.remote(index, f"process {os.getpid()} on {node}")
    process = subprocess.Popen(  # noqa: S603 (ourselves)
        [sys.executable, "-m", "gru_optuna", *arguments, "--with-parent"],
        env=os.environ
        | {
            STORAGE_VARIABLE: url,
            JOB_VARIABLE: f"ray {name}-{index}",
            NODE_VARIABLE: node,
        },
        stdin=subprocess.PIPE,  # closes when this task ends in any way
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ray interrupts this task alone, which passes it on
    )
    assert process.stderr is not None
    last_words = ""
    try:
        for line in process.stderr:
            sys.stderr.write(line)  # to Ray's log of this task
            last_words = line.strip() or last_words
        code = process.wait()
    finally:
        # Cancelled: the worker leaves within five seconds.
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait()
    if code not in (DONE, FAILED, USER_ERROR):
        raise Interrupted(f"exit code {code}: {last_words}")
    return code, last_words


def _connected() -> Any:
    """Ray's module, connected to a cluster that runs.

    Raises
    ------
    UserError
        If it isn't installed, or none answers.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--on ray: install it with pip install 'gru-optuna[ray]'.") from None
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS", "auto")
        try:
            ray.init(address, namespace=_NAMESPACE, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"--on ray: no cluster answers at {address}: {str(error).strip()} Start one with "
                f"ray start --head, or name one with RAY_ADDRESS."
            ) from None
    return ray


def _state(task: Task) -> WorkerState:
    phase = "ended" if task.code is not None else "running" if task.place else "waiting"
    return WorkerState(
        task.index,
        phase,  # type: ignore[arg-type]
        task.place,
        task.deaths,
        "its process or its node ended",
        task.last_words,
        waits_for="resources" if phase == "waiting" else "",
        done=task.code == DONE,
        failure=None if task.code is None else failure_of(task.code, task.last_words),
    )

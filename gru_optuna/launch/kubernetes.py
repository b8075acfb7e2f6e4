"""Workers as one Indexed Job of Kubernetes: its manifest, and what ``kubectl`` does with it.

The URL of the database is in a Secret that the manifest only names. The pods need no volume: they
fetch a study's files from the database by their hash.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from gru_optuna.launch.commands import CommandFailed, run_command
from gru_optuna.launch.placement import DONE, FAILED, USER_ERROR, WorkerState, failure_of
from gru_optuna.workspace import JOB_VARIABLE, NODE_VARIABLE, STORAGE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.launch.placement import Phase, Placement

SECRET, SECRET_KEY = "gru-optuna", "storage"

_INSTANCE = "app.kubernetes.io/instance"
_INDEX = "batch.kubernetes.io/job-completion-index"
_PHASES: dict[str, Phase] = {"Pending": "waiting", "Running": "running", "Unknown": "running"}


class Kubernetes:
    """A cluster that ``kubectl`` reaches, in its current namespace."""

    look_seconds = 5.0

    def __init__(self, placement: Placement) -> None:
        self._placement = placement

    def start(self) -> Sequence[str]:
        """Creates the job, unless the one of an earlier command still has work.

        Raises
        ------
        UserError
            If kubectl isn't here, or the cluster refuses the job.
        """
        name, begun = self._placement.name, "created"
        found = _kubectl("get", "job", name, "--ignore-not-found", "--output=json")
        if found and not _is_over(json.loads(found)):
            begun = "its workers were started earlier"
        else:
            if found:  # a job that is over never starts again
                _kubectl("delete", "job", name, "--wait=true")
            _kubectl("create", "--filename=-", given=json.dumps(manifest(self._placement)))
        more = '{"spec":{"parallelism":N,"completions":N}}'
        return (
            f"Kubernetes job {name}: {begun}. Logs: kubectl logs --selector={_INSTANCE}={name} "
            f"--prefix --follow",
            f"To see it: kubectl get pods --selector={_INSTANCE}={name}. More or fewer workers: "
            f"kubectl patch job {name} --patch='{more}'",
        )

    def states(self) -> Sequence[WorkerState]:
        """The newest pod of each index; an index without one waits for it."""
        selector = f"--selector={_INSTANCE}={self._placement.name}"
        found = json.loads(_kubectl("get", "jobs,pods", selector, "--output=json"))["items"]
        pods: dict[int, list[dict[str, Any]]] = {}
        for pod in sorted(found, key=lambda item: str(item["metadata"]["creationTimestamp"])):
            if pod["kind"] == "Pod":
                pods.setdefault(int(pod["metadata"]["annotations"][_INDEX]), []).append(pod)
        states = {index: _state(index, those) for index, those in pods.items()}
        jobs = [item for item in found if item["kind"] == "Job"]
        if jobs and not _is_over(jobs[0]):
            for index in range(jobs[0]["spec"]["completions"]):
                state = states.setdefault(index, WorkerState(index, "waiting"))
                if state.phase == "ended" and not state.done and state.failure is None:
                    states[index] = replace(state, phase="waiting")  # for its next pod
        return [states[index] for index in sorted(states)]

    def stop(self, *, save: bool = False) -> Sequence[WorkerState]:
        """Deletes the job; its pods get SIGTERM, and leave within five seconds."""
        _kubectl("delete", "job", self._placement.name, "--wait=false", "--ignore-not-found")
        return []


def manifest(placement: Placement) -> dict[str, Any]:
    """The Indexed Job, as ``batch/v1`` has it."""
    request = placement.request
    resources = {
        key: str(count)
        for key, count in (("cpu", request.cpus), ("nvidia.com/gpu", request.gpus))
        if count
    }
    labels = {"app.kubernetes.io/name": "gru-optuna", _INSTANCE: placement.name}
    field = {"fieldRef": {"fieldPath": "spec.nodeName"}}
    container = {
        "name": "worker",
        "image": request.image or f"gru-optuna:{version('gru-optuna')}",
        "args": placement.arguments(placement.settings),
        "env": [
            {
                "name": STORAGE_VARIABLE,
                "valueFrom": {"secretKeyRef": {"name": SECRET, "key": SECRET_KEY}},
            },
            {"name": NODE_VARIABLE, "valueFrom": field},
            {
                "name": "GRU_OPTUNA_INDEX",
                "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{_INDEX}']"}},
            },
            {"name": JOB_VARIABLE, "value": f"kubernetes {placement.name}-$(GRU_OPTUNA_INDEX)"},
        ],
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
        },
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": placement.name, "labels": labels},
        "spec": {
            "completionMode": "Indexed",
            "completions": request.count,
            "parallelism": request.count,
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": 86400,
            "podFailurePolicy": {
                "rules": [
                    # A drained, preempted or lost node is nobody's fault.
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                    # What one worker can't do, no other can.
                    {"action": "FailJob", "onExitCodes": _exit_codes("In", FAILED, USER_ERROR)},
                    # 130, and signals: the kernel's, for want of memory, or somebody's.
                    {
                        "action": "Ignore",
                        "onExitCodes": _exit_codes("NotIn", DONE, FAILED, USER_ERROR),
                    },
                ]
            },
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",  # the failure policy decides
                    "automountServiceAccountToken": False,
                    "containers": [container],
                },
            },
        },
    }


def _exit_codes(operator: str, *values: int) -> dict[str, Any]:
    return {"containerName": "worker", "operator": operator, "values": list(values)}


def _is_over(job: dict[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


def _state(index: int, pods: list[dict[str, Any]]) -> WorkerState:
    """One worker, by its pods so far; those that ended before the last one died."""
    newest = pods[-1]
    name, status = newest["metadata"]["name"], newest["status"]
    phase = _PHASES.get(status["phase"], "ended")
    ended: dict[str, Any] = next(
        (
            state["terminated"]
            for container in status.get("containerStatuses", [])
            if "terminated" in (state := container.get("state", {}))
        ),
        {},
    )
    code = ended.get("exitCode")
    words = _last_words(name) if code in (FAILED, USER_ERROR) else ""
    conditions = status.get("conditions", [])
    waits = [c.get("message", "") for c in conditions if c.get("reason") == "Unschedulable"]
    return WorkerState(
        index,
        phase,
        f"pod {name} on {newest['spec'].get('nodeName', 'no node')}",
        len(pods) - 1,
        "its pod was disrupted or killed",
        words,
        waits_for=waits[0] if waits and phase == "waiting" else "",
        done=status["phase"] == "Succeeded",
        failure=None if code is None else failure_of(code, words),
    )


def _last_words(pod: str) -> str:
    """The last line of a pod's log, which is its error message."""
    try:
        return _kubectl("logs", pod, "--tail=1").strip()
    except CommandFailed:
        return f"see kubectl logs {pod}"


def _kubectl(*arguments: str, given: str | None = None) -> str:
    return run_command(
        "kubernetes", "kubectl", *arguments, given=given, where="Install it, or leave out --apply."
    )

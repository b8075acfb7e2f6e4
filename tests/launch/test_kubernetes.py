"""Workers as an Indexed Job: its manifest against the published schema, and what kubectl says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from helpers.workspaces import empty_cache

from gru_optuna.errors import StudyFailed, UserError
from gru_optuna.launch.kubernetes import Kubernetes, manifest
from gru_optuna.launch.placement import Placement, WorkerRequest
from gru_optuna.worker.run import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers.workspaces import Workspace

URL = "postgresql://me:secret@host/studies"
SCHEMA = json.loads((Path(__file__).parent / "assets" / "job-batch-v1.schema.json").read_text())
PLACEMENT = Placement(
    "tiny",
    URL,
    None,
    WorkerSettings("auto", threads=2),
    WorkerRequest(4, "kubernetes", cpus=2, gpus=1),
    Path("logs"),
)


def check(job: dict[str, Any]) -> None:
    """The job is what ``batch/v1`` of Kubernetes 1.31 publishes; unknown keys are refused."""
    jsonschema.validate(job, SCHEMA)


@pytest.mark.parametrize(
    "request_", [PLACEMENT.request, WorkerRequest(1, "kubernetes", image="here/gru-optuna:1")]
)
def test_the_manifest_follows_the_published_schema(request_: WorkerRequest) -> None:
    check(manifest(replace(PLACEMENT, request=request_)))


def test_the_schema_notices_a_mistake() -> None:
    job = manifest(PLACEMENT)
    job["spec"]["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["kind"] = "DisruptionTarget"
    with pytest.raises(jsonschema.ValidationError, match="kind"):
        check(job)


def test_the_manifest_names_the_secret_and_holds_none() -> None:
    job = manifest(PLACEMENT)
    assert "secret@" not in json.dumps(job)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["env"][0] == {
        "name": "GRU_OPTUNA_STORAGE",
        "valueFrom": {"secretKeyRef": {"name": "gru-optuna", "key": "storage"}},
    }
    assert container["resources"]["limits"] == {"cpu": "2", "nvidia.com/gpu": "1"}


def outcome(code: int, *, disrupted: bool = False) -> str:
    """What the failure policy decides about a pod, as Kubernetes reads it: the first rule."""
    for rule in manifest(PLACEMENT)["spec"]["podFailurePolicy"]["rules"]:
        conditions = [condition["type"] for condition in rule.get("onPodConditions", [])]
        if disrupted and conditions == ["DisruptionTarget"]:
            return str(rule["action"])
        codes = rule.get("onExitCodes")
        if codes and (code in codes["values"]) == (codes["operator"] == "In"):
            return str(rule["action"])
    return "Count"


def test_a_disruption_and_a_signal_are_retried_and_wrong_input_fails_the_job() -> None:
    assert outcome(1, disrupted=True) == "Ignore"
    assert {outcome(code) for code in (130, 137, 139, 143)} == {"Ignore"}
    assert {outcome(code) for code in (1, 2)} == {"FailJob"}


_FAKE = """\
#!/bin/sh
echo "$*" >> {folder}/calls
case "$*" in
  create*) cat > {folder}/created ;;
  "get job "*) cat {folder}/job ;;
  "get jobs,pods "*) cat {folder}/items ;;
  logs*) echo "the data differ" ;;
esac
"""


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that notes how it is called, and answers from files of this folder."""
    path = tmp_path / "kubectl"
    path.write_text(_FAKE.format(folder=tmp_path))
    path.chmod(0o755)
    for name in ("calls", "job", "items"):
        (tmp_path / name).touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def pod(index: int, phase: str, code: int | None = None, created: str = "1") -> dict[str, Any]:
    """A pod, as far as we read it."""
    ended = [] if code is None else [{"state": {"terminated": {"exitCode": code}}}]
    return {
        "kind": "Pod",
        "metadata": {
            "name": f"pod-{index}-{created}",
            "creationTimestamp": f"2026-01-01T00:00:0{created}Z",
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
        },
        "spec": {"nodeName": "node1"},
        "status": {"phase": phase, "containerStatuses": ended},
    }


def answer(kubectl: Path, *pods: dict[str, Any], over: bool = False) -> None:
    """What kubectl says about the job and its pods from now on."""
    conditions = [{"type": "Complete", "status": "True"}] if over else []
    job = {
        "kind": "Job",
        "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"completions": 4},
        "status": {"conditions": conditions},
    }
    (kubectl / "job").write_text(json.dumps(job))
    (kubectl / "items").write_text(json.dumps({"items": [job, *pods]}))


def test_the_job_is_created_once(kubectl: Path) -> None:
    Kubernetes(PLACEMENT).start()
    assert json.loads((kubectl / "created").read_text()) == manifest(PLACEMENT)
    answer(kubectl)
    assert "started earlier" in Kubernetes(PLACEMENT).start()[0]
    calls = (kubectl / "calls").read_text()
    assert calls.count("create") == 1
    assert "secret" not in calls


def test_a_job_that_is_over_is_replaced(kubectl: Path) -> None:
    answer(kubectl, over=True)
    Kubernetes(PLACEMENT).start()
    calls = [call.split()[0] for call in (kubectl / "calls").read_text().splitlines()]
    assert calls == ["get", "delete", "create"]


def test_an_index_without_a_living_pod_waits_for_its_next_one(kubectl: Path) -> None:
    answer(
        kubectl,
        pod(0, "Running", created="2"),
        pod(0, "Failed", 137),
        pod(1, "Failed", 143),
        pod(2, "Succeeded", 0),
    )
    states = Kubernetes(PLACEMENT).states()
    assert [state.phase for state in states] == ["running", "waiting", "ended", "waiting"]
    assert [state.deaths for state in states] == [1, 0, 0, 0]
    assert [state.done for state in states] == [False, False, True, False]
    assert states[0].place == "pod pod-0-2 on node1"


@pytest.mark.parametrize(("code", "kind"), [(2, UserError), (1, StudyFailed)])
def test_a_worker_that_gave_up_says_why_in_its_log(
    kubectl: Path, code: int, kind: type[Exception]
) -> None:
    answer(kubectl, pod(0, "Failed", code))
    failure = Kubernetes(PLACEMENT).states()[0].failure
    assert type(failure) is kind
    assert str(failure) == "the data differ"


def test_tune_prints_the_manifest_and_a_worker_elsewhere_fetches_the_data_by_hash(
    workspace: Workspace, tmp_path: Path, new_postgresql: Callable[[], str]
) -> None:
    url = new_postgresql()
    options = ("--on", "kubernetes", "--workers", "2", "--storage", url)
    printed = workspace.run("tune", "studies/tiny.toml", *options)
    assert printed.returncode == 0, printed.stderr
    job = json.loads(printed.stdout)
    check(job)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    pod = tmp_path / "pod"
    (pod / "studies").mkdir(parents=True)
    environment = workspace.environment() | empty_cache(tmp_path / "cache")
    environment["GRU_OPTUNA_STORAGE"] = url
    ran = subprocess.run(
        [sys.executable, "-m", "gru_optuna", *container["args"], "--device", "cpu"],
        cwd=pod, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "nothing is left to do in tiny" in ran.stderr

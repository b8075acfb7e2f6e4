"""``tune --service``: submits a study to a service, follows it, and attaches to it again."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import time
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from rich.console import Console

from gru_optuna import study_file
from gru_optuna.cli.console import EXIT_FAILED, EXIT_INTERRUPTED, say
from gru_optuna.client import RequestDenied, ServiceClient, connect
from gru_optuna.errors import UserError
from gru_optuna.formatting import format_metric, visible
from gru_optuna.toml import write_toml
from gru_optuna.workspace import is_plain_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gru_optuna.client import RemoteStudy
    from gru_optuna.study_file import Specification

_PARTS = ("train", "validation", "test")
_LINE_SECONDS = 30.0


def tune_remotely(
    url: str, study: Path, overrides: Sequence[str], limits: dict[str, float | None], again: str
) -> None:
    """Lets the workers of a service tune a study, and prints its result as `tune` does.

    Ctrl-C and SIGTERM detach: the study continues, and the same command attaches to it again.

    Parameters
    ----------
    url
        The service's address.
    study
        The study file, which was checked with its data.
    overrides
        Each ``KEY=VALUE`` of ``--set``.
    limits
        The budget that options give, by its keys; None: the file's.
    again
        The command to attach again.

    Raises
    ------
    UserError
        If the service refuses the study, or has another one of its name.
    """
    given = [f"budget.{key}={value}" for key, value in limits.items() if value is not None]
    overrides = [*overrides, *given]
    spec = study_file.load(study, overrides)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    service = connect(url)
    attached = _attach(service, spec, study)
    remote = attached or _submit(service, spec, study, overrides)
    page = f"{url.rstrip('/')}/study/{remote.name}"
    try:
        say(f"{'attached to' if attached else 'submitted'} {remote.name}: {page}")
        was_done = remote.status()["state"] == "done"
        with _Follower() as follower:
            remote.wait(on_look=follower)
    except KeyboardInterrupt:
        say(f"detached; the service continues with {remote.name}. To attach again: {again}")
        sys.exit(EXIT_INTERRUPTED)
    if was_done:
        trials = spec.budget.trials
        done = "its budget is spent" if trials is None else f"all {trials} trials are done"
        print(f"{remote.name} is finished: {done}")
    try:
        print(remote.best_text(), end="")
    except RequestDenied as denied:
        if denied.status != HTTPStatus.CONFLICT:
            raise
        say(str(denied))
        sys.exit(EXIT_FAILED)
    print(f"\nreport  {url.rstrip('/')}/v1/studies/{remote.name}/report/")


def _attach(service: ServiceClient, spec: Specification, study: Path) -> RemoteStudy | None:
    """The same study in the service, with the budget that is wanted now; None if there is none."""
    try:
        remote = service.study(spec.name)
    except RequestDenied as denied:
        if denied.status == HTTPStatus.NOT_FOUND:
            return None
        raise
    found = remote.status()
    if found["toml"] is None:
        raise UserError(
            f'study "{spec.name}" of the service was made with gru-optuna tune on its machine. '
            f"Give this one another name."
        )
    submitted = study_file.loads(found["toml"], f'study "{spec.name}" of the service')
    own = {part: _sha256(path) for part, path in _files(spec, study).items()}
    if found["data"] != own or _apart_from_budget(submitted) != _apart_from_budget(spec):
        raise UserError(
            f'the service has another study "{spec.name}": its file or its data differ from '
            f"{study}. Give this one another name, or delete the other."
        )
    # What this command changes of what was submitted, and not what others have changed since.
    wanted = {
        key: value
        for key, value in spec.budget.model_dump().items()
        if value != getattr(submitted.budget, key) and value != found["budget"][key]
    }
    if wanted:
        remote.set_budget(**wanted)
    if found["state"] == "failed":
        remote.resume()
    return remote


def _submit(
    service: ServiceClient, spec: Specification, study: Path, overrides: Sequence[str]
) -> RemoteStudy:
    toml = study.read_text(encoding="utf-8-sig")
    files = _files(spec, study)
    data = {part: service.upload(path) for part, path in files.items()}
    named = {part: getattr(spec.data, part) for part in files}
    if overrides or not all(is_plain_name(p) for path in named.values() for p in path.split("/")):
        content = study_file.read_toml(toml, str(study), overrides)
        for part, sha256 in data.items():
            content["data"][part] = f"{sha256}/{files[part].name}"
        toml = write_toml(content)
    key = hashlib.sha256(json.dumps([toml, data], sort_keys=True).encode()).hexdigest()
    return service.submit(toml, data, key)


def _files(spec: Specification, study: Path) -> dict[str, Path]:
    """The files that the study reads, by part."""
    named = {part: getattr(spec.data, part) for part in _PARTS}
    return {part: study.parent / path for part, path in named.items() if isinstance(path, str)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _apart_from_budget(spec: Specification) -> dict[str, Any]:
    """What a study is; its files are compared by their content."""
    content = spec.model_dump(mode="json", exclude={"budget"})
    content["data"] = {
        key: None if key in _PARTS and isinstance(value, str) else value
        for key, value in content["data"].items()
    }
    return content


class _Follower:
    """Shows how far a study is: in a line that changes, or where nobody looks now and then."""

    def __init__(self) -> None:
        self._status = Console(stderr=True).status("waiting for the service")
        self._is_live = self._status.console.is_terminal
        self._said: tuple[str, float] = ("", -_LINE_SECONDS)

    def __enter__(self) -> _Follower:
        if self._is_live:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def __call__(self, found: dict[str, Any]) -> None:
        """Shows what the service says of the study."""
        line = _progress(found)
        if self._is_live:
            self._status.update(visible(line))
            return
        (state, at), now = self._said, time.monotonic()
        if state != found["state"] or now - at >= _LINE_SECONDS:
            say(f"{datetime.now():%H:%M:%S}  {line}")
            self._said = (found["state"], now)


def _progress(found: dict[str, Any]) -> str:
    trials, best, workers = found["trials"], found["best"], found["workers"]
    ended = sum(trials[state] for state in ("complete", "pruned", "failed"))
    limit = found["budget"]["trials"] if found["budget"] else None
    parts = [f"{ended} of {limit} trials" if limit else f"{ended} trials"]
    if best:
        parts.append(f"best {found['metric']} {format_metric(best['value'])}")
    parts.append(f"{workers} worker{'' if workers == 1 else 's'}")
    if found["state"] == "suspended":
        parts.append("somebody has suspended it, and may continue it")
    return f"{found['state']}: {', '.join(parts)}"

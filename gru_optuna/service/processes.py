"""What runs in a process of its own: a look into uploads, and what loads torch or plotly.

`inspect_upload` and `draft_upload` start it with limits of memory and time, so that a file that
unpacks to terabytes, or takes hours to read, costs the service nothing. `render` draws a report.
The process reads its order, JSON, from standard input, where ``ps`` doesn't show it, and writes its
answer to standard output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gru_optuna.errors import DataError, UserError
from gru_optuna.inspection.roles import Roles
from gru_optuna.machine import MEMORY
from gru_optuna.storage import uploads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Engine

    from gru_optuna.service.context import ServiceSettings
    from gru_optuna.storage.uploads import Upload

_ONE_THREAD = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip
_REPORT_SECONDS = 300.0


def inspect_upload(engine: Engine, settings: ServiceSettings, upload: Upload) -> dict[str, Any]:
    """What a file holds, and what is wrong with it, as ``gru-optuna inspect --json`` prints it.

    Raises
    ------
    DataError
        If it can't be read, or not within the limits.
    """
    return _ask(engine, settings, "inspect", [upload], {})


def draft_upload(
    engine: Engine,
    settings: ServiceSettings,
    train: Upload,
    test: Upload | None = None,
    roles: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A study file for uploads: see `DraftView`.

    Raises
    ------
    DataError
        If there is nothing to learn from the data, or they can't be read within the limits.
    """
    files = [train] if test is None else [train, test]
    return _ask(engine, settings, "draft", files, dict(roles or {}))


def render(url: str, study: str, folder: Path) -> None:
    """Renders the report of a study into a folder.

    Raises
    ------
    UserError
        If it can't be rendered.
    """
    order = {"what": "report", "url": url, "study": study, "folder": str(folder)}
    ended = _run(order, Path.cwd(), _REPORT_SECONDS)
    found = _answer_in(ended.stdout.decode(errors="replace"))
    if found is None:
        sys.stderr.write(ended.stderr.decode(errors="replace"))
        raise UserError(f"The report of {study} could not be rendered.")
    if (error := found.get("error")) is not None:
        raise UserError(error)


def _ask(
    engine: Engine,
    settings: ServiceSettings,
    what: str,
    files: Sequence[Upload],
    roles: Mapping[str, Any],
) -> dict[str, Any]:
    """Asks about uploads, within the limits."""
    limit, seconds = settings.inspection_bytes, settings.inspection_seconds
    with tempfile.TemporaryDirectory(prefix="gru-optuna-") as folder:
        for file in files:
            uploads.fetch(engine, file.sha256, Path(folder, file.path))
        order = {
            "what": what,
            "files": [file.path for file in files],
            "roles": dict(roles),
            "bytes": limit,
            "seconds": seconds,
        }
        try:
            ended = _run(order, Path(folder), seconds, {MEMORY: str(limit // 2)})
        except subprocess.TimeoutExpired:
            raise _too_much(files, f"{seconds:g} seconds") from None
    answer = ended.stdout.decode(errors="replace")
    for file in files:  # its folder, which says nothing
        for place in (f"{folder}/{file.sha256}/", f"{folder}/", f"{file.sha256}/"):
            answer = answer.replace(place, "")
    found = _answer_in(answer)
    if found is None:
        raise _too_much(files, f"{limit / 2**30:.3g} GiB of memory or {seconds:g} seconds")
    if (error := found.get("error")) is not None:
        raise DataError(error)
    for file in files if what == "draft" else ():
        named, path = json.dumps(f"data/{file.name}"), json.dumps(file.path)
        found["toml"] = found["toml"].replace(named, path)
    return found


def _run(
    order: Mapping[str, Any],
    folder: Path,
    seconds: float,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "gru_optuna.service.processes"],
        input=json.dumps(order).encode(),
        capture_output=True,
        cwd=folder,
        env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1"), **(environment or {})},
        timeout=seconds,
        check=False,
        # Ctrl-C in the terminal reaches the service alone.
        start_new_session=True,
    )


def _answer_in(text: str) -> dict[str, Any] | None:
    """What a process answered; None if it was ended before."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return found


def _too_much(files: Sequence[Upload], limit: str) -> DataError:
    names = " and ".join(file.name for file in files)
    return DataError(
        f"{names}: reading it takes more than {limit}, the most that an inspection may take here. "
        f"Give fewer rows, or submit the study file without an inspection."
    )


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    if order["what"] == "report":
        from gru_optuna.report.page import render_report
        from gru_optuna.storage.database.open import open_storage
        from gru_optuna.study.study import load_study

        study, spec = load_study(open_storage(order["url"]), order["study"])
        render_report(study, spec, Path(order["folder"]))
        return {}
    _limit_process(order["bytes"], order["seconds"])
    files = [Path(file) for file in order["files"]]
    task, roles = order["roles"].pop("task", None), order["roles"]
    roles = {key: tuple(v) if isinstance(v, list) else v for key, v in roles.items()}
    if order["what"] == "inspect":
        from gru_optuna.inspection.inspect import inspect

        return asdict(inspect(files))
    from gru_optuna.scaffold.draft import draft_study

    draft = draft_study(files[0], task, Roles(**roles), test=files[1] if files[1:] else None)
    guess = draft.inspection.guess
    chosen = guess.roles.label or guess.roles.target
    return {
        "name": draft.name,
        "toml": draft.toml,
        "findings": [asdict(finding) for finding in draft.inspection.findings],
        "task": guess.task,
        "role": guess.role,
        "targets": [name for name in (chosen, *guess.alternatives) if name is not None],
        "columns": [column.name for column in draft.inspection.files[0].columns],
        "reason": guess.reason,
        "sizes": None if draft.sizes is None else draft.sizes.summary,
    }


def _limit_process(most_bytes: int, seconds: float) -> None:
    if sys.platform == "win32":
        return
    import resource

    # Anonymous memory, not the address space: libraries reserve far more of that than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    request = json.loads(sys.stdin.read())
    try:
        found = _answer(request)
    except UserError as error:
        found = {"error": str(error)}
    sys.stdout.write(json.dumps(found))

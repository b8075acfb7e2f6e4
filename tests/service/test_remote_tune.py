"""``tune --service``: a study that the workers of a service train, as if they were here."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from helpers.processes import wait_for
from helpers.services import ROWS, first_line, serving, small_study, working

from gru_optuna.storage.tokens import Role
from gru_optuna.study import submissions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helpers.processes import Process


@pytest.fixture(scope="module")
def service(tmp_path_factory, nursery):
    folder = tmp_path_factory.mktemp("service")
    with serving(folder, roles=True, nursery=nursery) as running:
        yield running


def write_study(folder: Path, name: str, rows: str = ROWS, train: str = "films.csv") -> Path:
    """A study file, and its rows beside it."""
    folder.mkdir(exist_ok=True)
    (folder / train).write_text(rows)
    file = folder / f"{name}.toml"
    file.write_text(small_study(name, "x").replace("x/films.csv", train))
    return file


@pytest.fixture
def start(service, nursery, tmp_path) -> Callable[..., Process]:
    """Starts ``gru-optuna tune … --service``, with the token in a file."""

    def start(*arguments: object, token: str | None = None) -> Process:
        secret = tmp_path / "token"
        secret.write_text(token or service.tokens[Role.EDITOR])
        secret.chmod(0o600)
        return nursery.start(
            "tune", *arguments, "--service", service.address,
            folder=tmp_path, environment={"GRU_OPTUNA_TOKEN_FILE": str(secret)},
        )  # fmt: skip

    return start


@pytest.fixture
def run(start) -> Callable[..., tuple[int, str, str]]:
    """Runs it to its end: exit code, stdout, stderr."""

    def run(*arguments: object, token: str | None = None) -> tuple[int, str, str]:
        process = start(*arguments, token=token)
        return process.wait(), process.printed, process.said

    return run


def test_it_ends_as_a_local_run_and_attaches_again(service, nursery, start, run, tmp_path) -> None:
    file = write_study(tmp_path / "studies", "films")
    first = start(file)
    wait_for("a line about the study", lambda: first.said.count("\n") >= 2)
    submitted, queued, *_ = first.said.splitlines()
    assert submitted == f"submitted films: {service.address}study/films"
    assert ": queued: 0 of 2 trials, 0 workers" in queued.replace("  ", ": ")
    first.signal(signal.SIGINT)
    assert (first.wait(), first.printed) == (130, "")
    again = f"gru-optuna tune {file} --service {service.address}"
    assert first.said.splitlines()[2:] == [
        f"detached; the service continues with films. To attach again: {again}"
    ]

    report = f"\nreport  {service.address}v1/studies/films/report/\n"
    with working(service, nursery):
        code, out, err = run(file)
        assert code == 0
        assert err.startswith(f"attached to films: {service.address}study/films\n")
        best = subprocess.run(
            [sys.executable, "-m", "gru_optuna", "best", "films", "--storage", service.database],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert out == best.stdout + report
        code, once_more, _ = run(file)
        assert (code, once_more) == (0, f"films is finished: all 2 trials are done\n{out}")
        code, out, _ = run(file, "--trials", "3")
        assert code == 0
        assert "films: 3 trials, " in out


def test_options_change_what_is_submitted_and_files_may_lie_anywhere(
    service, start, run, tmp_path
) -> None:
    file = write_study(tmp_path / "studies", "overridden", train="../rows.csv")
    process = start(file, "--set", "model.hidden_size=7", "--epochs", "9")
    first_line(process, "said")
    spec = submissions.get(service.engine, "overridden").spec
    assert (spec.model.hidden_size, spec.budget.epochs, spec.budget.trials) == (7, 9, 2)
    assert spec.data.train.endswith("/rows.csv")
    # Detached by a supervisor: the same command attaches, and one without the option is refused.
    process.signal(signal.SIGTERM)
    assert process.wait() == 130
    process = start(file, "--set", "model.hidden_size=7", "--epochs", "8")
    first_line(process, "said")
    assert submissions.get(service.engine, "overridden").spec.budget.epochs == 8
    submissions.change(service.engine, "overridden", state="cancelled")
    assert process.wait() == 1
    assert 'study "overridden" has no result: It was cancelled.' in process.said
    code, _, err = run(file, "--epochs", "9")
    assert (code, "the service has another study" in err) == (2, True)


def test_other_rows_under_the_same_name_are_another_study(service, start, run, tmp_path) -> None:
    file = write_study(tmp_path / "studies", "once")
    process = start(file)
    first_line(process, "said")
    process.signal(signal.SIGTERM)
    process.wait()
    (file.parent / "films.csv").write_text(ROWS.replace("film", "book"))
    code, out, err = run(file)
    assert (code, out) == (2, "")
    assert err == (
        f'the service has another study "once": its file or its data differ from {file}. Give this '
        f"one another name, or delete the other.\n"
    )


def test_what_the_service_refuses_is_said_and_nothing_is_submitted(
    service, start, run, tmp_path
) -> None:
    file = write_study(tmp_path / "studies", "refused")
    before = len(submissions.list_all(service.engine))
    code, _, err = run(file, "--device", "cpu")
    assert (code, err) == (
        2,
        "--device and --service exclude each other: the service's workers have their own. Leave "
        "one of them out.\n",
    )
    code, _, err = run(file, token="wrong")  # noqa: S106
    assert (code, err) == (
        2,
        "The token is unknown, or it was revoked. Ask for a new one.\n",
    )
    code, _, err = run(file, token=service.tokens[Role.VIEWER])
    assert (code, "this needs an editor" in err) == (2, True)
    assert len(submissions.list_all(service.engine)) == before


def test_a_failed_study_is_tried_again(service, start, run, tmp_path) -> None:
    file = write_study(tmp_path / "studies", "failed")
    process = start(file)
    first_line(process, "said")
    submissions.set_error(service.engine, "failed", "no memory")
    assert process.wait() == 1
    assert 'study "failed" has no result: no memory' in process.said
    process = start(file)
    wait_for("another try", lambda: submissions.get(service.engine, "failed").state == "queued")
    process.signal(signal.SIGTERM)
    assert process.wait() == 130

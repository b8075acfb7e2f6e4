"""The command line as people use it: real processes, real signals, wrong input."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers import processes
from helpers.processes import DEADLINE
from helpers.workspaces import TINY_STUDY
from typer.testing import CliRunner

from gru_optuna import tune
from gru_optuna.cli import app

if TYPE_CHECKING:
    from helpers.processes import Nursery, Process
    from helpers.workspaces import Workspace

TINY = "studies/tiny.toml"
SALES = """
name = "sales"
task = "forecasting"
[data]
train = "data/sales.csv"
time = "day"
target = "sales"
horizon = 2
window = 4
season = 7
[model]
hidden_size = 2
[search]
batch_size = 32
[training]
epochs = 1
"""


def wait_for_line(process: Process, line: str) -> None:
    """Waits until a line of stderr begins so, after its time."""
    processes.wait_for(
        f"{line!r} in {process.said!r}",
        lambda: re.search(rf"^\d\d:\d\d:\d\d  {line}", process.said, re.MULTILINE),
    )


def ran(workspace: Workspace, trials: int = 1, study: str = TINY, *overrides: str) -> None:
    """Tunes in this process, which has the data and the compiled code already."""
    tune(
        workspace.folder / study,
        trials=trials,
        storage=f"sqlite:///{workspace.folder}/storage/gru_optuna.db",
        overrides=overrides,
    )


# --- the main job ---


def test_from_a_study_file_to_a_report(workspace: Workspace) -> None:
    done = workspace.run_afresh("tune", TINY)
    assert done.returncode == 0, done.stderr
    assert "tiny: 3 trials" in done.stdout
    best = r"validation accuracy (in the search )?0\.\d{4} \(trial \d, epoch \d\)"
    assert len(re.findall(best, done.stdout)) == 1  # one winner, and not two
    assert re.search(r"test accuracy 0\.\d{2}", done.stdout)
    assert "report  dashboards/tiny/index.html" in done.stdout
    page = (workspace.folder / "dashboards" / "tiny" / "index.html").read_text()
    assert "tiny" in page
    # One plain line a trial where nobody watches, and nothing of it on stdout.
    assert "trial 0: accuracy" in done.stderr
    assert "trial 0:" not in done.stdout
    assert "\x1b" not in done.stderr + done.stdout


def test_the_same_command_says_that_the_study_is_finished(workspace: Workspace) -> None:
    ran(workspace, trials=3)
    again = workspace.run("tune", TINY)
    assert again.returncode == 0
    assert again.stdout.startswith("tiny is finished: all 3 trials are done")
    assert "confirmed validation accuracy" in again.stdout
    assert "trial" not in again.stderr.split("next")[0].split("resumes after 3 trials")[1]


def test_a_raised_budget_runs_exactly_the_difference(workspace: Workspace) -> None:
    ran(workspace, trials=2)
    more = workspace.run("tune", TINY, "--trials", "4")
    assert re.findall(r"^\S+  trial (\d+):", more.stderr, re.MULTILINE) == ["2", "3"]
    storage = f"sqlite:///{workspace.folder}/storage/gru_optuna.db"
    assert len(optuna.load_study(study_name="tiny", storage=storage).trials) == 4


def test_set_overrides_the_file(workspace: Workspace) -> None:
    done = workspace.run("tune", TINY, "--trials", "1", "--set", "search.dropout=0.25")
    assert done.returncode == 0, done.stderr
    best = json.loads(workspace.run_afresh("best", "tiny", "--json").stdout)
    assert best["configuration"]["dropout"] == 0.25
    assert set(best["params"]) == {"learning_rate"}


def test_the_storage_comes_from_flag_then_environment(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{workspace.folder}/elsewhere/my.db"
    workspace.run("tune", TINY, "--trials", "1", "--storage", url)
    assert (workspace.folder / "elsewhere" / "my.db").exists()
    assert not (workspace.folder / "storage").exists()
    environment = workspace.environment() | {"GRU_OPTUNA_STORAGE": url}
    shown = subprocess.run(
        [sys.executable, "-m", "gru_optuna", "studies"],
        cwd=workspace.folder, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "tiny" in shown.stdout


# --- looking at studies ---


def test_studies_status_and_best(workspace: Workspace) -> None:
    ran(workspace, trials=3)
    (listed,) = json.loads(workspace.run_afresh("studies", "--json").stdout)
    assert set(listed) == {"study", "task", "trials", "best"}
    assert (listed["study"], listed["task"], listed["trials"]) == ("tiny", "classification", 3)

    status = json.loads(workspace.run_afresh("status", "tiny", "--json").stdout)
    assert status["direction"] == "maximize"
    states = {"complete", "pruned", "paused", "running", "waiting", "failed"}
    assert set(status["trials"]) == states
    assert status["budget"] == {"trials": 3, "claimed": 3}
    assert set(status["best"]) == {"number", "value", "params"}
    assert status["best"]["value"] == listed["best"]

    assert "accuracy" in workspace.run("studies").stdout
    assert "budget   3 of 3 trials started\n" in workspace.run("status", "tiny").stdout
    ran(workspace, 3, TINY, "budget.epochs=4000", "budget.hours=1.5")
    shown = workspace.run("status", "tiny").stdout
    assert "budget   3 of 3 trials started, at most 4,000 epochs and 1.5 hours\n" in shown


def test_best_as_toml_is_a_study_file_that_fixes_everything(workspace: Workspace) -> None:
    ran(workspace, trials=3)
    toml = workspace.run("best", "tiny", "--toml").stdout
    head = TINY_STUDY.split("[model]")[0].replace('"tiny"', '"fixed"')
    workspace.write("studies/fixed.toml", head + toml + "[training]\nepochs = 3\n")
    ran(workspace, 1, "studies/fixed.toml")
    assert json.loads(workspace.run("best", "fixed", "--json").stdout)["params"] == {}


def test_a_study_file_names_its_study_and_workspace_from_anywhere(
    workspace: Workspace, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("GRU_OPTUNA_STORAGE", raising=False)
    file = os.path.relpath(workspace.folder / TINY, elsewhere)
    tuned = CliRunner().invoke(app, ["tune", file, "--trials", "1", "--no-confirm"])
    assert tuned.exit_code == 0, tuned.output
    offered = [line[8:] for line in tuned.stderr.splitlines() if line[8:].startswith("gru-optuna")]
    assert [command.split()[1:3] for command in offered] == [
        ["dashboard", file], ["export", file], ["tune", file],
    ]  # fmt: skip
    for command in ("status", "best"):
        shown = CliRunner().invoke(app, [command, file, "--json"])
        assert shown.exit_code == 0, shown.output
        assert json.loads(shown.stdout)
    rendered = CliRunner().invoke(app, ["report", file])
    page = workspace.folder / "dashboards" / "tiny" / "index.html"
    assert page.samefile(rendered.stdout.strip())
    bundle = CliRunner().invoke(app, offered[1].split()[1:])
    assert bundle.exit_code == 0, bundle.output
    assert (elsewhere / "bundles" / "tiny").is_dir()
    assert CliRunner().invoke(app, ["status", "none.toml"]).exit_code == 2
    assert sorted(path.name for path in elsewhere.iterdir()) == ["bundles"]


def test_report_can_be_rendered_elsewhere(workspace: Workspace) -> None:
    ran(workspace)
    shown = workspace.run_afresh("report", "tiny", "--out", "mine").stdout
    assert shown == "mine/index.html\n"
    assert (workspace.folder / "mine" / "index.html").exists()


def test_looking_before_there_is_anything_makes_nothing(workspace: Workspace) -> None:
    for command in (["studies"], ["status", "tiny"], ["best", "tiny"], ["report", "tiny"]):
        done = workspace.run(*command)
        assert done.returncode == 2
        assert "no database yet" in done.stderr
    assert sorted(path.name for path in workspace.folder.iterdir()) == ["studies"]


# --- interruptions ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_cleanly_and_the_same_command_goes_on(
    workspace: Workspace, number: signal.Signals
) -> None:
    process = workspace.start("tune", TINY, "--trials", "6", "--set", "training.epochs=15")
    wait_for_line(process, "trial 0")
    process.signal(number)
    assert process.wait() == 130
    assert "To resume: gru-optuna tune studies/tiny.toml --trials 6" in process.said
    assert "Traceback" not in process.said
    ran(workspace, 6, TINY, "training.epochs=15")
    status = json.loads(workspace.run("status", "tiny", "--json").stdout)
    assert status["budget"] == {"trials": 6, "claimed": 6}
    assert status["trials"]["running"] == 0


def test_a_study_whose_trials_all_fail_ends_with_the_reason(workspace: Workspace) -> None:
    failed = workspace.run("tune", TINY, "--trials", "2", "--set", "search.learning_rate=1e30")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.splitlines()[-1] == (
        "tiny has no result: 2 of 2 trials failed: diverged in epoch 1: the gradient is not "
        "finite. All trials of the budget have ended. Give more with --trials."
    )


def test_tune_says_how_its_files_are_read(workspace: Workspace) -> None:
    rows = [f"2024-{n // 28 + 1:02}-{n % 28 + 1:02};{n * 37 % 101},5" for n in range(300)]
    workspace.write("studies/data/sales.csv", "\n".join(["# an export", "day;sales", *rows]))
    workspace.write("studies/sales.toml", SALES)
    done = CliRunner().invoke(
        app, ["tune", str(workspace.folder / "studies/sales.toml"), "--trials", "1", "--no-confirm"]
    )
    assert done.exit_code == 0, done.output
    assert "sales.csv: the first line is above the names of the columns, and skipped" in done.stderr
    assert 'sales.csv: read with "sales" as decimal commas' in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "x.toml", "--device", "gpu"], '--device: got "gpu". Choose auto, cpu or cuda.'),
        (["report", "x", "--images", "sgv"], '--images: got "sgv". Choose svg or png.'),
        (
            ["inspect", "x.csv", "--thousands", "x"],
            '--thousands: got "x". Choose "", ".", ",", " " or "\'".',
        ),
        (["tune", "x.toml", "--trials", "ten"], '--trials: got "ten", needs a whole number.'),
        (["tune", "x.toml", "--hours", "1h"], '--hours: got "1h", needs a number.'),
        (["confirm", "x", "--seeds", "0"], '--seeds: got "0", needs 1 or more.'),
    ],
)
def test_a_wrong_value_is_refused_with_what_the_option_takes(
    arguments: list[str], message: str
) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert done.stderr == f"{message}\n"


@pytest.fixture
def in_an_epoch(nursery: Nursery, workspace: Workspace) -> Process:
    """A process in the middle of an epoch that takes much longer than any test may."""
    sign = workspace.folder / "in an epoch"
    slow = {"seconds": 10 * DEADLINE, "sign": str(sign)}
    process = nursery.start(
        "tune", TINY, "--threads", 1, "--slots", 3, folder=workspace.folder, faults={"slow": slow}
    )
    processes.wait_for("an epoch", sign.exists)
    return process


def test_a_second_signal_ends_at_once(in_an_epoch: Process) -> None:
    in_an_epoch.signal(signal.SIGINT)
    processes.wait_for("an answer", lambda: "stopping after this epoch" in in_an_epoch.said)
    in_an_epoch.signal(signal.SIGINT)
    assert in_an_epoch.wait() == 130
    assert in_an_epoch.said.endswith("\nstopped at once. Run the same command to resume.\n")


def test_a_killed_study_goes_on_under_the_same_numbers(workspace: Workspace) -> None:
    process = workspace.start("tune", TINY, "--trials", "5", "--set", "training.epochs=15")
    wait_for_line(process, "trial 0")
    process.kill()
    ran(workspace, 5, TINY, "training.epochs=15")
    status = json.loads(workspace.run("status", "tiny", "--json").stdout)
    assert sum(status["trials"].values()) == 5
    assert status["trials"]["running"] == 0


def test_two_commands_work_on_one_study(workspace: Workspace) -> None:
    """Both are its workers; the budget is theirs together."""
    arguments = ("tune", TINY, "--trials", "12", "--set", "training.epochs=15")
    both = [workspace.start(*arguments) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    numbers = [
        int(n)
        for process in both
        for n in re.findall(r"^\S+  trial (\d+): ", process.said, re.MULTILINE)
    ]
    assert sorted(numbers) == list(range(12))


def test_an_epoch_that_takes_long_is_not_waited_for(
    in_an_epoch: Process, workspace: Workspace
) -> None:
    in_an_epoch.signal(signal.SIGTERM)
    assert in_an_epoch.wait() == 130
    assert "stopped; nothing is lost" in in_an_epoch.said
    with sqlite3.connect(workspace.folder / "storage" / "gru_optuna.db") as connection:
        assert connection.execute("SELECT * FROM gru_optuna_workers").fetchall() == []
        held = connection.execute("SELECT worker_id FROM gru_optuna_leases").fetchall()
    assert held == [(None,)] * 3


def test_a_supervised_worker_ends_with_its_work_or_with_its_parent(workspace: Workspace) -> None:
    ran(workspace)
    for trials in (1, 400):
        if trials > 1:
            # Somebody raised the budget and is gone: there is more to do than a test takes.
            url = f"sqlite:///{workspace.folder}/storage/gru_optuna.db"
            study = optuna.load_study(study_name="tiny", storage=url)
            study.set_user_attr("budget", {"trials": trials, "hours": None})
        process = subprocess.Popen(
            [sys.executable, "-m", "gru_optuna", "worker", "tiny", "--with-parent"],
            cwd=workspace.folder, env=workspace.environment(),
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if trials == 1:
            # Not communicate(), which closes stdin: the parent lives on.
            assert process.wait(timeout=DEADLINE) == 0
            process.communicate()
        else:
            assert next(line for line in process.stderr or () if "  trial " in line)
            _, err = process.communicate(timeout=DEADLINE)
            assert process.returncode == 130
            assert "stopped; nothing is lost" in err


# --- the terminal ---


def test_a_live_table_where_somebody_watches(workspace: Workspace) -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gru_optuna", "tune", TINY],
        cwd=workspace.folder,
        env=workspace.environment() | {"TERM": "xterm-256color"},
        stdout=subprocess.PIPE, stderr=terminal, text=True,
    )  # fmt: skip
    os.close(terminal)
    drawn = b""
    while True:
        try:
            chunk = os.read(controller, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not chunk:
            break
        drawn += chunk
    process.communicate(timeout=DEADLINE)
    os.close(controller)
    text = drawn.decode()
    assert process.returncode == 0
    assert "3/3 trials" in text
    assert "epochs" in text
    assert any(bar in text for bar in "▁▂▃▄▅▆▇█")


def test_help_answers_at_once(workspace: Workspace) -> None:
    """In processor seconds, of which a busy machine takes no more."""

    def seconds(*arguments: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])  # of processes that have ended

    # Against the interpreter's own start, because the machine's speed varies.
    bare = min(seconds("-c", "pass") for _ in range(3))
    helped = min(seconds("-m", "gru_optuna", "--help") for _ in range(3))
    assert helped < bare + 0.5

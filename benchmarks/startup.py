"""The start-up cost of each command: ``python benchmarks/startup.py [--json FILE]``.

Processor seconds (user and system) of whole processes, beside those of ``import torch`` and
``import optuna`` in the same run: only the ratios to these mean anything on a shared machine. The
demo is tuned once first, so that compiled code is cached and there is a study to look at.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

STUDIES = Path(__file__).parent.parent / "studies"
STUDY, NAME = "studies/japanese-vowels.toml", "japanese-vowels"
GRU = (sys.executable, "-m", "gru_optuna")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
TRIAL = "trial "  # begins the line of a trial that has ended


def main() -> None:
    """Measures, prints a table, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        shutil.copytree(STUDIES, workspace / "studies")
        (workspace / "storage").mkdir()
        whole_process(workspace, *GRU, "tune", STUDY, "--trials", "8")
        whole_process(workspace, *GRU, "export", NAME, "--out", "bundle")
        rows = "studies/data/japanese_vowels_test.ts"
        commands: dict[str, tuple[str, ...]] = {
            "import torch": (sys.executable, "-c", "import torch"),
            "import optuna": (sys.executable, "-c", "import optuna"),
            "--help": (*GRU, "--help"),
            "studies": (*GRU, "studies"),
            "status": (*GRU, "status", NAME),
            "best": (*GRU, "best", NAME),
            "predict": (*GRU, "predict", "bundle", rows, "--out", "out.csv"),
        }
        seconds: dict[str, list[float]] = {
            name: [] for name in (*commands, "tune, to its first result")
        }
        # In turn, so that a busy moment meets all of them.
        for turn in range(arguments.rounds):
            for name, command in commands.items():
                seconds[name].append(whole_process(workspace, *command))
            seconds["tune, to its first result"].append(
                to_first_trial(workspace, f"turn-{turn}.db")
            )
            (workspace / "out.csv").unlink()
    print(table(seconds))
    if arguments.json:
        arguments.json.write_text(json.dumps(seconds, indent=2))


def whole_process(workspace: Path, *command: str) -> float:
    """Processor seconds of a command from its start to its end."""
    process = subprocess.Popen(
        command, cwd=workspace, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {said}")
    return usage.ru_utime + usage.ru_stime


def to_first_trial(workspace: Path, database: str) -> float:
    """Processor seconds of ``tune`` until its first trial has ended."""
    url = f"sqlite:///{workspace / 'storage' / database}"
    command = (*GRU, "tune", STUDY, "--storage", url)
    process = subprocess.Popen(
        command, cwd=workspace, env=ENVIRONMENT, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    wait_for_trial(process.stderr)
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    process.kill()
    process.wait()
    process.stderr.close()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime: proc(5)


def wait_for_trial(lines: IO[str]) -> None:
    """Reads until a trial has ended."""
    for line in lines:
        if line.startswith(TRIAL):
            return
    raise SystemExit("tune ended without a trial")


def table(seconds: dict[str, list[float]]) -> str:
    """Medians, and their ratios to ``import torch`` round by round."""
    lines = [
        "| processor seconds | median | least | most | of import torch |",
        "|---|---|---|---|---|",
    ]
    for name, values in seconds.items():
        ratio = statistics.median(
            a / b for a, b in zip(values, seconds["import torch"], strict=True)
        )
        lines.append(
            f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} "
            f"| {max(values):.2f} | {ratio:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""How a process leaves after a signal, whatever it is doing."""

from __future__ import annotations

import array
import fcntl
import signal
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest
from helpers.processes import DEADLINE, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITING = """
import sys
from gru_optuna.cli import process

class View:
    def close(self):
        print("closed", file=sys.stderr)

process._LEAVE_SECONDS = float(sys.argv[1])
process.stop_on_signals(View())
while True:
    print(1000 * "x", file=sys.stderr, flush=True)
"""

NEARLY_FULL = 60_000
"""Bytes in a pipe into which another line hardly fits."""


@pytest.fixture
def blocked(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for somebody to read what it writes to stderr."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(request.param)], stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    with process:
        wait_for("a full pipe", lambda: waiting_bytes(process) >= NEARLY_FULL)
        yield process
        process.kill()


def waiting_bytes(process: subprocess.Popen[bytes]) -> int:
    """How much of what a process wrote to stderr nobody has read."""
    assert process.stderr is not None
    assert process.poll() is None, process.stderr.read()
    size = array.array("i", [0])
    fcntl.ioctl(process.stderr, termios.FIONREAD, size)
    return size[0]


@pytest.mark.parametrize("blocked", [0.1], indirect=True)
def test_a_process_whose_output_nobody_reads_leaves_some_seconds_after_a_signal(
    blocked: subprocess.Popen[bytes],
) -> None:
    blocked.send_signal(signal.SIGTERM)
    assert blocked.wait(DEADLINE) == 130


@pytest.mark.parametrize("blocked", [10 * DEADLINE], indirect=True)
def test_a_process_whose_output_nobody_reads_leaves_at_the_second_signal(
    blocked: subprocess.Popen[bytes],
) -> None:
    while blocked.poll() is None:
        blocked.send_signal(signal.SIGINT)
    assert blocked.wait() == 130

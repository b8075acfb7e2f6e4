"""A network namespace of its own, in which a cluster of tests runs: nothing listens outside it.

It needs root, and the programs in `NEEDED`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.processes import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

NEEDED = ("unshare", "nsenter", "ip")

WHOLE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
"""Before a command: in a namespace of processes of its own, so that all of them end with it."""


def missing(*programs: str) -> list[str]:
    """What this machine lacks, of these programs besides `NEEDED`."""
    lacks = [program for program in (*NEEDED, *programs) if shutil.which(program) is None]
    return lacks if os.geteuid() == 0 else [*lacks, "root"]


class NetworkNamespace:
    """The namespace, with a loopback interface that has these addresses, too.

    Ended by `close`, with everything in it.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._holder = subprocess.Popen(
            ["/usr/bin/unshare", "--net", "sleep", "infinity"],
            start_new_session=True,  # Ctrl-C is for the tests, which then close it
        )
        own = Path("/proc/self/ns/net").readlink()
        wait_for("the namespace", lambda: self._path.readlink() != own)
        self._inside = self._path.readlink()
        for command in (
            ["link", "set", "lo", "up"],
            *(["address", "add", f"{address}/32", "dev", "lo"] for address in addresses),
        ):
            subprocess.run(self.enter("ip", *command), check=True)

    @property
    def _path(self) -> Path:
        return Path(f"/proc/{self._holder.pid}/ns/net")

    def enter(self, *command: str) -> list[str]:
        """A command that runs in the namespace."""
        return ["nsenter", f"--net={self._path}", *command]

    def close(self) -> None:
        """Ends everything in the namespace."""
        for path in Path("/proc").glob("[0-9]*/ns/net"):
            with suppress(OSError):
                if path.readlink() == self._inside:
                    os.kill(int(path.parts[2]), signal.SIGKILL)
        self._holder.kill()
        self._holder.wait()

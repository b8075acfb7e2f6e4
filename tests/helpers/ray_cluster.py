"""A real Ray cluster of two nodes in a network namespace of its own, for soak tests.

By default Ray listens on all addresses and asks nobody who they are, so it must never run outside
one. It needs root, ``unshare`` and the package ray in this Python.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from helpers.processes import wait_for

NEEDED = ("unshare", "nsenter", "ip")
ADDRESSES = ("10.213.0.1", "10.213.0.2")


def missing() -> list[str]:
    """What this machine lacks; empty if a cluster can be started."""
    lacks = [program for program in NEEDED if shutil.which(program) is None]
    lacks += [] if find_spec("ray") else ["ray"]
    return lacks if os.geteuid() == 0 else [*lacks, "root"]


class RayCluster:
    """Two nodes of two processors each; the first is the head."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        self._namespace = subprocess.Popen(
            ["/usr/bin/unshare", "--net", "sleep", "infinity"],
            start_new_session=True,  # Ctrl-C is for the tests, which then close it
        )
        own = Path("/proc/self/ns/net").readlink()
        wait_for("the namespace", lambda: self._namespace_path.readlink() != own)
        self._inside = self._namespace_path.readlink()
        for command in (
            ["ip", "link", "set", "lo", "up"],
            *(["ip", "address", "add", f"{address}/32", "dev", "lo"] for address in ADDRESSES),
        ):
            subprocess.run(self.enter(*command), check=True)
        self.start_node(0)
        self.start_node(1)

    @property
    def _namespace_path(self) -> Path:
        return Path(f"/proc/{self._namespace.pid}/ns/net")

    @property
    def environment(self) -> dict[str, str]:
        """How others find the cluster."""
        return {"RAY_ADDRESS": f"{ADDRESSES[0]}:6400", "RAY_USAGE_STATS_ENABLED": "0"}

    def enter(self, *command: str) -> list[str]:
        """A command that runs in the namespace."""
        return ["nsenter", f"--net={self._namespace_path}", *command]

    def start_node(self, index: int) -> None:
        """Starts a node, and waits until it takes tasks."""
        where = (
            ["--head", "--port=6400", "--include-dashboard=false", f"--temp-dir={self.folder}"]
            if index == 0
            else [f"--address={ADDRESSES[0]}:6400"]
        )
        log = (self.folder.parent / f"ray-{index}.log").open("wb")
        # In a namespace of processes of its own, so that all of them end with it.
        self._nodes[index] = subprocess.Popen(
            self.enter(
                "unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
                sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *where,
                f"--node-ip-address={ADDRESSES[index]}", "--num-cpus=2",
                "--object-store-memory=80000000", "--disable-usage-stats",
            ),
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}, stdout=log, stderr=log,
        )  # fmt: skip
        wait_for(
            lambda: f"node {index}: {(self.folder.parent / f'ray-{index}.log').read_text()}",
            lambda: b"runtime started" in (self.folder.parent / f"ray-{index}.log").read_bytes(),
        )

    def kill_node(self, index: int) -> None:
        """Kills a node with everything that runs there, as a power cut does."""
        self._nodes[index].kill()  # unshare, which takes the whole namespace of processes with it
        self._nodes[index].wait()

    def close(self) -> None:
        """Ends everything in the namespace."""
        for node in self._nodes.values():
            node.kill()
            node.wait()
        for path in Path("/proc").glob("[0-9]*/ns/net"):
            with suppress(OSError):
                if path.readlink() == self._inside:
                    os.kill(int(path.parts[2]), signal.SIGKILL)
        self._namespace.kill()
        self._namespace.wait()

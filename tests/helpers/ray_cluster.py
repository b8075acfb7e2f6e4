"""A real Ray cluster of two nodes in a network namespace of its own, for soak tests.

By default Ray listens on all addresses and asks nobody who they are, so it must never run outside
one. It needs root, and the package ray in this Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from helpers import network_namespace
from helpers.network_namespace import WHOLE, NetworkNamespace
from helpers.processes import wait_for

if TYPE_CHECKING:
    from pathlib import Path

ADDRESSES = ("10.213.0.1", "10.213.0.2")


def missing() -> list[str]:
    """What this machine lacks; empty if a cluster can be started."""
    return [*network_namespace.missing(), *([] if find_spec("ray") else ["ray"])]


class RayCluster:
    """Two nodes of two processors each; the first is the head."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        self._namespace = NetworkNamespace(ADDRESSES)
        self.start_node(0)
        self.start_node(1)

    @property
    def environment(self) -> dict[str, str]:
        """How others find the cluster."""
        return {"RAY_ADDRESS": f"{ADDRESSES[0]}:6400", "RAY_USAGE_STATS_ENABLED": "0"}

    def enter(self, *command: str) -> list[str]:
        """A command that runs in the namespace."""
        return self._namespace.enter(*command)

    def start_node(self, index: int) -> None:
        """Starts a node, and waits until it takes tasks."""
        where = (
            ["--head", "--port=6400", "--include-dashboard=false", f"--temp-dir={self.folder}"]
            if index == 0
            else [f"--address={ADDRESSES[0]}:6400"]
        )
        log = (self.folder.parent / f"ray-{index}.log").open("wb")
        self._nodes[index] = subprocess.Popen(
            self.enter(
                *WHOLE,
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
        self._namespace.close()

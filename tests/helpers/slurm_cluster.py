"""A real Slurm cluster of two nodes in a network namespace of its own, for soak tests.

Nothing of it listens outside the namespace, which `run` enters. It needs root, and
Debian's packages slurmctld, slurmd, slurm-client and munge.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from helpers.network_namespace import WHOLE, NetworkNamespace
from helpers.processes import wait_for

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch")
_SECOND_ADDRESS = "10.213.0.1"  # Slurm refuses to work where 127.0.0.1 is the only one

_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# Requeued jobs wait until their credentials are old: two minutes, unless told otherwise.
AuthInfo=socket={folder}/munge.socket,cred_expire=3
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port=17001 CPUs=2
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port=17002 CPUs=2
PartitionName=low Nodes=node[1-2] Default=YES PriorityTier=1 GraceTime=10
PartitionName=high Nodes=node[1-2] PriorityTier=10
"""


class SlurmCluster:
    """slurmctld, munged and two nodes, ``node1`` and ``node2``, of two processors each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "state").mkdir(parents=True)
        configuration = _CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0], folder=folder
        )
        (folder / "slurm.conf").write_text(configuration)
        self._namespace = NetworkNamespace([_SECOND_ADDRESS])
        self.run("mungekey", "--create", f"--keyfile={folder}/munge.key")
        self._start(
            "munged", "--foreground", "--force", f"--key-file={folder}/munge.key",
            f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
            f"--seed-file={folder}/munged.seed", f"--log-file={folder}/munged.log",
        )  # fmt: skip
        wait_for("munged", (folder / "munge.socket").exists)
        self._start("slurmctld", "-D", "-i")
        for node in ("node1", "node2"):
            self.start_node(node)

    @property
    def environment(self) -> dict[str, str]:
        """What Slurm's commands need besides the usual."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def enter(self, *command: str) -> list[str]:
        """A command that runs in the namespace."""
        return self._namespace.enter(*command)

    def run(self, *command: str) -> str:
        """What a command prints that runs in the namespace."""
        ran = subprocess.run(
            self.enter(*command), env=os.environ | self.environment, capture_output=True,
            text=True, check=False, timeout=60,
        )  # fmt: skip
        assert not ran.returncode, f"{command}: {ran.stderr}"
        return ran.stdout

    def start_node(self, name: str) -> None:
        """Starts a node, and waits until it takes jobs."""
        self._start(*WHOLE, "slurmd", "-D", "-N", name)

        def is_up() -> bool:
            with suppress(AssertionError):  # slurmctld may not listen yet
                state = self.run("sinfo", "--noheader", f"--nodes={name}", "-o%T").split()
                if state and state[0].rstrip("*") in ("idle", "mixed", "allocated"):
                    return "*" not in state[0]
                if state and state[0].startswith(("down", "drain")):
                    self.run("scontrol", "update", f"nodename={name}", "state=resume")
            time.sleep(0.2)
            return False

        wait_for(lambda: f"{name} to be up: {self.run('sinfo', '-N', '-l')}", is_up)

    def kill_node(self, name: str) -> None:
        """Kills a node with everything that runs there, as a power cut does."""
        daemon = self._daemons[f"slurmd {name}"]
        daemon.kill()  # unshare, which takes the whole namespace of processes with it
        daemon.wait()

    def close(self) -> None:
        """Ends everything in the namespace."""
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()
        self._namespace.close()

    def _start(self, *command: str) -> None:
        name = f"slurmd {command[-1]}" if "slurmd" in command else command[0]
        log = (self.folder / f"{name}.out").open("wb")
        self._daemons[name] = subprocess.Popen(
            self.enter(*command), env=os.environ | self.environment, stdout=log, stderr=log
        )

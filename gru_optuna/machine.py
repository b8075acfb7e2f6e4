"""Free memory, the cache folder, and scratch files for what is larger than memory.

Data may take half of the memory that is free when a process first asks, unless
``GRU_OPTUNA_MEMORY`` sets an amount, as "2GiB" or "500MB". What is larger lies in scratch files
in the user's cache folder, mapped into memory. These files have no names: nothing of them
stays, however a process ends.
"""

from __future__ import annotations

import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

from gru_optuna.errors import UserError

MEMORY = "GRU_OPTUNA_MEMORY"
"""The environment variable."""

SHARE = 0.5
"""The data's share of the free memory; the networks need some, too."""

_ROOT = Path("/")
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4} | {
    "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40
}  # fmt: skip


def allowance() -> int:
    """Bytes of memory that the data of this process may take.

    Raises
    ------
    UserError
        If the environment variable holds no amount of memory.
    """
    chosen = os.environ.get(MEMORY)
    if not chosen:
        return _default_allowance()
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", chosen, re.IGNORECASE)
    if match is None or match[2].lower() not in _UNITS:
        raise UserError(f'{MEMORY}="{chosen}" is not a number of bytes. Write {MEMORY}=2GiB.')
    return int(float(match[1]) * _UNITS[match[2].lower()])


def fits(size: float) -> bool:
    """Whether data of `size` bytes may be held in memory."""
    return size <= allowance()


def scratch_file() -> IO[bytes]:
    """Opens a file without a name in the cache folder.

    Raises
    ------
    UserError
        If the folder can't be written.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise UserError(
            f"{folder}: {error.strerror}. Data that don't fit into memory are kept in this folder: "
            f"set XDG_CACHE_HOME to one that can be written, or {MEMORY} to more than "
            f"{allowance() / 2**20:,.0f}MiB."
        ) from None


def cache_folder() -> Path:
    """The user's folder for files that can be made again, whether it exists yet or not."""
    from platformdirs import user_cache_path

    return user_cache_path("gru-optuna", appauthor=False, opinion=False)


def free_memory() -> int:
    """Bytes that this process may still take, by the machine and by the limits of containers."""
    import psutil

    available: int = psutil.virtual_memory().available
    return min([available, *_room_in_containers()])


@cache
def _default_allowance() -> int:
    return int(SHARE * free_memory())


def _room_in_containers() -> list[int]:
    """Bytes left below each memory limit that Linux's control groups set for this process.

    A limit of any group above the process's own holds, too. Both versions of control groups are
    read: https://docs.kernel.org/admin-guide/cgroup-v2.html#memory and cgroup-v1/memory.html.
    """
    try:
        lines = (_ROOT / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return []
    rooms = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            mount, limit, usage = _ROOT / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            mount = _ROOT / "sys/fs/cgroup/memory"
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        own = mount / group.strip("/")
        # Inside a container the mounted tree may begin at the process's own group.
        for folder in {mount, own, *(p for p in own.parents if p.is_relative_to(mount))}:
            try:
                room = int((folder / limit).read_text()) - int((folder / usage).read_text())
                lines_of_stat = (folder / "memory.stat").read_text().splitlines()
            except (OSError, ValueError):  # no such group here, or one without a limit ("max")
                continue
            stat = dict(pair.split() for pair in lines_of_stat)
            # The kernel counts cached files as used, but gives them up when memory is asked for.
            # Version 1 counts a group without the groups below it, unless the name says "total".
            cached = stat.get("total_inactive_file", stat.get("inactive_file", 0))
            rooms.append(max(room + int(cached), 0))
    return rooms

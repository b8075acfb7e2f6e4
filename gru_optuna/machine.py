"""How much memory data may take, and files for what is larger.

Half of the memory that is free when a process first asks, unless ``GRU_OPTUNA_MEMORY`` says how
much, as "2GiB" or "500MB". Larger things lie in files in the user's cache folder, mapped into
memory. These files have no names: nothing of them stays, however a process ends.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

from gru_optuna.errors import UserError

MEMORY = "GRU_OPTUNA_MEMORY"
"""The environment variable."""

SHARE = 0.5
"""Of the free memory; the networks need some, too."""

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4} | {
    "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40
}  # fmt: skip


def allowance() -> int:
    """Bytes of memory that the data of this process may take.

    Raises
    ------
    UserError
        If the environment variable says no number of bytes.
    """
    said = os.environ.get(MEMORY)
    if not said:
        return _share()
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", said, re.IGNORECASE)
    if match is None or match[2].lower() not in _UNITS:
        raise UserError(f'{MEMORY}="{said}" is no number of bytes. Write {MEMORY}=2GiB.')
    return int(float(match[1]) * _UNITS[match[2].lower()])


def fits(size: float) -> bool:
    """Whether something of so many bytes may stand in memory."""
    return size <= allowance()


def scratch_file() -> IO[bytes]:
    """A file without a name, in the cache folder.

    Raises
    ------
    UserError
        If there is none that can be written.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise UserError(
            f"{folder}: {error.strerror}. What doesn't fit into memory is kept in this folder: "
            f"set XDG_CACHE_HOME to one that can be written, or {MEMORY} to more than "
            f"{allowance() / 2**20:,.0f}MiB."
        ) from None


def cache_folder() -> Path:
    """The user's folder for what can be made again, whether it exists yet or not."""
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        if chosen := os.environ.get(variable):
            return Path(chosen) / "gru-optuna"
    below = Path("Library", "Caches") if sys.platform == "darwin" else Path(".cache")
    # Path.home() raises without a home.
    return Path(os.path.expanduser("~")) / below / "gru-optuna"  # noqa: PTH111


@cache
def _share() -> int:
    return int(SHARE * _free_memory())


def _free_memory() -> int:
    """Bytes that a process may take, by the machine and by the limit of its container."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 4 * 2**30  # not told on macOS and Windows
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    try:
        limit, used = (
            int(Path("/sys/fs/cgroup", name).read_text())
            for name in ("memory.max", "memory.current")
        )
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return free
    return min(free, max(limit - used, 0))

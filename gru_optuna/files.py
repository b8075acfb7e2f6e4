"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from gru_optuna.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNFINISHED = ".writing"
"""Suffix of what is being written. A file that still bears it later is left from a killed
process, and can be removed."""


SHARED_VARIABLE = "GRU_OPTUNA_SHARED"
"""Who else may read and write what we create: nobody, unless it says ``group`` or ``umask``."""

_FORBIDDEN = {"": 0o077, "group": 0o007, "umask": None}


def forbidden_permissions() -> int | None:
    """The permission bits that nothing we create has; None: the umask of the process decides.

    Raises
    ------
    UserError
        If the variable has an unknown value.
    """
    given = os.environ.get(SHARED_VARIABLE, "")
    if given not in _FORBIDDEN:
        raise UserError(f'{SHARED_VARIABLE}="{given}" is unknown. Set it to group or umask.')
    return _FORBIDDEN[given]


def limit_access(path: Path) -> None:
    """Gives a file or folder that was just created the permissions that the user wants."""
    forbidden = forbidden_permissions()
    if forbidden is not None:
        everything = 0o777 if path.is_dir() else 0o666
        special = path.stat().st_mode & 0o7000  # such as the group that a shared folder passes on
        with suppress(PermissionError):  # a file system that knows no permissions
            path.chmod(special | everything & ~forbidden)


@contextmanager
def written_whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Gives a new path next to `path`; what the block writes there moves into place at its end.

    Whoever reads `path` meanwhile, or after a crash at any point, finds the old file or the new
    one, never a part. If the block raises, nothing is left of what it wrote.

    Parameters
    ----------
    path
        A file, which is replaced; or a folder, which must be new or empty.
    durable
        Whether the bytes are on the disk before they get their name, and the name at the end.
        Without, a power cut (but no killed process) may leave a file of zeros: only for content
        that is checked when read.
    """
    with unfinished(path) as temporary:
        yield temporary
        limit_access(temporary)
        if durable:
            _sync(temporary)
        temporary.replace(path)
        if durable:
            _sync_names(path.parent)


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Gives a new path next to `path`, and removes what stands there if the block raises."""
    # In the same folder: only within one file system is a rename a single step.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        yield temporary
    except BaseException:
        # SQLite keeps a journal next to its file, under a longer name.
        for left in temporary.parent.glob(f"{glob.escape(temporary.name)}*"):
            with suppress(OSError):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        raise


def _sync_names(folder: Path) -> None:
    with suppress(OSError):  # not every file system can
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _sync(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())

"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNFINISHED = ".writing"
"""Suffix of what is being written. A file that still bears it later is left from a killed
process, and can be removed."""


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
        Whether the bytes are on the disk before they get their name. Without, a power cut (but
        no killed process) may leave a file of zeros: only for content that is checked when read.
    """
    with unfinished(path) as beside:
        yield beside
        if durable:
            _sync(beside)
        beside.replace(path)


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Gives a new path next to `path`, and removes what stands there if the block raises."""
    # In the same folder: only within one file system is a rename a single step.
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        yield beside
    except BaseException:
        # SQLite keeps a journal next to its file, under a longer name.
        for left in beside.parent.glob(f"{glob.escape(beside.name)}*"):
            with suppress(OSError):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        raise


def _sync(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())

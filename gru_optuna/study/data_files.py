"""The files of a study, by their hash: stored as uploads, fetched where they are missing.

A path from the database is opened below a folder of this machine only, links followed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gru_optuna.attributes import DATA_FILES
from gru_optuna.errors import StudyError, UserError
from gru_optuna.machine import cache_folder
from gru_optuna.storage import uploads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study
    from sqlalchemy import Engine

    from gru_optuna.study_file import Specification

PARTS = ("train", "validation", "test")
"""The keys of ``[data]`` that may name a file."""

CACHE_BYTES = 20 << 30
"""The bytes of data that a machine keeps, so that they aren't fetched again."""

_IN_USE_SECONDS = 3600.0


class Unavailable(UserError):  # noqa: N818 (what was found)
    """A study whose data are not to be had on this machine."""


def named_files(spec: Specification) -> dict[str, str]:
    """The path of each part that names a file."""
    return {part: path for part in PARTS if isinstance(path := getattr(spec.data, part), str)}


def store_files(engine: Engine, study: Study, spec: Specification, folder: Path) -> None:
    """Stores a study's files as uploads, unless they are there, so that workers without them can
    fetch them. A file with an absolute path isn't: it must be there on every machine.

    Raises
    ------
    StudyError
        If a relative path leads out of the folder of the study file.
    StorageError
        If the place of uploads can't be used.
    """
    stored: dict[str, str] = {}
    for path in named_files(spec).values():
        if Path(path).is_absolute():
            continue  # a folder that all machines share, as the user says
        try:
            found = below(folder, path)
        except Unavailable:
            raise StudyError(
                f"{path} doesn't lie below {folder}, so workers elsewhere can't have a file by "
                f"this path. Move it there, and name it relative to the study file."
            ) from None
        with found.open("rb") as file:
            stored[path] = uploads.put(engine, found.name, file).sha256
    if study.user_attrs.get(DATA_FILES) != stored:
        study.set_user_attr(DATA_FILES, stored)


def fetch_missing_files(engine: Engine, study: Study, folder: Path) -> Path:
    """The folder with a study's files: this one, or where those that the database has are fetched
    if one is missing here.

    Raises
    ------
    Unavailable
        If a path leads out of the folder.
    StorageError
        If a stored file is missing or damaged.
    """
    stored: dict[str, str] = study.user_attrs.get(DATA_FILES, {})
    if all((folder / path).is_file() for path in stored):
        return folder
    return fetch_files(engine, stored)


def fetch_files(engine: Engine, sha256: Mapping[str, str]) -> Path:
    """Fetches files, each by its path and hash, unless they are there; returns their folder.

    Raises
    ------
    Unavailable
        If a path leads out of the folder.
    StorageError
        If a stored file is missing or damaged.
    """
    digest = hashlib.sha256(json.dumps(sha256, sort_keys=True).encode()).hexdigest()
    folder = cache_folder() / "data" / digest
    for path, content in sha256.items():
        uploads.fetch(engine, content, below(folder, path))
    if folder.exists():  # not where no part names a file
        folder.touch()
        trim_cache(folder.parent)
    return folder


def trim_cache(cache: Path, most_bytes: int = CACHE_BYTES) -> None:
    """Removes from a cache what was used longest ago, until the rest has at most `most_bytes`.

    What was used within the last hour stays: another worker may be about to read it.

    Parameters
    ----------
    cache
        A folder of folders, whose times of change say when they were used.
    most_bytes
        How many bytes their files may have together.
    """
    used = []
    for folder in cache.iterdir():
        with suppress(OSError):  # another worker removes it, too
            files = [file.stat() for file in folder.rglob("*") if file.is_file()]
            used.append((folder.stat().st_mtime, sum(file.st_size for file in files), folder))
    total = sum(size for _, size, _ in used)
    for at, size, folder in sorted(used):
        if total <= most_bytes or at > time.time() - _IN_USE_SECONDS:
            return
        shutil.rmtree(folder, ignore_errors=True)
        total -= size


def below(folder: Path, path: str) -> Path:
    """A path from the database below a folder of this machine, links followed.

    Raises
    ------
    Unavailable
        If it leads out of the folder.
    """
    found = (folder / path).resolve()
    if not found.is_relative_to(folder.resolve()):
        raise Unavailable(f"its data ({path}) don't lie below {folder}.")
    return found

"""A bundle on disk: written whole or not at all, read only if it is what was written.

bundle.json              what it is
specification.json       the study file
preprocessing/0.json …   what rows go through before a network reads them
weights/0.safetensors …  one file a network
README.md                the model card
model.onnx               where that was asked for
SHA256SUMS               of all the others, as ``sha256sum --check`` reads it

What a system or a version control leaves in folders (names with a dot before them, Thumbs.db) is
overlooked; any other file is none of the bundle's, and whoever put it there meant it to be read.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from gru_optuna.bundle.manifest import read_manifest
from gru_optuna.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = "bundle.json"
SPECIFICATION = "specification.json"
CARD = "README.md"
ONNX = "model.onnx"
SUMS = "SHA256SUMS"

_NAME = re.compile(
    r"bundle\.json|specification\.json|README\.md|model\.onnx"
    r"|preprocessing/\d{1,4}\.json|weights/\d{1,4}\.safetensors"
)
_LITTER = re.compile(r"\..*|Thumbs\.db|desktop\.ini", re.IGNORECASE)
_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")
_MOST_BYTES = 4 * 2**30  # of one file: no GRU has so many weights
_AGAIN = "Copy the bundle again from where it was made, or export it again."


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes the folder with all files in it.

    Raises
    ------
    BundleError
        If something of this name is there, or it can't be written.
    """
    if folder.exists():
        raise BundleError(f"{folder}: is there already. Name another folder, or remove it.")
    beside = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.writing")
    try:
        for name, content in {**files, SUMS: _sums(files)}.items():
            path = beside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        beside.rename(folder)
    except OSError as error:
        raise BundleError(f"{folder}: {error.strerror or error}. Name another folder.") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)  # gone already, if it was renamed


def read_files(folder: Path) -> dict[str, bytes]:
    """All files of a bundle, each of them exactly as it was written.

    Raises
    ------
    BundleError
        If it is no bundle, of a newer format, or not what was written.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder. A bundle is what gru-optuna export makes.")
    # A newer format may keep its sums otherwise: it is told first.
    read_manifest(_read(folder, MANIFEST), str(folder / MANIFEST))
    stored = _read(folder, SUMS)
    files: dict[str, bytes] = {}
    for line in stored.decode(errors="replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None or not _NAME.fullmatch(match[2]):
            raise BundleError(
                f'{folder / SUMS}: "{line[:100]}" names no file of a bundle. {_AGAIN}'
            )
        content = files[match[2]] = _read(folder, match[2])
        if hashlib.sha256(content).hexdigest() != match[1]:
            raise BundleError(
                f"{folder / match[2]}: not what was exported, by its checksum: it was cut short "
                f"or changed. {_AGAIN}"
            )
    if stored != _sums(files) or MANIFEST not in files:
        raise BundleError(f"{folder / SUMS}: not what was exported. {_AGAIN}")
    _refuse_strangers(folder, files)
    return files


def _refuse_strangers(folder: Path, files: Mapping[str, bytes]) -> None:
    for place, rooms, names in os.walk(folder):
        rooms[:] = [room for room in rooms if not _LITTER.fullmatch(room)]
        for name in names:
            path = Path(place, name)
            known = path.relative_to(folder).as_posix() in {*files, SUMS}
            if not known and not _LITTER.fullmatch(name):
                raise BundleError(
                    f"{path}: not a file of this bundle. Remove it; if it belongs there, "
                    f"{_AGAIN[0].lower()}{_AGAIN[1:]}"
                )


def _sums(files: Mapping[str, bytes]) -> bytes:
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "".join(lines).encode()


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        found = path.lstat()
        # A pipe would never end, and a link leads out of the folder.
        if not stat.S_ISREG(found.st_mode) or path.parent.is_symlink():
            raise BundleError(f"{path}: not a plain file. {_AGAIN}")
        if found.st_size > _MOST_BYTES:
            raise BundleError(f"{path}: {found.st_size} bytes, which no bundle has. {_AGAIN}")
        return path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{path}: missing. {_AGAIN}") from None
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}.") from None

"""A bundle on disk: written whole or not at all, read only if it is what was written.

bundle.json              the manifest
specification.json       the study file
preprocessing/0.json …   how rows become a network's input
linear/0.json …          linear models, without their weights
weights/0.safetensors …  one file per network or linear model
README.md                the model card
model.onnx               the network for other runtimes, if it was asked for
SHA256SUMS               the checksums of all other files, for ``sha256sum --check``

Files that operating systems and version control leave in folders (names that begin with a dot,
Thumbs.db) are ignored. Any other file is refused: it may have been meant to be read.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from gru_optuna.bundle.manifest import read_manifest
from gru_optuna.errors import BundleError
from gru_optuna.files import written_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = "bundle.json"
SPECIFICATION = "specification.json"
CARD = "README.md"
ONNX = "model.onnx"
SUMS = "SHA256SUMS"

_NAME = re.compile(
    r"bundle\.json|specification\.json|README\.md|model\.onnx"
    r"|(?:preprocessing|linear)/\d{1,4}\.json|weights/\d{1,4}\.safetensors"
)
_LITTER = re.compile(r"\..*|Thumbs\.db|desktop\.ini", re.IGNORECASE)
_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")
_MOST_BYTES = 4 * 2**30  # of one file, far beyond the weights of any GRU
_MOST_TEXT = 64 * 2**20  # bytes of a JSON file or the model card: a large vocabulary has ten
_WEIGHTS = (".safetensors", ".onnx")
_AGAIN = "Copy the bundle from its origin again, or export it again."


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes the folder with all files in it.

    Raises
    ------
    BundleError
        If the folder exists already, or can't be written.
    """
    if folder.exists():
        raise BundleError(f"{folder} exists already. Name another folder, or remove it.")
    try:
        with written_whole(folder) as temporary:
            for name, content in {**files, SUMS: _sums(files)}.items():
                path = temporary / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    except OSError as error:
        raise BundleError(f"{folder}: {error.strerror or error}. Name another folder.") from None


def read_files(folder: Path) -> dict[str, bytes]:
    """Reads all files of a bundle, each exactly as it was written.

    Raises
    ------
    BundleError
        If it is not a bundle, has a newer format, or differs from what was written.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder. Name one that gru-optuna export has written.")
    # First, because a newer format may store its checksums differently.
    read_manifest(_read(folder, MANIFEST), str(folder / MANIFEST))
    stored = _read(folder, SUMS)
    files: dict[str, bytes] = {}
    for line in stored.decode(errors="replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None or not _NAME.fullmatch(match[2]):
            raise BundleError(
                f'{folder / SUMS}: "{line[:100]}" does not name a file of a bundle. {_AGAIN}'
            )
        content = files[match[2]] = _read(folder, match[2])
        if hashlib.sha256(content).hexdigest() != match[1]:
            raise BundleError(
                f"{folder / match[2]}: its checksum does not match: it was changed or cut short "
                f"after the export. {_AGAIN}"
            )
    if stored != _sums(files) or MANIFEST not in files:
        raise BundleError(f"{folder / SUMS}: it was changed after the export. {_AGAIN}")
    _refuse_strangers(folder, files)
    return files


def _refuse_strangers(folder: Path, files: Mapping[str, bytes]) -> None:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _LITTER.fullmatch(name)]
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
        # Reading a pipe might never end, and a link may lead out of the folder.
        if not stat.S_ISREG(found.st_mode) or path.parent.is_symlink():
            raise BundleError(f"{path}: not a plain file. {_AGAIN}")
        if found.st_size > (_MOST_BYTES if name.endswith(_WEIGHTS) else _MOST_TEXT):
            raise BundleError(
                f"{path}: {found.st_size} bytes, more than any file of a bundle. {_AGAIN}"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{path}: missing. {_AGAIN}") from None
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}.") from None

"""Checkpoints of trials: as bytes, and where the bytes are kept.

A checkpoint is a safetensors file. Whether it is whole is known from its sha256, which stands
in the database; whether it fits a trial is known to ``training.snapshots``. Reading one
executes nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol
from uuid import uuid4

from gru_optuna.errors import GRUOptunaError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from optuna.artifacts._protocol import ArtifactStore
    from torch import Tensor

FORMAT = 1
"""Of what `Checkpoint.to_bytes` writes. A version reads its own format only."""

STALE_SECONDS = 3600.0
"""No write takes so long: its process is dead."""

_RECORD = "gru_optuna"
_WRITING = ".writing"
_CREATING = 10
# A study's name, and what may be made of it. Nothing here can leave a folder, or means something
# else on another system.
_PART = re.compile(r"\w[\w.-]*")


class DamagedCheckpoint(GRUOptunaError):  # noqa: N818 (what it is, not what went wrong)
    """A checkpoint that is gone, can't be read, or doesn't fit. The trial needs an earlier one."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All that a trial needs to go on.

    Parameters
    ----------
    tensors
        By name, on the CPU, contiguous.
    state
        The rest, as JSON has it: no NaN and no infinity.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def to_bytes(self) -> bytes:
        """The safetensors file. Equal checkpoints have equal bytes.

        Raises
        ------
        ValueError
            If the state holds a NaN or an infinity.
        """
        from safetensors.torch import save

        record = {"format": FORMAT, "state": self.state}
        # One key for all of it: safetensors writes several in random order.
        return save(self.tensors, {_RECORD: json.dumps(record, allow_nan=False)})

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """The checkpoint that `to_bytes` made these of.

        Raises
        ------
        DamagedCheckpoint
            If they are anything else.
        """
        from safetensors.torch import load

        try:
            tensors = load(content)
            record = _record(content)
        except MemoryError:
            raise
        except Exception as error:
            # Each library on the way has its own errors for bytes that are wrong.
            reason = str(error).partition("\n")[0]
            raise DamagedCheckpoint(f"not a checkpoint: {type(error).__name__}: {reason}") from None
        if not isinstance(record, dict) or not isinstance(record.get("state"), dict):
            raise DamagedCheckpoint("not a checkpoint: tensors without the state of a trial")
        if record.get("format") != FORMAT:
            raise DamagedCheckpoint(
                f"written in format {record.get('format')}, this version reads format {FORMAT}"
            )
        return cls(tensors, record["state"])


def digest(content: bytes) -> str:
    """The sha256 of a checkpoint's bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


class CheckpointStore(Protocol):
    """Keeps bytes under names, NAME or STUDY/NAME: words of letters, digits and ``. _ -``.

    Every method raises ValueError for another name, and StorageError if the store itself
    can't be reached, read or written.
    """

    def write(self, name: str, content: bytes) -> None:
        """Keeps `content`, in place of what stood under this name."""

    def read(self, name: str) -> bytes:
        """What was written last.

        Raises
        ------
        DamagedCheckpoint
            If nothing stands under this name.
        """

    def remove(self, name: str) -> None:
        """Forgets a name; one that isn't there is forgotten already."""

    def names(self, prefix: str = "", *, unfinished: bool = False) -> list[str]:
        """All names that begin with `prefix`, sorted; none where the store can't list.

        With `unfinished`, also what writers have begun, who may have died: to be removed.
        """


class Folder(CheckpointStore):
    """Files below a folder, which is made when the first one is written.

    Parameters
    ----------
    folder
        May be shared by processes, and by hosts that see the same files.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def write(self, name: str, content: bytes) -> None:
        """Whoever reads meanwhile, and whoever dies meanwhile, leaves the old file or the new."""
        path = self._path(name)
        beside = path.with_name(f"{path.name}.{uuid4().hex[:8]}{_WRITING}")
        with _plain_errors(path):
            # No fsync, which can take longer than the epochs between two checkpoints. A power
            # cut may then leave a file of zeros: the sha256 in the database doesn't match, and
            # the trial starts from an earlier checkpoint. A killed process loses nothing.
            try:
                with _create(beside) as file:
                    file.write(content)
                # Gone: somebody knows that nobody needs it any more.
                with suppress(FileNotFoundError):
                    beside.replace(path)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise

    def read(self, name: str) -> bytes:
        """The file's content."""
        path = self._path(name)
        with _plain_errors(path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                _not_there(path)

    def remove(self, name: str) -> None:
        """Removes the file, and its study's folder with the last one."""
        path = self._path(name)
        with _plain_errors(path):
            with suppress(NotADirectoryError):
                path.unlink(missing_ok=True)
            if path.parent != self.folder:
                with suppress(OSError):  # not empty, or gone
                    path.parent.rmdir()

    def names(self, prefix: str = "", *, unfinished: bool = False) -> list[str]:
        """Of the files that are whole."""
        names = (
            path.relative_to(self.folder).as_posix()
            for path in self._files()
            if unfinished or path.suffix != _WRITING
        )
        return sorted(name for name in names if name.startswith(prefix) and _is_name(name))

    def leftovers(self, older_than: float = STALE_SECONDS) -> list[Path]:
        """Files that writers left behind when they were killed, to be removed by hand or sweep.

        Parameters
        ----------
        older_than
            Seconds since the last byte: a younger one may still be written.
        """
        stale = []
        for path in self._files():
            if path.suffix == _WRITING:
                with suppress(FileNotFoundError):  # renamed meanwhile
                    if time.time() - path.stat().st_mtime >= older_than:
                        stale.append(path)
        return sorted(stale)

    def _path(self, name: str) -> Path:
        return self.folder / _checked(name)

    def _files(self) -> Iterator[Path]:
        """In the folder and one level below."""
        # walk: folders that others remove meanwhile are passed over.
        for place, below, files in os.walk(self.folder):
            if Path(place) != self.folder:
                below.clear()
            yield from (Path(place, file) for file in files)


class Artifacts(CheckpointStore):
    """Objects in one of Optuna's artifact stores.

    Parameters
    ----------
    store
        Such as ``optuna.artifacts.Boto3ArtifactStore``. The one for file systems makes no
        folders and writes in place: `Folder` is the better one.
    prefix
        Stands before every name; begins and ends as it is to.
    """

    def __init__(self, store: ArtifactStore, prefix: str = "") -> None:
        self.store = store
        self.prefix = prefix

    def write(self, name: str, content: bytes) -> None:
        """Uploads; S3 shows an object when all of it is there."""
        key = self._key(name)
        with _plain_errors(key):
            self.store.write(key, io.BytesIO(content))

    def read(self, name: str) -> bytes:
        """Downloads."""
        from optuna.artifacts.exceptions import ArtifactNotFound

        key = self._key(name)
        with _plain_errors(key):
            try:
                with closing(self.store.open_reader(key)) as body:
                    return body.read()
            except ArtifactNotFound:
                _not_there(key)

    def remove(self, name: str) -> None:
        """Deletes."""
        from optuna.artifacts.exceptions import ArtifactNotFound

        key = self._key(name)
        with _plain_errors(key), suppress(ArtifactNotFound):
            self.store.remove(key)

    def names(self, prefix: str = "", *, unfinished: bool = False) -> list[str]:
        """Lists a bucket of S3. No other artifact store can list: of those, no names at all."""
        from optuna.artifacts import Boto3ArtifactStore

        if not isinstance(self.store, Boto3ArtifactStore):
            return []
        start = self.prefix + prefix
        with _plain_errors(start):
            pages = self.store.client.get_paginator("list_objects_v2")
            keys = [
                entry["Key"].removeprefix(self.prefix)
                for page in pages.paginate(Bucket=self.store.bucket, Prefix=start)
                for entry in page.get("Contents", [])
            ]
        return sorted(key for key in keys if _is_name(key))

    def _key(self, name: str) -> str:
        return self.prefix + _checked(name)


def open_store(where: str) -> CheckpointStore:
    """The store at a place.

    Parameters
    ----------
    where
        A folder, or ``s3://BUCKET`` or ``s3://BUCKET/PREFIX``: with the credentials, region and
        endpoint that boto3 finds in the environment.

    Raises
    ------
    StorageError
        If it is neither, or boto3 is missing.
    """
    scheme, separator, place = where.partition("://")
    if not separator:
        return Folder(where)
    bucket, _, prefix = place.partition("/")
    if scheme != "s3" or not bucket:
        raise StorageError(
            f"{where} is no place for checkpoints. Name a folder, or s3://BUCKET/PREFIX."
        )
    from optuna.artifacts import Boto3ArtifactStore

    prefix = prefix.strip("/")
    with _plain_errors(where):
        try:
            store = Boto3ArtifactStore(bucket)
        except ImportError:
            raise StorageError(
                f"{where}: S3 needs boto3, which is not installed. "
                f"Try: pip install 'gru-optuna[s3]'."
            ) from None
    return Artifacts(store, f"{prefix}/" if prefix else "")


def _record(content: bytes) -> Any:
    """What `Checkpoint.to_bytes` wrote beside the tensors; ``safetensors.torch.load`` skips it."""
    # 8 bytes: the header's length N, little-endian; N bytes of JSON: the header.
    # https://github.com/huggingface/safetensors#format
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    record = header.get("__metadata__", {}).get(_RECORD, "null")
    return json.loads(record, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} among its numbers")


def _is_name(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 2 and all(_PART.fullmatch(part) for part in parts)


def _checked(name: str) -> str:
    if not _is_name(name):
        raise ValueError(f"{name!r} can't name a checkpoint. Write NAME or STUDY/NAME.")
    return name


def _create(path: Path) -> BinaryIO:
    """Opens a new file, in a new folder if need be."""
    for _ in range(_CREATING):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Between the two lines another process may remove the folder, which is still empty.
        with suppress(FileNotFoundError):
            return path.open("xb")
    return path.open("xb")


def _not_there(where: Path | str) -> NoReturn:
    raise DamagedCheckpoint(f"{where}: there is no such checkpoint")


@contextmanager
def _plain_errors(where: Path | str) -> Iterator[None]:
    try:
        yield
    except GRUOptunaError:
        raise
    except OSError as error:
        raise StorageError(
            f"{where}: {error.strerror or error}. Check the path, its permissions and the space."
        ) from error
    except Exception as error:
        # An artifact store's own, of a library that may not be installed.
        raise StorageError(
            f"{where}: {error}. Check the bucket, the credentials and the network."
        ) from error

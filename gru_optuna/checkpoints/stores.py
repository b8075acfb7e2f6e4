"""Checkpoints of trials: as bytes, and where the bytes are kept.

A checkpoint is a safetensors file. Whether it is whole is known from its sha256, which stands
in the database; whether it fits a trial is known to ``training.pool_checkpoints``. Reading one
executes nothing.
"""

from __future__ import annotations

import io
import os
import re
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from gru_optuna.checkpoints.checkpoint import DamagedCheckpoint
from gru_optuna.errors import GRUOptunaError, StorageError
from gru_optuna.files import UNFINISHED, written_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore


STALE_SECONDS = 3600.0
"""No write takes this long, so the process that began it is dead."""

_CREATING = 10
# Nothing that matches can lead out of a folder, or has a special meaning on some system.
_PART = re.compile(r"\w[\w.-]*")


class CheckpointStore(Protocol):
    """Keeps bytes under names: NAME or STUDY/NAME, of letters, digits and ``. _ -``.

    Every method raises ValueError for another name, and StorageError if the store itself
    can't be reached, read or written.
    """

    def write(self, name: str, content: bytes) -> None:
        """Stores `content`, replacing what was stored under this name."""

    def read(self, name: str) -> bytes:
        """The content that was last written.

        Raises
        ------
        DamagedCheckpoint
            If nothing is stored under this name.
        """

    def remove(self, name: str) -> None:
        """Removes a name; it is no error if there is none."""

    def names(self, prefix: str = "", *, unfinished: bool = False) -> list[str]:
        """All names that begin with `prefix`, sorted; none if the store can't list.

        With `unfinished`, also the files of writers that haven't ended, or have died.
        """


class Folder(CheckpointStore):
    """Files below a folder, which is created with the first file.

    Parameters
    ----------
    folder
        Processes may share it, and so may hosts that see the same files.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file whole: a reader, or a crash, never meets half of it."""
        path = self._path(name)
        # Not durable: an fsync can take longer than the epochs between two checkpoints. After a
        # power cut the sha256 in the database may not match, and the trial continues from an
        # earlier checkpoint. A file that is gone before it gets its name was swept away by
        # another worker, because its trial is over.
        with (
            _plain_errors(path),
            suppress(FileNotFoundError),
            written_whole(path, durable=False) as beside,
            _plain_errors(path),  # but a folder that can't be created is an error
            _create(beside) as file,
        ):
            file.write(content)

    def read(self, name: str) -> bytes:
        """The content of the file."""
        path = self._path(name)
        with _plain_errors(path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                _not_there(path)

    def remove(self, name: str) -> None:
        """Removes the file, and with the last one its study's folder."""
        path = self._path(name)
        with _plain_errors(path):
            with suppress(NotADirectoryError):
                path.unlink(missing_ok=True)
            if path.parent != self.folder:
                with suppress(OSError):  # not empty, or gone
                    path.parent.rmdir()

    def names(self, prefix: str = "", *, unfinished: bool = False) -> list[str]:
        """The names of all files that were written whole."""
        names = (
            path.relative_to(self.folder).as_posix()
            for path in self._files()
            if unfinished or path.suffix != UNFINISHED
        )
        return sorted(name for name in names if name.startswith(prefix) and _is_name(name))

    def leftovers(self, older_than: float = STALE_SECONDS) -> list[Path]:
        """Unfinished files of writers that were killed.

        Parameters
        ----------
        older_than
            Seconds since the last byte; a younger file may still be in the making.
        """
        stale = []
        for path in self._files():
            if path.suffix == UNFINISHED:
                with suppress(FileNotFoundError):  # renamed meanwhile
                    if time.time() - path.stat().st_mtime >= older_than:
                        stale.append(path)
        return sorted(stale)

    def _path(self, name: str) -> Path:
        return self.folder / _checked(name)

    def _files(self) -> Iterator[Path]:
        """The files in the folder and one level below it."""
        # os.walk passes over folders that others remove meanwhile.
        for place, below, files in os.walk(self.folder):
            if Path(place) != self.folder:
                below.clear()
            yield from (Path(place, file) for file in files)


class Artifacts(CheckpointStore):
    """Objects in one of Optuna's artifact stores.

    Parameters
    ----------
    store
        Such as ``optuna.artifacts.Boto3ArtifactStore``. For a folder, `Folder` is better: Optuna's
        own store creates no folders and writes in place.
    prefix
        Comes before every name, exactly as given.
    """

    def __init__(
        self, store: Boto3ArtifactStore | FileSystemArtifactStore, prefix: str = ""
    ) -> None:
        self.store = store
        self.prefix = prefix

    def write(self, name: str, content: bytes) -> None:
        """Uploads; S3 shows an object only when it is complete."""
        key = self._key(name)
        with _plain_errors(key):
            self.store.write(key, io.BytesIO(content))

    def read(self, name: str) -> bytes:
        """Downloads the object."""
        from optuna.artifacts.exceptions import ArtifactNotFound

        key = self._key(name)
        with _plain_errors(key):
            try:
                with closing(self.store.open_reader(key)) as body:
                    return body.read()
            except ArtifactNotFound:
                _not_there(key)

    def remove(self, name: str) -> None:
        """Deletes the object."""
        from optuna.artifacts.exceptions import ArtifactNotFound

        key = self._key(name)
        with _plain_errors(key), suppress(ArtifactNotFound):
            self.store.remove(key)

    def names(self, prefix: str = "", *, unfinished: bool = False) -> list[str]:
        """Lists a bucket of S3; no other artifact store can list, so no names are returned."""
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
        A folder, or ``s3://BUCKET`` or ``s3://BUCKET/PREFIX``, with the credentials, region and
        endpoint that boto3 finds in the environment.

    Raises
    ------
    StorageError
        If the place is neither, or boto3 is missing.
    """
    scheme, separator, place = where.partition("://")
    if not separator:
        return Folder(where)
    bucket, _, prefix = place.partition("/")
    if scheme != "s3" or not bucket:
        raise StorageError(
            f"{where}: checkpoints can't be kept there. Name a folder, or s3://BUCKET/PREFIX."
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


def _is_name(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 2 and all(_PART.fullmatch(part) for part in parts)


def _checked(name: str) -> str:
    if not _is_name(name):
        raise ValueError(f"{name!r} can't name a checkpoint. Write NAME or STUDY/NAME.")
    return name


def _create(path: Path) -> BinaryIO:
    """Opens a new file, and creates its folder if necessary."""
    for _ in range(_CREATING):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Between these two lines another process may remove the folder, which is still empty.
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
            f"{where}: {error.strerror or error}. Check the path, its permissions and the free "
            f"space."
        ) from error
    except Exception as error:
        # The artifact store's own errors come from a library that may not be installed.
        raise StorageError(
            f"{where}: {error}. Check the bucket, the credentials and the network."
        ) from error

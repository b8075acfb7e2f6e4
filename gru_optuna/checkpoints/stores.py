"""Stores of checkpoints and uploads: a folder, or a bucket of S3.

A database names the places of its checkpoints and uploads, and a database may come from anywhere.
So a store holds a marker, which we write when we make it. Without the marker nothing in it is read,
written or removed; with it, only what has the name of a checkpoint or an upload. The marker also
names the database that the store belongs to: copies of it may read there, but not write or remove.
"""

from __future__ import annotations

import io
import os
import shlex
import shutil
from abc import ABC, abstractmethod
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, cast

from gru_optuna.checkpoints.checkpoint import DamagedCheckpoint
from gru_optuna.checkpoints.marker import MARKER, marker_content, owner_in
from gru_optuna.checkpoints.names import is_checkpoint, is_complete, is_folder, is_unfinished
from gru_optuna.errors import GRUOptunaError, StorageError
from gru_optuna.files import limit_access, written_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, BinaryIO

    from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore

    from gru_optuna.checkpoints.marker import Owner


PIECE_BYTES = 1 << 20
"""Bytes of a file that a process holds in memory while it copies it."""

_CREATING = 10
_MOST_MARKER_BYTES = 64 << 10
_PLACES = "Name a folder, or s3://BUCKET/PREFIX."
_ELSEWHERE = "name another place with tune --checkpoints, or for uploads with storage uploads"


class StoredFile(NamedTuple):
    """Size and age of a file in a store."""

    bytes: int
    modified: float  # seconds since 1970, by the store's clock


class ContentStore(ABC):
    """Keeps contents under the names of ``names.py``, in a place with our marker.

    Every method raises StorageError if the place can't be reached, read or written, or if it holds
    something, but no marker. So do those that change something, if the marker names another
    database.

    Parameters
    ----------
    place
        As its user wrote it.
    owner
        The database that uses it; None: whichever the marker names.
    always_ours
        Whether it belongs to that database whatever the marker says.
    """

    def __init__(self, place: str, owner: Owner | None, *, always_ours: bool = False) -> None:
        self._place = place
        self._owner = owner
        self._always_ours = always_ours
        self._marked = self._owned = False

    @abstractmethod
    def write(self, name: str, content: bytes | IO[bytes]) -> None:
        """Stores `content`, replacing what was stored under this name.

        Raises
        ------
        ValueError
            If none of ours can have this name.
        """

    def read(self, name: str) -> bytes:
        """The content that was last written.

        Raises
        ------
        DamagedCheckpoint
            If nothing is stored under this name.
        """
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """The content that was last written, piece by piece.

        Raises
        ------
        DamagedCheckpoint
            If nothing is stored under this name.
        """
        if not is_complete(name):
            _not_there(name)
        with _plain_errors(name), closing(self._open(name)) as file:
            yield from iter(lambda: file.read(PIECE_BYTES), b"")

    @abstractmethod
    def _open(self, name: str) -> IO[bytes]:
        """Opens a content to read; raises DamagedCheckpoint if there is none."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Removes a content, complete or not. A missing one is not an error.

        Raises
        ------
        ValueError
            If none of ours can have this name.
        """

    def names(self, prefix: str = "", *, unfinished: bool = False) -> list[str]:
        """The names of all `files`, sorted."""
        return sorted(self.files(prefix, unfinished=unfinished))

    @abstractmethod
    def files(self, prefix: str = "", *, unfinished: bool = False) -> dict[str, StoredFile]:
        """All contents whose names begin with `prefix`; none if the store can't list.

        With `unfinished`, also the files of writers that haven't ended, or have died.
        """

    @abstractmethod
    def mark(self) -> None:
        """Writes the marker, and creates the place if there is none."""

    @abstractmethod
    def marked_owner(self) -> Owner | None:
        """The database that the marker names."""

    @abstractmethod
    def strangers(self) -> list[str]:
        """The first few files in this place that aren't ours; hidden files are ignored."""

    @abstractmethod
    def _refuse_strangers(self) -> None:
        """Raises StorageError if the place may not be ours."""

    def require_marker(self) -> None:
        """Raises StorageError if there is no marker, or it names another database.

        A marker without an owner, or with one that has moved, gets this one.
        """
        self._refuse_strangers()
        if self._marked and (self._owned or self._owner is None):
            return
        self.refuse_others()
        if not self._marked or self.marked_owner() != self._owner:
            self.mark()
        self._owned = True

    def refuse_others(self) -> None:
        """Raises StorageError if the marker names another database."""
        if other := self.others():
            raise StorageError(
                f"{self._place} belongs to another database ({other.name}). If this one is a copy "
                f"of it, {_ELSEWHERE}. If it is the same one, moved or restored here, confirm it: "
                f"gru-optuna storage adopt {shlex.quote(self._place)} --storage URL."
            )

    def others(self) -> Owner | None:
        """The other database that the marker names; None if this place isn't another's."""
        if self._always_ours or self._owner is None:
            return None
        named = self.marked_owner()
        return named if named is not None and not named.is_same(self._owner) else None


class Folder(ContentStore):
    """Files below a folder, which is created with the first file.

    Parameters
    ----------
    folder
        Processes may share it, and so may hosts that see the same files.
    default
        Whether its path follows from the database's own. Such a folder gets its marker when it is
        needed, if nothing else lies in it: version 0.1.0 wrote no markers. It belongs to the
        database next to it, whatever the marker says.
    owner
        The database that uses it; None: whichever the marker names.
    """

    def __init__(
        self, folder: Path | str, *, default: bool = False, owner: Owner | None = None
    ) -> None:
        super().__init__(str(folder), owner, always_ours=default)
        self.folder = Path(folder)
        self._default = default
        self._identity: tuple[int, int] | None = None  # when it was last looked at

    def write(self, name: str, content: bytes | IO[bytes]) -> None:
        """Writes a file whole: a reader, or a crash, never meets half of it."""
        path, is_small = self._path(_checked(name)), is_checkpoint(name)
        self.require_marker()
        # A checkpoint isn't durable: an fsync can take longer than the epochs between two of them.
        # After a power cut the sha256 in the database may not match, and the trial continues from
        # an earlier one. A file that is gone before it gets its name was swept away by another
        # worker, because its trial is over. An upload exists once.
        with (
            _plain_errors(path),
            suppress(*([FileNotFoundError] if is_small else [])),
            written_whole(path, durable=not is_small) as temporary,
            _plain_errors(path),  # but a folder that can't be created is an error
            _create(temporary) as file,
        ):
            shutil.copyfileobj(_opened(content), file, PIECE_BYTES)

    def _open(self, name: str) -> IO[bytes]:
        path = self._path(name)
        with _plain_errors(path):
            if not _is_plain_file(path):
                _not_there(path)
            self._refuse_strangers()
            try:
                return path.open("rb")
            except FileNotFoundError:
                _not_there(path)

    def remove(self, name: str) -> None:
        """Removes the file, and with the last one its study's folder."""
        path = self._path(_checked(name, unfinished=True))
        with _plain_errors(path):
            if not _is_plain_file(path):
                return
            self.require_marker()
            path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty, or gone
                path.parent.rmdir()

    def files(self, prefix: str = "", *, unfinished: bool = False) -> dict[str, StoredFile]:
        """All files that were written whole."""
        found = {}
        with _plain_errors(self.folder):
            for name, entry in self._entries():
                if (
                    name.startswith(prefix)
                    and (is_complete(name) or (unfinished and is_unfinished(name)))
                    and entry.is_file(follow_symlinks=False)
                ):
                    with suppress(FileNotFoundError):
                        facts = entry.stat(follow_symlinks=False)
                        found[name] = StoredFile(facts.st_size, facts.st_mtime)
            if found:
                self._refuse_strangers()
        return found

    def mark(self) -> None:
        """Writes the marker, and creates the folder if there is none."""
        with _plain_errors(self.folder):
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True, exist_ok=True)
                limit_access(self.folder)
            if not (self.folder / MARKER).is_symlink():
                with written_whole(self.folder / MARKER, durable=False) as temporary:
                    temporary.write_bytes(marker_content(self._owner))
        if not self._is_marked():
            _refuse(str(self.folder))
        self._owned = True

    def marked_owner(self) -> Owner | None:
        """The database that the marker names."""
        path = self.folder / MARKER
        with _plain_errors(path):
            if not _is_plain_file(path):
                return None
            with path.open("rb") as file:
                return owner_in(file.read(_MOST_MARKER_BYTES))

    def strangers(self) -> list[str]:
        """The files in this folder that aren't ours; hidden files are ignored."""
        found = []
        with _plain_errors(self.folder):
            if self.folder.is_dir():
                with os.scandir(self.folder) as entries:
                    found = [
                        entry.name
                        for entry in entries
                        if not entry.name.startswith(".")
                        and not (is_folder(entry.name) and entry.is_dir(follow_symlinks=False))
                    ]
        found += [
            name
            for name, entry in self._entries()
            if not (entry.is_file(follow_symlinks=False) and _is_ours(name))
        ]
        return sorted(name for name in found if "/." not in name)

    def _refuse_strangers(self) -> None:
        """Raises StorageError if the folder may not be ours."""
        if self._is_marked():
            return
        if not self._default or self.folder.is_symlink():
            _refuse(str(self.folder))
        if strangers := self.strangers():
            _refuse(str(self.folder), strangers)

    def _is_marked(self) -> bool:
        with _plain_errors(self.folder):
            # A link to somebody's folder may have taken the place of ours since the last look.
            if (found := _identity(self.folder)) != self._identity:
                self._identity, self._marked, self._owned = found, False, False
            self._marked = self._marked or _is_plain_file(self.folder / MARKER)
        return self._marked

    def _path(self, name: str) -> Path:
        path = self.folder / name
        with _plain_errors(self.folder):
            is_link = path.parent.is_symlink()
        if is_link:
            raise StorageError(
                f"{path.parent} is a link. Nothing is read or written through it: remove the link, "
                f"or move what it points to here."
            )
        return path

    def _entries(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """The entries of our folders, by name."""
        # Others may remove folders meanwhile.
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.folder) as folders:
            for folder in folders:
                if is_folder(folder.name) and folder.is_dir(follow_symlinks=False):
                    with suppress(FileNotFoundError), os.scandir(folder.path) as entries:
                        for entry in entries:
                            yield f"{folder.name}/{entry.name}", entry


class Artifacts(ContentStore):
    """Objects in one of Optuna's artifact stores.

    Parameters
    ----------
    store
        Such as ``optuna.artifacts.Boto3ArtifactStore``. For a folder, `Folder` is better: Optuna's
        own store creates no folders and writes in place.
    prefix
        Comes before every name, exactly as given.
    where
        The place as its user wrote it.
    owner
        The database that uses it; None: whichever the marker names.
    """

    def __init__(
        self,
        store: Boto3ArtifactStore | FileSystemArtifactStore,
        prefix: str = "",
        where: str = "this artifact store",
        owner: Owner | None = None,
    ) -> None:
        super().__init__(where, owner)
        self.store = store
        self.prefix = prefix

    def write(self, name: str, content: bytes | IO[bytes]) -> None:
        """Uploads; S3 shows an object only when it is complete."""
        key = self._key(_checked(name))
        self.require_marker()
        self._upload(key, content)

    def _open(self, name: str) -> IO[bytes]:
        file = self._reader(self._key(name))
        self._refuse_strangers()
        return file

    def remove(self, name: str) -> None:
        """Deletes the object."""
        from optuna.artifacts.exceptions import ArtifactNotFound

        key = self._key(_checked(name, unfinished=True))
        self.require_marker()
        with _plain_errors(key), suppress(ArtifactNotFound):
            self.store.remove(key)

    def files(self, prefix: str = "", *, unfinished: bool = False) -> dict[str, StoredFile]:
        """Lists a bucket of S3; no other artifact store can list, so nothing is returned."""
        found = {name: file for name, file in self._list(prefix) if is_complete(name)}
        if found:
            self._refuse_strangers()
        return found

    def mark(self) -> None:
        """Uploads the marker."""
        self._upload(self._key(MARKER), marker_content(self._owner))
        self._marked = self._owned = True

    def marked_owner(self) -> Owner | None:
        """The database that the marker names."""
        with suppress(DamagedCheckpoint):
            return owner_in(self._download(self._key(MARKER)))
        return None

    def _refuse_strangers(self) -> None:
        """Raises StorageError if the place may not be ours."""
        if self._marked:
            return
        try:
            self._download(self._key(MARKER))
        except DamagedCheckpoint:
            _refuse(self._place)
        self._marked = True

    def strangers(self) -> list[str]:
        """Objects below the prefix that aren't ours, hidden ones left out."""
        return sorted(
            name
            for name, _ in self._list("")
            if not _is_ours(name) and not name.rpartition("/")[2].startswith(".")
        )

    def _list(self, prefix: str) -> Iterator[tuple[str, StoredFile]]:
        from optuna.artifacts import Boto3ArtifactStore

        if not isinstance(self.store, Boto3ArtifactStore):
            return
        start = self._key(prefix)
        with _plain_errors(start):
            pages = self.store.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.store.bucket, Prefix=start):
                for entry in page.get("Contents", []):
                    name = entry["Key"].removeprefix(self.prefix)
                    yield name, StoredFile(entry["Size"], entry["LastModified"].timestamp())

    def _upload(self, key: str, content: bytes | IO[bytes]) -> None:
        with _plain_errors(key):
            self.store.write(key, _opened(content))

    def _download(self, key: str) -> bytes:
        with _plain_errors(key), closing(self._reader(key)) as body:
            return body.read()

    def _reader(self, key: str) -> BinaryIO:
        from optuna.artifacts.exceptions import ArtifactNotFound

        with _plain_errors(key):
            try:
                return self.store.open_reader(key)
            except ArtifactNotFound:
                _not_there(key)

    def _key(self, name: str) -> str:
        return self.prefix + name


def open_store(where: str, owner: Owner | None = None) -> ContentStore:
    """The store at a place.

    Parameters
    ----------
    where
        A folder, or ``s3://BUCKET`` or ``s3://BUCKET/PREFIX``, with the credentials, region and
        endpoint that boto3 finds in the environment.
    owner
        The database that uses it; None: to read only, or for whichever the marker names.

    Raises
    ------
    StorageError
        If the place is neither, or boto3 is missing.
    """
    if not isinstance(where, str) or not where:  # a database may say anything
        raise StorageError(f"{where!r}: nothing can be kept there. {_PLACES}")
    scheme, separator, place = where.partition("://")
    if not separator:
        return Folder(where, owner=owner)
    bucket, _, prefix = place.partition("/")
    if scheme != "s3" or not bucket:
        raise StorageError(f"{where}: nothing can be kept there. {_PLACES}")
    from optuna.artifacts import Boto3ArtifactStore

    prefix = prefix.strip("/")
    with _plain_errors(where):
        try:
            # It would hold a whole upload in memory.
            store = Boto3ArtifactStore(bucket, avoid_buf_copy=True)
        except ImportError:
            raise StorageError(
                f"{where}: S3 needs boto3, which is not installed. "
                f"Try: pip install 'gru-optuna[s3]'."
            ) from None
    return Artifacts(store, f"{prefix}/" if prefix else "", where, owner)


def adopt(where: str, owner: Owner | None = None) -> None:
    """Confirms that a place is ours: writes the marker that it lacks.

    Parameters
    ----------
    where
        The place.
    owner
        The database that it belongs to from now on; None: the first that writes there.

    Raises
    ------
    StorageError
        If there is no such place, or something else lies there.
    """
    store = open_store(where, owner)
    if isinstance(store, Folder) and not store.folder.is_dir():
        raise StorageError(f"{where}: there is no such folder. Check the path.")
    if strangers := store.strangers():
        _refuse(where, strangers)
    if owner is None and (named := store.marked_owner()):
        raise StorageError(
            f"{where} belongs to {named.name}. To give it to another database, add --storage URL."
        )
    store.mark()


def _refuse(where: str, strangers: list[str] | None = None) -> NoReturn:
    if strangers:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise StorageError(
            f"{where} is not used, because something else lies there: {strangers[0]}{more}. Move "
            f"it elsewhere, or {_ELSEWHERE}."
        )
    if "://" not in where and not Path(where).is_dir():
        raise StorageError(
            f"{where} is not used, because there is no such folder on this machine. Make it "
            f"available here under the same path, or {_ELSEWHERE}."
        )
    raise StorageError(
        f"{where} is not used, because the file {MARKER} is missing there. If gru-optuna made "
        f"this place, confirm it: gru-optuna storage adopt {shlex.quote(where)}. Otherwise "
        f"{_ELSEWHERE}."
    )


def _is_ours(name: str) -> bool:
    return is_complete(name) or is_unfinished(name)


def _opened(content: bytes | IO[bytes]) -> BinaryIO:
    return cast("BinaryIO", io.BytesIO(content) if isinstance(content, bytes) else content)


def _is_plain_file(path: Path) -> bool:
    # A link could make one place vouch, or be read or removed, for another.
    return path.is_file() and not path.is_symlink()


def _identity(folder: Path) -> tuple[int, int] | None:
    """The device and inode of a folder, which change if another one takes its path."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _checked(name: str, *, unfinished: bool = False) -> str:
    if not (is_complete(name) or (unfinished and is_unfinished(name))):
        raise ValueError(f"{name!r} can't name a checkpoint or an upload.")
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
    raise DamagedCheckpoint(f"{where}: there is no such file")


@contextmanager
def _plain_errors(where: Path | str) -> Iterator[None]:
    try:
        yield
    except GRUOptunaError:
        raise
    except PermissionError as error:
        raise StorageError(
            f"{where}: Permission denied. Run the command as the user who owns it. With "
            f"GRU_OPTUNA_SHARED=group, new folders and files are shared with the owner's group."
        ) from error
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

"""Files by the SHA-256 of their content: data of studies, and what jobs made.

A file is there whole, or not at all. Its content is stored in pieces in the database, with which it
then travels; or, if a place was chosen (``upload_places.py``), as a file there: written before the
row that names it, and removed after that row. So a process that dies leaves at most a file without
a row, which ``storage check`` finds, and never a row without its content.

`put` stores a file, `find` and `list_all` describe what is stored, `read` streams a content,
`fetch` writes it to a file of this machine, and `delete` removes what no study uses.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from gru_optuna.attributes import DATA_FILES
from gru_optuna.checkpoints.checkpoint import DamagedCheckpoint
from gru_optuna.checkpoints.names import upload_name
from gru_optuna.checkpoints.stores import PIECE_BYTES, open_store
from gru_optuna.errors import StorageError
from gru_optuna.files import written_whole
from gru_optuna.storage.database.open import begin_queue_change, now
from gru_optuna.storage.database.tables import (
    jobs,
    studies,
    study_attributes,
    submissions,
    upload_files,
    upload_parts,
    uploads,
)
from gru_optuna.storage.upload_places import (
    StoredContent,
    chosen,
    list_contents,
    open_to_write,
)
from gru_optuna.workspace import is_plain_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from io import BufferedIOBase
    from pathlib import Path

    from sqlalchemy import Connection, Engine

_LONGEST_NAME = 230
"""The bytes of a file's name. Systems take 255; while it is written, a file's name is longer."""


@dataclass(frozen=True)
class Upload:
    """A stored file."""

    sha256: str
    name: str  # without a folder
    bytes: int
    created_at: datetime  # UTC

    @property
    def path(self) -> str:
        """How a study file names it: its content, and a name that says the format."""
        return f"{self.sha256}/{self.name}"


def is_sha256(text: str) -> bool:
    """Whether a text has the form of a SHA-256 in hexadecimal."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def put(engine: Engine, name: str, file: IO[bytes], sha256: str | None = None) -> Upload:
    """Stores a file; one that is stored already only gets the new name.

    Parameters
    ----------
    engine
        The database's.
    name
        The file's name, which says its format.
    file
        The content, from its first byte to its last, wherever the file stands.
    sha256
        The content's SHA-256 in hexadecimal, if the caller has computed it.

    Raises
    ------
    StorageError
        If the name is not a file's, or the place of uploads can't be used. Nothing is stored then.
    """
    refuse_bad_name(name)
    if sha256 is None:
        file.seek(0)
        # Every file has `readinto`, which typing.IO doesn't know.
        sha256 = hashlib.file_digest(cast("BufferedIOBase", file), "sha256").hexdigest()
    stored = _rename(engine, sha256, name)
    try:
        return stored or _store(engine, sha256, name, file)
    except IntegrityError:  # somebody else has stored the same content meanwhile
        return _rename(engine, sha256, name) or _store(engine, sha256, name, file)


def refuse_bad_name(name: str) -> None:
    """Raises StorageError if a file can't be stored under this name."""
    if not is_plain_name(name) or len(name.encode()) > _LONGEST_NAME:
        raise StorageError(
            f'"{name[:80]}" is not the name of a file. Give a plain name of at most '
            f"{_LONGEST_NAME} bytes, such as rows.csv."
        )


def find(engine: Engine, sha256: str) -> Upload:
    """Describes a stored file.

    Raises
    ------
    StorageError
        If there is none of this SHA-256.
    """
    with engine.connect() as connection:
        row = connection.execute(select(uploads).where(uploads.c.sha256 == sha256)).one_or_none()
    if row is None:
        raise StorageError(f"no file with the SHA-256 {sha256[:64]} is stored here. Upload it.")
    return Upload(**row._mapping)


def list_all(engine: Engine) -> list[Upload]:
    """Every stored file, the newest first."""
    query = select(uploads).order_by(uploads.c.created_at.desc(), uploads.c.sha256)
    with engine.connect() as connection:
        return [Upload(**row._mapping) for row in connection.execute(query)]


def read(engine: Engine, sha256: str) -> Iterator[bytes]:
    """The content of a file, piece by piece.

    Raises
    ------
    StorageError
        If there is none of this SHA-256, a piece is missing, or its place can't be read here.
    """
    stored, seen, part = find(engine, sha256), 0, 0
    with engine.connect() as connection:
        content = list_contents(connection, sha256).get(sha256)
    if content is not None:
        yield from _pieces_of(stored, content)
        return
    while seen < stored.bytes:
        # A piece at a time: whoever reads slowly must not keep a transaction open.
        query = select(upload_parts.c.content).where(
            upload_parts.c.sha256 == sha256, upload_parts.c.part == part
        )
        with engine.connect() as connection:
            piece = connection.scalar(query)
        if piece is None:
            raise StorageError(f"{stored.name}: piece {part} of the stored file is missing.")
        seen, part = seen + len(piece), part + 1
        yield piece


def fetch(engine: Engine, sha256: str, path: Path) -> Path:
    """Writes a stored file to `path`, unless it is there already; returns the path.

    Raises
    ------
    StorageError
        If it isn't stored, or its content doesn't have this SHA-256.
    """
    if path.is_file() and not path.is_symlink():
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                return path
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with written_whole(path, durable=False) as temporary, temporary.open("xb") as file:
        for piece in read(engine, sha256):
            digest.update(piece)
            file.write(piece)
        if digest.hexdigest() != sha256:
            raise StorageError(f"{path.name}: the stored content has changed. Upload it again.")
    return path


def delete(engine: Engine, sha256: str) -> None:
    """Removes a file that no study and no job uses.

    Raises
    ------
    StorageError
        If there is none of this SHA-256, or it is used; the message names what uses it.
    """
    with engine.begin() as connection:
        begin_queue_change(connection)
        if users := _users(connection, sha256):
            raise StorageError(f"the file is used by {', '.join(users)}. Delete that first.")
        contents = list_contents(connection, sha256)
        removed = connection.execute(uploads.delete().where(uploads.c.sha256 == sha256))
    if not removed.rowcount:
        find(engine, sha256)  # says that there is none
    remove_contents(engine, contents.values())


def remove_unused(connection: Connection, sha256: str) -> list[StoredContent]:
    """Removes a file unless a study or a job uses it.

    Returns what `remove_contents` has to remove after this transaction.
    """
    if _users(connection, sha256):
        return []
    contents = list_contents(connection, sha256)
    connection.execute(uploads.delete().where(uploads.c.sha256 == sha256))
    return list(contents.values())


def remove_contents(engine: Engine, contents: Iterable[StoredContent]) -> None:
    """Removes contents whose rows are gone.

    One that can't be removed stays behind, and ``storage check --clean`` removes it.
    """
    for content in contents:
        with suppress(StorageError, ValueError):  # ValueError: not a name of ours
            open_to_write(engine, content.where).remove(content.name)


def _users(connection: Connection, sha256: str) -> list[str]:
    names = [
        f'the study "{row.name}"'
        for row in connection.execute(select(submissions.c.name, submissions.c.data))
        if sha256 in row.data.values()
    ]
    reads = jobs.c.request["data"].as_string() == sha256
    # Of a study that `tune` gave to a cluster: the files of its attribute `data_files`.
    read = (
        select(studies.c.study_name)
        .join(study_attributes)
        .where(study_attributes.c.key == DATA_FILES, study_attributes.c.value_json.contains(sha256))
    )
    names += [f'the study "{name}"' for name in connection.scalars(read)]
    made = connection.execute(
        select(jobs.c.job_id, jobs.c.study).where(
            # What was predicted is read once.
            (jobs.c.sha256 == sha256) | (reads & jobs.c.state.in_(("waiting", "running")))
        )
    )
    return names + [f'job {row.job_id} of the study "{row.study}"' for row in made]


def _rename(engine: Engine, sha256: str, name: str) -> Upload | None:
    """Gives a stored file another name; None if there is none of this SHA-256."""
    with engine.begin() as connection:
        row = connection.execute(
            update(uploads).where(uploads.c.sha256 == sha256).values(name=name).returning(uploads)
        ).one_or_none()
    return None if row is None else Upload(**row._mapping)


def _store(engine: Engine, sha256: str, name: str, file: IO[bytes]) -> Upload:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    with engine.connect() as connection:
        place = chosen(connection)
    # Without the queue's lock, which a large file would hold for long.
    if place is None:
        with engine.begin() as connection:
            made = _add_row(connection, sha256, name, size)
            _add_parts(connection, sha256, iter(lambda: file.read(PIECE_BYTES), b""))
        return made
    token = secrets.token_hex(4)
    content = StoredContent(place.where, upload_name(sha256, token))
    open_to_write(engine, place.where).write(content.name, file)
    try:
        with engine.begin() as connection:
            made = _add_row(connection, sha256, name, size)
            row = {"sha256": sha256, "place_id": place.place_id, "token": token}
            connection.execute(insert(upload_files).values(row))
    except IntegrityError:  # after any other error, the row may have been committed all the same
        remove_contents(engine, [content])
        raise
    return made


def _add_row(connection: Connection, sha256: str, name: str, size: int) -> Upload:
    made = Upload(sha256, name, size, now(connection))
    connection.execute(insert(uploads).values(vars(made)))
    return made


def _add_parts(connection: Connection, sha256: str, pieces: Iterable[bytes]) -> None:
    for number, piece in enumerate(pieces):
        row = {"sha256": sha256, "part": number, "content": piece}
        connection.execute(insert(upload_parts).values(row))


def _pieces_of(upload: Upload, content: StoredContent) -> Iterator[bytes]:
    store, seen = open_store(content.where), 0
    store.require_marker()  # without it, a place that isn't here would seem to have lost a file
    try:
        for piece in store.pieces(content.name):
            seen += len(piece)
            yield piece
    except DamagedCheckpoint:
        raise StorageError(f"{upload.name}: its content is missing in {content.where}.") from None
    if seen != upload.bytes:
        raise StorageError(f"{upload.name}: a part of its content is missing in {content.where}.")


def bring_in(connection: Connection, contents: Mapping[str, StoredContent]) -> list[str]:
    """Stores contents in the database that lie elsewhere, each given by its SHA-256.

    Returns the names of uploads whose contents can't be read. These uploads are removed.
    """
    lost = []
    for sha256, content in contents.items():
        mine = uploads.c.sha256 == sha256
        row = connection.execute(select(uploads).where(mine)).one_or_none()
        if row is not None:
            upload = Upload(**row._mapping)
            try:
                _add_parts(connection, sha256, _pieces_of(upload, content))
            except StorageError:
                connection.execute(uploads.delete().where(mine))
                lost.append(upload.name)
    return lost


def missing_parts(connection: Connection) -> list[str]:
    """The names of files in the database whose pieces don't add up to their sizes."""
    held = func.coalesce(func.sum(func.length(upload_parts.c.content)), 0)
    query = (
        select(uploads.c.name)
        .outerjoin(upload_parts)
        .where(uploads.c.sha256.not_in(select(upload_files.c.sha256)))
        .group_by(uploads.c.sha256, uploads.c.name, uploads.c.bytes)
        .having(held != uploads.c.bytes)
    )
    return list(connection.scalars(query.order_by(uploads.c.name)))

"""Files in the database, by the SHA-256 of their content: data of studies, and what jobs made.

A file is stored in pieces, in one transaction: it is there whole, or not at all. So it travels with
the database, a backup or a copy has it, and no path of one machine is opened on another.

`put` stores a file, `find` and `list_all` describe what is stored, `read` streams a content,
`fetch` writes it to a file of this machine, and `delete` removes what no study uses.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass
from io import BufferedIOBase
from typing import IO, TYPE_CHECKING

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from gru_optuna.attributes import DATA_FILES
from gru_optuna.errors import StorageError
from gru_optuna.files import written_whole
from gru_optuna.storage.database.open import begin_queue_change, now
from gru_optuna.storage.database.tables import (
    jobs,
    studies,
    study_attributes,
    submissions,
    upload_parts,
    uploads,
)
from gru_optuna.workspace import is_plain_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Connection, Engine

PART_BYTES = 1 << 20
"""The size of a piece: what a process holds in memory while it stores or reads a file."""

_LONGEST_NAME = 255


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


def put(
    engine: Engine, sha256: str | None, name: str, content: Iterable[bytes] | BufferedIOBase
) -> Upload:
    """Stores a file; one that is stored already only gets the new name.

    Parameters
    ----------
    engine
        The database's.
    sha256
        What the content's SHA-256 must be, in hexadecimal; None: whatever it is.
    name
        The file's name, which says its format.
    content
        A file, or its bytes in pieces of any size. They are read once, into a temporary file.

    Raises
    ------
    StorageError
        If the content has another SHA-256, or the name is not a file's. Nothing is stored then.
    """
    if not is_plain_name(name) or len(name) > _LONGEST_NAME:
        raise StorageError(
            f'"{name[:80]}" is not the name of a file. Give a plain name of at most '
            f"{_LONGEST_NAME} characters, such as rows.csv."
        )
    digest, size = hashlib.sha256(), 0
    with tempfile.TemporaryFile() as spooled:
        for piece in _pieces(content) if isinstance(content, BufferedIOBase) else content:
            digest.update(piece)
            size += len(piece)
            spooled.write(piece)
        found = digest.hexdigest()
        if sha256 is not None and found != sha256:
            raise StorageError(
                f"{name}: the content's SHA-256 is {found}, not {sha256}. Nothing was stored. Send "
                f"the file again, or correct the hash."
            )
        spooled.seek(0)
        try:
            return _store(engine, found, name, size, spooled)
        except IntegrityError:  # somebody else has stored the same content meanwhile
            spooled.seek(0)
            return _store(engine, found, name, size, spooled)


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
        If there is none of this SHA-256, or a piece is missing.
    """
    stored, seen, part = find(engine, sha256), 0, 0
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
        removed = connection.execute(uploads.delete().where(uploads.c.sha256 == sha256))
    if not removed.rowcount:
        find(engine, sha256)  # says that there is none


def remove_unused(connection: Connection, sha256: str) -> None:
    """Removes a file unless a study or a job uses it."""
    if not _users(connection, sha256):
        connection.execute(uploads.delete().where(uploads.c.sha256 == sha256))


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


def _store(engine: Engine, sha256: str, name: str, size: int, spooled: IO[bytes]) -> Upload:
    # Without the queue's lock, which a large file would hold for long.
    with engine.begin() as connection:
        mine = uploads.c.sha256 == sha256
        stored = connection.execute(select(uploads).where(mine)).one_or_none()
        if stored is not None:
            connection.execute(update(uploads).where(mine).values(name=name))
            return Upload(sha256, name, stored.bytes, stored.created_at)
        made = Upload(sha256, name, size, now(connection))
        connection.execute(insert(uploads).values(vars(made)))
        for number, piece in enumerate(_pieces(spooled)):
            row = {"sha256": sha256, "part": number, "content": piece}
            connection.execute(insert(upload_parts).values(row))
    return made


def _pieces(file: IO[bytes] | BufferedIOBase) -> Iterator[bytes]:
    return iter(lambda: file.read(PART_BYTES), b"")


def missing_parts(connection: Connection) -> list[str]:
    """The names of stored files whose pieces don't add up to their sizes."""
    held = func.coalesce(func.sum(func.length(upload_parts.c.content)), 0)
    query = (
        select(uploads.c.name)
        .outerjoin(upload_parts)
        .group_by(uploads.c.sha256, uploads.c.name, uploads.c.bytes)
        .having(held != uploads.c.bytes)
    )
    return list(connection.scalars(query.order_by(uploads.c.name)))

"""What happens in a study, as server-sent events.

An event's id says how far the study has been read, by the database's own order of changes
(``storage/mirror/change_log.py``), so a client that comes back with ``Last-Event-ID`` continues
there, whichever server it asks: nothing is missing, and nothing comes twice.

All streams of a study share one reader, which looks at the database as long as there is a stream.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from gru_optuna.service.access import Viewer
from gru_optuna.service.api.parameters import Name
from gru_optuna.service.api.studies import find_study, study_view
from gru_optuna.service.api.trials import views_of
from gru_optuna.service.context import Context
from gru_optuna.service.problems import RequestRefused, problems_of
from gru_optuna.storage.database.tables import trials
from gru_optuna.storage.mirror.change_log import Position, read_changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from sqlalchemy import Connection

    from gru_optuna.service.context import ServiceContext

logger = logging.getLogger(__name__)

router = APIRouter(tags=["studies"])

LOOK_SECONDS = 1.0
"""How often a study with streams is looked at."""

_SILENCE_SECONDS = 15.0
"""After so long without an event a comment is sent: proxies close connections that are silent."""

_MOST_WAITING = 100
"""Events that wait for a stream that reads slowly; it is closed then, and comes back."""


@dataclass(frozen=True)
class Cursor:
    """How far a client has read: the trials up to a position, and a state of the study.

    Parameters
    ----------
    position
        Of the trials.
    study
        A digest of the study's own fields; empty: none was sent yet.
    """

    position: Position = field(default_factory=Position)
    study: str = ""

    def __str__(self) -> str:
        known = ",".join(f"{of}:{number}" for of, number in sorted(self.position.known.items()))
        return f"{self.position.before};{known};{self.study}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor that an id stands for.

        Raises
        ------
        RequestRefused
            If it is none of ours.
        """
        try:
            before, known, study = text.split(";")
            pairs = (pair.split(":") for pair in known.split(",") if pair)
            numbers = {int(of): int(number) for of, number in pairs}
            cursor = cls(Position(int(before), numbers), study)
            if any(not 0 <= n < 2**63 for n in (int(before), *numbers, *numbers.values())):
                raise ValueError("no database counts so far")
        except ValueError:
            raise RequestRefused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"Last-Event-ID: {text[:80]!r} is not the id of an event here. Leave it out, to "
                f"begin with all trials.",
            ) from None
        return cursor


@router.get(
    "/studies/{name}/events",
    response_class=StreamingResponse,
    responses={
        HTTPStatus.OK.value: {
            "description": "Events `trials` with a list of the trials that have changed, `study` "
            "with the study, and `deleted`.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **problems_of(HTTPStatus.NOT_FOUND),
    },
)
async def follow(
    context: Context,
    caller: Viewer,
    name: Name,
    last_event_id: Annotated[
        str | None, Header(description="The id of the last event that was received.")
    ] = None,
) -> Response:
    """Streams what happens in a study. A new stream begins with all trials that there are."""
    await to_thread.run_sync(find_study, context, name)
    start = Cursor() if last_event_id is None else Cursor.parse(last_event_id)
    return StreamingResponse(
        _stream(context, name, start),
        media_type="text/event-stream",
        # nginx would hold events back until its buffer is full.
        headers={"X-Accel-Buffering": "no"},
    )


async def _stream(context: ServiceContext, name: str, start: Cursor) -> AsyncIterator[bytes]:
    async with _feed(context, name).join(start) as (first, waiting):
        if first:
            yield first
        while True:
            try:
                event = await asyncio.wait_for(waiting.get(), _SILENCE_SECONDS)
            except TimeoutError:
                yield b": \n\n"
                continue
            if event is None:
                return
            yield event


@dataclass
class _Feed:
    """Reads a study for all of its streams."""

    context: ServiceContext
    name: str
    cursor: Cursor | None = None  # None: nobody has joined
    streams: set[asyncio.Queue[bytes | None]] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    reader: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def join(self, start: Cursor) -> AsyncIterator[tuple[bytes, asyncio.Queue[bytes | None]]]:
        """What a stream lacks, and the queue of what comes next, without a gap in between."""
        waiting: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_WAITING)
        async with self.lock:
            first = await self._look(start)
            self.streams.add(waiting)
            if self.cursor is None:
                self._end({waiting})
            if self.reader is None or self.reader.done():
                self.reader = asyncio.create_task(self._read())
        try:
            yield first, waiting
        finally:
            self.streams.discard(waiting)

    async def _read(self) -> None:
        """Looks at the study as long as there is a stream."""
        while self.streams:
            await asyncio.sleep(LOOK_SECONDS)
            async with self.lock:
                try:
                    await self._look(None)
                except Exception:
                    # The clients come back, and find out whether the database does.
                    logger.exception("the events of %s could not be read", self.name)
                    self.cursor = None
                if self.cursor is None:
                    self._end(self.streams)
        self.cursor = None

    async def _look(self, start: Cursor | None) -> bytes:
        """Brings all streams up to date; returns what one lacks that joins at `start`."""
        starts = [cursor for cursor in (start, self.cursor) if cursor is not None]
        lacking, self.cursor = await to_thread.run_sync(
            _read_events, self.context, self.name, starts
        )
        if lacking[-1]:
            for waiting in self.streams:
                if not waiting.full():
                    waiting.put_nowait(lacking[-1])
                else:
                    self._end({waiting})
        return lacking[0]

    def _end(self, streams: set[asyncio.Queue[bytes | None]]) -> None:
        """Ends streams once they have sent what waits for them.

        For one that reads too slowly that is thrown away: its client comes back with the id of the
        last event that it has read.
        """
        self.streams = self.streams - streams
        for waiting in streams:
            if waiting.full():
                while not waiting.empty():
                    waiting.get_nowait()
            waiting.put_nowait(None)


def _feed(context: ServiceContext, name: str) -> _Feed:
    feeds: dict[str, _Feed] = context.feeds
    for other in [key for key, feed in feeds.items() if not feed.streams and key != name]:
        if not feeds[other].lock.locked():
            del feeds[other]
    return feeds.setdefault(name, _Feed(context, name))


def _read_events(
    context: ServiceContext, name: str, starts: Sequence[Cursor]
) -> tuple[list[bytes], Cursor | None]:
    """What has happened since each cursor, and the one that all of them reach by that.

    The latter is None if the study was deleted.
    """
    try:
        study = find_study(context, name)
    except RequestRefused:
        return [_event("deleted", "", {"name": name}) for _ in starts], None
    view = study_view(context, study).model_dump(mode="json")
    digest = hashlib.sha256(json.dumps(view, sort_keys=True).encode()).hexdigest()[:12]
    events_since: list[bytes] = []
    position = starts[-1].position
    with _snapshot(context) as connection:
        for start in starts:
            happened = b""
            if study.study_id is not None:
                changed, position = read_changed(connection, study.study_id, start.position)
                if not start.position.before:
                    # A trial that hasn't changed since version 0.1 has no change.
                    mine = trials.c.study_id == study.study_id
                    changed = list(connection.scalars(select(trials.c.trial_id).where(mine)))
                recent = {of: at for of, at in position.known.items() if at >= position.before}
                position = Position(position.before, recent)
                if changed:
                    found = [each.model_dump(mode="json") for each in views_of(connection, changed)]
                    happened += _event("trials", str(Cursor(position, start.study)), found)
            if start.study != digest:
                happened += _event("study", str(Cursor(position, digest)), view)
            events_since.append(happened)
    return events_since, Cursor(position, digest)


@contextmanager
def _snapshot(context: ServiceContext) -> Iterator[Connection]:
    """A transaction in which everything is read as it was at one moment."""
    with context.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")
        else:
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def _event(kind: str, cursor: str, content: Any) -> bytes:
    number = f"id: {cursor}\n" if cursor else ""
    return f"event: {kind}\n{number}data: {json.dumps(content)}\n\n".encode()

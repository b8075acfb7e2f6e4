"""Event streams: nothing is missing and nothing comes twice, whatever happens to the server."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from helpers.services import Service, add_trials, serving, submit

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def service(tmp_path, database_url, nursery):
    with serving(tmp_path, database=database_url, nursery=nursery) as running:
        yield running


def events(service: Service, last: str | None = None) -> Iterator[tuple[str, str, Any]]:
    """Kind, id and content of each event of the study ``films``."""
    headers = {} if last is None else {"Last-Event-ID": last}
    with (
        service.client() as client,
        client.stream("GET", "/v1/studies/films/events", headers=headers) as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in stream.iter_lines():
            name, _, content = line.partition(": ")
            if name:
                event[name] = content
            elif event:
                yield event["event"], event.get("id", ""), json.loads(event["data"])
                event = {}


def numbers(stream: Iterator[tuple[str, str, Any]], count: int) -> tuple[list[int], str]:
    """Numbers of the trials in the next events, and the id of the last of them."""
    found: list[int] = []
    last = ""
    while len(found) < count:
        kind, last, content = next(stream)
        if kind == "trials":
            found += [trial["number"] for trial in content]
    return found, last


def test_a_stream_begins_with_all_trials_and_goes_on_with_new_ones(service) -> None:
    with service.client() as client:
        submit(client, trials=9)
    add_trials(service, "films", 2)
    stream = events(service)
    kind, _, content = next(stream)
    assert (kind, [trial["number"] for trial in content]) == ("trials", [0, 1])
    assert content[0]["curve"] == [0.6, 0.7]
    kind, _, content = next(stream)
    assert (kind, content["trials"]["complete"]) == ("study", 2)
    add_trials(service, "films", 1)
    assert numbers(stream, 1)[0] == [2]
    with service.client() as client:
        stamp = {"If-Match": client.get("/v1/studies/films").headers["etag"]}
        client.patch("/v1/studies/films", json={"state": "suspended"}, headers=stamp)
    states = (content["state"] for kind, _, content in stream if kind == "study")
    assert "suspended" in states
    with service.client() as client:
        client.delete("/v1/studies/films")
    assert [kind for kind, *_ in stream][-1] == "deleted"


def test_a_stream_goes_on_where_it_was_after_the_server_was_killed(service, nursery) -> None:
    with service.client() as client:
        submit(client, trials=99)
    seen: list[int] = []
    last = ""
    for missed in range(3):
        with serving(service.folder, database=service.database, nursery=nursery) as running:
            add_trials(service, "films", 3)
            found, last = numbers(events(running, last or None), 3 + max(0, missed - 1))
            seen += found
            running.process.kill()
        add_trials(service, "films", missed)  # nobody looks
    with serving(service.folder, database=service.database, nursery=nursery) as running:
        seen += numbers(events(running, last), 2)[0]
    assert seen == list(range(3 * 3 + 0 + 1 + 2))


def test_the_id_of_one_servers_event_is_understood_by_another(service, nursery) -> None:
    with service.client() as client:
        submit(client, trials=9)
    add_trials(service, "films", 2)
    first = list(islice(events(service), 2))
    with serving(service.folder, database=service.database, nursery=nursery) as other:
        # Their ids may differ: PostgreSQL's counter moves with any transaction.
        again = [(kind, content) for kind, _, content in islice(events(other), 2)]
        assert again == [(kind, content) for kind, _, content in first]
        kind, last, _ = first[1]
        assert kind == "study"
        add_trials(service, "films", 1)
        assert numbers(events(other, last), 1)[0] == [2]


def test_streams_of_one_study_share_what_they_read(service) -> None:
    with service.client() as client:
        submit(client, trials=99)
    streams = [events(service) for _ in range(5)]
    for stream in streams:
        assert next(stream)[0] == "study"
    add_trials(service, "films", 4)
    for stream in streams:
        found, _ = numbers(stream, 4)
        assert found == [0, 1, 2, 3]


def test_an_id_that_is_none_of_ours_is_refused(service) -> None:
    with service.client() as client:
        submit(client)
        for last in ("x", "1;2;3;4", "-1;;", "0;1:x;", "9" * 40 + ";;"):
            answer = client.get("/v1/studies/films/events", headers={"Last-Event-ID": last})
            assert answer.status_code == 422, last
            assert "Last-Event-ID" in answer.json()["detail"]

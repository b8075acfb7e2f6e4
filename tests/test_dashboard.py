"""optuna-dashboard behind our checks: a real server, asked over a real socket."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import optuna
import pytest

from gru_optuna.dashboard import HOST, serve
from gru_optuna.errors import UserError
from gru_optuna.storage.database import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from optuna.storages import BaseStorage


@pytest.fixture
def storage(tmp_path: Path) -> BaseStorage:
    """A database with the study "vowels"."""
    opened = open_storage(f"sqlite:///{tmp_path / 'x.db'}", create=True)
    optuna.create_study(storage=opened, study_name="vowels", direction="maximize")
    return opened


@contextmanager
def serving(storage: BaseStorage, *, write: bool = False) -> Iterator[int]:
    """The port of a dashboard that runs as long as the block does."""
    with serve(storage, 0, write=write) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ask(
    port: int, path: str, method: str = "GET", body: object = None, **headers: str
) -> tuple[int, str]:
    """Status and text of one request."""
    connection = HTTPConnection(HOST, port, timeout=20)
    sent = {"Content-Type": "application/json"} if body is not None else {}
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, sent | headers)
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


def studies(storage: BaseStorage) -> list[str]:
    return [study.study_name for study in storage.get_all_studies()]


def test_the_page_and_its_numbers_are_served_on_loopback(storage: BaseStorage) -> None:
    with serving(storage) as port:
        status, page = ask(port, "/dashboard/")
        assert status == 200
        assert "<html" in page.lower()
        status, listed = ask(port, "/api/studies")
        assert status == 200
        assert [study["study_name"] for study in json.loads(listed)["study_summaries"]] == [
            "vowels"
        ]


def test_a_browser_may_call_it_localhost(storage: BaseStorage) -> None:
    with serving(storage) as port:
        assert ask(port, "/api/studies", Host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "192.168.0.1", ""],
)
def test_another_name_for_this_machine_is_refused(storage: BaseStorage, host: str) -> None:
    # A page elsewhere can point its own name at 127.0.0.1 and then read what we answer.
    with serving(storage, write=True) as port:
        assert ask(port, "/api/studies", Host=host) == (
            403,
            "This dashboard answers to 127.0.0.1 only.",
        )


def test_nothing_can_be_changed_unless_asked_for(storage: BaseStorage) -> None:
    with serving(storage) as port:
        refused = (403, "Read-only. Start it with --write to change studies.")
        assert ask(port, "/api/studies/1", "DELETE", {}) == refused
        new = {"study_name": "new", "directions": ["minimize"]}
        assert ask(port, "/api/studies", "POST", new) == refused
        assert ask(port, "/api/studies/1/note", "PUT", {"body": "x", "version": 1}) == refused
    assert studies(storage) == ["vowels"]


def test_with_write_studies_are_made_and_deleted(storage: BaseStorage) -> None:
    with serving(storage, write=True) as port:
        new = {"study_name": "new", "directions": ["minimize"]}
        assert ask(port, "/api/studies", "POST", new)[0] == 201
        assert studies(storage) == ["vowels", "new"]
        assert ask(port, "/api/studies/1", "DELETE", {})[0] == 204
        assert studies(storage) == ["new"]


def test_with_write_a_page_elsewhere_still_changes_nothing(storage: BaseStorage) -> None:
    # All that a browser sends for another site unasked is plain text; JSON, PUT and DELETE wait
    # for a permission that an answer to OPTIONS would have to hold.
    new = {"study_name": "new", "directions": ["minimize"]}
    foreign = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    with serving(storage, write=True) as port:
        assert ask(port, "/api/studies", "POST", new, **foreign)[0] >= 400
        connection = HTTPConnection(HOST, port, timeout=20)
        connection.request("OPTIONS", "/api/studies/1", headers=foreign)
        permissions = connection.getresponse().headers.keys()
        connection.close()
    assert not [name for name in permissions if name.lower().startswith("access-control-")]
    assert studies(storage) == ["vowels"]


def test_a_taken_port_is_answered_with_a_way_out(storage: BaseStorage) -> None:
    with serving(storage) as port, pytest.raises(UserError) as caught:
        serve(storage, port)
    assert str(caught.value) == (
        f"port {port} can't be opened (Address already in use). Try another one; 0 takes any free."
    )


def test_it_listens_on_127_0_0_1_alone(storage: BaseStorage) -> None:
    with serving(storage) as port:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        # All of 127/8 is this machine: a server on every address would answer here too.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)


def test_a_second_request_does_not_wait_for_a_slow_one(storage: BaseStorage) -> None:
    with serving(storage) as port, socket.create_connection((HOST, port), timeout=5) as slow:
        slow.sendall(b"GET /api/studies HTTP/1.1\r\n")  # and never ends
        assert ask(port, "/api/studies")[0] == 200

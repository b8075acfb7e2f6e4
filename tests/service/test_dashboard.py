"""``gru-optuna dashboard``: the service for one user, a real server that is asked over sockets."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import Mock
from urllib.request import urlopen

import optuna
import pytest
import uvicorn
from helpers.dashboards import TOKEN, reader, serving, writer
from helpers.permissions import without_privileges
from helpers.processes import DEADLINE, wait_for
from helpers.workspaces import REPOSITORY
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from uvicorn.server import ServerState

import gru_optuna
from gru_optuna import study_file
from gru_optuna.errors import StorageError, UserError
from gru_optuna.scaffold import new_workspace
from gru_optuna.service import server as service_server
from gru_optuna.service.addresses import HOST, address, listen
from gru_optuna.service.dashboard_settings import DashboardSettings
from gru_optuna.service.server import RunningServer
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.study import create_or_resume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uvicorn.protocols.http.h11_impl import H11Protocol

READ_ONLY = "This dashboard is read-only. Start it with --write to change studies."
NEW = {"study_name": "new", "directions": ["minimize"]}


@pytest.fixture
def url(tmp_path) -> str:
    """A database with the study "vowels", its number 1."""
    url = f"sqlite:///{tmp_path}/x.db"
    storage = open_storage(url, create=True)
    optuna.create_study(storage=storage, study_name="vowels", direction="maximize")
    return url


def request(
    port: int, path: str, method: str = "GET", body: object = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of one request."""
    connection = HTTPConnection(HOST, port, timeout=DEADLINE)
    sent = {"Content-Type": "application/json"} if body is not None else {}
    text = None if body is None else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, text, sent | named)
    response = connection.getresponse()
    answer = response.status, dict(response.headers), response.read().decode()
    connection.close()
    return answer


def ask(port: int, path: str, method: str = "GET", body: object = None, **headers: str):
    """Status and text of one request; of a refused one the reason."""
    status, received, text = request(port, path, method, body, **headers)
    if received.get("content-type") == "application/problem+json":
        return status, json.loads(text)["detail"]
    if status == 403:
        return status, json.loads(text)["reason"]
    return status, text


def names(url: str) -> list[str]:
    return [study.study_name for study in open_storage(url).get_all_studies()]


def test_the_pages_and_their_numbers_are_served_on_loopback(url, tmp_path) -> None:
    with serving(url, tmp_path) as port:
        status, page = ask(port, "/dashboard/")
        assert status == 200
        assert "read-only; start with --write to change studies" in page
        status, listed = ask(port, "/api/studies")
        assert status == 200
        found = json.loads(listed)["study_summaries"]
        assert [study["study_name"] for study in found] == ["vowels"]
        assert json.loads(ask(port, "/v1/me")[1]) == {"name": "you", "role": "viewer"}
        status, page = ask(port, "/")
        assert (status, "New study" in page, "Log out" in page) == (200, False, False)
    with serving(url, tmp_path, writer()) as port:
        assert "read-only" not in ask(port, "/dashboard/")[1]
        assert "New study" in ask(port, "/")[1]


def test_a_program_that_accepts_no_packing_gets_the_script_too(url, tmp_path) -> None:
    with serving(url, tmp_path) as port, socket.create_connection((HOST, port)) as bare:
        bare.sendall(f"GET /static/bundle.js HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        assert bare.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"


def test_slow_readers_of_the_script_keep_nobody_waiting(url, tmp_path, monkeypatch) -> None:
    """More of them than optuna-dashboard has threads."""
    monkeypatch.setattr(service_server, "_LEAST_SECONDS", 10 * DEADLINE)
    with serving(url, tmp_path) as port, ExitStack() as stack:
        for _ in range(12):
            slow = stack.enter_context(socket.socket())
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((HOST, port))
            slow.sendall(f"GET /static/bundle.js HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert slow.recv(8) == b"HTTP/1.1"
        assert ask(port, "/api/studies")[0] == 200


# --- changes ---

CHANGES = [
    ("DELETE", "/api/studies/1", {}),
    ("POST", "/api/studies", NEW),
    ("POST", "/api/studies/1/rename", {"study_name": "new"}),
    ("PUT", "/api/studies/1/note", {"body": "x", "version": 1}),
    ("PUT", "/api/studies/1/1/note", {"body": "x", "version": 1}),
    ("POST", "/api/trials/1/tell", {"state": "Fail"}),
    ("POST", "/api/trials/1/user-attrs", {"user_attrs": {"x": 1}}),
    ("POST", "/api/artifacts/1", {"file": "data:text/plain;base64,eA=="}),
    ("POST", "/api/artifacts/1/1", {"file": "data:text/plain;base64,eA=="}),
    ("DELETE", "/api/artifacts/1/00000000", None),
    ("PATCH", "/api/studies/1", {}),
    ("TRACE", "/api/studies/1", None),
    ("PATCH", "/v1/studies/vowels", {"state": "cancelled"}),
    ("DELETE", "/v1/studies/vowels", None),
    ("POST", "/v1/tokens", {"name": "x", "role": "viewer"}),
]


def test_nothing_can_be_changed_unless_asked_for(url, tmp_path) -> None:
    """Every route of optuna-dashboard, as it has them: a new version's new one is noticed here."""
    import optuna_dashboard

    routes = optuna_dashboard.wsgi(optuna.storages.InMemoryStorage()).routes
    changing = [
        (route.method, re.sub(r"<.*?>", "1", route.rule), None)
        for route in routes
        if route.method != "GET" and route.rule.startswith("/api/")
    ]
    assert len(changing) > 10
    trial = optuna.load_study(storage=open_storage(url), study_name="vowels").ask()

    def stored() -> tuple[object, ...]:
        storage = open_storage(url)
        return storage.get_trial(trial._trial_id), storage.get_study_system_attrs(1)

    before = stored()
    with serving(url, tmp_path) as port:
        for method, path, body in CHANGES + changing:
            assert ask(port, path, method, body) == (403, READ_ONLY), path
        assert request(port, "/incompatible-rdb-schema", "POST")[0] == 404
    assert names(url) == ["vowels"]
    assert stored() == before


def test_with_write_studies_are_made_and_deleted(url, tmp_path) -> None:
    with serving(url, tmp_path, writer()) as port:
        assert ask(port, "/api/studies", "POST", NEW)[0] == 201
        assert names(url) == ["vowels", "new"]
        assert ask(port, "/api/studies/1", "DELETE", {})[0] == 204
        assert names(url) == ["new"]
        for method in ("TRACE", "PURGE"):
            assert request(port, "/api/studies/2", method)[0] in (404, 405)


@pytest.mark.parametrize(
    "foreign",
    [
        {"Origin": "http://evil.example", "Content-Type": "text/plain"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_with_write_a_page_elsewhere_still_changes_nothing(url, tmp_path, foreign) -> None:
    refused = (403, "Only the service's own pages and programs can change it.")
    with serving(url, tmp_path, writer()) as port:
        assert ask(port, "/api/studies", "POST", NEW, **foreign) == refused
        assert ask(port, "/api/studies/1", "DELETE", {}, **foreign) == refused
        # And no permission for more.
        _, headers, _ = request(port, "/api/studies/1", "OPTIONS", **foreign)
    assert not [name for name in headers if name.lower().startswith("access-control-")]
    assert names(url) == ["vowels"]


def test_the_token_is_shown_once_and_then_a_cookie(url, tmp_path) -> None:
    with serving(url, tmp_path, reader(TOKEN)) as port:
        for path in ("/", "/dashboard/", "/report/vowels/", "/static/bundle.js"):
            found = (401, "This dashboard requires a token. Open the address that it printed.")
            assert ask(port, path) == found
            status, headers, text = request(port, path, Accept="text/html")
            assert (status, text) == found
            assert headers["content-type"] == "text/plain; charset=utf-8"
        status, headers, _ = request(port, f"/dashboard/studies/1?a=b&token={TOKEN}")
        assert (status, headers["location"]) == (303, "/dashboard/studies/1?a=b")
        cookie = headers["set-cookie"].partition(";")[0]
        assert cookie == f"gru_optuna_{port}={TOKEN}"
        assert ask(port, "/api/studies", Cookie=cookie)[0] == 200
        assert ask(port, "/api/studies", Authorization=f"Bearer {TOKEN}")[0] == 200


# --- what is answered ---


def test_answers_are_what_they_say_and_stay_here(url, tmp_path) -> None:
    paths = ("/dashboard/", "/api/studies", "/static/bundle.js", "/v1/studies/no/report/", "/no")
    with serving(url, tmp_path) as port:
        found = {path: request(port, path)[1] for path in paths}
    for headers in found.values():
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    # Numbers change, so the browser must not keep them; the script only changes with an upgrade.
    assert found["/api/studies"]["cache-control"] == "no-store"
    assert found["/static/bundle.js"]["cache-control"] == "no-cache"
    policies = {path: headers["content-security-policy"] for path, headers in found.items()}
    assert policies.pop("/dashboard/").startswith("default-src 'self'")
    assert {policy[:18] for policy in policies.values()} == {"default-src 'none'"}


def test_an_artifact_is_saved_not_opened(url, tmp_path) -> None:
    store, page = FileSystemArtifactStore(tmp_path), tmp_path / "page.html"
    page.write_text("<script>alert(1)</script>")
    study = optuna.load_study(storage=open_storage(url), study_name="vowels")
    artifact = upload_artifact(artifact_store=store, file_path=str(page), study_or_trial=study)
    with serving(url, tmp_path, artifacts=tmp_path) as port:
        status, headers, text = request(port, f"/artifacts/1/{artifact}")
    assert (status, text) == (200, page.read_text())
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == "attachment"
    assert headers["content-security-policy"].startswith("sandbox")
    assert "access-control-allow-origin" not in headers


# --- reports ---


def test_a_report_is_served_beside_it(workspace) -> None:
    url = f"sqlite:///{workspace.folder}/storage/gru_optuna.db"
    file = workspace.folder / "studies" / "tiny.toml"
    gru_optuna.tune(file, trials=2, storage=url, report=workspace.folder / "elsewhere")
    folder = workspace.folder / "dashboards" / "tiny"
    with serving(url, workspace.folder) as port:
        # The notes in optuna-dashboard lead to this path.
        for path in ("/report/tiny", "/report/tiny/"):
            status, headers, _ = request(port, path)
            assert (status, headers["location"]) == (308, "/v1/studies/tiny/report/")
        status, headers, page = request(port, headers["location"])
        assert status == 200
        assert headers["content-type"] == "text/html; charset=utf-8"
        # Were there anything hostile in it, it could neither ask the service nor anybody else.
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "sandbox" in policy
        assert "allow-same-origin" not in policy
        assert page == (folder / "index.html").read_text()  # rendered when asked for
        (figure, *_) = sorted((folder / "figures").glob("*.json"))
        status, text = ask(port, f"/v1/studies/tiny/report/figures/{figure.name}")
        assert (status, text) == (200, figure.read_text())
        (workspace.folder / "x.db").write_text("not of the report")
        (folder / "link").symlink_to(workspace.folder)
        (folder / "x.db").symlink_to(workspace.folder / "x.db")
        for path in (
            "../../x.db", "%2e%2e/%2e%2e/x.db", "%2e%2e%2f%2e%2e%2fx.db", "..%5c..%5cx.db", "%00",
            "./x.db", "x.db", "link/x.db",
        ):  # fmt: skip
            assert ask(port, f"/v1/studies/tiny/report/{path}")[0] == 404, path


@pytest.mark.parametrize(
    "path",
    [
        "/report/../x.db", "/report/tiny/../../x.db", "/report/..%2f..%2fetc/passwd",
        "/report/%2e%2e/", "/report//etc/passwd", "/report/", "/report/./x", "/report/x/%00",
        "/report/%3Cscript%3Ealert(1)%3C%2Fscript%3E/", "/report/vowels/",
    ],
)  # fmt: skip
def test_a_path_leads_to_no_other_file(url, tmp_path, path) -> None:
    with serving(url, tmp_path) as port:
        status, headers, text = request(port, path)
        if status == 308:
            assert headers["location"].startswith("/v1/studies/")
            status, headers, text = request(port, headers["location"])
    assert status == 404
    assert headers["content-type"] == "application/problem+json"  # which no browser runs
    assert "Page not found" in text or "no study" in text or "Not Found" in text


# --- the server ---


def test_a_taken_port_is_answered_with_a_way_out() -> None:
    with listen(HOST, 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as caught:
            listen(HOST, port)
        found = re.fullmatch(
            rf"port {port} is used by another program\. Try --port (\d+), the next free one\.",
            str(caught.value),
        )
        assert found
        listen(HOST, int(found[1])).close()


def test_a_host_that_is_none_is_answered_with_a_way_out() -> None:
    with pytest.raises(UserError, match=r"not an address of this machine\. Try 0\.0\.0\.0 for all"):
        listen("192.0.2.1", 0)
    with pytest.raises(UserError, match=r'host "nobody.invalid" is unknown'):
        listen("nobody.invalid", 0)


def test_it_listens_on_127_0_0_1_alone() -> None:
    with listen(HOST, 0) as listening:
        port = listening.getsockname()[1]
        socket.create_connection((HOST, port), timeout=5).close()
        # All of 127/8 is this machine: a server on every address would answer here too.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)


def test_addresses_of_the_newer_kind() -> None:
    try:
        listening = listen("::1", 0)
    except UserError:
        pytest.skip("no IPv6 here")
    assert address(listening, "/x") == f"http://[::1]:{listening.getsockname()[1]}/x"
    listening.close()


async def answer_ok(scope, receive, send) -> None:
    """The smallest application."""
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        length = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"ok"})


def test_two_hundred_clients_at_once_are_all_answered() -> None:
    """They connect before the server accepts the first of them."""
    listening = listen(HOST, 0)
    with ExitStack() as stack:
        # One that isn't in the queue would have to ask again, a second later at the earliest.
        clients = [
            stack.enter_context(socket.create_connection(listening.getsockname(), timeout=0.9))
            for _ in range(200)
        ]
        stack.enter_context(RunningServer(answer_ok, listening))
        for client in clients:
            client.settimeout(DEADLINE)
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert all(client.recv(100).startswith(b"HTTP/1.1 200") for client in clients)


UPLOAD = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n"


@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (b"GET / HTTP/1.1\r\nX: ", b"x"),
        (UPLOAD, b"x"),
        (UPLOAD, b""),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + UPLOAD, b""),  # two at once
    ],
)
def test_a_client_that_keeps_the_server_waiting_is_cut_off(monkeypatch, begun, more) -> None:
    """A byte now and then is neither a head nor a body. And it keeps no other client waiting."""
    monkeypatch.setattr(service_server, "_HEAD_SECONDS", 0.5)
    monkeypatch.setattr(service_server, "_LEAST_SECONDS", 0.5)
    listening = listen(HOST, 0)
    with (
        RunningServer(answer_ok, listening),
        socket.create_connection(listening.getsockname(), timeout=DEADLINE) as slow,
    ):
        slow.sendall(begun)
        assert ask(listening.getsockname()[1], "/") == (200, "ok")
        slow.setblocking(False)

        def is_cut_off() -> bool:
            try:
                slow.sendall(more)
                return not slow.recv(1000)
            except BlockingIOError:
                return False
            except ConnectionError:
                return True

        wait_for("the end of the connection", is_cut_off)


def test_a_client_that_does_not_read_is_cut_off(monkeypatch) -> None:
    monkeypatch.setattr(service_server, "_LEAST_SECONDS", 0.5)
    ended = threading.Event()

    async def answer_much(scope, receive, send) -> None:
        """Far more than the system keeps for a client that doesn't read."""
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(64):
                piece = {"type": "http.response.body", "body": bytes(1 << 20), "more_body": True}
                await send(piece)
            ended.set()

    listening = listen(HOST, 0)
    with (
        RunningServer(answer_much, listening),
        socket.create_connection(listening.getsockname(), timeout=DEADLINE) as slow,
    ):
        slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ended.wait(DEADLINE)
        read = 0
        with suppress(ConnectionResetError):
            while piece := slow.recv(1 << 20):
                read += len(piece)
        assert read < 64 << 20


class Clock:
    """What a protocol asks of an event loop, with a time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[SimpleNamespace] = []

    def call_later(self, seconds, call) -> SimpleNamespace:
        timer = SimpleNamespace(at=self.now + seconds, call=call)
        timer.cancel = lambda: timer in self.timers and self.timers.remove(timer)
        self.timers.append(timer)
        return timer

    def create_task(self, coroutine) -> Mock:
        coroutine.close()
        return Mock()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for timer in [timer for timer in self.timers if timer.at <= self.now]:
            timer.cancel()
            timer.call()


@pytest.fixture
def slow_client() -> tuple[Clock, Mock, H11Protocol]:
    """A clock, a connection and its protocol."""
    clock, connection = Clock(), Mock(spec=asyncio.Transport)
    connection.is_closing.return_value = False
    config = uvicorn.Config(answer_ok, limit_concurrency=9)
    protocol = service_server.TimedProtocol(config, ServerState(), {}, clock)
    protocol.connection_made(connection)
    return clock, connection, protocol


def test_a_body_that_comes_slowly_but_comes_is_waited_for(slow_client) -> None:
    clock, connection, protocol = slow_client
    protocol.data_received(UPLOAD)
    for _ in range(3):
        protocol.data_received(b"x" * 9000)
        clock.advance(59)
        protocol.data_received(b"x" * 9000)
    clock.advance(59)
    connection.abort.assert_not_called()
    clock.advance(2)
    connection.abort.assert_called_once()


def test_who_reads_slowly_but_reads_is_waited_for(slow_client) -> None:
    clock, connection, protocol = slow_client
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.get_write_buffer_size.return_value = 200_000
    protocol.pause_writing()
    for left in (180_000, 120_000, 100_000):
        connection.get_write_buffer_size.return_value = left
        clock.advance(61)
    protocol.resume_writing()
    clock.advance(1000)
    connection.abort.assert_not_called()
    protocol.pause_writing()
    connection.get_write_buffer_size.return_value = 90_000
    clock.advance(61)
    connection.abort.assert_called_once()


def test_more_connections_than_files_may_be_open_are_refused_at_once(monkeypatch) -> None:
    monkeypatch.setattr(service_server, "_MOST_CONNECTIONS", 3)
    listening = listen(HOST, 0)
    port = listening.getsockname()[1]
    with RunningServer(answer_ok, listening), ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection((HOST, port), timeout=DEADLINE))
        wait_for("a refusal", lambda: request(port, "/")[0] == 503)
        stack.close()
        wait_for("an answer", lambda: request(port, "/")[0] == 200)


# --- the command and its settings ---


@contextmanager
def started(*command: str, **options: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process, and the first address that it prints."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        **options,  # type: ignore[call-overload]
    )  # fmt: skip
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://\S+", line):
                yield process, found[0]
                break
        else:
            pytest.fail("no address")
    finally:
        process.kill()
        process.communicate()


COMMAND = (sys.executable, "-m", "gru_optuna", "dashboard", "--port", "0")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_also_while_requests_come(workspace, number) -> None:
    open_storage(f"sqlite:///{workspace.folder}/storage/gru_optuna.db", create=True)
    how = {"cwd": workspace.folder, "env": workspace.environment()}
    with started(*COMMAND, "--write", **how) as (process, url):
        answered = threading.Semaphore(0)

        def ask_until_it_ends() -> None:
            with suppress(OSError, HTTPException):
                while True:
                    urlopen(url, timeout=DEADLINE).read()  # noqa: S310
                    answered.release()

        browsers = [threading.Thread(target=ask_until_it_ends, daemon=True) for _ in range(6)]
        for browser in browsers:
            browser.start()
        for _ in range(12):
            assert answered.acquire(timeout=DEADLINE)
        process.send_signal(number)
        out, _ = process.communicate(timeout=DEADLINE)
        for browser in browsers:
            browser.join(DEADLINE)
    assert process.returncode == 130
    assert out.endswith("stopped\n")
    assert "Traceback" not in out


def test_bound_elsewhere_the_printed_address_has_the_token(workspace) -> None:
    file = workspace.folder / "studies" / "tiny.toml"
    url = f"sqlite:///{workspace.folder}/storage/gru_optuna.db"
    create_or_resume(open_storage(url, create=True), study_file.load(file), "0" * 64)
    how = {"cwd": workspace.folder, "env": workspace.environment()}
    with started(*COMMAND, "tiny", "--host", "0.0.0.0", **how) as (process, printed):  # noqa: S104
        found = re.fullmatch(r"http://[^/]+:(\d+)(/study/tiny)\?token=([\w-]{32})", printed)
        assert found
        port = int(found[1])
        assert ask(port, found[2])[0] == 401
        assert ask(port, f"{found[2]}?token={found[3]}")[0] == 303
        cookie = f"gru_optuna_{port}={found[3]}"
        assert "<h1>tiny</h1>" in ask(port, found[2], Cookie=cookie)[1]
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=DEADLINE)
    assert found[3] not in out


def test_it_creates_no_database(workspace) -> None:
    ended = workspace.run("dashboard", "--port", "0")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "there is no database yet" in ended.stderr
    assert not (workspace.folder / "storage" / "gru_optuna.db").exists()


def test_a_database_that_may_only_be_read_is_shown(tmp_path) -> None:
    """A workspace may be another user's, or on a disk that is mounted read-only."""
    with tempfile.TemporaryDirectory() as name:
        folder, url = Path(name), f"sqlite:///{name}/x.db"
        study = optuna.create_study(storage=open_storage(url, create=True), study_name="vowels")
        study._storage._backend.engine.dispose()
        (folder / "x.db").chmod(0o444)
        folder.chmod(0o555)
        with without_privileges(), serving(url, folder) as port:
            assert "vowels" in ask(port, "/api/studies")[1]
            assert ask(port, "/v1/studies") == (200, "[]")
            assert ask(port, "/")[0] == 200
        folder.chmod(0o755)


def test_older_tables_that_cannot_be_upgraded_are_refused(url, tmp_path, monkeypatch) -> None:
    from gru_optuna.storage.database import schema

    monkeypatch.setattr(schema, "stored", lambda connection: schema.newest()._replace(ours="0002"))
    monkeypatch.setattr(schema, "upgrade", lambda database: None)
    with pytest.raises(StorageError, match="made by an older gru-optuna"), serving(url, tmp_path):
        pass


def test_optuna_dashboard_reads_the_settings_file(tmp_path) -> None:
    """Through its own command: what it would drop silently isn't there."""
    import tomllib

    with listen(HOST, 0) as free:
        port = free.getsockname()[1]
    (tmp_path / "dashboards").mkdir()
    written = (REPOSITORY / "dashboards" / "optuna-dashboard.toml").read_text()
    file = tmp_path / "dashboards" / "optuna-dashboard.toml"
    file.write_text(written.replace("8080", str(port)))
    open_storage(f"sqlite:///{tmp_path}/storage/gru_optuna.db", create=True)
    command = (
        sys.executable, "-m", "optuna_dashboard._cli", "--from-config",
        "dashboards/optuna-dashboard.toml",
    )  # fmt: skip
    with started(*command, cwd=tmp_path) as (_, url):
        assert url == f"http://127.0.0.1:{port}/"

        def listed() -> str | None:
            with suppress(ConnectionRefusedError):
                return ask(port, "/api/studies")[1]
            return None

        assert json.loads(wait_for("an answer", listed)) == {"study_summaries": []}
    # Its command line has switches for those, which always win.
    assert not [v for v in tomllib.loads(written)["optuna_dashboard"].values() if v is True]
    packaged = new_workspace._ROOMS / "dashboards" / "optuna-dashboard.toml"
    assert written == packaged.read_text(encoding="utf-8")


def test_our_command_reads_the_same_file(tmp_path) -> None:
    file = tmp_path / "dashboards" / "optuna-dashboard.toml"
    assert DashboardSettings.read(file, None, None) == DashboardSettings(HOST, 8080, None)
    file.parent.mkdir()
    file.write_text('[optuna_dashboard]\nhost = "::1"\nport = 9\nartifact_dir = "storage/a"\n')
    folder = tmp_path / "storage" / "a"
    assert DashboardSettings.read(file, None, None) == DashboardSettings("::1", 9, folder)
    assert DashboardSettings.read(file, "127.0.0.1", 0) == DashboardSettings(HOST, 0, folder)
    file.write_text('[optuna_dashboard]\nport = "9"\n')
    with pytest.raises(UserError, match="port = '9' must be a number"):
        DashboardSettings.read(file, None, None)
    file.write_text("[optuna_dashboard")
    with pytest.raises(UserError, match=r"optuna-dashboard.toml can't be read"):
        DashboardSettings.read(file, None, None)

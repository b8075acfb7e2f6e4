"""optuna-dashboard behind our guard: a real server, asked over real sockets."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING
from urllib.request import urlopen

import optuna
import pytest
from helpers.dashboards import HOST, TOKEN, running, serving
from helpers.processes import DEADLINE
from helpers.workspaces import REPOSITORY, Workspace
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

import gru_optuna
from gru_optuna.dashboard import DashboardSettings, Rules, bind, make_app, rules_for
from gru_optuna.dashboard import server as dashboard_server
from gru_optuna.errors import UserError
from gru_optuna.scaffold import new_workspace
from gru_optuna.service.addresses import address
from gru_optuna.storage.database.open import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from optuna.storages import BaseStorage

READ_ONLY = "This dashboard is read-only. Start it with --write to change studies."


@pytest.fixture
def storage() -> BaseStorage:
    """Has the study "vowels", which is number 1 as it would be in a database."""
    made = optuna.storages.InMemoryStorage()
    made.delete_study(made.create_new_study([optuna.study.StudyDirection.MAXIMIZE]))
    optuna.create_study(storage=made, study_name="vowels", direction="maximize")
    return made


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


def ask(
    port: int, path: str, method: str = "GET", body: object = None, **headers: str
) -> tuple[int, str]:
    """Status and text of one request; of a refused one the reason."""
    status, received, text = request(port, path, method, body, **headers)
    if status in (401, 403) and received["Content-Type"] == "application/json":
        return status, json.loads(text)["reason"]
    return status, text


def studies(storage: BaseStorage) -> list[str]:
    return [study.study_name for study in storage.get_all_studies()]


def test_the_page_and_its_numbers_are_served_on_loopback(storage: BaseStorage) -> None:
    with serving(storage) as port:
        status, page = ask(port, "/dashboard/")
        assert status == 200
        assert "<html" in page.lower()
        assert "read-only" in page
        status, listed = ask(port, "/api/studies")
        assert status == 200
        assert [study["study_name"] for study in json.loads(listed)["study_summaries"]] == [
            "vowels"
        ]


def test_a_program_that_accepts_no_packing_gets_the_script_too(storage: BaseStorage) -> None:
    with serving(storage) as port, socket.create_connection((HOST, port), timeout=DEADLINE) as bare:
        bare.sendall(f"GET /static/bundle.js HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        assert bare.makefile("rb").readline() == b"HTTP/1.0 200 OK\r\n"


# --- the Host header ---


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "localhost.", "[::1]"])
def test_a_browser_here_may_call_it_so(storage: BaseStorage, host: str) -> None:
    with serving(storage) as port:
        assert ask(port, "/api/studies", Host=host)[0] == 200
        assert ask(port, "/api/studies", Host=f"{host}:{port}")[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "192.168.0.1", "",
        "evil.example@127.0.0.1", "127.0.0.1:80:evil.example", "[::1].evil.example", "2130706433",
    ],
)  # fmt: skip
def test_another_name_for_this_machine_is_refused(storage: BaseStorage, host: str) -> None:
    # A page elsewhere can point its own name at 127.0.0.1 and then read what we answer.
    refused = (403, "This dashboard can only be opened at 127.0.0.1.")
    with serving(storage, write=True) as port:
        assert ask(port, "/api/studies", Host=host) == refused
        assert ask(port, "/report/vowels/", Host=host) == refused
        assert ask(port, "/api/studies/1", "DELETE", {}, Host=host) == refused
    assert studies(storage) == ["vowels"]


def test_a_name_that_was_allowed_will_do(storage: BaseStorage) -> None:
    with serving(storage, rules_for(HOST, ["Studies.Example"])) as port:
        assert ask(port, "/api/studies", Host="studies.example")[0] == 200
        wrong = "This dashboard doesn't accept this host name. Start it with --allow-host NAME."
        assert ask(port, "/api/studies", Host="other.example") == (403, wrong)


# --- changes ---

CHANGES = [
    ("DELETE", "/api/studies/1", {}),
    ("POST", "/api/studies", {"study_name": "new", "directions": ["minimize"]}),
    ("POST", "/api/studies/1/rename", {"study_name": "new"}),
    ("PUT", "/api/studies/1/note", {"body": "x", "version": 1}),
    ("PUT", "/api/studies/1/1/note", {"body": "x", "version": 1}),
    ("POST", "/api/trials/1/tell", {"state": "Fail"}),
    ("POST", "/api/trials/1/user-attrs", {"user_attrs": {"x": 1}}),
    ("POST", "/api/artifacts/1", {"file": "data:text/plain;base64,eA=="}),
    ("POST", "/api/artifacts/1/1", {"file": "data:text/plain;base64,eA=="}),
    ("DELETE", "/api/artifacts/1/00000000", None),
    ("POST", "/incompatible-rdb-schema", None),
    ("PATCH", "/api/studies/1", {}),
    ("TRACE", "/api/studies/1", None),
]


def test_every_route_that_changes_something_is_refused() -> None:
    """As the application itself has them: a new version's new route is noticed here."""
    app = make_app(optuna.storages.InMemoryStorage(), Rules(), lambda name: REPOSITORY)
    import optuna_dashboard

    routes = optuna_dashboard.wsgi(optuna.storages.InMemoryStorage()).routes
    changing = [(route.method, route.rule) for route in routes if route.method != "GET"]
    assert len(changing) > 10
    for method, rule in changing:
        seen: list[str] = []
        environ = {
            "REQUEST_METHOD": method, "PATH_INFO": re.sub(r"<.*?>", "1", rule),
            "HTTP_HOST": "localhost", "wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0",
        }  # fmt: skip
        b"".join(app(environ, lambda status, headers, *_, seen=seen: seen.append(status)))
        assert seen == ["403 Forbidden"], rule


def test_nothing_can_be_changed_unless_asked_for(storage: BaseStorage) -> None:
    trial = optuna.load_study(storage=storage, study_name="vowels").ask()
    before = storage.get_trial(trial._trial_id), storage.get_study_system_attrs(1)
    with serving(storage) as port:
        for method, path, body in CHANGES:
            assert ask(port, path, method, body) == (403, READ_ONLY), path
    assert studies(storage) == ["vowels"]
    assert (storage.get_trial(trial._trial_id), storage.get_study_system_attrs(1)) == before


def test_with_write_studies_are_made_and_deleted(storage: BaseStorage) -> None:
    with serving(storage, write=True) as port:
        assert "read-only" not in ask(port, "/dashboard/")[1]
        new = {"study_name": "new", "directions": ["minimize"]}
        assert ask(port, "/api/studies", "POST", new)[0] == 201
        assert studies(storage) == ["vowels", "new"]
        assert ask(port, "/api/studies/1", "DELETE", {})[0] == 204
        assert studies(storage) == ["new"]


@pytest.mark.parametrize(
    "foreign",
    [
        {"Origin": "http://evil.example", "Content-Type": "text/plain"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},  # another program on another port
    ],
)
def test_with_write_a_page_elsewhere_still_changes_nothing(
    storage: BaseStorage, foreign: dict[str, str]
) -> None:
    new = {"study_name": "new", "directions": ["minimize"]}
    refused = (403, "Only the dashboard's own pages can change studies.")
    with serving(storage, write=True) as port:
        assert ask(port, "/api/studies", "POST", new, **foreign) == refused
        assert ask(port, "/api/studies/1", "DELETE", {}, **foreign) == refused
        # And no permission for more.
        _, headers, _ = request(port, "/api/studies/1", "OPTIONS", **foreign)
    assert not [name for name in headers if name.lower().startswith("access-control-")]
    assert studies(storage) == ["vowels"]


# --- the token ---


def test_who_is_elsewhere_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRU_OPTUNA_TOKEN", raising=False)
    for host in ("127.0.0.1", "localhost", "::1"):
        assert rules_for(host).token is None
    tokens = {rules_for(host).token for host in ("0.0.0.0", "::", "0.0.0.0")}  # noqa: S104
    assert len(tokens) == 3
    assert all(token is not None and len(token) >= 32 for token in tokens)
    monkeypatch.setenv("GRU_OPTUNA_TOKEN", TOKEN)
    assert rules_for("0.0.0.0").token == TOKEN  # noqa: S104
    assert rules_for("127.0.0.1").token == TOKEN  # who sets one wants it asked for
    for weak in ("short", "with a space and more", "with;semicolon;and;more"):
        monkeypatch.setenv("GRU_OPTUNA_TOKEN", weak)
        with pytest.raises(UserError, match="must have at least 16 characters"):
            rules_for("127.0.0.1")


def test_without_the_token_nothing_is_shown(storage: BaseStorage, tmp_path: Path) -> None:
    rules = Rules(any_address=True, write=True, token=TOKEN)
    reason = "This dashboard requires a token. Open the address that it printed."
    wrong = [
        {},
        {"Cookie": "gru_optuna_0=x"},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Basic {TOKEN}"},
        *({"Authorization": f"Bearer {part}"} for part in (TOKEN[:-1], TOKEN[1:], f"{TOKEN}x", "")),
        *({"Cookie": f"gru_optuna_PORT={part}"} for part in (TOKEN[:-1], f"{TOKEN}x", "")),
        {"Cookie": f"gru_optuna_0={TOKEN}"},  # of a dashboard on another port
        {"Cookie": 'broken="'},
    ]
    (tmp_path / "vowels").mkdir()
    (tmp_path / "vowels" / "index.html").write_text("secret")
    with serving(storage, rules, reports=tmp_path) as port:
        for given in wrong:
            headers = {name: text.replace("PORT", str(port)) for name, text in given.items()}
            for path in ("/dashboard/", "/api/studies", "/report/vowels/", "/static/bundle.js"):
                assert ask(port, path, **headers) == (401, reason)
            assert ask(port, "/api/studies/1", "DELETE", {}, **headers) == (401, reason)
        for path in ("/?token=x", "/?token=", f"/?token={TOKEN}x", f"/?token={TOKEN[:-1]}"):
            assert ask(port, path) == (401, reason)
    assert studies(storage) == ["vowels"]


def test_the_token_is_shown_once_and_then_a_cookie(storage: BaseStorage) -> None:
    with serving(storage, Rules(any_address=True, token=TOKEN)) as port:
        status, headers, _ = request(port, f"/dashboard/studies/1?a=b&token={TOKEN}")
        # The address without it goes into history and bookmarks, and to no other site.
        assert (status, headers["Location"]) == (303, "/dashboard/studies/1?a=b")
        assert headers["Referrer-Policy"] == "no-referrer"
        cookie, *how = headers["Set-Cookie"].split("; ")
        assert cookie == f"gru_optuna_{port}={TOKEN}"
        assert how == ["Path=/", "HttpOnly", "SameSite=Lax"]
        assert ask(port, "/api/studies", Cookie=cookie)[0] == 200
        assert ask(port, "/api/studies", Authorization=f"Bearer {TOKEN}")[0] == 200
        # Any address in numbers is this machine; a name may be another's.
        assert ask(port, "/api/studies", Cookie=cookie, Host="192.0.2.7:80")[0] == 200
        assert ask(port, "/api/studies", Cookie=cookie, Host="evil.example")[0] == 403
        _, headers, _ = request(port, f"//evil.example/%0d%0aX:y?token={TOKEN}")
        assert headers["Location"] == "/evil.example/%0D%0AX%3Ay"


def test_a_refusal_has_the_form_that_its_reader_expects(storage: BaseStorage) -> None:
    """JSON for the dashboard's scripts, text for a person; and how to identify oneself."""
    with serving(storage, Rules(any_address=True, token=TOKEN)) as port:
        for path, kind in (("/api/studies", "application/json"), ("/dashboard/", "text/plain")):
            status, headers, _ = request(port, path)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert headers["Content-Type"].startswith(kind)
            assert headers["Cache-Control"] == "no-store"
            assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    with serving(storage) as port:
        status, headers, _ = request(port, "/api/studies/1", "DELETE")
        assert status == 403
        assert "WWW-Authenticate" not in headers


def test_a_cookie_that_cant_be_read_is_no_permission() -> None:
    """SimpleCookie refuses some names, and one that it refuses may stand beside the right one."""
    app = make_app(optuna.storages.InMemoryStorage(), Rules(token=TOKEN), lambda name: REPOSITORY)
    seen: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies", "HTTP_HOST": "localhost",
        "SERVER_PORT": "80", "HTTP_COOKIE": f"gru_optuna_80={TOKEN}; a[b]=\x00; \x01=1",
    }  # fmt: skip
    b"".join(app(environ, lambda status, headers, *_: seen.append(status)))
    assert seen[0][:3] in ("200", "401")
    environ["HTTP_COOKIE"] = "a[b]=1; \x01=1"
    b"".join(app(environ, lambda status, headers, *_: seen.append(status)))
    assert seen[1][:3] == "401"


def test_with_write_an_unknown_method_is_still_refused(storage: BaseStorage) -> None:
    refused = (403, "Only the dashboard's own pages can change studies.")
    with serving(storage, write=True) as port:
        for method in ("TRACE", "PURGE", "get"):
            assert ask(port, "/api/studies/1", method) == refused, method


def test_writing_is_allowed_only_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRU_OPTUNA_TOKEN", raising=False)
    for host in ("127.0.0.1", "0.0.0.0"):  # noqa: S104
        assert not rules_for(host).write
        assert rules_for(host, write=True).write


# --- what is answered ---


def test_answers_are_what_they_say_and_stay_here(storage: BaseStorage) -> None:
    with serving(storage) as port:
        for path in ("/dashboard/", "/api/studies", "/static/bundle.js", "/report/no"):
            _, headers, _ = request(port, path)
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["X-Frame-Options"] == "SAMEORIGIN"
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        # Numbers change, so the browser must not keep them; the script never does.
        assert request(port, "/api/studies")[1]["Cache-Control"] == "no-store"
        assert request(port, "/static/bundle.js")[1].get("Cache-Control") != "no-store"
        policies = {
            path: request(port, path)[1]["Content-Security-Policy"]
            for path in ("/dashboard/", "/report/no", "/api/studies", "/static/bundle.js", "/no")
        }
        assert policies.pop("/dashboard/").startswith("default-src 'self'")
        assert {policy[:18] for policy in policies.values()} == {"default-src 'none'"}


def test_an_artifact_is_saved_not_opened(storage: BaseStorage, tmp_path: Path) -> None:
    store = FileSystemArtifactStore(tmp_path)
    page = tmp_path / "page.html"
    page.write_text("<script>alert(1)</script>")
    study = optuna.load_study(storage=storage, study_name="vowels")
    artifact = upload_artifact(artifact_store=store, file_path=str(page), study_or_trial=study)
    with serving(storage, artifacts=store) as port:
        status, headers, text = request(port, f"/artifacts/1/{artifact}")
    assert (status, text) == (200, page.read_text())
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Disposition"] == "attachment"
    assert headers["Content-Security-Policy"].startswith("sandbox")
    assert "Access-Control-Allow-Origin" not in headers


# --- reports ---


@pytest.fixture
def tuned(workspace: Workspace) -> tuple[BaseStorage, Path]:
    """A study "tiny" of two trials, and the room of its report, which isn't rendered yet."""
    url = f"sqlite:///{workspace.folder}/storage/gru_optuna.db"
    elsewhere = workspace.folder / "elsewhere"
    file = workspace.folder / "studies" / "tiny.toml"
    gru_optuna.tune(file, trials=2, storage=url, report=elsewhere)
    return open_storage(url), workspace.folder / "dashboards"


def test_a_report_is_served_beside_it(tuned: tuple[BaseStorage, Path]) -> None:
    storage, room = tuned
    with serving(storage, reports=room) as port:
        status, headers, _ = request(port, "/report/tiny")
        assert (status, headers["Location"]) == (308, "/report/tiny/")
        status, headers, page = request(port, "/report/tiny/")
        assert status == 200
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        # Were there anything hostile in it, it could neither ask the dashboard nor anybody else.
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "sandbox" in policy
        assert "allow-same-origin" not in policy
        assert page == (room / "tiny" / "index.html").read_text()  # rendered when asked for
        (figure, *_) = sorted((room / "tiny" / "figures").glob("*.json"))
        status, text = ask(port, f"/report/tiny/figures/{figure.name}")
        assert (status, text) == (200, figure.read_text())


def test_a_report_is_rendered_again_when_its_study_goes_on(
    tuned: tuple[BaseStorage, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, room = tuned
    page = room / "tiny" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("newer")
    with serving(storage, reports=room) as port:
        assert ask(port, "/report/tiny/") == (200, "newer")
        os.utime(page, (0, 0))
        assert "accuracy" in ask(port, "/report/tiny/")[1]
        os.utime(page, (0, 0))
        page.write_text("not again so soon")
        os.utime(page, (0, 0))
        assert ask(port, "/report/tiny/") == (200, "not again so soon")


@pytest.mark.parametrize(
    "path",
    [
        "/report/../x.db", "/report/tiny/../../x.db", "/report/tiny/%2e%2e/%2e%2e/x.db",
        "/report/..%2f..%2fetc/passwd", "/report/%2e%2e/", "/report//etc/passwd", "/report/",
        "/report/tiny/link/x.db", "/report/tiny/..%5c..%5cx.db", "/report/tiny/%00", "/report/./x",
    ],
)  # fmt: skip
def test_a_path_does_not_leave_the_room(storage: BaseStorage, tmp_path: Path, path: str) -> None:
    folder = tmp_path / "dashboards" / "tiny"
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    with serving(storage, reports=tmp_path / "dashboards") as port:
        status, text = ask(port, path)
    assert status == 404
    assert "Page not found" in text or "no study" in text


def test_what_is_missing_is_said_as_text(storage: BaseStorage, tmp_path: Path) -> None:
    with serving(storage, reports=tmp_path) as port:
        status, page = ask(port, "/report/%3Cscript%3Ealert(1)%3C%2Fscript%3E/")
        assert status == 404
        assert "<script>" not in page
        status, page = ask(port, "/report/%3Cscript%3E/")
        assert (status, "no study &quot;&lt;script&gt;&quot; here" in page) == (404, True)
        assert "was not made by gru-optuna" in ask(port, "/report/vowels/")[1]


# --- the server ---


def test_a_taken_port_is_answered_with_a_way_out(storage: BaseStorage) -> None:
    with serving(storage) as port, pytest.raises(UserError) as caught:
        bind(lambda environ, start: [], HOST, port)
    found = re.fullmatch(
        rf"port {port} is used by another program\. Try --port (\d+), the next free one\.",
        str(caught.value),
    )
    assert found
    bind(lambda environ, start: [], HOST, int(found[1])).server_close()


def test_a_host_that_is_none_is_answered_with_a_way_out() -> None:
    with pytest.raises(UserError, match=r"not an address of this machine\. Try 0\.0\.0\.0 for all"):
        bind(lambda environ, start: [], "192.0.2.1", 0)
    with pytest.raises(UserError, match=r'host "nobody.invalid" is unknown'):
        bind(lambda environ, start: [], "nobody.invalid", 0)


def test_it_listens_on_127_0_0_1_alone(storage: BaseStorage) -> None:
    with serving(storage) as port:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        # All of 127/8 is this machine: a server on every address would answer here too.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)


def test_addresses_of_the_newer_kind() -> None:
    try:
        server = bind(lambda environ, start: [], "::1", 0)
    except UserError:
        pytest.skip("no IPv6 here")
    assert address(server.socket, "/x") == f"http://[::1]:{server.server_port}/x"
    server.server_close()


def test_a_second_request_does_not_wait_for_a_slow_one(storage: BaseStorage) -> None:
    with serving(storage) as port, socket.create_connection((HOST, port), timeout=DEADLINE) as slow:
        slow.sendall(b"GET /api/studies HTTP/1.1\r\n")  # and never ends
        assert ask(port, "/api/studies")[0] == 200


def test_two_hundred_clients_at_once_are_all_answered() -> None:
    """They connect before the server accepts the first of them."""

    def app(environ: object, start: Callable[..., object]) -> list[bytes]:
        start("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    server = bind(app, HOST, 0)
    place = (HOST, server.server_port)
    with ExitStack() as stack:
        # One that isn't in the queue would have to ask again, a second later at the earliest.
        clients = [
            stack.enter_context(socket.create_connection(place, timeout=0.9)) for _ in range(200)
        ]
        stack.enter_context(running(server))
        for client in clients:
            client.settimeout(30)
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert all(client.recv(100).startswith(b"HTTP/1.0 200") for client in clients)


def test_only_so_many_requests_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_server, "_MOST_THREADS", 3)
    inside, most, go_on, alone = [], [], threading.Event(), threading.Lock()

    def app(environ: object, start: Callable[..., object]) -> list[bytes]:
        with alone:
            inside.append(None)
            most.append(len(inside))
        go_on.wait(DEADLINE)
        inside.pop()
        start("200 OK", [])
        return [b"ok"]

    server = bind(app, HOST, 0)
    place = (HOST, server.server_port)
    with running(server), ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(place, timeout=DEADLINE)) for _ in range(8)
        ]
        for client in clients:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while len(most) < 3:
            time.sleep(0.01)
        time.sleep(0.2)  # for a fourth, if there were one
        assert most == [1, 2, 3]
        go_on.set()
        assert all(client.recv(100).startswith(b"HTTP/1.0 200") for client in clients)
    assert max(most) == 3


def test_a_client_that_sends_a_byte_now_and_then_is_cut_off(
    storage: BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard_server, "_REQUEST_SECONDS", 0.5)
    with serving(storage) as port, socket.create_connection((HOST, port), timeout=DEADLINE) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nX: ")

        def drip() -> None:
            for _ in range(2000):
                slow.sendall(b"x")
                time.sleep(0.05)

        with pytest.raises(ConnectionError):
            drip()


# --- commands and settings ---


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_also_while_requests_come(
    workspace: Workspace, number: signal.Signals
) -> None:
    open_storage(f"sqlite:///{workspace.folder}/storage/gru_optuna.db", create=True)
    command = (sys.executable, "-m", "gru_optuna", "dashboard", "--port", "0", "--write")
    how = {"cwd": workspace.folder, "env": workspace.environment()}
    with started(*command, **how) as (process, url):
        assert urlopen(url, timeout=DEADLINE).status == 200  # noqa: S310

        def ask_until_it_ends() -> None:
            with suppress(OSError, HTTPException):
                while True:
                    urlopen(url, timeout=DEADLINE).read()  # noqa: S310

        browsers = [threading.Thread(target=ask_until_it_ends, daemon=True) for _ in range(6)]
        for browser in browsers:
            browser.start()
        time.sleep(0.3)
        process.send_signal(number)
        out, _ = process.communicate(timeout=DEADLINE)
        for browser in browsers:
            browser.join(DEADLINE)
    assert process.returncode == 130
    assert out.endswith("stopped\n")
    assert "Traceback" not in out


def test_bound_elsewhere_the_printed_address_has_the_token(workspace: Workspace) -> None:
    open_storage(f"sqlite:///{workspace.folder}/storage/gru_optuna.db", create=True)
    command = (
        sys.executable, "-m", "gru_optuna", "dashboard", "--host", "0.0.0.0", "--port", "0",  # noqa: S104
    )  # fmt: skip
    how = {"cwd": workspace.folder, "env": workspace.environment()}
    with started(*command, **how) as (process, url):
        found = re.fullmatch(r"http://[^/]+:(\d+)(/dashboard/)\?token=([\w-]{32})", url)
        assert found
        port = int(found[1])
        assert ask(port, "/dashboard/")[0] == 401
        assert ask(port, f"/dashboard/?token={found[3]}")[0] == 303
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=DEADLINE)
    assert found[3] not in out


def test_optuna_dashboard_reads_the_settings_file(tmp_path: Path) -> None:
    """Through its own command: what it would drop silently isn't there."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    rooms = (tmp_path / "dashboards").mkdir(), (tmp_path / "storage").mkdir()
    assert rooms
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
        until = time.monotonic() + DEADLINE
        while True:
            try:
                assert json.loads(ask(port, "/api/studies")[1]) == {"study_summaries": []}
                break
            except ConnectionRefusedError:
                assert time.monotonic() < until
                time.sleep(0.05)
    import tomllib

    # Its command line has switches for those, which always win.
    assert not [v for v in tomllib.loads(written)["optuna_dashboard"].values() if v is True]
    packaged = new_workspace._ROOMS / "dashboards" / "optuna-dashboard.toml"
    assert written == packaged.read_text(encoding="utf-8")


def test_our_command_reads_the_same_file(tmp_path: Path) -> None:
    file = tmp_path / "dashboards" / "optuna-dashboard.toml"
    assert DashboardSettings.read(file, None, None) == DashboardSettings(HOST, 8080, None)
    file.parent.mkdir()
    file.write_text('[optuna_dashboard]\nhost = "::1"\nport = 9\nartifact_dir = "storage/a"\n')
    assert DashboardSettings.read(file, None, None) == DashboardSettings(
        "::1", 9, tmp_path / "storage" / "a"
    )
    assert DashboardSettings.read(file, "127.0.0.1", 0) == DashboardSettings(
        HOST, 0, tmp_path / "storage" / "a"
    )
    file.write_text('[optuna_dashboard]\nport = "9"\n')
    with pytest.raises(UserError, match="port = '9' must be a number"):
        DashboardSettings.read(file, None, None)
    file.write_text("[optuna_dashboard")
    with pytest.raises(UserError, match=r"optuna-dashboard.toml can't be read"):
        DashboardSettings.read(file, None, None)

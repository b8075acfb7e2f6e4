"""Who may do what: tokens, roles, host names, and pages of other sites."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta

import pytest
from helpers.processes import DEADLINE
from helpers.services import serving, sha256, small_study, upload
from sqlalchemy import update

from gru_optuna.errors import UserError
from gru_optuna.storage.database.tables import tokens
from gru_optuna.storage.tokens import Role, create_token, find_token

NOBODY = {"Content-Type": "application/toml"}
NONE = sha256(b"none")

# What each operation needs, and a request that asks for it and changes nothing.
OPERATIONS = [
    ("GET", "/v1/me", {}, Role.VIEWER),
    ("GET", "/v1/data", {}, Role.VIEWER),
    ("PUT", f"/v1/data/{NONE}?name=a.csv", {"content": b"other"}, Role.EDITOR),
    ("GET", f"/v1/data/{NONE}", {}, Role.VIEWER),
    ("DELETE", f"/v1/data/{NONE}", {}, Role.EDITOR),
    ("POST", "/v1/drafts", {"json": {"data": NONE}}, Role.EDITOR),
    ("GET", "/v1/studies", {}, Role.VIEWER),
    ("POST", "/v1/studies", {"content": b"", "headers": NOBODY}, Role.EDITOR),
    ("GET", "/v1/studies/none", {}, Role.VIEWER),
    ("PATCH", "/v1/studies/none", {"json": {}}, Role.EDITOR),
    ("DELETE", "/v1/studies/none", {}, Role.EDITOR),
    ("GET", "/v1/studies/none/trials", {}, Role.VIEWER),
    ("GET", "/v1/studies/none/events", {}, Role.VIEWER),
    ("GET", "/v1/studies/none/report/", {}, Role.VIEWER),
    ("GET", "/v1/studies/none/best", {}, Role.VIEWER),
    ("GET", "/v1/studies/none/bundles", {}, Role.VIEWER),
    ("POST", "/v1/studies/none/bundles", {}, Role.EDITOR),
    ("GET", "/v1/bundles/1", {}, Role.VIEWER),
    ("POST", "/v1/bundles/1/predictions", {"content": b"a"}, Role.EDITOR),
    ("GET", "/v1/bundles/1/predictions", {}, Role.VIEWER),
    ("GET", "/v1/bundles/1/predictions/2", {}, Role.VIEWER),
    ("GET", "/v1/workers", {}, Role.VIEWER),
    ("GET", "/v1/tokens", {}, Role.ADMINISTRATOR),
    ("POST", "/v1/tokens", {"json": {"name": ""}}, Role.ADMINISTRATOR),
    ("DELETE", "/v1/tokens/none", {}, Role.ADMINISTRATOR),
    ("GET", "/metrics", {}, Role.VIEWER),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory, nursery):
    folder = tmp_path_factory.mktemp("service")
    with serving(folder, roles=True, nursery=nursery) as running:
        yield running


def test_no_role_does_more_than_it_may(service) -> None:
    for role in Role:
        with service.client(role) as client:
            for method, path, request, needed in OPERATIONS:
                answer = client.request(method, path, **request)
                assert answer.status_code < 500
                is_forbidden = answer.status_code == 403
                assert is_forbidden == (role < needed), (role, method, path, answer.text)


def test_every_operation_is_in_the_table_of_roles(service) -> None:
    with service.client(Role.VIEWER) as client:
        document = client.get("/v1/openapi.json").json()
    declared = {
        (method.upper(), path.count("/"))
        for path, methods in document["paths"].items()
        for method in methods
        if path not in ("/healthz", "/readyz")
    }
    assert declared == {(method, path.count("/")) for method, path, *_ in OPERATIONS}
    assert len(OPERATIONS) == sum(map(len, document["paths"].values())) - 2


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_request_without_a_right_token_is_refused(service, token) -> None:
    with service.client(token) as client:
        for method, path, request, _ in OPERATIONS:
            answer = client.request(method, path, **request)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200


def test_an_expired_token_is_refused_and_so_is_a_revoked_one(service) -> None:
    engine = service.engine
    secret = create_token(engine, "guest", Role.EDITOR, days=1)
    with service.client(secret) as client, service.client(Role.ADMINISTRATOR) as administrator:
        assert client.get("/v1/me").json() == {"name": "guest", "role": "editor"}
        with engine.begin() as connection:
            past = datetime(2020, 1, 2, 3, 4)
            guest = tokens.c.name == "guest"
            connection.execute(update(tokens).where(guest).values(expires_at=past))
        answer = client.get("/v1/me")
        assert answer.status_code == 401
        assert answer.json()["detail"] == (
            'The token "guest" expired at 2020-01-02 03:04 UTC. Ask for a new one.'
        )
        assert administrator.delete("/v1/tokens/guest").status_code == 204
        assert "revoked" in client.get("/v1/me").json()["detail"]
        assert administrator.delete("/v1/tokens/guest").status_code == 404
    engine.dispose()


def test_an_administrator_makes_tokens(service) -> None:
    with service.client(Role.ADMINISTRATOR) as administrator:
        wanted = {"name": "bob", "role": "viewer", "days": 2}
        made = administrator.post("/v1/tokens", json=wanted)
        assert made.status_code == 201
        assert administrator.post("/v1/tokens", json=wanted).status_code == 409
        with service.client(made.json()["token"]) as bob:
            assert bob.get("/v1/me").json() == {"name": "bob", "role": "viewer"}
        (listed,) = (t for t in administrator.get("/v1/tokens").json() if t["name"] == "bob")
        assert "token" not in listed
        assert listed["last_used_at"] is not None
        assert administrator.delete("/v1/tokens/bob").status_code == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "127.0.0.1@evil.example"},
        {"Host": ""},
    ],
)
def test_another_sites_name_for_this_machine_is_refused(service, headers) -> None:
    with service.client(Role.VIEWER, **headers) as client:
        assert client.get("/v1/studies").status_code == 403


def test_pages_of_other_sites_change_nothing(service) -> None:
    with service.client(Role.EDITOR) as client:
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = client.delete("/v1/studies/none", headers=headers)
            assert answer.status_code == 403, headers
        own = {"Origin": service.address.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
        assert client.delete("/v1/studies/none", headers=own).status_code == 404


def test_no_answer_may_be_framed_or_guessed_at(service) -> None:
    with service.client(Role.VIEWER) as client:
        for path in ("/healthz", "/v1/studies", "/v1/studies/none", "/nothing"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in headers


def test_without_tokens_one_user_on_this_machine_may_do_everything(tmp_path) -> None:
    with serving(tmp_path) as alone, alone.client() as client:
        assert client.get("/v1/me").json() == {"name": "you", "role": "administrator"}
        data = upload(client)
        study = small_study("mine", data)
        assert client.post("/v1/studies", content=study, headers=NOBODY).status_code == 201
        made = client.post("/v1/tokens", json={"name": "me", "role": "administrator"}).json()
        assert client.get("/v1/me").status_code == 401
        with alone.client(made["token"]) as again:
            assert again.get("/v1/studies/mine").status_code == 200


def test_a_service_for_other_machines_does_not_start_without_a_token(workspace) -> None:
    ended = workspace.run_afresh("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104 (refused)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "other machines could reach this service, so it needs a token, and there is none. Make "
        "one: gru-optuna token create NAME --role administrator.\n"
    )
    assert not (workspace.folder / "storage" / "gru_optuna.db").exists()


def test_the_command_line_makes_lists_and_revokes_tokens(workspace) -> None:
    made = workspace.run_afresh("token", "create", "alice", "--role", "editor", "--days", "90")
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    assert len(secret) > 40
    again = workspace.run("token", "create", "alice")
    assert (again.returncode, again.stdout) == (2, "")
    assert 'there is a token "alice" already' in again.stderr
    (listed,) = json.loads(workspace.run("token", "list", "--json").stdout)
    assert (listed["name"], listed["role"], listed["has_expired"]) == ("alice", "editor", False)
    left = datetime.fromisoformat(listed["expires_at"]) - datetime.fromisoformat(
        listed["created_at"]
    )
    assert left == timedelta(days=90)
    for file in (workspace.folder / "storage").iterdir():
        assert file.is_dir() or secret.encode() not in file.read_bytes()
    assert workspace.run("token", "revoke", "alice").returncode == 0
    assert workspace.run("token", "list").stdout.splitlines() == [
        "token  role  created  expires  last used"
    ]


@pytest.mark.parametrize("name", ["", " ", "a/b", "..", "x" * 101, "a\nb"])
def test_a_token_needs_a_name_that_a_path_may_hold(service, name) -> None:
    with pytest.raises(UserError, match="a name has 1 to 100 printable characters"):
        create_token(service.engine, name, Role.VIEWER)


def test_the_server_stops_at_a_signal_while_it_streams(tmp_path) -> None:
    with serving(tmp_path) as running, running.client() as client:
        study = small_study("mine", upload(client))
        client.post("/v1/studies", content=study, headers=NOBODY)
        with client.stream("GET", "/v1/studies/mine/events") as stream:
            assert next(stream.iter_lines()) == "event: study"
            running.process.terminate()
            assert running.process.wait(DEADLINE) == 130


def test_the_server_needs_neither_torch_nor_numba() -> None:
    look = (
        "import sys, gru_optuna.service.app as app; from gru_optuna.service.server import *; "
        "print({'torch', 'numba', 'polars', 'optuna_dashboard'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_an_unknown_secret_finds_no_token(service) -> None:
    assert find_token(service.engine, "\udcff") is None

"""Which requests reach a service whose database holds tokens, and whom it takes them for."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, get_args

import pytest
from fastapi import Request
from helpers.access import ask
from helpers.dashboards import reader
from sqlalchemy import update

from gru_optuna.errors import UserError
from gru_optuna.service.access import Caller, Editor, refuse_without_tokens, rules_for
from gru_optuna.service.problems import RequestRefused
from gru_optuna.storage.database.open import now, open_engine
from gru_optuna.storage.database.tables import tokens
from gru_optuna.storage.tokens import Role, create_token, revoke_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

HERE = rules_for("127.0.0.1")


@pytest.fixture
def engine(made_sqlite: Path, tmp_path: Path) -> Iterator[Engine]:
    """A database without tokens."""
    path = tmp_path / "x.db"
    path.write_bytes(made_sqlite.read_bytes())
    engine = open_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


def test_without_tokens_whoever_is_on_this_machine_administers(engine: Engine) -> None:
    you = Caller("you", Role.ADMINISTRATOR, has_token=False)
    assert rules_for("127.0.0.1").without_token == you
    assert ask(HERE, "/studies", engine=engine).role == Role.ADMINISTRATOR
    elsewhere = ask(rules_for("0.0.0.0"), "/studies", engine=engine)  # noqa: S104
    assert (elsewhere.status, elsewhere.role) == (401, None)
    assert "This service requires a token. Send it, or log in." in elsewhere.body


def test_who_serves_other_machines_needs_a_token_first(engine: Engine, tmp_path: Path) -> None:
    url, missing = str(engine.url), f"sqlite:///{tmp_path / 'missing.db'}"
    others = rules_for("0.0.0.0")  # noqa: S104
    for without in (url, missing):
        refuse_without_tokens(HERE, without)
        with pytest.raises(UserError, match="so it needs a token, and there is none"):
            refuse_without_tokens(others, without)
    assert not (tmp_path / "missing.db").exists()
    create_token(engine, "alice", Role.VIEWER)
    refuse_without_tokens(others, url)


def test_a_browser_at_a_dashboard_reads_where_its_address_is() -> None:
    answer = ask(reader("s" * 16), accept="text/html")
    assert answer.status == 401
    assert answer.body == "This dashboard requires a token. Open the address that it printed."
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("role", list(Role))
def test_a_token_is_taken_from_the_header_and_from_the_cookie(engine: Engine, role: Role) -> None:
    secret = create_token(engine, "alice", role)
    for headers in (
        {"authorization": f"Bearer {secret}"},
        {"authorization": f"bearer  {secret} "},
        {"cookie": f"other=1; gru_optuna_8080={secret}"},
    ):
        answer = ask(HERE, "/studies", engine=engine, **headers)
        assert (answer.status, answer.role) == (200, role), headers
    for headers in ({}, {"authorization": f"Basic {secret}"}, {"cookie": f"token={secret}"}):
        assert ask(HERE, "/studies", engine=engine, **headers).status == 401, headers


def test_a_token_that_is_unknown_revoked_or_expired_says_so(engine: Engine) -> None:
    def refused(secret: str, path: str = "/studies") -> tuple[int, str]:
        answer = ask(HERE, path, engine=engine, authorization=f"Bearer {secret}")
        return answer.status, answer.body

    secret = create_token(engine, "alice", Role.EDITOR, days=1)
    unknown = "The token is unknown, or it was revoked. Ask for a new one."
    for wrong in (secret[:-1], f"{secret}x", "x"):
        status, body = refused(wrong)
        assert status == 401
        assert unknown in body
    with engine.begin() as connection:
        expired = now(connection) - timedelta(minutes=1)
        connection.execute(update(tokens).values(expires_at=expired))
    status, body = refused(secret)
    assert status == 401
    assert f'alice\\" expired at {expired:%Y-%m-%d %H:%M} UTC. Ask for a new one.' in body
    revoke_token(engine, "alice")
    create_token(engine, "bob", Role.VIEWER)
    assert unknown in refused(secret)[1]


def test_an_operation_for_a_higher_role_says_what_to_ask_for() -> None:
    def called_by(caller: Caller) -> Request:
        return Request({"type": "http", "state": {"caller": caller}})

    needs_editor = get_args(Editor)[1].dependency
    for role in (Role.EDITOR, Role.ADMINISTRATOR):
        alice = Caller("alice", role)
        assert needs_editor(called_by(alice)) is alice
    with pytest.raises(RequestRefused, match='"alice" is a viewer here, and this needs an editor'):
        needs_editor(called_by(Caller("alice", Role.VIEWER)))
    with pytest.raises(RequestRefused, match="Start it with --write to change studies"):
        needs_editor(called_by(Caller("you", Role.VIEWER, has_token=False)))


def test_what_is_public_asks_for_nothing_and_knows_nobody(engine: Engine) -> None:
    secret = create_token(engine, "alice", Role.EDITOR)
    for path in ("/healthz", "/readyz", "/login", "/assets/page.css"):
        assert ask(HERE, path, engine=engine).role is None
        assert ask(HERE, path, engine=engine, authorization="Bearer wrong").status == 200
        bearer = f"Bearer {secret}"
        assert ask(HERE, path, engine=engine, authorization=bearer).role == Role.EDITOR
    assert ask(HERE, "/log", engine=engine).status == 401


def test_a_browser_is_sent_to_log_in_and_comes_back(engine: Engine) -> None:
    create_token(engine, "alice", Role.EDITOR)

    def sent(path: str, query: str = "", **options: str) -> str | None:
        answer = ask(HERE, path, query=query, engine=engine, accept="text/html,*/*", **options)
        return answer.headers.get("location")

    assert sent("/studies") == "/login?next=%2Fstudies"
    assert sent("/studies", "a=1&b=%20") == "/login?next=%2Fstudies%3Fa%3D1%26b%3D%2520"
    assert sent("/studies", method="POST") is None
    program = ask(HERE, "/studies", engine=engine, accept="application/json")
    assert (program.status, program.headers["www-authenticate"]) == (401, "Bearer")


def test_a_page_of_another_site_changes_nothing(engine: Engine) -> None:
    def status(method: str, **headers: str) -> int:
        return ask(HERE, "/studies", method, engine=engine, **headers).status

    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert status(method) == 200  # a program
        assert status(method, origin="http://localhost:8080") == 200
        for origin in ("http://localhost:8081", "https://evil.example", "null", "http://[x"):
            assert status(method, origin=origin) == 403
        assert status(method, sec_fetch_site="cross-site") == 403
    assert status("GET", origin="https://evil.example") == 200


def test_another_name_of_this_machine_is_refused_with_advice(engine: Engine) -> None:
    rebound = ask(HERE, "/studies", host="evil.example", engine=engine)
    assert rebound.status == 403
    assert "This service can only be opened at 127.0.0.1." in rebound.body
    named = ask(rules_for("127.0.0.1", ["lab"]), "/", host="evil.example", engine=engine)
    advice = "This service doesn't accept this host name. Start it with --allow-host NAME."
    assert f'"{advice}"' in named.body
    assert ask(rules_for("127.0.0.1", ["Lab"]), "/", host="LAB", engine=engine).status == 200

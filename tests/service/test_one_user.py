"""Which requests reach a dashboard of one user, and which headers its answers have."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from helpers.access import OURS, POLICY, ask
from helpers.dashboards import reader, writer

from gru_optuna.errors import UserError
from gru_optuna.service.access import LOG_INS, LogInLimit, rules_for_one_user
from gru_optuna.service.problems import RequestRefused
from gru_optuna.storage.tokens import Role
from gru_optuna.workspace import TOKEN_VARIABLE

TOKEN = "sixteen-letters.or~more"  # noqa: S105 (not one)
# --- the rules of a dashboard ---


@pytest.mark.parametrize("write", [True, False])
def test_a_dashboard_for_this_machine_needs_no_token_and_others_do(monkeypatch, write) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    plain = writer() if write else reader()
    names = {"127.0.0.1", "localhost", "::1"}
    for host in ("127.0.0.1", "localhost", "::1"):
        assert rules_for_one_user(host, write=write) == plain
    loopback = rules_for_one_user("[::1]", ["My.Lab"], write=write)
    assert loopback == replace(plain, names=frozenset({*names, "my.lab"}))
    found = [rules_for_one_user(h, ["My.Lab"], write=write) for h in ("0.0.0.0", "::", "::")]  # noqa: S104
    for elsewhere in found:
        assert elsewhere.names >= {*names, "my.lab"}
        assert elsewhere.any_address
        assert elsewhere.one_user.role == (Role.ADMINISTRATOR if write else Role.VIEWER)
        assert len(elsewhere.one_user.secret) == 32
    assert len({rules.one_user.secret for rules in found}) == 3


def test_a_token_may_come_from_the_environment(monkeypatch) -> None:
    def secret(host: str) -> str | None:
        return rules_for_one_user(host).one_user.secret

    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert secret("127.0.0.1") == secret("0.0.0.0") == TOKEN  # noqa: S104
    monkeypatch.setenv(TOKEN_VARIABLE, 16 * "x")
    assert secret("127.0.0.1") == 16 * "x"
    for bad in (15 * "x", 16 * "é", "with spaces in the middle", "with;semicolon;and", 16 * "x\n"):
        monkeypatch.setenv(TOKEN_VARIABLE, bad)
        with pytest.raises(UserError, match="at least 16 characters"):
            rules_for_one_user("127.0.0.1")


# --- the host ---

LOOPBACK = [
    "127.0.0.1", "localhost", "LOCALHOST:1", "localhost.", "[::1]", "[::1]:8080"
]  # fmt: skip
REFUSED = [
    None, "", "elsewhere.example", "127.0.0.1.elsewhere.example", "127.0.0.2", "[::2]", "a b",
    "localhost:x", "localhost:80:80", "user@localhost", "localhost/", "[localhost]", "::1",
    "localhost.elsewhere.example:80", "192.168.0.1", "[::1].elsewhere.example", "2130706433",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK)
def test_the_names_of_this_machine_are_accepted(host) -> None:
    assert ask(reader(), host=host).status == 200


@pytest.mark.parametrize("host", REFUSED)
def test_other_names_are_refused(host) -> None:
    refused = ask(reader(), host=host)
    assert (refused.status, refused.role) == (403, None)
    assert "This service can only be opened at 127.0.0.1." in refused.body
    named = replace(reader(), names=frozenset({"localhost", "lab"}))
    assert "Start it with --allow-host NAME." in ask(named, host="elsewhere.example").body
    assert ask(named, host="lab:8080").status == 200


def test_where_other_machines_may_ask_numbers_are_accepted_and_names_are_not() -> None:
    rules = replace(reader(), any_address=True)
    for host in ("192.0.2.7:8080", "[2001:db8::1]"):
        assert ask(rules, host=host).status == 200
        assert ask(reader(), host=host).status == 403
    for host in (None, "elsewhere.example", "192.0.2", "192.0.2.7.example"):
        assert ask(rules, host=host).status == 403


# --- the token ---


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {TOKEN}"},
        {"authorization": f"bearer  {TOKEN} "},
        {"cookie": f"gru_optuna_8080={TOKEN}"},
        {"cookie": f"other=1; gru_optuna_8080={TOKEN}"},
    ],
)
def test_a_request_with_the_token_gets_through(headers) -> None:
    assert ask(reader(TOKEN), **headers).role == Role.VIEWER
    assert ask(writer(TOKEN), **headers).role == Role.ADMINISTRATOR


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN[1:]}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer \xff"},
        {"authorization": TOKEN},
        {"cookie": f"gru_optuna_8081={TOKEN}"},  # of a dashboard on another port
        {"cookie": "gru_optuna_8080="},
        {"cookie": f"gru_optuna_8080={TOKEN[:-1]}"},
        {"cookie": "\x00;;=;"},
        {"cookie": 'broken="'},
        {"cookie": "a[b]=1; \x01=1"},
    ],
)
def test_a_request_without_it_gets_none_of_the_answer(headers) -> None:
    wrong = ("", f"token={TOKEN[:-1]}", f"token={TOKEN}x", "token=", "token=%ff")
    for path in (
        "/",
        "/api/studies",
        "/report/x/",
        "/static/bundle.js",
        "/v1/studies",
        "/assets/x",
    ):
        for query in wrong:
            for method in ("GET", "DELETE"):
                refused = ask(writer(TOKEN), path, method, query=query, **headers)
                assert (refused.status, refused.role) == (401, None)
                assert "requires a token" in refused.body
                assert refused.headers["www-authenticate"] == "Bearer"
                assert refused.headers["cache-control"] == "no-store"


def test_a_token_in_the_address_becomes_a_cookie() -> None:
    moved = ask(reader(TOKEN), "//elsewhere/ä", query=f"a=1&token={TOKEN}&b=x+y")
    assert (moved.status, moved.body, moved.role) == (303, "", None)
    # The address without it goes into history and bookmarks, and to no other site.
    assert moved.headers == OURS | {
        "location": "/elsewhere/%C3%A4?a=1&b=x+y",
        "set-cookie": f"gru_optuna_8080={TOKEN}; HttpOnly; Path=/; SameSite=lax",
        "cache-control": "no-store",
        "content-length": "0",
        "content-security-policy": POLICY,
    }
    for path in ("/x", "/X", "/"):
        assert ask(reader(TOKEN), path, query=f"token={TOKEN}").headers["location"] == path
    injected = ask(reader(TOKEN), "//evil.example/%0d%0aX:y", query=f"token={TOKEN}")
    assert injected.headers["location"] == "/evil.example/%0D%0AX%3Ay"
    secure = ask(reader(TOKEN), query=f"token={TOKEN}", scheme="https")
    assert secure.headers["set-cookie"].endswith("; Secure")
    # Without a token to check, it is a parameter like any other.
    assert ask(reader(), query=f"token={TOKEN}").status == 200


def test_whoever_sent_wrong_tokens_may_try_again_after_a_while(monkeypatch) -> None:
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("gru_optuna.service.access.time", clock)
    limit = LogInLimit()
    for _ in range(LOG_INS):
        limit.check("192.0.2.7")
        limit.note("192.0.2.7")
        clock.now += 1
    limit.check("192.0.2.8")
    with pytest.raises(RequestRefused, match="Wait 51 s") as refused:
        limit.check("192.0.2.7")
    assert refused.value.headers == {"Retry-After": "51"}
    clock.now += 51
    limit.check("192.0.2.7")  # the first of them is forgotten, the others are not
    limit.note("192.0.2.7")
    with pytest.raises(RequestRefused, match="Wait 1 s"):
        limit.check("192.0.2.7")


def test_the_length_of_a_body_is_stated_once() -> None:
    answer = ask(reader(), method="POST", content_length="5", transfer_encoding="chunked")
    assert answer.status == 400
    assert answer.headers["connection"] == "close"


# --- changes ---


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_is_always_allowed(method) -> None:
    for rules in (reader(), writer()):
        assert ask(rules, method=method, origin="https://elsewhere.example").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_changes_come_from_our_own_pages(method) -> None:
    own: list[dict[str, str]] = [
        {},
        {"sec_fetch_site": "same-origin", "origin": "http://localhost:8080"},
        {"sec_fetch_site": "none"},
    ]
    for headers in own:
        assert ask(writer(), method=method, **headers).role == Role.ADMINISTRATOR
    foreign: list[dict[str, str]] = [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},  # another program on another port
        {"origin": "http://localhost:8081"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec_fetch_site": "cross-site", "origin": "http://localhost:8080"},
    ]
    for headers in foreign:
        refused = ask(writer(), method=method, **headers)
        assert (refused.status, refused.role) == (403, None)
        assert "Only the service's own pages and programs can change it." in refused.body


# --- headers ---


def test_our_headers_replace_those_of_the_application() -> None:
    sent = [
        ("x-frame-options", "ALLOWALL"), ("access-control-allow-origin", "*"),
        ("content-type", "text/html"), ("etag", "1"),
    ]  # fmt: skip
    page = ask(reader(), app_headers=sent)
    assert page.headers == OURS | {
        "content-type": "text/html",
        "etag": "1",
        "content-security-policy": POLICY,
        "cache-control": "no-store",
    }
    own = ask(reader(), app_headers=[("content-security-policy", "default-src 'self'")])
    assert own.headers["content-security-policy"] == "default-src 'self'"

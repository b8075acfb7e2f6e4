"""Which requests get through to optuna-dashboard, and which headers its responses get."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from http.cookies import CookieError
from typing import TYPE_CHECKING, Any

import pytest

from gru_optuna.dashboard import access
from gru_optuna.dashboard.access import TOKEN_VARIABLE, Rules, guarded, rules_for
from gru_optuna.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

TOKEN = "sixteen-letters.or~more"  # noqa: S105 (not one)
OURS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
POLICY = "default-src 'none'; frame-ancestors 'self'"


@dataclass(frozen=True)
class Response:
    """What a request got; `reached` is what the application behind the checks was called with."""

    status: int
    headers: dict[str, str]
    body: str
    reached: dict[str, Any] | None


def ask(
    rules: Rules,
    path: str = "/dashboard/",
    method: str = "GET",
    query: str = "",
    host: str | None = "localhost:8080",
    app_headers: Iterable[tuple[str, str]] = (),
    **headers: str,
) -> Response:
    reached: list[dict[str, Any]] = []
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        reached.append(environ)
        start_response("200 OK", list(app_headers))
        return [b"inside"]

    environ = {
        "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "SERVER_PORT": "8080",
        **({} if host is None else {"HTTP_HOST": host}),
        **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
    }  # fmt: skip
    body = guarded(app, rules)(environ, lambda *started_: started.append(started_))  # type: ignore[arg-type]
    ((status, sent),) = started
    assert len({name.lower() for name, _ in sent}) == len(sent), sent
    text = b"".join(body).decode()
    response = Response(int(status[:3]), dict(sent), text, reached[0] if reached else None)
    assert (response.reached is not None) == (text == "inside")
    assert response.headers.items() >= OURS.items()
    return response


# --- the rules of a server ---


@pytest.mark.parametrize("write", [True, False])
def test_a_server_for_this_machine_needs_no_token_and_others_do(
    monkeypatch: pytest.MonkeyPatch, write: bool
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    names = {"127.0.0.1", "localhost", "::1"}
    assert rules_for("127.0.0.1", write=write) == Rules(frozenset(names), write=write)
    loopback = rules_for("[::1]", ["My.Lab"], write=write)
    assert loopback == Rules(frozenset({*names, "my.lab"}), write=write)
    elsewhere = rules_for("0.0.0.0", ["My.Lab"], write=write)  # noqa: S104
    assert elsewhere.names >= {*names, "my.lab"}
    assert elsewhere.any_address
    assert elsewhere.write == write
    assert elsewhere.token is not None
    assert len(elsewhere.token) == 32
    assert elsewhere.token != rules_for("0.0.0.0").token  # noqa: S104


def test_a_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert rules_for("127.0.0.1").token == rules_for("0.0.0.0").token == TOKEN  # noqa: S104
    monkeypatch.setenv(TOKEN_VARIABLE, 16 * "x")
    assert rules_for("127.0.0.1").token == 16 * "x"
    for bad in (15 * "x", 16 * "é", "with spaces in the middle", f"{16 * 'x'}\n"):
        monkeypatch.setenv(TOKEN_VARIABLE, bad)
        with pytest.raises(UserError, match="at least 16 characters"):
            rules_for("127.0.0.1")


# --- the host ---

LOOPBACK = ["127.0.0.1", "localhost", "LOCALHOST:1", "localhost.", "[::1]", "[::1]:8080"]
REFUSED = [
    None, "", "elsewhere.example", "127.0.0.1.elsewhere.example", "127.0.0.2", "[::2]", "a b",
    "localhost:x", "localhost:80:80", "user@localhost", "localhost/", "[localhost]", "::1",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK)
def test_the_names_of_this_machine_are_accepted(host: str) -> None:
    assert ask(Rules(), host=host).status == 200


@pytest.mark.parametrize("host", REFUSED)
def test_other_names_are_refused(host: str | None) -> None:
    refused = ask(Rules(), host=host)
    assert (refused.status, refused.reached) == (403, None)
    assert refused.body == "This dashboard can only be opened at 127.0.0.1."
    named = ask(Rules(frozenset({"localhost", "lab"})), host="elsewhere.example")
    assert named.body.endswith("Start it with --allow-host NAME.")


def test_where_other_machines_may_ask_numbers_are_accepted_and_names_are_not() -> None:
    rules = Rules(any_address=True)
    for host in ("192.0.2.7:8080", "[2001:db8::1]"):
        assert ask(rules, host=host).status == 200
        assert ask(Rules(), host=host).status == 403
    for host in (None, "elsewhere.example", "192.0.2", "192.0.2.7.example"):
        assert ask(rules, host=host).status == 403


# --- the token ---

GUARDED = Rules(token=TOKEN)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {TOKEN}"},
        {"authorization": f"bearer  {TOKEN} "},
        {"cookie": f"gru_optuna_8080={TOKEN}"},
        {"cookie": f"other=1; gru_optuna_8080={TOKEN}"},
    ],
)
def test_a_request_with_the_token_gets_through(headers: dict[str, str]) -> None:
    assert ask(GUARDED, **headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": "Bearer"},
        {"authorization": TOKEN},
        {"cookie": f"gru_optuna_8081={TOKEN}"},
        {"cookie": "gru_optuna_8080="},
        {"cookie": f"gru_optuna_8080={TOKEN[:-1]}"},
        {"cookie": "\x00;;=;"},
    ],
)
def test_a_request_without_it_gets_none_of_the_answer(headers: dict[str, str]) -> None:
    for path, query in (("/", ""), ("/api/studies", ""), ("/", f"token={TOKEN[:-1]}")):
        refused = ask(GUARDED, path, query=query, **headers)
        assert (refused.status, refused.reached) == (401, None)
        assert "requires a token" in refused.body
        assert refused.headers["WWW-Authenticate"] == "Bearer"


def test_cookies_that_cannot_be_read_hold_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which cookies these are depends on the version of Python."""

    def unreadable(_: str) -> None:
        raise CookieError

    monkeypatch.setattr(access, "SimpleCookie", unreadable)
    assert ask(GUARDED, cookie=f"gru_optuna_8080={TOKEN}").status == 401


def test_a_token_in_the_address_becomes_a_cookie() -> None:
    moved = ask(
        GUARDED, "//elsewhere/ä".encode().decode("latin-1"), query=f"a=1&token={TOKEN}&b=x+y"
    )
    assert (moved.status, moved.body, moved.reached) == (303, "", None)
    assert moved.headers == OURS | {
        "Location": "/elsewhere/%C3%A4?a=1&b=x+y",
        "Set-Cookie": f"gru_optuna_8080={TOKEN}; Path=/; HttpOnly; SameSite=Lax",
        "Cache-Control": "no-store",
        "Content-Length": "0",
        "Content-Security-Policy": POLICY,
    }
    for path in ("/x", "/X", "/"):
        assert ask(GUARDED, path, query=f"token={TOKEN}").headers["Location"] == path
    # Without a token to check, it is a parameter like any other.
    assert ask(Rules(), query=f"token={TOKEN}").status == 200


# --- changes ---


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_is_always_allowed(method: str) -> None:
    for rules in (Rules(), Rules(write=True)):
        assert ask(rules, method=method, origin="https://elsewhere.example").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_changes_need_the_switch_and_come_from_our_own_pages(method: str) -> None:
    refused = ask(Rules(), method=method)
    assert (refused.status, refused.reached) == (403, None)
    assert "read-only" in refused.body
    rules = Rules(write=True)
    own: list[dict[str, str]] = [
        {},
        {"sec_fetch_site": "same-origin", "origin": "http://localhost:8080"},
        {"sec_fetch_site": "none"},
    ]
    for headers in own:
        assert ask(rules, method=method, **headers).status == 200
    foreign: list[dict[str, str]] = [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "http://localhost:8081"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site", "origin": "http://localhost:8080"},
    ]
    for headers in foreign:
        refused = ask(rules, method=method, **headers)
        assert (refused.status, refused.reached) == (403, None)
        assert refused.body == "Only the dashboard's own pages can change studies."


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "get", ""])
def test_unknown_methods_are_refused(method: str) -> None:
    assert ask(Rules(), method=method).status == 403
    assert ask(Rules(write=True), method=method).status == 403


# --- headers ---


def test_a_refusal_is_json_for_the_api_and_text_for_people() -> None:
    api = ask(Rules(), "/api/studies", "POST")
    assert json.loads(api.body) == {
        "reason": "This dashboard is read-only. Start it with --write to change studies."
    }
    text = ask(Rules(), "/dashboard/api/", "POST")
    for refused, kind in ((api, "application/json"), (text, "text/plain; charset=utf-8")):
        assert refused.headers == OURS | {
            "Content-Type": kind,
            "Content-Length": str(len(refused.body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": POLICY,
        }


def test_our_headers_replace_those_of_the_application() -> None:
    sent = [
        ("x-frame-options", "ALLOWALL"), ("Access-Control-Allow-Origin", "*"),
        ("Content-Type", "text/html"), ("ETag", "1"),
    ]  # fmt: skip
    page = ask(Rules(), app_headers=sent)
    expected = OURS | {"Content-Type": "text/html", "ETag": "1", "Content-Security-Policy": POLICY}
    assert page.headers == expected
    own = ask(Rules(), app_headers=[("content-security-policy", "default-src 'self'")])
    assert own.headers == OURS | {"content-security-policy": "default-src 'self'"}
    data = ask(Rules(), "/api/studies", app_headers=[("cache-control", "public")])
    assert data.headers == OURS | {"Cache-Control": "no-store", "Content-Security-Policy": POLICY}
    file = ask(Rules(), "/artifacts/1", app_headers=[("Content-Security-Policy", "default-src *")])
    assert file.headers == OURS | {
        "Content-Disposition": "attachment",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }


def test_a_request_without_an_encoding_asks_for_none() -> None:
    """optuna-dashboard fails where the header is missing."""
    plain, zipped = ask(Rules()).reached, ask(Rules(), accept_encoding="gzip").reached
    assert plain is not None
    assert zipped is not None
    assert plain["HTTP_ACCEPT_ENCODING"] == "identity"
    assert zipped["HTTP_ACCEPT_ENCODING"] == "gzip"


def test_rules_cannot_be_changed_after_the_start() -> None:
    rules = Rules()
    with pytest.raises(AttributeError):
        rules.write = True  # type: ignore[misc]
    assert replace(rules, write=True) == Rules(write=True)

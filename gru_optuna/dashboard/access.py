"""Who may ask for what, checked before optuna-dashboard sees it; and the headers of its answers.

The checks, in this order: the Host header (a web page elsewhere can point its own name at
127.0.0.1 and then read what we answer), the token, the method, and where a change comes from.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import os
import re
import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from gru_optuna.dashboard.server import is_loopback, own_names
from gru_optuna.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    Headers = list[tuple[str, str]]

TOKEN_VARIABLE = "GRU_OPTUNA_TOKEN"  # noqa: S105 (its name)
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})

_READING = {"GET", "HEAD", "OPTIONS"}
_WRITING = {"POST", "PUT", "DELETE", "PATCH"}

_HEADERS = {
    # What a page may be taken for, who may frame it, and what others learn of its address.
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ARTIFACT_HEADERS = {
    # An uploaded page would otherwise run as one of the dashboard's own.
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}


@dataclass(frozen=True)
class Rules:
    """What is allowed.

    Parameters
    ----------
    names
        Hosts it answers to, in lower case.
    any_address
        Whether any address in numbers will do as well: nobody can point one elsewhere.
    write
        Whether studies may be changed.
    token
        What a visitor must show; None: nothing.
    """

    names: frozenset[str] = LOOPBACK_NAMES
    any_address: bool = False
    write: bool = False
    token: str | None = None


def rules_for(host: str, other_names: Sequence[str] = (), *, write: bool = False) -> Rules:
    """The rules for a server on an address of this machine.

    Whoever else can reach it must show a token: that of the environment, else a new one.

    Raises
    ------
    UserError
        If the address is none, or the token is too short to keep anybody out.
    """
    token = os.environ.get(TOKEN_VARIABLE) or None
    if token is not None and not re.fullmatch(r"[\w.~-]{16,}", token, re.ASCII):
        raise UserError(
            f"{TOKEN_VARIABLE} must be 16 letters, digits and - . _ ~ or more. "
            f"Without it the dashboard makes one."
        )
    names = LOOPBACK_NAMES | {name.lower() for name in other_names}
    if is_loopback(host):
        return Rules(names | {host.lower().strip("[]")}, write=write, token=token)
    token = token or secrets.token_urlsafe(24)
    return Rules(names | own_names(host), any_address=True, write=write, token=token)


def guarded(app: WSGIApplication, rules: Rules) -> WSGIApplication:
    """The same application for those who may ask."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not _is_our_name(_host(environ), rules):
            return _refuse(environ, start_response, "403 Forbidden", _wrong_name(rules))
        if rules.token is not None:
            if (given := _token_in_address(environ)) is not None and _same(given, rules.token):
                return _welcome(environ, start_response, rules)
            if not _shows_token(environ, rules):
                reason = "This dashboard asks for a token. Open the address that was printed."
                return _refuse(environ, start_response, "401 Unauthorized", reason)
        method = environ["REQUEST_METHOD"]
        if method not in _READING and not rules.write:
            reason = "Read-only. Start it with --write to change studies."
            return _refuse(environ, start_response, "403 Forbidden", reason)
        if method not in _READING and (method not in _WRITING or not _from_here(environ)):
            reason = "Changes are taken from the dashboard's own pages only."
            return _refuse(environ, start_response, "403 Forbidden", reason)
        # optuna-dashboard fails where it is missing.
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")
        return app(environ, _with_headers(environ, start_response))

    return answer


def _host(environ: WSGIEnvironment) -> str:
    """The name by which we are called, without the port."""
    given = str(environ.get("HTTP_HOST", "")).lower()
    match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:/@\s]+?)\.?)(?::\d+)?", given)
    return (match[1] or match[2]) if match else ""


def _is_our_name(host: str, rules: Rules) -> bool:
    if host in rules.names:
        return True
    if not rules.any_address:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _wrong_name(rules: Rules) -> str:
    if rules.names <= LOOPBACK_NAMES:
        return "This dashboard answers to 127.0.0.1 only."
    return "This dashboard doesn't answer to this name. Start it with --allow-host NAME."


def _same(given: str, token: str) -> bool:
    # In constant time: how long a comparison takes must not tell how much was right.
    return hmac.compare_digest(given.encode(), token.encode())


def _token_in_address(environ: WSGIEnvironment) -> str | None:
    return dict(parse_qsl(str(environ.get("QUERY_STRING", "")))).get("token")


def _shows_token(environ: WSGIEnvironment, rules: Rules) -> bool:
    assert rules.token is not None
    scheme, _, bearer = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    if scheme.lower() == "bearer" and _same(bearer.strip(), rules.token):
        return True
    try:
        cookies = SimpleCookie(str(environ.get("HTTP_COOKIE", "")))
    except CookieError:
        return False
    name = _cookie(environ)
    return name in cookies and _same(cookies[name].value, rules.token)


def _cookie(environ: WSGIEnvironment) -> str:
    # The ports of a machine share their cookies.
    return f"gru_optuna_{environ.get('SERVER_PORT', '')}"


def _welcome(
    environ: WSGIEnvironment, start_response: StartResponse, rules: Rules
) -> Iterable[bytes]:
    """A cookie for the token, and the same address without it: for history and bookmarks."""
    query = str(environ.get("QUERY_STRING", ""))
    rest = urlencode([pair for pair in parse_qsl(query) if pair[0] != "token"])
    # One slash: two would name another host.
    path = "/" + quote(str(environ.get("PATH_INFO", "")).encode("latin-1")).lstrip("/")
    start_response(
        "303 See Other",
        [
            ("Location", f"{path}?{rest}" if rest else path),
            # Lax, not Strict: the printed address is often followed from another page.
            ("Set-Cookie", f"{_cookie(environ)}={rules.token}; Path=/; HttpOnly; SameSite=Lax"),
            ("Cache-Control", "no-store"),
            ("Content-Length", "0"),
            *_HEADERS.items(),
        ],
    )
    return [b""]


def _from_here(environ: WSGIEnvironment) -> bool:
    """Whether a change was asked for by one of our own pages, or by a program."""
    if environ.get("HTTP_SEC_FETCH_SITE", "same-origin") not in ("same-origin", "none"):
        return False
    origin = environ.get("HTTP_ORIGIN")
    return origin is None or urlsplit(str(origin)).netloc == environ.get("HTTP_HOST")


def _with_headers(environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
    """Answers go out with our headers; where both have one, the stricter wins: an artifact's."""
    path = str(environ.get("PATH_INFO", ""))
    ours = dict(_HEADERS)
    if path.startswith("/artifacts/"):
        ours |= _ARTIFACT_HEADERS
    if path.startswith("/api/"):
        ours["Cache-Control"] = "no-store"
    replaced = {name.lower() for name in ours} | {"access-control-allow-origin"}

    def start(status: str, headers: Headers, *rest: object) -> Callable[[bytes], object]:
        kept = [header for header in headers if header[0].lower() not in replaced]
        return start_response(status, [*kept, *ours.items()], *rest)  # type: ignore[arg-type]

    return start


def _refuse(
    environ: WSGIEnvironment, start_response: StartResponse, status: str, reason: str
) -> Iterable[bytes]:
    """A refusal in plain words; optuna-dashboard's own page shows a JSON "reason"."""
    if str(environ.get("PATH_INFO", "")).startswith("/api/"):
        kind, body = "application/json", json.dumps({"reason": reason}).encode()
    else:
        kind, body = "text/plain; charset=utf-8", reason.encode()
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        *_HEADERS.items(),
    ]
    if status.startswith("401"):
        headers.append(("WWW-Authenticate", "Bearer"))
    start_response(status, headers)
    return [body]

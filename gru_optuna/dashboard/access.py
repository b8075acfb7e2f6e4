"""Access control: which requests reach optuna-dashboard, and the headers of its responses.

The checks, in this order: the Host header (another site can point its own name at 127.0.0.1 and
then read our responses through the visitor's browser), the token, the method, and which page asked
for a change.
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

from gru_optuna.errors import UserError
from gru_optuna.service.addresses import is_loopback, own_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    Headers = list[tuple[str, str]]

TOKEN_VARIABLE = "GRU_OPTUNA_TOKEN"  # noqa: S105 (its name)
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})

_READING = {"GET", "HEAD", "OPTIONS"}
_WRITING = {"POST", "PUT", "DELETE", "PATCH"}

_HEADERS = {
    # No guessing of types, no frames in other sites, no address in the Referer of outgoing links.
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY = ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'self'")
"""For responses without a policy of their own: data, scripts and errors load nothing."""

_ARTIFACT_HEADERS = {
    # Otherwise, an uploaded HTML page would run with the rights of the dashboard's own pages.
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}


@dataclass(frozen=True)
class Rules:
    """Which requests a dashboard accepts.

    Parameters
    ----------
    names
        The accepted host names, in lower case.
    any_address
        Whether any numeric address is accepted too: unlike a name, it can't be redirected.
    write
        Whether studies may be changed.
    token
        The token that a request must contain; None if it needs none.
    """

    names: frozenset[str] = LOOPBACK_NAMES
    any_address: bool = False
    write: bool = False
    token: str | None = None


def rules_for(host: str, other_names: Sequence[str] = (), *, write: bool = False) -> Rules:
    """Makes the rules for a server on this machine.

    If other machines can reach it, requests need a token: the one in the environment, or a new one.

    Raises
    ------
    UserError
        If the host is unknown, or the token in the environment is too short to be safe.
    """
    token = os.environ.get(TOKEN_VARIABLE) or None
    if token is not None and not re.fullmatch(r"[\w.~-]{16,}", token, re.ASCII):
        raise UserError(
            f"{TOKEN_VARIABLE} must have at least 16 characters: letters, digits and - . _ ~. "
            f"Unset it, and the dashboard makes a token itself."
        )
    names = LOOPBACK_NAMES | {name.lower() for name in other_names}
    if is_loopback(host):
        return Rules(names | {host.lower().strip("[]")}, write=write, token=token)
    token = token or secrets.token_urlsafe(24)
    return Rules(names | own_names(host), any_address=True, write=write, token=token)


def guarded(app: WSGIApplication, rules: Rules) -> WSGIApplication:
    """Puts the checks in front of an application, and our headers on its responses."""

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not _is_accepted(_host(environ), rules):
            return _refuse(environ, start_response, "403 Forbidden", _wrong_name(rules))
        if rules.token is not None:
            if (given := _token_in_address(environ)) is not None and _matches(given, rules.token):
                return _redirect_with_cookie(environ, start_response, rules)
            if not _has_token(environ, rules):
                reason = "This dashboard requires a token. Open the address that it printed."
                return _refuse(environ, start_response, "401 Unauthorized", reason)
        method = environ["REQUEST_METHOD"]
        if method not in _READING and not rules.write:
            reason = "This dashboard is read-only. Start it with --write to change studies."
            return _refuse(environ, start_response, "403 Forbidden", reason)
        if method not in _READING and (method not in _WRITING or not _is_same_origin(environ)):
            reason = "Only the dashboard's own pages can change studies."
            return _refuse(environ, start_response, "403 Forbidden", reason)
        # optuna-dashboard fails on requests without this header.
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")
        return app(environ, _with_headers(environ, start_response))

    return respond


def _host(environ: WSGIEnvironment) -> str:
    """The host that the request names, without the port; empty if it isn't valid."""
    given = str(environ.get("HTTP_HOST", "")).lower()
    match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:/@\s]+?)\.?)(?::\d+)?", given)
    return (match[1] or match[2]) if match else ""


def _is_accepted(host: str, rules: Rules) -> bool:
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
        return "This dashboard can only be opened at 127.0.0.1."
    return "This dashboard doesn't accept this host name. Start it with --allow-host NAME."


def _matches(given: str, token: str) -> bool:
    # In constant time: the duration of a comparison must not reveal how many characters match.
    return hmac.compare_digest(given.encode(), token.encode())


def _token_in_address(environ: WSGIEnvironment) -> str | None:
    return dict(parse_qsl(str(environ.get("QUERY_STRING", "")))).get("token")


def _has_token(environ: WSGIEnvironment, rules: Rules) -> bool:
    assert rules.token is not None
    scheme, _, bearer = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    if scheme.lower() == "bearer" and _matches(bearer.strip(), rules.token):
        return True
    try:
        cookies = SimpleCookie(str(environ.get("HTTP_COOKIE", "")))
    except CookieError:
        return False
    name = _cookie(environ)
    return name in cookies and _matches(cookies[name].value, rules.token)


def _cookie(environ: WSGIEnvironment) -> str:
    # All ports of a host share their cookies, so two dashboards need different names.
    return f"gru_optuna_{environ.get('SERVER_PORT', '')}"


def _redirect_with_cookie(
    environ: WSGIEnvironment, start_response: StartResponse, rules: Rules
) -> Iterable[bytes]:
    """Sets the cookie and redirects to the address without the token.

    Otherwise, the token would stay in the browser's history and in bookmarks.
    """
    query = str(environ.get("QUERY_STRING", ""))
    rest = urlencode([pair for pair in parse_qsl(query) if pair[0] != "token"])
    # A single slash: with two, the browser would take what follows for another host.
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
            _POLICY,
        ],
    )
    return [b""]


def _is_same_origin(environ: WSGIEnvironment) -> bool:
    """Whether a request comes from one of our own pages, or from a program that isn't a browser."""
    if environ.get("HTTP_SEC_FETCH_SITE", "same-origin") not in ("same-origin", "none"):
        return False
    origin = environ.get("HTTP_ORIGIN")
    return origin is None or urlsplit(str(origin)).netloc == environ.get("HTTP_HOST")


def _with_headers(environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
    """Adds our headers to the response, in place of the application's headers of the same names."""
    path = str(environ.get("PATH_INFO", ""))
    ours = dict(_HEADERS)
    if path.startswith("/artifacts/"):
        ours |= _ARTIFACT_HEADERS
    if path.startswith("/api/"):
        ours["Cache-Control"] = "no-store"
    replaced = {name.lower() for name in ours} | {"access-control-allow-origin"}

    def start(status: str, headers: Headers, *rest: object) -> Callable[[bytes], object]:
        kept = [header for header in headers if header[0].lower() not in replaced]
        if _POLICY[0].lower() not in {name.lower() for name, _ in (*kept, *ours.items())}:
            kept.append(_POLICY)
        return start_response(status, [*kept, *ours.items()], *rest)  # type: ignore[arg-type]

    return start


def _refuse(
    environ: WSGIEnvironment, start_response: StartResponse, status: str, reason: str
) -> Iterable[bytes]:
    """Refuses a request, for the API with the JSON whose "reason" optuna-dashboard's pages show."""
    if str(environ.get("PATH_INFO", "")).startswith("/api/"):
        kind, body = "application/json", json.dumps({"reason": reason}).encode()
    else:
        kind, body = "text/plain; charset=utf-8", reason.encode()
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        *_HEADERS.items(),
        _POLICY,
    ]
    if status.startswith("401"):
        headers.append(("WWW-Authenticate", "Bearer"))
    start_response(status, headers)
    return [body]

"""Who may send which request: the checks in front of everything, and the headers of each answer.

In this order: the Host header (another site can point its own name at 127.0.0.1 and then read our
answers through the visitor's browser), which page asked for a change, the token, the size of the
body, the role. Pages and operations that need more than reading check the role themselves, with
`Viewer`, `Editor` and `Administrator`.

``gru-optuna serve`` asks for the tokens of the database; ``gru-optuna dashboard`` serves one user,
who needs none, or a token of its own.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import secrets
import time
from collections import deque
from dataclasses import dataclass, replace
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from anyio import to_thread
from fastapi import Depends, Request
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse

from gru_optuna.errors import DatabaseMissing, UserError
from gru_optuna.service.addresses import is_loopback, own_names
from gru_optuna.service.problems import RequestRefused, problem_response
from gru_optuna.storage.database.open import open_storage
from gru_optuna.storage.optuna_private import engine_behind
from gru_optuna.storage.tokens import Role, find_token, has_tokens
from gru_optuna.workspace import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Engine
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})

READING = frozenset({"GET", "HEAD", "OPTIONS"})

PUBLIC = ("/healthz", "/readyz", "/login", "/assets/")
"""What needs no token: nothing in them tells of studies."""

MOST_BYTES = 1 << 20
"""The most bytes of a body, unless an operation takes more."""

LOG_INS, LOG_IN_SECONDS = 10, 60.0
"""Wrong tokens that an address may send, and in which time, before it has to wait."""

_HEADERS = {
    # No guessing of types, no frames in other sites, no address in the Referer of outgoing links.
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    # Not no-referrer: browsers would then send forms with the origin "null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY = "default-src 'none'; frame-ancestors 'self'"
"""For answers without a policy of their own: data, scripts and errors load nothing."""


@dataclass(frozen=True)
class Caller:
    """Who sends a request."""

    name: str
    role: Role
    has_token: bool = True

    @property
    def refusal(self) -> str:
        """Why this caller may not change studies in optuna-dashboard."""
        if self.has_token:
            return "Only administrators change studies here."
        return "This dashboard is read-only. Start it with --write to change studies."

    @property
    def who_may_write(self) -> str:
        """The same, short enough for a badge on its pages."""
        if self.has_token:
            return "administrators can change studies"
        return "start with --write to change studies"


@dataclass(frozen=True)
class OneUser:
    """The user of ``gru-optuna dashboard``, instead of those whose tokens the database holds.

    Parameters
    ----------
    role
        What is allowed.
    secret
        The token that each request must contain; None if it needs none.
    """

    role: Role
    secret: str | None = None

    @property
    def caller(self) -> Caller:
        """Who sends the requests."""
        return Caller("you", self.role, has_token=False)

    def accepts(self, given: str | None) -> bool:
        """Whether a request that contains this token may pass."""
        # In constant time: the duration must not reveal how many characters match.
        return self.secret is None or (
            given is not None
            and hmac.compare_digest(given.encode(errors="surrogateescape"), self.secret.encode())
        )


@dataclass(frozen=True)
class AccessRules:
    """Which requests the service accepts.

    Parameters
    ----------
    names
        The accepted host names, in lower case.
    any_address
        Whether any numeric address is accepted too: unlike a name, it can't be redirected.
    without_token
        Who sends a request without a token, while the database has no tokens; None: nobody may.
    one_user
        Who sends every request; None: whoever has a token of the database.
    """

    names: frozenset[str] = LOOPBACK_NAMES
    any_address: bool = False
    without_token: Caller | None = None
    one_user: OneUser | None = None


def rules_for(host: str, other_names: Sequence[str] = ()) -> AccessRules:
    """The rules for a service on this machine.

    On loopback, whoever sends a request may do everything as long as there are no tokens.

    Raises
    ------
    UserError
        If the host is unknown.
    """
    names = LOOPBACK_NAMES | {name.lower() for name in other_names}
    if is_loopback(host):
        you = Caller("you", Role.ADMINISTRATOR, has_token=False)
        return AccessRules(names | {host.lower().strip("[]")}, without_token=you)
    return AccessRules(names | own_names(host), any_address=True)


def rules_for_one_user(
    host: str, other_names: Sequence[str] = (), *, write: bool = False
) -> AccessRules:
    """The rules for a dashboard on this machine.

    If other machines can reach it, requests need a token: the one in the environment, or a new one.

    Raises
    ------
    UserError
        If the host is unknown, or the token in the environment is too short to be safe.
    """
    secret = os.environ.get(TOKEN_VARIABLE) or None
    if secret is not None and not re.fullmatch(r"[\w.~-]{16,}", secret, re.ASCII):
        raise UserError(
            f"{TOKEN_VARIABLE} must have at least 16 characters: letters, digits and - . _ ~. "
            f"Unset it, and the dashboard makes a token itself."
        )
    rules = rules_for(host, other_names)
    if rules.any_address:
        secret = secret or secrets.token_urlsafe(24)
    role = Role.ADMINISTRATOR if write else Role.VIEWER
    return replace(rules, without_token=None, one_user=OneUser(role, secret))


def refuse_without_tokens(rules: AccessRules, url: str) -> None:
    """Refuses to serve other machines while nobody could log in, and creates no database.

    Raises
    ------
    UserError
        If nobody may send a request without a token, and there are none.
    """
    if rules.without_token is not None or rules.one_user is not None:
        return
    try:
        storage = open_storage(url)
    except DatabaseMissing:
        storage = None
    if storage is None or not has_tokens(engine_behind(storage)):
        raise UserError(
            "other machines could reach this service, so it needs a token, and there is none. Make "
            "one: gru-optuna token create NAME --role administrator."
        )


class Access:
    """The checks in front of an application.

    Parameters
    ----------
    app
        The application behind them. It finds the `Caller` in the request's state.
    rules
        Which requests are accepted.
    engine
        The database with the tokens.
    unlimited
        Whether the body of a request to this path may be larger than `MOST_BYTES`.
    """

    def __init__(
        self,
        app: ASGIApp,
        rules: AccessRules,
        engine: Engine,
        unlimited: Callable[[str], bool],
    ) -> None:
        self._app, self._rules, self._engine = app, rules, engine
        self._unlimited = unlimited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or lets it pass."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # there are no web sockets here
        request = Request(scope, receive)
        send = _with_headers(send)
        try:
            self._check(request)
            user = self._rules.one_user
            given = request.query_params.get("token")
            if user is not None and user.secret and given is not None and user.accepts(given):
                await _without_token(request, given)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = await self._caller(request)
            if not self._unlimited(request.url.path):
                receive = await _limited(request, receive)
        except RequestRefused as refusal:
            await self._refusal(request, refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, request: Request) -> None:
        rules = self._rules
        if {"content-length", "transfer-encoding"} <= set(request.headers.keys()):
            # A proxy may believe the first and find another end of the body than we do (RFC 9112,
            # 6.1): what follows it on this connection could be somebody else's request.
            raise RequestRefused(
                HTTPStatus.BAD_REQUEST,
                "The request states the length of its body in two ways. Send one of "
                "Content-Length and Transfer-Encoding.",
                {"Connection": "close"},
            )
        if not _is_accepted(_host(request), rules):
            only_here = rules.names <= LOOPBACK_NAMES and not rules.any_address
            raise RequestRefused(
                HTTPStatus.FORBIDDEN,
                "This service can only be opened at 127.0.0.1."
                if only_here
                else "This service doesn't accept this host name. Start it with --allow-host NAME.",
            )
        if request.method not in READING and not is_same_origin(request.headers):
            raise RequestRefused(
                HTTPStatus.FORBIDDEN, "Only the service's own pages and programs can change it."
            )

    async def _caller(self, request: Request) -> Caller | None:
        is_public = request.url.path.startswith(PUBLIC)
        secret = given_token(request)
        if (user := self._rules.one_user) is not None:
            if user.accepts(secret):
                return user.caller
            raise _unauthorized(
                "This dashboard requires a token. Open the address that it printed."
            )
        if secret is None:
            if is_public:
                return None
            if (caller := self._rules.without_token) is not None and not (
                await to_thread.run_sync(has_tokens, self._engine)
            ):
                return caller
            raise _unauthorized("This service requires a token. Send it, or log in.")
        token = await to_thread.run_sync(find_token, self._engine, secret)
        if token is not None and not token.has_expired:
            return Caller(token.name, token.role)
        if is_public:
            return None
        if token is None:
            raise _unauthorized("The token is unknown, or it was revoked. Ask for a new one.")
        at = f"{token.expires_at:%Y-%m-%d %H:%M} UTC"
        raise _unauthorized(f'The token "{token.name}" expired at {at}. Ask for a new one.')

    def _refusal(self, request: Request, refusal: RequestRefused) -> Response:
        """A problem document, or in a browser what a person can do about it."""
        wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if refusal.status != HTTPStatus.UNAUTHORIZED or not wants_page:
            return problem_response(refusal.status, str(refusal), refusal.headers)
        if self._rules.one_user is not None:
            return PlainTextResponse(str(refusal), refusal.status, refusal.headers)
        query = f"?{request.url.query}" if request.url.query else ""
        place = quote(f"{request.url.path}{query}", safe="")
        return RedirectResponse(f"/login?next={place}", HTTPStatus.SEE_OTHER)


class LogInLimit:
    """Makes addresses wait that send wrong tokens. It counts in memory, for this server alone."""

    def __init__(self) -> None:
        self._failed: deque[tuple[float, str]] = deque()  # when, and from where
        self._lock = Lock()  # requests are answered in several threads

    def check(self, address: str) -> None:
        """Refuses an address that has to wait.

        Raises
        ------
        RequestRefused
            If too many wrong tokens came from it lately.
        """
        start = time.monotonic() - LOG_IN_SECONDS
        with self._lock:
            # Those of every address, as whoever asks through a proxy may name any number of them.
            while self._failed and self._failed[0][0] < start:
                self._failed.popleft()
            times = [at for at, failed in self._failed if failed == address]
        if len(times) >= LOG_INS:
            seconds = int(times[0] - start) + 1
            raise RequestRefused(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{LOG_INS} wrong tokens came from this address. Wait {seconds} s.",
                {"Retry-After": str(seconds)},
            )

    def note(self, address: str) -> None:
        """Notes a wrong token."""
        with self._lock:
            self._failed.append((time.monotonic(), address))


def given_token(request: Request) -> str | None:
    """The token that a request bears, in its header or its cookie."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return bearer.strip()
    return request.cookies.get(cookie_name(request))


def cookie_name(request: Request) -> str:
    """The name of the cookie that holds the token.

    All ports of a host share their cookies, so two services need different names.
    """
    _, port = request.scope.get("server") or ("", "")
    return f"gru_optuna_{port}"


def keep_token(answer: Response, request: Request, secret: str) -> None:
    """Lets the browser keep a token in a cookie that no script can read."""
    answer.set_cookie(
        cookie_name(request),
        secret,
        httponly=True,
        # Lax, not Strict: an address of the service is often followed from another page.
        samesite="lax",
        secure=request.url.scheme == "https",
    )


def _without_token(request: Request, secret: str) -> Response:
    """Sets the cookie and redirects to the address without the token.

    Otherwise, the token would stay in the browser's history and in bookmarks.
    """
    pairs = parse_qsl(request.url.query, keep_blank_values=True)
    rest = urlencode([pair for pair in pairs if pair[0] != "token"])
    # A single slash: with two, the browser would take what follows for another host.
    path = "/" + quote(request.scope["path"]).lstrip("/")
    answer = RedirectResponse(f"{path}?{rest}" if rest else path, HTTPStatus.SEE_OTHER)
    keep_token(answer, request, secret)
    return answer


def caller_of(request: Request) -> Caller:
    """Who sends a request."""
    caller: Caller | None = request.scope["state"].get("caller")
    assert caller is not None, "the path is public"
    return caller


def _at_least(role: Role) -> Callable[[Request], Caller]:
    def check(request: Request) -> Caller:
        caller = caller_of(request)
        if caller.role < role:
            raise RequestRefused(
                HTTPStatus.FORBIDDEN,
                f'"{caller.name}" is a {caller.role} here, and this needs an {role}. '
                f"Ask an administrator for another token."
                if caller.has_token
                else caller.refusal,
            )
        return caller

    return check


Viewer = Annotated[Caller, Depends(_at_least(Role.VIEWER))]
Editor = Annotated[Caller, Depends(_at_least(Role.EDITOR))]
Administrator = Annotated[Caller, Depends(_at_least(Role.ADMINISTRATOR))]


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from one of our own pages, or from a program that isn't a browser."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host")
    except ValueError:  # not an address
        return False


def _host(request: Request) -> str:
    """The host that the request names, without the port; empty if it isn't valid."""
    given = request.headers.get("host", "").lower()
    match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:/@\s]+?)\.?)(?::\d+)?", given)
    return (match[1] or match[2]) if match else ""


def _is_accepted(host: str, rules: AccessRules) -> bool:
    if host in rules.names:
        return True
    if not rules.any_address:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _unauthorized(detail: str) -> RequestRefused:
    return RequestRefused(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": "Bearer"})


async def _limited(request: Request, receive: Receive) -> Receive:
    """Refuses a body that is too large, also one that doesn't say how large it is."""
    refusal = RequestRefused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is larger than {MOST_BYTES >> 20} MiB, the most that is read here.",
    )
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > MOST_BYTES:
        raise refusal
    if "transfer-encoding" not in request.headers:
        return receive
    # Read at once, because the application can't be told any more once it has begun to answer.
    messages: deque[Message] = deque()
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > MOST_BYTES:
            raise refusal
        if not message.get("more_body"):
            break

    async def replay() -> Message:
        return messages.popleft() if messages else await receive()

    return replay


def _with_headers(send: Send) -> Send:
    """Adds our headers to the answer, in place of the application's headers of the same names."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            del headers["access-control-allow-origin"]
            headers.setdefault("content-security-policy", _POLICY)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return send_with_headers

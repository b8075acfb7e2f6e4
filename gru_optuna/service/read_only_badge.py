"""A badge on the pages of a read-only dashboard, because optuna-dashboard still shows its buttons.

When a change is refused, optuna-dashboard shows "Failed" for some of them, without the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_PAGES = "/dashboard"

# In an empty part of the bar at the top; clicks go through it to the page.
_BADGE = (
    b'<div role="note" style="position:fixed;top:20px;right:24px;z-index:1300;color:#fff;'
    b'font:500 14px system-ui,sans-serif;pointer-events:none">'
    b"%b</div>"
)


def with_badge(app: WSGIApplication, about: str) -> WSGIApplication:
    """Adds a badge with this text to an application's pages."""
    badge = _BADGE % about.encode()

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not str(environ.get("PATH_INFO", "")).startswith(_PAGES):
            return app(environ, start_response)
        # Always the whole page: one in the browser's cache may lack the badge.
        for condition in ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH", "HTTP_RANGE"):
            environ.pop(condition, None)
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def start(
            status: str, headers: list[tuple[str, str]], *_: object
        ) -> Callable[[bytes], object]:
            begun[:] = [(status, headers)]
            return lambda data: None

        parts = app(environ, start)
        try:
            page = b"".join(parts)
        finally:
            getattr(parts, "close", lambda: None)()
        ((status, headers),) = begun
        if page:  # the response to HEAD has no body
            page = page.replace(b"</body>", badge + b"</body>")
            headers = [header for header in headers if header[0].lower() != "content-length"]
            headers += [("Content-Length", str(len(page)))]
        start_response(status, [*headers, ("Cache-Control", "no-store")])
        return [page]

    return respond

"""A word in the pages of a read-only dashboard, whose buttons look as if they could change things.

optuna-dashboard answers a click on some of them with "Failed", and doesn't show why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_PAGES = "/dashboard"

# In the bar at the top, which is empty there; no click ends on it.
_BADGE = (
    b'<div role="note" style="position:fixed;top:20px;right:24px;z-index:1300;color:#fff;'
    b'font:500 14px system-ui,sans-serif;pointer-events:none">'
    b"read-only; --write lets you change studies</div>"
)


def with_badge(app: WSGIApplication) -> WSGIApplication:
    """The same application, whose pages say that they are read-only."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not str(environ.get("PATH_INFO", "")).startswith(_PAGES):
            return app(environ, start_response)
        # A page that the browser kept from another time lacks the word.
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
        if page:  # not of a HEAD
            page = page.replace(b"</body>", _BADGE + b"</body>")
            headers = [one for one in headers if one[0].lower() != "content-length"]
            headers += [("Content-Length", str(len(page)))]
        start_response(status, [*headers, ("Cache-Control", "no-store")])
        return [page]

    return answer

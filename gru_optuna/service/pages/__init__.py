"""The pages: server-rendered, with one script that calls the API and follows the events."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from gru_optuna.formatting import format_metric
from gru_optuna.report.theme import DARK, LIGHT
from gru_optuna.service.access import Caller, Editor, LogInLimit, Viewer, cookie_name, keep_token
from gru_optuna.service.api.data import UploadView, receive_upload, view_of
from gru_optuna.service.api.parameters import FileName
from gru_optuna.service.api.studies import find_study, study_view
from gru_optuna.service.context import Context
from gru_optuna.service.problems import RequestRefused
from gru_optuna.storage.tokens import Role, find_token
from gru_optuna.study import submissions

if TYPE_CHECKING:
    from gru_optuna.service.api.studies import StudyEntry

_HERE = Path(__file__).parent
_PAGE_STYLE = _HERE.parents[1] / "report" / "templates" / "page.css"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

pages = APIRouter(include_in_schema=False)

_limit = LogInLimit()
_templates = Environment(
    loader=PackageLoader("gru_optuna.service", "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters["metric"] = format_metric


@pages.get("/")
def studies(context: Context, caller: Viewer) -> Response:
    """The studies, with their progress."""
    found = [study_view(context, study) for study in submissions.list_all(context.engine)]
    return _page("studies.html", caller, studies=found, progress=_progress)


@pages.get("/new")
def new_study(caller: Editor) -> Response:
    """A new study: drop a file, choose the target, edit the study file, start."""
    return _page("new.html", caller)


@pages.get("/study/{name}")
def study(context: Context, caller: Viewer, name: str) -> Response:
    """One study: its curves as they grow, and what can be done with it."""
    found = find_study(context, name)
    entry, submission = study_view(context, found), found.submission
    toml = None if submission is None else submission.toml
    return _page("study.html", caller, study=entry, toml=toml, study_id=found.study_id)


@pages.get("/report/{name}")
@pages.get("/report/{name}/{file:path}")
def report(name: str, file: str = "") -> Response:
    """Leads to a report, from where the notes in optuna-dashboard expect it."""
    place = f"/v1/studies/{quote(name, safe='')}/report/{quote(file)}"
    return RedirectResponse(place, HTTPStatus.PERMANENT_REDIRECT)


@pages.get("/login")
def show_log_in(request: Request) -> Response:
    """Asks for a token."""
    return _page("login.html", None, problem=None, to=_own_place(request.query_params.get("next")))


async def _form(request: Request) -> dict[str, str]:
    try:
        fields = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=10)
    except ValueError:  # more fields than any form of ours has
        return {}
    return {name: values[0] for name, values in fields.items()}


@pages.post("/login")
def log_in(context: Context, request: Request, form: dict[str, str] = Depends(_form)) -> Response:  # noqa: B008
    """Keeps a right token in a cookie that no script can read."""
    address = request.client.host if request.client else ""
    to = _own_place(form.get("next"))
    try:
        _limit.check(address)
    except RequestRefused as refusal:
        page = _page("login.html", None, problem=str(refusal), to=to, status=refusal.status)
        page.headers.update(refusal.headers)
        return page
    secret = form.get("token", "").strip()
    token = find_token(context.engine, secret)
    if token is None or token.has_expired:
        _limit.note(address)
        problem = (
            "This token is unknown, or it was revoked."
            if token is None
            else f'The token "{token.name}" has expired.'
        )
        return _page(
            "login.html", None, problem=f"{problem} Ask an administrator for a new one.", to=to,
            status=HTTPStatus.UNAUTHORIZED,
        )  # fmt: skip
    answer = RedirectResponse(to, HTTPStatus.SEE_OTHER)
    keep_token(answer, request, secret)
    return answer


@pages.post("/logout")
def log_out(request: Request) -> Response:
    """Forgets the token."""
    answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(cookie_name(request), httponly=True, samesite="lax")
    return answer


@pages.post("/upload")
async def upload(context: Context, caller: Editor, request: Request, name: FileName) -> UploadView:
    """Stores a file whatever its hash: a browser can compute it only on encrypted connections."""
    return view_of(await receive_upload(context, request, name, None))


@pages.get("/assets/style.css")
def style() -> Response:
    """The report's style and palettes, and what these pages have of their own."""
    light, dark = (
        "".join(f"--{name}: {colour}; " for name, colour in palette.items())
        for palette in (LIGHT, DARK)
    )
    palettes = (
        f":root {{ color-scheme: light dark; {light}}}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}\n"
    )
    files = (_PAGE_STYLE, _HERE / "style.css")
    text = palettes + "".join(file.read_text(encoding="utf-8") for file in files)
    return Response(text, media_type="text/css", headers={"Cache-Control": "max-age=300"})


@pages.get("/assets/script.js")
def script() -> Response:
    """The script of all pages."""
    text = (_HERE / "script.js").read_text(encoding="utf-8")
    return Response(text, media_type="text/javascript", headers={"Cache-Control": "max-age=300"})


def _page(
    template: str, caller: Caller | None, status: int = HTTPStatus.OK, **values: Any
) -> Response:
    may_edit = caller is not None and caller.role >= Role.EDITOR
    page = _templates.get_template(template).render(
        **values, caller=caller, may_edit=may_edit, quoted=lambda text: quote(text, safe="")
    )
    return HTMLResponse(page, status, {"Content-Security-Policy": _POLICY})


def _progress(study: StudyEntry) -> tuple[int, int | None]:
    """How many trials have ended, and of how many."""
    ended = sum(study.trials[state] for state in ("complete", "pruned", "failed"))
    return ended, study.budget.trials if study.budget else None


def _own_place(place: str | None) -> str:
    """A path of ours to go to after logging in; no other site, however it is written."""
    if place is None or not place.startswith("/") or place.startswith(("//", "/\\")):
        return "/"
    return place if place.isprintable() else "/"

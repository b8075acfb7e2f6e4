"""Commands of the service: serve, dashboard and token."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn
from urllib.parse import quote

import typer

from gru_optuna.cli.console import (
    EXIT_INTERRUPTED,
    AsJson,
    Command,
    Group,
    Storage,
    StudyPlace,
    current_workspace,
    plain_errors,
    say,
)
from gru_optuna.cli.output import print_json, print_table
from gru_optuna.cli.process import begin_work
from gru_optuna.formatting import NONE
from gru_optuna.workspace import storage_url

if TYPE_CHECKING:
    from gru_optuna.service.access import AccessRules
    from gru_optuna.service.context import ServiceSettings

token_app = typer.Typer(
    name="token",
    cls=Group,
    help="Manage the tokens of the service: who may use it.",
    no_args_is_help=True,
)


AllowHost = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Another host name under which browsers may reach it."),
]
Browser = Annotated[bool, typer.Option("--open", help="Open it in a browser.")]


def dashboard(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The study to open, or its file.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="H", help="The address to listen on. Any other than loopback requires a token."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The port; 0 takes any free one. Default: 8080."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Allow the browser to change and delete studies.")
    ] = False,
    allow_host: AllowHost = None,
    browser: Browser = False,
    storage: Storage = None,
) -> None:
    """Watch studies in a browser, read-only and on this machine only.

    It serves what gru-optuna serve does, to one user: pages, reports and optuna-dashboard.

    Example: gru-optuna dashboard japanese-vowels
    """
    with plain_errors():
        from gru_optuna.service.access import rules_for_one_user
        from gru_optuna.service.context import ServiceSettings
        from gru_optuna.service.dashboard_settings import DashboardSettings

        place = StudyPlace.of(name or "", storage)
        own = DashboardSettings.read(place.workspace.dashboard_settings, host, port)
        rules = rules_for_one_user(own.host, allow_host or (), write=write)
        path = f"/study/{quote(place.load()[0].study_name, safe='')}" if name else "/"
        settings = ServiceSettings(
            url=place.url,
            workspace=place.workspace,
            artifact_dir=own.artifact_dir,
            create=False,
        )
        _serve(settings, rules, own.host, own.port, path, browser)


def serve(
    host: Annotated[
        str,
        typer.Option(
            metavar="H", help="The address to listen on. Any other than loopback requires tokens."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes any free one.")
    ] = 8080,
    allow_host: AllowHost = None,
    upload_limit: Annotated[
        float, typer.Option(min=0, metavar="GiB", help="The largest file that may be uploaded.")
    ] = 1.0,
    reserve: Annotated[
        float, typer.Option(min=0, metavar="GiB", help="What uploads leave free on the disk.")
    ] = 1.0,
    browser: Browser = False,
    storage: Storage = None,
) -> None:
    """Serve studies to a team: the API, pages, reports and optuna-dashboard.

    It trains nothing itself: start workers with gru-optuna worker, on any machine.

    Example: gru-optuna serve --port 8080
    """
    with plain_errors():
        from gru_optuna.service.access import rules_for
        from gru_optuna.service.context import ServiceSettings

        workspace = current_workspace()
        settings = ServiceSettings(
            url=storage_url(storage, workspace),
            workspace=workspace,
            most_upload_bytes=int(upload_limit * 2**30),
            reserve_bytes=int(reserve * 2**30),
        )
        _serve(settings, rules_for(host, allow_host or ()), host, port, "/", browser)


def _serve(
    settings: ServiceSettings, rules: AccessRules, host: str, port: int, path: str, browser: bool
) -> NoReturn:
    """Serves until Ctrl-C or SIGTERM, and prints the address that shows this path."""
    from gru_optuna.service.addresses import address, listen
    from gru_optuna.service.app import make_service
    from gru_optuna.service.server import serve_until_stopped

    begin_work()
    app = make_service(settings, rules)
    listening = listen(host, port)
    secret = rules.one_user and rules.one_user.secret
    url = address(listening, f"{path}?token={secret}" if secret else path)
    print(url, flush=True)
    say("Ctrl-C stops it.")
    if browser:
        import webbrowser

        webbrowser.open(url)
    serve_until_stopped(app, listening)
    say("stopped")
    sys.exit(EXIT_INTERRUPTED)


@token_app.command("create", cls=Command)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The person or program.")],
    role: Annotated[
        Literal["viewer", "editor", "administrator"],
        typer.Option(help="What it allows: to see, to submit and change, or everything."),
    ] = "viewer",
    days: Annotated[
        float | None, typer.Option(metavar="N", help="After how many days it expires.")
    ] = None,
    storage: Storage = None,
) -> None:
    """Make a token, and show it this once.

    Example: gru-optuna token create alice --role editor --days 90
    """
    with plain_errors():
        from gru_optuna.storage.database.open import open_engine, open_storage
        from gru_optuna.storage.tokens import Role, create_token

        url = storage_url(storage, current_workspace())
        open_storage(url, create=True)
        print(create_token(open_engine(url), name, Role[role.upper()], days))
        say("It is not shown again: the database holds only its SHA-256.")


@token_app.command("list", cls=Command)
def list_all(storage: Storage = None, as_json: AsJson = False) -> None:
    """List the tokens, without their secrets.

    Example: gru-optuna token list
    """
    with plain_errors():
        from gru_optuna.storage.database.open import open_engine, open_storage
        from gru_optuna.storage.tokens import list_tokens

        url = storage_url(storage, current_workspace())
        open_storage(url)
        tokens = list_tokens(open_engine(url))
        if as_json:
            print_json(
                [
                    {
                        "name": token.name,
                        "role": str(token.role),
                        "created_at": token.created_at.isoformat(timespec="seconds"),
                        "expires_at": token.expires_at
                        and token.expires_at.isoformat(timespec="seconds"),
                        "last_used_at": token.last_used_at
                        and token.last_used_at.isoformat(timespec="seconds"),
                        "has_expired": token.has_expired,
                    }
                    for token in tokens
                ]
            )
            return
        print_table(
            ("token", "role", "created", "expires", "last used"),
            [
                (
                    token.name,
                    str(token.role),
                    f"{token.created_at:%Y-%m-%d}",
                    f"{token.expires_at:%Y-%m-%d %H:%M}{', expired' if token.has_expired else ''}"
                    if token.expires_at
                    else "never",
                    f"{token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else NONE,
                )
                for token in tokens
            ],
        )


@token_app.command("revoke", cls=Command)
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The token's name.")],
    storage: Storage = None,
) -> None:
    """Revoke a token: whoever bears it is refused from now on.

    Example: gru-optuna token revoke alice
    """
    with plain_errors():
        from gru_optuna.storage.database.open import open_engine, open_storage
        from gru_optuna.storage.tokens import revoke_token

        url = storage_url(storage, current_workspace())
        open_storage(url)
        revoke_token(open_engine(url), name)
        say(f"{name} is revoked.")

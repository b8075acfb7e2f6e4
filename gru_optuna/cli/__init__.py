"""The command line: parses, calls, prints. Results to stdout, everything else to stderr."""

from __future__ import annotations

import gc
from importlib.metadata import version
from typing import Annotated

import typer

from gru_optuna.cli.console import Command, Group, plain_errors
from gru_optuna.cli.data import init, inspect_files
from gru_optuna.cli.predict import predict
from gru_optuna.cli.process import keep_files_private
from gru_optuna.cli.service import dashboard, serve, token_app
from gru_optuna.cli.storage import storage_app
from gru_optuna.cli.studies import best, report, status, studies, trials
from gru_optuna.cli.tune import tune_study, worker
from gru_optuna.cli.winner import confirm, export, forecast

app = typer.Typer(
    cls=Group,
    name="gru-optuna",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"gru-optuna {version('gru-optuna')}")
        raise typer.Exit


@app.callback()
def _options(
    print_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Bayesian hyperparameter optimization for GRU networks."""


app.command("init", cls=Command)(init)
app.command("inspect", cls=Command)(inspect_files)
app.command("tune", cls=Command)(tune_study)
app.command("worker", cls=Command)(worker)
app.command("studies", cls=Command)(studies)
app.command("status", cls=Command)(status)
app.command("best", cls=Command)(best)
app.command("trials", cls=Command)(trials)
app.command("confirm", cls=Command)(confirm)
app.command("export", cls=Command)(export)
app.command("predict", cls=Command)(predict)
app.command("forecast", cls=Command)(forecast)
app.command("report", cls=Command)(report)
app.command("dashboard", cls=Command)(dashboard)
app.command("serve", cls=Command)(serve)
app.add_typer(token_app)
app.add_typer(storage_app)


def main() -> None:
    """The entry point of ``gru-optuna``."""
    # Imports make a million objects that live to the end. While they are made, the collector
    # would walk over them again and again, which is a sixth of the start: commands that work for
    # long switch it on when they begin (`process.begin_work`). As the interpreter ends, it would
    # walk over them once more, for a second where torch is loaded: frozen, they are left alone.
    gc.disable()
    try:
        with plain_errors():
            keep_files_private()
        app()
    finally:
        gc.freeze()

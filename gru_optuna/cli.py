"""The command line: parses, calls, prints. Results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from gru_optuna.errors import GRUOptunaError, UserError
from gru_optuna.workspace import STORAGE_VARIABLE, Workspace, shown, storage_url

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from optuna.storages import BaseStorage

    from gru_optuna.report.summary import Summary, Winner
    from gru_optuna.terminal import View
    from gru_optuna.tuning import TuningResult

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="gru-optuna",
    help="Bayesian hyperparameter optimization for GRU networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The study's name.")]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help=f"Database, as sqlite:///FILE. Else {STORAGE_VARIABLE}, else the workspace's own.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command()
def tune(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study file.")],
    trials: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Trials in all, over every run.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(metavar="H", help="Hours of tuning in all, over every run.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Threads that train; else as many as pay here."),
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Trials in training; else 4 a worker.")
    ] = None,
    storage: Storage = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override the file: search.dropout=0.2"),
    ] = None,
) -> None:
    """Create a study, or go on with it, until its budget is spent.

    The same command after Ctrl-C, a crash, or with a raised budget goes on where it stopped.

    Example: gru-optuna tune studies/japanese-vowels.toml --trials 50
    """
    with _plain_errors():
        from gru_optuna import spec as study_file

        # Before torch is imported, which takes seconds: most mistakes are in the file.
        study_file.load(study, overrides or ())

        from rich.console import Console

        from gru_optuna import tuning
        from gru_optuna.terminal import make_view

        view = make_view(Console(stderr=True))
        try:
            result = tuning.tune(
                study,
                trials=trials,
                hours=hours,
                storage=storage,
                device=device,
                workers=workers,
                slots=slots,
                overrides=overrides or (),
                stop=_stop_on_signals(view),
                on_open=view.opened,
                on_event=view.happened,
            )
        finally:
            view.close()
        again = _same_command()
        if result.interrupted:
            _say(f"stopped; nothing is lost. To go on: {again}")
            sys.exit(EXIT_INTERRUPTED)
        _print_result(result, study)
        if result.best is None:
            sys.exit(EXIT_FAILED)


@app.command()
def studies(storage: Storage = None, as_json: AsJson = False) -> None:
    """List the studies in the database.

    Example: gru-optuna studies --json
    """
    with _plain_errors():
        from gru_optuna.report.summary import summarize
        from gru_optuna.search.study import load_all

        summaries = [summarize(*one) for one in load_all(_open(storage))]
        if as_json:
            _print_json([summary.line() for summary in summaries])
            return
        _print_table(
            ("study", "task", "trials", "best"),
            [
                (s.study, s.task, str(sum(s.trials.values())), _value(s.best, s.metric))
                for s in summaries
            ],
        )


@app.command()
def status(name: Name, storage: Storage = None, as_json: AsJson = False) -> None:
    """Show how far a study is.

    Example: gru-optuna status japanese-vowels
    """
    with _plain_errors():
        summary = _summary(name, storage)
        if as_json:
            _print_json(summary.status())
            return
        budget = summary.budget["trials"]
        counts = ", ".join(f"{count} {state}" for state, count in summary.trials.items() if count)
        print(f"{summary.study}: {summary.direction} {summary.metric} ({summary.task})")
        print(f"trials  {counts or 'none yet'}")
        print(f"budget  {summary.budget['claimed']} of {budget or 'unlimited'} trials begun")
        print(f"best    {_value(summary.best, summary.metric)}")


@app.command()
def best(
    name: Name,
    storage: Storage = None,
    as_json: AsJson = False,
    as_toml: Annotated[
        bool, typer.Option("--toml", help="Print it as a study file has it, to paste.")
    ] = False,
) -> None:
    """Show the best configuration of a study.

    Example: gru-optuna best japanese-vowels --toml
    """
    with _plain_errors():
        if as_json and as_toml:
            raise UserError("--json and --toml exclude each other. Give one.")
        summary = _summary(name, storage)
        if summary.best is None:
            raise UserError(f'study "{name}" has no complete trial yet.')
        if as_json:
            _print_json(summary.best.as_json())
        elif as_toml:
            print(summary.best.as_toml(), end="")
        else:
            _print_best(summary)


@app.command()
def report(
    name: Name,
    storage: Storage = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to; else dashboards/NAME.")
    ] = None,
) -> None:
    """Render a study's report: one page that opens offline, and its figures.

    Example: gru-optuna report japanese-vowels
    """
    with _plain_errors():
        from gru_optuna.report.page import render_report
        from gru_optuna.search.study import load

        study, spec = load(_open(storage), name)
        print(shown(render_report(study, spec, out or _workspace().report_folder(name))))


@app.command()
def dashboard(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The study to open.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8080,
    write: Annotated[
        bool, typer.Option("--write", help="Let the browser change and delete studies.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Serve optuna-dashboard on this machine, read-only.

    Example: gru-optuna dashboard japanese-vowels
    """
    with _plain_errors():
        from gru_optuna.dashboard import HOST, serve
        from gru_optuna.search.study import load

        backend = _open(storage)
        path = f"dashboard/studies/{load(backend, name)[0]._study_id}" if name else "dashboard/"
        with serve(backend, port, write=write) as server:
            print(f"http://{HOST}:{server.server_port}/{path}", flush=True)
            _say("Ctrl-C stops it.")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                sys.exit(EXIT_INTERRUPTED)


def main() -> None:
    """The entry point of ``gru-optuna``."""
    app()


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turns what the package raises into one message and an exit code, without a traceback."""
    import warnings

    # Optuna marks what it may still change; the lock pins what we have.
    warnings.filterwarnings("ignore", module="optuna")
    try:
        yield
    except UserError as error:
        _fail(str(error), EXIT_USAGE)
    except GRUOptunaError as error:
        _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        _fail("stopped at once. The same command goes on.", EXIT_INTERRUPTED)
    except Exception as error:
        if not type(error).__module__.startswith(("sqlalchemy", "optuna")):
            raise
        cause = getattr(error, "orig", None) or error.__cause__ or error
        _fail(
            f"the database failed: {getattr(cause, 'orig', cause)}. "
            f"What was committed is safe, and the same command goes on.",
            EXIT_FAILED,
        )


def _stop_on_signals(view: View) -> threading.Event:
    """Set by the first Ctrl-C or SIGTERM; the second one ends the process at once."""
    import threading

    stop = threading.Event()

    def on_signal(_number: int, _frame: object) -> None:
        if stop.is_set():
            view.close()
            _say("stopped at once. The same command goes on.")
            # Not an exception: compiled code in other threads would hold up its way out.
            os._exit(EXIT_INTERRUPTED)
        stop.set()
        _say("stopping after this epoch; again to stop at once")

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    return stop


def _workspace() -> Workspace:
    return Workspace.around(Path.cwd())


def _open(storage: str | None) -> BaseStorage:
    from gru_optuna.storage.database import open_storage

    return open_storage(storage_url(storage, _workspace()))


def _summary(name: str, storage: str | None) -> Summary:
    from gru_optuna.report.summary import summarize
    from gru_optuna.search.study import load

    return summarize(*load(_open(storage), name))


def _print_result(result: TuningResult, study: Path) -> None:
    summary = result.summary
    if not result.ran:
        print(f"{summary.study} is finished: all {summary.budget['trials']} trials are done")
    if summary.best is None:
        _say(f"no trial of {summary.study} came to its end; see gru-optuna status {summary.study}")
        return
    _print_best(summary)
    if result.report:
        print(f"\nreport  {shown(result.report)}")
    more = (summary.budget["claimed"] or 0) + 10
    _say(f"next    gru-optuna dashboard {summary.study}")
    _say(f"        gru-optuna tune {study} --trials {more}")


def _print_best(summary: Summary) -> None:
    winner = summary.best
    assert winner is not None
    trials = summary.trials
    ended = trials["complete"] + trials["pruned"] + trials["failed"]
    print(f"{summary.study}: {ended} trials, {trials['pruned']} pruned, {trials['failed']} failed")
    print(
        f"best validation {summary.metric} {winner.value:.4f} "
        f"(trial {winner.number}, epoch {winner.best_epoch})"
    )
    if winner.test is not None:
        print(f"test {summary.metric} {winner.test:.4f}")
    for key, value in winner.configuration().items():
        mark = "" if key in winner.params else "  (fixed)"
        print(f"  {key:<14} {_number(value)}{mark}")


def _value(winner: Winner | None, metric: str) -> str:
    if winner is None:
        return "–"
    test = f", test {winner.test:.4f}" if winner.test is not None else ""
    return f"{metric} {winner.value:.4f} (trial {winner.number}{test})"


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value).lower()


def _print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())


def _print_json(content: object) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))


def _same_command() -> str:
    import shlex

    return shlex.join(["gru-optuna", *sys.argv[1:]])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _fail(message: str, code: int) -> NoReturn:
    _say(message)
    sys.exit(code)

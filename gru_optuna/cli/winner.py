"""Commands for a study's winner: confirm, export and forecast."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gru_optuna.cli.console import (
    EXIT_INTERRUPTED,
    AsJson,
    DataFolder,
    Device,
    Name,
    OutFile,
    Slots,
    Storage,
    StudyPlace,
    Threads,
    plain_errors,
    say,
)
from gru_optuna.cli.output import print_best, print_json, print_table
from gru_optuna.cli.process import leave, stop_on_signals
from gru_optuna.errors import UserError
from gru_optuna.formatting import NONE, format_metric
from gru_optuna.report.best_text import mean_and_interval
from gru_optuna.workspace import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Event

    from gru_optuna.study.confirmation import Candidate, Decision
    from gru_optuna.tuning.confirm import Place
    from gru_optuna.worker.run import WorkerSettings


def confirm(
    name: Name,
    candidates: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="K", help="How many of the best trials to confirm. Default: 5."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, metavar="R", help="Fresh seeds for each candidate. Default: 5."),
    ] = None,
    data: DataFolder = None,
    device: Device = "auto",
    threads: Threads = None,
    slots: Slots = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Train the best trials again on fresh seeds, choose the winner, and test it once.

    tune ends with a confirmation. If it is still up to date, this command only shows it.

    Example: gru-optuna confirm japanese-vowels
    """
    with plain_errors():
        from rich.console import Console

        from gru_optuna.cli.progress import PlainView
        from gru_optuna.study.summary import summarize
        from gru_optuna.tuning.confirm import Place, confirm_study
        from gru_optuna.tuning.retrain import Abandoned
        from gru_optuna.worker.run import WorkerSettings

        at = StudyPlace.of(name, storage)
        view = PlainView(Console(stderr=True))
        stop = stop_on_signals(view)
        place = Place(at.url, data or at.data, WorkerSettings(device, threads, slots))
        try:
            study, spec, found = confirm_study(
                at.name, place, candidates, seeds, stop, view.happened
            )
        except Abandoned:
            _stopped(at_once=True)
        if stop.is_set():
            _stopped(at_once=False)
        if found is None:
            raise UserError(f'study "{at.name}" has no trained trial yet. Tune it first.')
        if as_json:
            print_json(found.as_json())
            return
        _print_candidates(found)
        print_best(summarize(study, spec))


def export(
    name: Name,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for the bundle.")],
    refit: Annotated[
        bool | None,
        typer.Option(
            help="Train on the validation rows too; forecasting: on all rows, which is the default "
            "there."
        ),
    ] = None,
    ensemble: Annotated[
        bool | None,
        typer.Option(
            "--ensemble/--single",
            help="The ensemble that the confirmation chose, or one network. Default: the "
            "ensemble; with --onnx one network.",
        ),
    ] = None,
    max_parameters: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="The best confirmed network of at most N parameters, alone. Default: the "
            "winner, of any size.",
        ),
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also write model.onnx, for other runtimes.")
    ] = False,
    data: DataFolder = None,
    device: Device = "auto",
    threads: Threads = None,
    slots: Slots = None,
    storage: Storage = None,
) -> None:
    """Write the winner to a bundle: its weights and the preprocessing of its rows.

    Example: gru-optuna export japanese-vowels --out bundles/vowels
    """
    with plain_errors():
        if max_parameters is not None and ensemble:
            raise UserError("--max-parameters chooses one network. Drop --ensemble.")
        if out.exists():
            raise UserError(f"{out} exists already. Name another folder, or remove it.")

        from gru_optuna.tuning.export import make_winner
        from gru_optuna.worker.run import WorkerSettings

        settings = WorkerSettings(device, threads, slots)
        if ensemble is None and onnx:  # other runtimes want one small file
            ensemble = False
        with _training_again(name, storage, data, settings) as (study, place, stop):
            bundle = make_winner(
                study, place, stop, refit=refit, ensemble=ensemble, max_parameters=max_parameters
            )
        if onnx:
            from gru_optuna.bundle.onnx import with_onnx

            bundle = with_onnx(bundle)
        bundle.save(out)
        print(shown(out))
        say(f"next    gru-optuna predict {shown(out)} FILE")


def forecast(
    name: Name,
    rows: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="Rows up to the present, and what is known of the steps ahead. Default: the "
            "study's own.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Steps ahead. Default: the study's horizon."),
    ] = None,
    out: OutFile = None,
    data: DataFolder = None,
    device: Device = "auto",
    threads: Threads = None,
    slots: Slots = None,
    storage: Storage = None,
) -> None:
    """Train the winner on all rows and forecast what comes after them, with intervals.

    Example: gru-optuna forecast sales --out next.csv
    """
    with plain_errors():
        from gru_optuna.bundle.output import writing
        from gru_optuna.tuning.forecast import make_forecast
        from gru_optuna.worker.run import WorkerSettings

        settings = WorkerSettings(device, threads, slots)
        with (
            _training_again(name, storage, data, settings) as (study, place, stop),
            writing(out) as writer,
        ):
            writer.write(make_forecast(study, place, stop, rows=rows, steps=steps))
        if out is not None:
            say(shown(out))


@contextmanager
def _training_again(
    name: str, storage: str | None, data: Path | None, settings: WorkerSettings
) -> Iterator[tuple[str, Place, Event]]:
    """A study's name and place, and what stops its training; a stop leaves with a message."""
    from rich.console import Console

    from gru_optuna.cli.progress import PlainView
    from gru_optuna.tuning.confirm import Place
    from gru_optuna.tuning.retrain import Abandoned

    at = StudyPlace.of(name, storage)
    stop = stop_on_signals(PlainView(Console(stderr=True)))
    try:
        yield at.name, Place(at.url, data or at.data, settings), stop
    except Abandoned:
        say("stopped; nothing was written.")
        leave(EXIT_INTERRUPTED, at_once=True)


def _stopped(*, at_once: bool) -> NoReturn:
    say("stopped; finished runs are kept. Run the same command to resume.")
    leave(EXIT_INTERRUPTED, at_once=at_once)


def _print_candidates(found: Decision) -> None:
    print_table(
        ("trial", "search", "confirmed", "95% interval", "weights", "epochs", ""),
        [_row(one, found) for one in found.candidates],
    )
    print()


def _row(one: Candidate, found: Decision) -> tuple[str, ...]:
    failed = sum(value is None for value in one.values)
    mark = f"{failed} failed" if failed else ""
    if one.number == found.winner:
        mark = "winner"
    elif one.number in found.tied:
        mark = "tied"
    elif len(one.values) < found.seeds:
        mark = f"behind after {len(one.values)} seeds"
    return (
        str(one.number),
        format_metric(one.search_value),
        *mean_and_interval(one.mean, one.interval),
        f"{one.parameters:,}",
        NONE if one.mean is None else str(one.usual_epochs),
        mark,
    )

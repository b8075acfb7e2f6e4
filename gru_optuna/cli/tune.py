"""Commands that work on a study: tune creates or resumes it, worker joins it."""

from __future__ import annotations

import re
import sys
import traceback
from dataclasses import replace
from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gru_optuna.cli.console import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Device,
    Slots,
    Storage,
    StudyPlace,
    Threads,
    current_workspace,
    plain_errors,
    say,
)
from gru_optuna.cli.output import print_best, print_json
from gru_optuna.cli.process import EXIT_CRASHED, _stop_when_stdin_ends, leave, stop_on_signals
from gru_optuna.errors import GRUOptunaError, UserError
from gru_optuna.formatting import format_duration
from gru_optuna.urls import masked, masked_url
from gru_optuna.workspace import Workspace, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event

    from gru_optuna.cli.progress import ProgressView
    from gru_optuna.launch.placement import WorkerRequest
    from gru_optuna.tuning.confirm import Role
    from gru_optuna.tuning.tune import RunStart, TuningResult
    from gru_optuna.worker.run import WorkerSettings

Checkpoints = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="Folder or s3://BUCKET/PREFIX for all workers. "
        "Default: next to a SQLite file, or in PostgreSQL.",
    ),
]
Lease = Annotated[
    float,
    typer.Option(
        min=1,
        metavar="SECONDS",
        help="Seconds without a heartbeat after which a worker counts as dead.",
    ),
]
Workers = Annotated[int, typer.Option(min=1, metavar="N", help="How many workers to start.")]
On = Annotated[
    Literal["local", "ray", "slurm", "kubernetes"],
    typer.Option(help="Where the workers run: on this machine, or placed by a cluster."),
]
CpusPerWorker = Annotated[
    int | None,
    typer.Option(min=1, metavar="C", help="CPUs for each worker, which are its threads."),
]
GpusPerWorker = Annotated[
    int | None,
    typer.Option(min=0, metavar="G", help="GPUs for each worker that a cluster places."),
]
Image = Annotated[
    str | None,
    typer.Option(metavar="IMAGE", help="With --on kubernetes: the image of the containers."),
]
Apply = Annotated[
    bool,
    typer.Option(
        "--apply",
        help="With --on kubernetes: create the job with kubectl, and follow it. Otherwise its "
        "manifest is printed.",
    ),
]


def tune_study(
    context: typer.Context,
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study file.")],
    trials: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Trials in total, over all runs.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(metavar="H", help="Hours of tuning in total, over all runs.")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, metavar="E", help="Epochs of all trials in total, over all runs."),
    ] = None,
    workers: Workers = 1,
    on: On = "local",
    cpus_per_worker: CpusPerWorker = None,
    gpus_per_worker: GpusPerWorker = None,
    image: Image = None,
    apply: Apply = False,
    device: Device = "auto",
    threads: Threads = None,
    slots: Slots = None,
    storage: Storage = None,
    checkpoints: Checkpoints = None,
    from_study: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="OTHER",
            help="Try the best trials of another study first: NAME or URL#NAME.",
        ),
    ] = None,
    lease: Lease = 30.0,
    track: Annotated[
        str | None,
        typer.Option(
            metavar="TRACKER",
            help="Tell an experiment tracker what happens: mlflow, or module:Class.",
        ),
    ] = None,
    no_confirm: Annotated[
        bool,
        typer.Option(
            "--no-confirm", help="Skip the confirmation on fresh seeds and the test rows."
        ),
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a key of the file: search.dropout=0.2. Repeatable.",
        ),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Let the workers of a service tune it, and follow. Ctrl-C detaches.",
        ),
    ] = None,
) -> None:
    """Create or resume a study, and tune until its budget is spent.

    After Ctrl-C or a crash, or with a larger budget, the same command resumes where it stopped.

    Example: gru-optuna tune studies/japanese-vowels.toml --trials 50
    """
    with plain_errors():
        from gru_optuna import study_file
        from gru_optuna.data.load import check_files

        # Before torch is imported, which takes seconds: most mistakes are in the study file.
        overrides = [*(overrides or ()), *(["confirmation.candidates=0"] if no_confirm else ())]
        check_files(study_file.load(study, overrides), study.parent)
        if service is not None:
            from gru_optuna.cli.remote_tune import tune_remotely

            _refuse_local_options(context)
            limits = {"trials": trials, "hours": hours, "epochs": epochs}
            tune_remotely(service, study, overrides, limits, _same_command())
            return

        from rich.console import Console

        from gru_optuna.cli.progress import make_view
        from gru_optuna.tuning.tune import tune

        view = make_view(Console(stderr=True))

        def opened(opening: RunStart) -> None:
            for start in opening.warm_starts:
                for line in start.lines():
                    say(line)
            for note in opening.notes:
                say(note)
            view.opened(opening)

        try:
            result = tune(
                study,
                trials=trials,
                hours=hours,
                epochs=epochs,
                storage=storage,
                device=device,
                workers=workers,
                on=on,
                cpus_per_worker=cpus_per_worker,
                gpus_per_worker=gpus_per_worker,
                image=image,
                apply=apply or on != "kubernetes",
                threads=threads,
                slots=slots,
                checkpoints=checkpoints,
                from_study=from_study,
                lease_seconds=lease,
                overrides=overrides,
                track=track,
                stop=stop_on_signals(view),
                on_open=opened,
                on_event=view.happened,
            )
        finally:
            view.close()
        again = _same_command()
        if result.manifest is not None:
            _print_manifest(result.manifest)
            return
        if result.interrupted:
            say(f"stopped; nothing is lost. To resume: {again}")
            leave(EXIT_INTERRUPTED, at_once=result.abandoned)
        _print_result(result, study, storage)
        if result.best is None:
            sys.exit(EXIT_FAILED)


def worker(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="The study's name, or its file. Default: every study."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder that data paths are relative to. Default: studies/. Without NAME, "
            "the only folder whose files it opens; default: none.",
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    slots: Slots = None,
    storage: Storage = None,
    lease: Lease = 30.0,
    workers: Workers = 1,
    on: On = "local",
    cpus_per_worker: CpusPerWorker = None,
    gpus_per_worker: GpusPerWorker = None,
    image: Image = None,
    apply: Apply = False,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", hidden=True, help="Leave when stdin ends.")
    ] = False,
    budget: Annotated[
        str | None, typer.Option(hidden=True, help="The budget of the parent, in JSON.")
    ] = None,
    confirm: Annotated[
        str | None,
        typer.Option(hidden=True, help="How to confirm the winner after the search, in JSON."),
    ] = None,
    turn: Annotated[
        float,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="Without NAME: how long it stays at a study while another one has no worker.",
        ),
    ] = 300.0,
) -> None:
    """Join a study, from this host or another, until it is complete; without NAME, every study.

    Workers may join and leave at any time; another worker resumes the trials that one leaves.
    Without NAME it also confirms, exports and predicts, and stays until it is stopped.

    Example: gru-optuna worker japanese-vowels --storage postgresql://host/studies
    """
    with plain_errors():
        from rich.console import Console

        from gru_optuna.cli.progress import PlainView
        from gru_optuna.launch.placement import WorkerRequest
        from gru_optuna.study_file import Budget
        from gru_optuna.worker.run import WorkerSettings

        place = StudyPlace.of(name or "", storage)
        view = PlainView(Console(stderr=True))
        stop = stop_on_signals(view)
        if with_parent:
            _stop_when_stdin_ends(stop)
        request = WorkerRequest(
            workers, on, cpus_per_worker, gpus_per_worker, image, apply or on != "kubernetes"
        )
        request.require_sense(place.url)
        settings = WorkerSettings(device, threads or cpus_per_worker, slots, lease)
        if not request.is_here:
            if name is not None:
                raise UserError(
                    f"worker {name} is one worker. Start several with gru-optuna tune, whose "
                    f"options --workers and --on place them."
                )
            _place_queue_workers(place, data, settings, request, stop, view)
            return
        if name is None:
            from gru_optuna.tuning.queue import QueueWorker

            each = QueueWorker(place.url, settings, stop, say, view.happened, data, turn)
            each.run()
            say("stopped; nothing is lost.")
            leave(EXIT_INTERRUPTED, at_once=each.abandoned)
        given = None if budget is None else Budget.model_validate_json(budget)
        settings = replace(settings, budget=given)
        try:
            folder = data or place.data
            abandoned = _join(place, folder, settings, stop, view, confirm, decides=not with_parent)
        except GRUOptunaError:
            raise
        except Exception:
            if not with_parent:
                raise
            # A bug: its own exit code lets the supervisor restart this worker, which it doesn't do
            # after an error of the user's.
            traceback.print_exc()
            sys.exit(EXIT_CRASHED)
        if stop.is_set():
            say("stopped; nothing is lost.")
            leave(EXIT_INTERRUPTED, at_once=abandoned)
        say(f"nothing is left to do in {place.name}")


def _join(
    place: StudyPlace,
    folder: Path,
    settings: WorkerSettings,
    stop: Event,
    view: ProgressView,
    confirm: str | None,
    *,
    decides: bool,
) -> bool:
    """Trains trials and then runs of the confirmation; returns whether an epoch was abandoned."""
    from gru_optuna.worker.run import join

    reports = Workspace.around(folder).report_folder(place.name)
    worker = join(place.name, place.url, folder, settings, stop, view.happened, reports)
    if confirm is None or stop.is_set():
        return worker.abandoned
    from gru_optuna.study_file import Confirmation
    from gru_optuna.tuning.confirm import Place
    from gru_optuna.tuning.tune import confirm_joined

    where, asked = Place(place.url, folder, settings), Confirmation.model_validate_json(confirm)
    # The parent on this machine decides. On a cluster a worker does, and the others free what they
    # got there; if that one dies, the cluster starts it again.
    role: Role = "leave" if decides else "share"
    return confirm_joined(place.name, where, stop, view.happened, asked, role)


def _refuse_local_options(context: typer.Context) -> None:
    """Refuses options that only say how this machine tunes."""
    anywhere = {"study", "trials", "hours", "epochs", "no_confirm", "overrides", "service"}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source and source.name == "COMMANDLINE" and parameter.name not in anywhere:
            raise UserError(
                f"{parameter.opts[0]} and --service exclude each other: the service's workers "
                f"have their own. Leave one of them out."
            )


def _place_queue_workers(
    place: StudyPlace,
    data: Path | None,
    settings: WorkerSettings,
    request: WorkerRequest,
    stop: Event,
    view: ProgressView,
) -> None:
    """Keeps workers of the whole queue running, or prints the manifest of their job."""
    from gru_optuna.launch.kubernetes import manifest
    from gru_optuna.launch.launchers import run_workers
    from gru_optuna.launch.placement import Placement

    placement = Placement(None, place.url, data, settings, request, place.workspace.logs)
    if not request.apply:
        _print_manifest(manifest(placement))
        return
    run_workers(placement, None, stop, view.happened)
    leave(EXIT_INTERRUPTED, at_once=False)


def _print_result(result: TuningResult, study: Path, storage: str | None) -> None:
    summary = result.summary
    if not result.ran:
        trials = summary.budget["trials"]
        done = "its budget is spent" if trials is None else f"all {trials} trials are done"
        print(f"{summary.study} is finished: {done}")
    if summary.best is None:
        say(f"{summary.study} has no result: {summary.no_result}")
        return
    print_best(summary)
    if result.confirmation_seconds and result.worked_seconds:
        took, share = (
            result.confirmation_seconds,
            result.confirmation_seconds / result.worked_seconds,
        )
        print(
            f"\ntime    {format_duration(result.worked_seconds)}, of which the confirmation took "
            f"{format_duration(took)} ({share:.0%})"
        )
    if result.report:
        print(f"\nreport  {shown(result.report)}")
    name, more = _name_here(summary.study, study), (summary.budget["claimed"] or 0) + 10
    commands = [
        ["dashboard", name],
        *([["forecast", name]] if summary.task == "forecasting" else []),
        ["export", name, "--out", f"bundles/{summary.study}"],
        ["tune", str(study), "--trials", str(more)],
    ]
    for place, command in enumerate(commands):
        given = [] if storage is None else ["--storage", storage]
        say(f"{'' if place else 'next':<8}{_shown_command([*command, *given])}")


def _print_manifest(job: dict[str, Any]) -> None:
    print_json(job)
    name = job["metadata"]["name"]
    say(
        f"This is the job {name}, which isn't created yet. Pass it to kubectl create --filename=-, "
        f"or run this command with --apply. docs/kubernetes.md says which Secret it needs."
    )


def _name_here(name: str, study: Path) -> str:
    """How commands in this folder name the study: by name, or by file in another workspace."""
    own, current = Workspace.around(study.parent).folder, current_workspace().folder
    return name if own.resolve() == current.resolve() else str(study)


def _same_command() -> str:
    return _shown_command(sys.argv[1:])


def _shown_command(arguments: Sequence[str]) -> str:
    import shlex

    return shlex.join(["gru-optuna", *map(_masked_argument, arguments)])


def _masked_argument(argument: str) -> str:
    # An argument is one URL, however many words its password has.
    url = re.fullmatch(r"(--[\w-]+=)?(.*:/.*)", argument, re.DOTALL)
    return f"{url[1] or ''}{masked_url(url[2])}" if url else masked(argument)

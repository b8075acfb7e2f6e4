"""Commands that show studies: studies, status, best, trials and report."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gru_optuna.cli.console import (
    AsJson,
    Name,
    OutFile,
    Storage,
    StudyPlace,
    open_database,
    plain_errors,
    say,
)
from gru_optuna.cli.output import (
    print_best,
    print_front,
    print_json,
    print_table,
    print_workers,
)
from gru_optuna.errors import UserError
from gru_optuna.formatting import NONE, format_list
from gru_optuna.report.best_text import shown_value
from gru_optuna.storage.optuna_private import study_id
from gru_optuna.workspace import shown

if TYPE_CHECKING:
    from gru_optuna.study.summary import Summary
    from gru_optuna.study_file import Specification


def studies(storage: Storage = None, as_json: AsJson = False) -> None:
    """List the studies in the database.

    Example: gru-optuna studies --json
    """
    with plain_errors():
        from gru_optuna.storage.trial_counts import count_trials
        from gru_optuna.study.study import load_studies
        from gru_optuna.study.summary import summarize_stored

        lines: list[dict[str, Any]] = []
        rows: list[tuple[str, ...]] = []
        for study, spec in load_studies(open_database(storage)):
            try:
                if isinstance(spec, UserError):
                    raise spec
                summary = summarize_stored(study, spec)
            except UserError as error:
                # One broken study must not hide the others.
                trials = count_trials(study)[0].total()
                line = {"study": study.study_name, "task": None, "trials": trials, "best": None}
                lines.append(line | {"error": str(error)})
                rows.append((study.study_name, NONE, str(trials), " ".join(str(error).split())))
                continue
            lines.append(summary.line())
            best = shown_value(summary.best, summary.metric)
            best += f", front of {len(summary.front)}" if summary.front else ""
            rows.append((summary.study, summary.task, str(lines[-1]["trials"]), best))
        if as_json:
            print_json(lines)
        else:
            print_table(("study", "task", "trials", "best"), rows)


def status(name: Name, storage: Storage = None, as_json: AsJson = False) -> None:
    """Show the progress of a study.

    Example: gru-optuna status japanese-vowels
    """
    with plain_errors():
        from gru_optuna.storage.workers.status import read_workers
        from gru_optuna.study.summary import summarize_stored

        place = StudyPlace.of(name, storage)
        study, spec = place.load()
        summary = summarize_stored(study, spec)
        workers = read_workers(place.url, study_id(study))
        if as_json:
            print_json(summary.status(workers))
            return
        counts = ", ".join(f"{count} {state}" for state, count in summary.trials.items() if count)
        also = "".join(f", minimize {goal}" for goal in spec.goals[1:])
        print(f"{summary.study}: {summary.direction} {summary.metric}{also} ({summary.task})")
        print(f"trials   {counts or 'none yet'}")
        print(f"budget   {_about_budget(summary, spec)}")
        print(f"best     {shown_value(summary.best, summary.metric)}")
        for sentence in summary.compared()[:1]:
            print(f"         {sentence}")
        if summary.no_result is not None:
            print(f"         {summary.no_result}")
        print_front(summary)
        print_workers(workers)


def _about_budget(summary: Summary, spec: Specification) -> str:
    """How much of the trials is used, and the other limits."""
    started, limit = summary.budget["claimed"], summary.budget["trials"]
    text = f"{started} of {limit}" if limit else f"{started}"
    text += f" trial{'' if (limit or started) == 1 else 's'} started"
    others = [f"{spec.budget.epochs:,} epochs"] if spec.budget.epochs else []
    others += [f"{spec.budget.hours:g} hours"] if spec.budget.hours else []
    return f"{text}, at most {format_list(others)}" if others else text


def best(
    name: Name,
    storage: Storage = None,
    as_json: AsJson = False,
    as_toml: Annotated[
        bool, typer.Option("--toml", help="Print it in the form of a study file.")
    ] = False,
) -> None:
    """Show the best configuration of a study.

    Example: gru-optuna best japanese-vowels --toml
    """
    with plain_errors():
        if as_json and as_toml:
            raise UserError("--json and --toml exclude each other. Give one.")
        from gru_optuna.study.summary import summarize_stored

        summary = summarize_stored(*StudyPlace.of(name, storage).load())
        if summary.best is None:
            raise UserError(f'study "{summary.study}" has no result: {summary.no_result}')
        if as_json:
            print_json(summary.best_as_json())
        elif as_toml:
            print(summary.best.as_toml(), end="")
        else:
            print_best(summary)


def trials(
    name: Name,
    storage: Storage = None,
    out: OutFile = None,
    as_json: AsJson = False,
) -> None:
    """List every trial of a study: its state, value, epochs and hyperparameters.

    Example: gru-optuna trials japanese-vowels --out trials.parquet
    """
    with plain_errors():
        if out is not None and as_json:
            raise UserError("--json prints, and --out writes a file. Give one; .jsonl is JSON.")
        from gru_optuna.report.trial_table import list_rows, trial_columns, trials_csv, trials_frame
        from gru_optuna.study.summary import summarize

        study, spec = StudyPlace.of(name, storage).load()
        winner = summarize(study, spec).best
        columns = trial_columns(list_rows(study, spec, winner.number if winner else None), spec)
        if as_json:
            rows = zip(*columns.values(), strict=True)
            print_json([dict(zip(columns, row, strict=True)) for row in rows])
        elif out is None:
            print(trials_csv(columns), end="")
        else:
            from gru_optuna.bundle.output import replacing, writing

            separators = {".csv": ",", ".tsv": "\t"}
            if (separator := separators.get(out.suffix.lower())) is not None:
                with replacing(out) as temporary:
                    temporary.write_text(trials_csv(columns, separator), encoding="utf-8")
            else:
                with writing(out) as writer:
                    writer.write(trials_frame(columns))
            say(f"{len(columns['number']):,} trials: {shown(out)}")


def report(
    name: Name,
    storage: Storage = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder to write to. Default: dashboards/NAME."),
    ] = None,
    images: Annotated[
        Literal["svg", "png"] | None,
        typer.Option(help="Also draw the figures as pictures, with the Chrome on this machine."),
    ] = None,
    pages: Annotated[
        bool, typer.Option("--pages", help="Also write each figure as a page of its own.")
    ] = False,
) -> None:
    """Render a study's report: one page that opens offline, and the figures' numbers.

    Example: gru-optuna report japanese-vowels
    """
    with plain_errors():
        from gru_optuna.report.page import render_report

        place = StudyPlace.of(name, storage)
        study, spec = place.load()
        folder = out or place.workspace.report_folder(place.name)
        print(shown(render_report(study, spec, folder, images, pages=pages)))

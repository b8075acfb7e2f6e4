"""The command that predicts with a bundle."""

from __future__ import annotations

import os
import sys
from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from typing import Annotated

import typer

from gru_optuna.cli.console import EXIT_INTERRUPTED, OutFile, plain_errors, say
from gru_optuna.cli.process import begin_work
from gru_optuna.workspace import shown


def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Rows to predict: .csv .tsv .jsonl .parquet; sequences also .npz .ts",
        ),
    ],
    out: OutFile = None,
    level: Annotated[
        list[str] | None,
        typer.Option(
            metavar="80|95",
            help="Add 80% or 95% intervals, for models that predict numbers. Repeatable.",
        ),
    ] = None,
    for_spreadsheets: Annotated[
        bool,
        typer.Option(
            "--for-spreadsheets",
            help="Put an apostrophe before texts that a spreadsheet would run as formulas.",
        ),
    ] = False,
) -> None:
    """Predict the rows of a file, in order.

    The file needs the columns that the network was trained on, by name, but not the targets.

    Example: gru-optuna predict bundles/vowels new.ts --out predictions.csv
    """
    with plain_errors():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from gru_optuna.bundle.load import load_bundle
        from gru_optuna.bundle.output import writing
        from gru_optuna.bundle.rows import read_rows

        begin_work()
        model, levels, predicted = load_bundle(bundle), level or (), 0
        model.check_levels(levels)
        console = Console(stderr=True)
        columns = (BarColumn(), TextColumn("{task.fields[rows]} rows"), TimeRemainingColumn())
        try:
            with (
                writing(out, for_spreadsheets=for_spreadsheets) as writer,
                Progress(*columns, console=console, disable=not console.is_terminal) as progress,
            ):
                bar = progress.add_task("predict", total=1.0, rows="0")
                for rows, share in read_rows(file, model.encoder):
                    writer.write(model.predict_rows(rows, levels))
                    predicted += len(rows)
                    progress.update(bar, completed=share, rows=f"{predicted:,}")
        except KeyboardInterrupt:
            say("stopped; nothing was written." if out else "stopped.")
            sys.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if out is not None:
            say(f"{predicted:,} rows predicted: {shown(out)}")

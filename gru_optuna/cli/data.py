"""Commands before a study: inspect and init."""

from __future__ import annotations

import functools
from dataclasses import asdict
from inspect import Parameter, signature
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gru_optuna.cli.console import AsJson, plain_errors, say
from gru_optuna.cli.output import print_json, print_table
from gru_optuna.errors import UserError
from gru_optuna.formatting import NONE, format_list, format_metric
from gru_optuna.inspection.roles import Roles, role_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gru_optuna.data.readers.column_formats import TableFormats
    from gru_optuna.inspection.columns import Column, Spread
    from gru_optuna.inspection.inspect import FileReport, Inspection
    from gru_optuna.inspection.time_column import Season, TimeColumn
    from gru_optuna.study_file import Task

TaskOption = Annotated[
    Literal["classification", "regression", "forecasting"] | None,
    typer.Option(help="The task. Default: inferred from the data."),
]
DecimalOption = Annotated[
    Literal[".", ","] | None,
    typer.Option(help="The decimal separator. Default: what the columns show."),
]
ThousandsOption = Annotated[
    Literal["", ".", ",", " ", "'"] | None,
    typer.Option(help="The thousands separator; '' is none. Default: what the columns show."),
]
MissingOption = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD", help="A field that stands for a missing value. Repeatable."),
]
_NAMED = 6  # values that are listed by name
_SHOWN = 24  # characters of a value
_STEPS = 2  # columns of steps that are shown, before the last one


def _takes_roles(command: Callable[..., None]) -> Callable[..., None]:
    """Replaces the parameter `roles` of a command by an option for each role.

    ``inspect`` and ``init`` take the same options, those of `Roles`.
    """
    declared = signature(command, eval_str=True)
    options = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _role_options()
    ]
    own = [parameter for parameter in declared.parameters.values() if parameter.name != "roles"]

    @functools.wraps(command)
    def called(**given: Any) -> None:
        values = {name: given.pop(name) for name in (option.name for option in options)}
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        command(**given, roles=Roles(**{k: v for k, v in (values | lists).items() if v}))

    called.__signature__ = declared.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    called.__annotations__ = {option.name: option.annotation for option in (*own, *options)}
    return called


def _role_options() -> Iterator[tuple[str, Any]]:
    """The name and the annotation of each role's option."""
    for name, about, default in role_options():
        if name in ("horizon", "season"):
            yield name, Annotated[int | None, typer.Option(min=1, metavar="N", help=about)]
        elif default is None:
            yield name, Annotated[str | None, typer.Option(metavar="COL", help=about)]
        else:
            yield name, Annotated[list[str] | None, typer.Option(metavar="COL", help=about)]


@_takes_roles
def inspect_files(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help="The training rows first, then the test rows."),
    ],
    roles: Roles,
    task: TaskOption = None,
    decimal: DecimalOption = None,
    thousands: ThousandsOption = None,
    missing: MissingOption = None,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="Fit simple models to the rows of the study that init would draft, in a few "
            "minutes at most.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Describe a data file and report what is wrong with it.

    Reads .csv .tsv .jsonl .parquet .npz .ts. Further files are compared with the first.

    Example: gru-optuna inspect reviews.csv --label sentiment
    """
    with plain_errors():
        from gru_optuna.data.readers.column_formats import TableFormats
        from gru_optuna.inspection.inspect import inspect

        formats = TableFormats(decimal, thousands, tuple(missing or ()))
        found = inspect(files, roles, task=task, formats=formats)
        if not as_json:
            _print(found)
        fitted = _fit_baselines(files[0], roles, task, formats) if baselines else None
        if as_json:
            print_json(asdict(found) | ({} if fitted is None else {"baselines": fitted}))
        elif fitted is not None:
            _print_baselines(fitted)


@_takes_roles
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The workspace: a new or empty folder.")
    ],
    roles: Roles,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draft a study for the rows of this file.")
    ] = None,
    task: TaskOption = None,
    decimal: DecimalOption = None,
    thousands: ThousandsOption = None,
    missing: MissingOption = None,
) -> None:
    """Create a workspace with a study that is ready to run.

    Without --data, it contains the demo.

    Example: gru-optuna init workspace --data reviews.csv
    """
    with plain_errors():
        from gru_optuna.data.readers.column_formats import TableFormats
        from gru_optuna.scaffold.new_workspace import make_workspace

        formats = TableFormats(decimal, thousands, tuple(missing or ()))
        made = make_workspace(folder, data, task, roles, formats)
        print(f"{made.study}: {made.about}")
        if made.choice is not None:
            print(made.choice)
        if made.sizes is not None:
            print(made.sizes)
        for finding in made.findings:
            say(f"! {finding.message}")
        study = quote(str(made.study.relative_to(folder)))
        go = f"gru-optuna tune {study}"
        say("next    " + (go if folder == Path() else f"cd {quote(str(folder))} && {go}"))


def _fit_baselines(
    file: Path, roles: Roles, task: Task | None, formats: TableFormats
) -> dict[str, Any]:
    """Fits simple models as a study that `init` drafts would, and measures them for validation."""
    from gru_optuna.baselines.background import SECONDS
    from gru_optuna.baselines.fit import Chosen, fit_all
    from gru_optuna.baselines.rows import read_raw_folds
    from gru_optuna.scaffold.draft import draft_study, read_draft

    draft = draft_study(file, task, roles, formats)
    if draft.sizes is None:
        raise UserError(f"{file} is larger than memory: no simple models are fitted to it.")
    spec = read_draft(draft.toml, draft.files)
    folds = read_raw_folds(spec, file.absolute().parent)
    results = list(fit_all(spec, folds, SECONDS))
    models = [each for each in results if isinstance(each, Chosen)]
    models.sort(key=lambda model: spec.as_loss(model.validation))
    return {
        "metric": spec.metric,
        "rows": len(folds[0].train),
        "of": folds[0].of,
        "validation_rows": len(folds[0].validation),
        "models": [
            {
                "name": model.name,
                "settings": model.settings,
                "validation": model.validation,
                "seconds": round(model.seconds, 3),
            }
            for model in models
        ],
        "left_out": [asdict(each) for each in results if not isinstance(each, Chosen)],
    }


def _print_baselines(fitted: dict[str, Any]) -> None:
    drawn = f" of {fitted['of']:,}" if fitted["rows"] < fitted["of"] else ""
    print(
        f"\nsimple models, fitted to {fitted['rows']:,}{drawn} training rows and chosen on "
        f"{fitted['validation_rows']:,} validation rows"
    )
    print_table(
        ("model", f"validation {fitted['metric']}", "seconds"),
        [
            (model["name"], format_metric(model["validation"]), f"{model['seconds']:.1f}")
            for model in fitted["models"]
        ],
    )
    for each in fitted["left_out"]:
        print(f"left out: {each['family']} ({each['reason']})")


def _print(inspection: Inspection) -> None:
    for report in inspection.files:
        print(f"{report.file}: {report.rows:,} {'rows' if report.columns else 'sequences'}")
        if report.share < 1:
            print(f"{report.looked_at} The findings below are about these rows only.")
        if report.columns:
            roles = inspection.guess.roles
            # The steps of whole sequences are hundreds of columns that are all alike.
            more = roles.features[_STEPS:-1] if roles.steps else ()
            print_table(
                ("column", "kind", "missing", "distinct", "values"),
                [_cells(column) for column in report.columns if column.name not in more],
            )
            if more:
                print(f"and {len(more):,} more steps, {more[0]} to {more[-1]}")
        for name, line in _lines(report):
            print(f"{name:<8}{line}")
        print()
    for finding in inspection.findings:
        where = "" if len(inspection.files) == 1 else f"{finding.file}: "
        print(f"! {where}{finding.message}")
    if inspection.findings:
        print()
    guess = inspection.guess
    print(f"task    {guess.task or 'none'}: {guess.reason}")
    if guess.choice is not None:
        print(guess.choice)


def _cells(column: Column) -> tuple[str, ...]:
    missing = f"{column.missing:,}" if column.missing else NONE
    return (column.name or '""', column.kind, missing, f"{column.distinct:,}", _values(column))


def _values(column: Column) -> str:
    counted = column.whole and 0 < len(column.values) <= _NAMED
    if column.kind == "number" and column.numbers is not None and not counted:
        return _spread(column.numbers)
    if column.kind == "text" and column.words is not None and column.characters is not None:
        scripts = ", ".join(f"{name} {share:.0%}" for name, share in (column.scripts or {}).items())
        return f"{_spread(column.words)} words, {_spread(column.characters)} characters, {scripts}"
    return _counts(column.values)


def _lines(report: FileReport) -> Iterator[tuple[str, str]]:
    if report.lengths is not None:
        channels = f"{report.channels} channel{'' if report.channels == 1 else 's'}"
        yield "lengths", f"{_spread(report.lengths)} steps, {channels}"
        if report.classes is not None:
            yield "classes", _counts(report.classes)
    if report.clock is not None:
        yield "time", _clock(report.clock)
        clock = report.clock
        seasons = [*clock.seasons, *([clock.cycle] if clock.cycle is not None else [])]
        if seasons:
            yield "seasons", ", ".join(map(_season, seasons))


def _season(season: Season) -> str:
    error = f", error {season.error:.2f} σ" if season.error is not None else ""
    return f"{season.steps} steps ({season.name}{error})"


def _clock(clock: TimeColumn) -> str:
    step = f"every {clock.step}" if clock.step else "no regular step"
    several = f", {clock.series:,} series" if clock.series > 1 else ""
    return f"{clock.column}: {clock.first} … {clock.last}, {step}{several}"


def _counts(values: dict[str, int]) -> str:
    counted = (f"{_cut(name)} {count:,}" for name, count in values.items())
    return format_list(counted, most=_NAMED, last=", ")


def _cut(value: str) -> str:
    line = " ".join(value.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _spread(spread: Spread) -> str:
    """The least, the median and the greatest value."""
    return " … ".join(f"{value:,.6g}" for value in (spread.low, spread.median, spread.high))

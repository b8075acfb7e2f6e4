"""Drafts a study file from data: commented, checked as `tune` checks it, and ready to run.

A few plain rules choose the values from the data, and comments in the file give the reasons.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from gru_optuna import study_file
from gru_optuna.data.readers.column_formats import FOUND_OUT, TableFormats
from gru_optuna.data.readers.in_parts import read_head
from gru_optuna.data.readers.npz import holds_test_rows
from gru_optuna.data.readers.sequence_files import SEQUENCES
from gru_optuna.data.series.categories import MOST_CATEGORIES
from gru_optuna.data.series.joined_tables import holds_categories
from gru_optuna.errors import DataError, TooFewRows
from gru_optuna.formatting import visible
from gru_optuna.inspection import findings
from gru_optuna.inspection.findings import UNBALANCED, DataFinding
from gru_optuna.inspection.inspect import Inspection, inspect
from gru_optuna.inspection.role_words import name_speaks
from gru_optuna.inspection.roles import NO_ROLES, Roles
from gru_optuna.inspection.scripts import without_spaces
from gru_optuna.inspection.time_column import usual_reach
from gru_optuna.search.default_sizes import MINUTES, TRIALS, DefaultSizes, choose_default_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.data.readers.in_memory import Source
    from gru_optuna.data.readers.tables import Table
    from gru_optuna.inspection.columns import Column, Spread
    from gru_optuna.inspection.inspect import FileReport
    from gru_optuna.inspection.time_column import TimeColumn
    from gru_optuna.study_file import Specification, Task

_UNNAMED = "No line names the columns, so they are called column_1, column_2, and so on. "
_TEST, _VALIDATION, _VALIDATION_IN_TIME = 0.2, 0.2, 0.1
_LONG_TEXT = 64  # if texts without spaces have more characters, bpe shortens them
_CHARACTERS_PER_PIECE = 1.6  # bpe: characters in a piece
_LONGEST_TEXT = 256  # tokens; most texts say what matters early
_MOST_COVARIATES = 16
_CALENDAR_CHANNELS = 7  # the target included
_SHORT_ROW = 8  # steps; a shorter row has hardly any shape
_FEWEST_STEPS, _MOST_STEPS = 16, 256  # of a row in patches
_LEAST_PATCH = 4  # of a spectrum: with shorter ones it has too few frequencies to tell apart
_FIRST_CUT = 1 / 8  # of the epochs: earlier, the fastest learners lead, not the best
_YEARS = 3.0  # two of them for training: a year seen once can't be told from a trend
_FEW_ROWS = 30  # of validation or test: values on fewer say little
_FOLDS, _FEWEST_FOLDS = 5, 3  # so that each of few rows is validated once
_FEW_HORIZONS = 3  # the same for series: windows overlap, so each horizon of steps counts once
_SHORT_SERIES = 500  # steps; one stretch of validation says little of a shorter series
_FIRST_RESIDUALS = 3
_ORIGINS = 3  # stretches of validation in its place
# Each was the best of some data set and bad on another (see the benchmarks' log).
_FIRST_VIEWS: tuple[dict[str, Any], ...] = (
    {"normalize": "row_stats", "differences": 1, "pooling": "mean_max", "bidirectional": True},
    {"normalize": "channel", "differences": 0, "pooling": "mean", "bidirectional": True},
    {"normalize": "row", "differences": 1, "pooling": "mean_max", "bidirectional": False},
)
_SPECTRA = {"normalize": "row_stats", "spectrum": True, "pooling": "mean_max"}


@dataclass(frozen=True)
class PartSizes:
    """How many rows each part of a study has; windows for series."""

    training: int
    validation: int
    test: int
    horizon: int | None  # of windows, which overlap
    folds: int = 1  # stretches of validation

    @property
    def summary(self) -> str:
        """The sizes in a line."""
        what = "rows" if self.horizon is None else "windows"
        training = f"{self.training:,} {what} for training"
        validation = f"{self.validation:,} for validation"
        if self.folds > 1:
            validation += f" in {self.folds} folds"
        return f"{training}, {validation}, {self.test:,} for the test"

    def few(self, file: str) -> Iterator[DataFinding]:
        """Says which parts are too small to measure anything."""
        parts = (("validation", self.validation, self.folds), ("test", self.test, 1))
        for name, rows, stretches in parts:
            if self.horizon is None and 0 < rows < _FEW_ROWS:
                message = f"the {name} part has {rows} rows, so its values are mostly chance"
                once = name == "validation" and stretches == 1
                advice = f"add rows{', or use folds = 5' if once else ''}"
                yield DataFinding("few", file, f"{message}: {advice}")
            elif self.horizon is not None and rows:
                steps = rows + stretches * (self.horizon - 1)
                if steps < max(_FEW_HORIZONS * self.horizon, _FEW_ROWS):
                    message = (
                        f"the {name} part has {rows} windows, which overlap in {steps} steps, so "
                        f"its values are mostly chance: add rows, or shorten the horizon"
                    )
                    yield DataFinding("few", file, message)


@dataclass(frozen=True)
class Draft:
    """A study file, and what it was made from."""

    name: str
    toml: str
    files: tuple[Path, ...]  # the files that it names as data/NAME
    inspection: Inspection
    sizes: PartSizes | None  # None: the file is larger than memory; a finding says what was checked


def draft_study(
    path: Path,
    task: Task | None = None,
    roles: Roles = NO_ROLES,
    formats: TableFormats = FOUND_OUT,
    test: Path | None = None,
) -> Draft:
    """Drafts a commented study file for data; it names them as ``data/NAME``.

    The draft is checked as `tune` checks it: the data are read, split and prepared. A series that
    is too short for the usual horizon, window and season gets smaller ones.

    Parameters
    ----------
    path
        The training rows.
    task
        What to learn; None: guessed.
    roles
        The roles of columns that are known; the others are guessed.
    formats
        What is known about how the columns are written. Symbols such as ``?`` that stand among the
        numbers of a column are read as missing values, which the draft says.
    test
        The test rows; None: a file that is named so, or some of the rows. Series are split by time.

    Raises
    ------
    DataError
        If there is nothing to learn from the data, or they can't be used as they are.
    """
    inspection = inspect([path], roles, task=task, formats=formats)
    seen = inspection.files[0]
    table = read_head(path, formats.undecided())[0] if seen.columns else None
    markers = findings.markers_for_missing(table, seen.columns) if table is not None else []
    if markers:
        formats = replace(formats, missing_values=(*formats.missing_values, *markers))
        inspection = inspect([path], roles, task=task, formats=formats)
        seen, table = inspection.files[0], read_head(path, formats.undecided())[0]
    _refuse_unusable(inspection, task)
    others = () if inspection.guess.rows == "series" else (test,) if test else _test_beside(path)
    files = (path, *others)
    name = re.sub(r"[^\w.-]+", "-", path.stem.lower())[:30].strip("-_.") or "study"
    too_few: TooFewRows | None = None
    for values in _values(files, inspection, table):
        toml = _render(
            values,
            file=path.name,
            name=name,
            train=f"data/{path.name}",
            reason=inspection.guess.reason,
            looked_at=seen.looked_at if seen.share < 1 else None,
            roles=inspection.guess.roles,
            rows=inspection.guess.rows,
            formats=formats,
            sentinels=(
                findings.far_numbers(table, seen.columns, inspection.guess.roles)
                if table is not None
                else {}
            ),
        )
        if seen.share < 1:
            assert table is not None
            about = _check_sample(toml, files, table, inspection.files[0])
            found = replace(inspection, findings=(*inspection.findings, about))
            return Draft(name, toml, files, found, None)
        try:
            return Draft(name, toml, files, inspection, _check(toml, files))
        except TooFewRows as error:
            too_few = error
    clock = seen.clock
    if clock is not None and clock.series == 1 and roles.horizon is None:
        raise DataError(
            f"{path}: {clock.steps} steps are too few for training and testing. Add rows."
        )
    raise DataError(f"{too_few} Or leave the series out.")


def _values(
    files: tuple[Path, ...], inspection: Inspection, table: Table | None
) -> Iterator[dict[str, Any]]:
    """What the template needs besides the roles; for series, with shorter and shorter reaches."""
    match inspection.guess.rows:
        case "texts":
            assert table is not None
            yield _texts(table, files, inspection)
        case "sequences":
            yield _sequences(files, inspection)
        case _:
            assert table is not None
            yield from _series(table, inspection)


def _render(values: dict[str, Any], **common: object) -> str:
    environment = Environment(
        loader=PackageLoader("gru_optuna.scaffold", "."),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 (no HTML)
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Names of files and columns may hold anything, but a comment ends with its line. In
        # strings the escapes mean the same.
        finalize=lambda value: visible(value, keep="") if isinstance(value, str) else value,
    )
    environment.filters["toml"] = _toml
    defaults: DefaultSizes = values["defaults"]
    minutes = max(1, round(defaults.minutes))
    return environment.get_template("study.toml.jinja").render(
        common | values,
        trials=TRIALS,
        minutes=minutes,
        first_cut=max(1, round(_FIRST_CUT * defaults.epochs)),
        tries=[_usual(defaults) | table for table in values["tries"]],
        too_long=defaults.minutes > MINUTES + 1,
    )


def _usual(defaults: DefaultSizes) -> dict[str, Any]:
    """What usually trains well, whatever the rows."""
    size = defaults.sizes[len(defaults.sizes) // 2]
    return {"hidden_size": size, "learning_rate": 3e-3, "decay": "cosine", "dropout": 0.1}


def _check(toml: str, files: tuple[Path, ...], rows: Sequence[Table] = ()) -> PartSizes:
    """Reads and prepares the data exactly as `tune` does, or some rows of each file.

    Raises
    ------
    DataError
        If `tune` would refuse them.
    """
    from gru_optuna.data.load import load_folds  # torch: refusals before this are quick

    spec = read_draft(toml, files)
    source: Source = files[0].absolute().parent
    if rows:
        source = {str(file.absolute()): table for file, table in zip(files, rows, strict=True)}
    folds: list[Dataset] = load_folds(spec, source)
    return PartSizes(
        len(folds[0].train),
        sum(len(fold.validation) for fold in folds),
        len(folds[0].test or ()),
        spec.data.horizon,
        len(folds),
    )


def _check_sample(
    toml: str, files: tuple[Path, ...], head: Table, report: FileReport
) -> DataFinding:
    """Checks a draft for files larger than memory on the rows that were read, and says so.

    Rows that come later may be of other classes or series, so a refusal isn't certain.
    """
    looked_at = report.looked_at.removesuffix(".")
    if report.every > 1:
        # The rows from all over a file of texts would be in memory next to those at its beginning.
        message = f"{looked_at}; tune checks the study when it reads all rows"
        return DataFinding("few", report.file, message)
    try:
        others = [read_head(file, head.formats.undecided())[0] for file in files[1:]]
        _check(toml, files, [head, *others])
    except DataError as error:
        checked = f"tune would refuse the study for them: {error}".removesuffix(".")
    else:
        checked = "the study was checked with them; tune checks it with all rows"
    return DataFinding("few", report.file, f"{looked_at}; {checked}")


def read_draft(toml: str, files: tuple[Path, ...]) -> Specification:
    """The specification of a draft whose files are where they are now."""
    content = tomllib.loads(toml)
    for key, file in zip(("train", "test"), files, strict=False):
        content["data"][key] = str(file.absolute())
    return study_file.parse(content, source=str(files[0]))


def _refuse_unusable(inspection: Inspection, task: Task | None) -> None:
    (report,), guess = inspection.files, inspection.guess
    blocked = next((f for f in inspection.findings if f.blocks and f.about == "header"), None)
    if blocked is not None:
        raise DataError(f"{report.file}: {blocked.message}.")
    if guess.undecided:
        raise DataError(f"{report.file}: {guess.reason}.")
    if guess.rows is None:
        without_names = any(column.name == "column_1" for column in report.columns)
        raise DataError(
            f"{report.file}: {guess.reason}. {_UNNAMED if without_names else ''}Name the task with "
            f"--task, and the columns with --text, --label, --target, --time, --series or --id."
        )
    if task is not None and guess.task != task:
        raise DataError(
            f"{report.file}: {guess.reason}: that is {guess.task}, not {task}. Remove --task."
        )
    roles = guess.roles
    used = {roles.text, roles.label, roles.target, *roles.times, roles.id, roles.series, None}
    if guess.rows == "sequences":
        used |= set(roles.features)
    for finding in inspection.findings:
        if finding.blocks and finding.column in used:
            raise DataError(f"{report.file}: {finding.message}.")


def _test_beside(path: Path) -> Iterator[Path]:
    """The file of test rows, if files are named …train… and …test… and have the same columns.

    An ``.npz`` file may hold its own test rows.
    """
    if path.suffix.lower() == ".npz" and holds_test_rows(path):
        yield path
        return
    for train, test in (("train", "test"), ("TRAIN", "TEST"), ("Train", "Test")):
        other = path.with_name(path.name.replace(train, test))
        if train in path.name and other.is_file():
            if path.suffix.lower() in SEQUENCES or _same_columns(path, other):
                yield other
            return


def _same_columns(path: Path, other: Path) -> bool:
    try:
        return read_head(other)[0].names == read_head(path)[0].names
    except DataError:
        return False


def _texts(table: Table, files: tuple[Path, ...], inspection: Inspection) -> dict[str, Any]:
    report, roles = inspection.files[0], inspection.guess.roles
    column = next(column for column in report.columns if column.name == roles.text)
    tokenizer, tokens, why = _tokens(table, column)
    longest = min(_LONGEST_TEXT, max(8, 8 * int(np.ceil(np.quantile(tokens, 0.98) / 8))))
    labelled = _labelled(inspection, _all(report.rows, report), files)
    return {
        **labelled,
        # Batches are padded to their longest row, so most steps count as if texts were long.
        "defaults": choose_default_sizes(
            "texts", labelled["trained"], int(min(longest, np.quantile(tokens, 0.9))), channels=None
        ),
        "tokenizer": tokenizer,
        "about_tokenizer": why,
        "vocabulary": _vocabulary(tokenizer, tokens),
        "max_tokens": longest,
        "cut": f"{float((tokens > longest).mean()):.0%}",
        "groups": [
            column.name
            for column in report.columns
            if name_speaks(column.name, "group") and column.distinct > 20
        ],
        "tries": [
            {"pooling": "mean_max", "embedding_initializer": start, "word_dropout": 0.1}
            for start in ("ppmi", "uniform")
        ],
    }


def _sequences(files: tuple[Path, ...], inspection: Inspection) -> dict[str, Any]:
    report = inspection.files[0]
    assert report.lengths is not None
    sequences = sum(report.classes.values()) if report.classes else report.rows
    labelled = _labelled(inspection, _all(sequences, report), files)
    # Only rows that are still running are computed at a step, so the usual length counts.
    lengths, channels = report.lengths, report.channels or 1
    steps = int((lengths.low + 2 * lengths.median + lengths.high) / 4)
    patches = _patches(report.lengths)
    patch = patches[len(patches) // 2]
    viewed = report.lengths.median >= _SHORT_ROW
    spectra = viewed and patches[-1] >= _LEAST_PATCH
    return {
        **labelled,
        "viewed": viewed,
        "patches": patches,
        "spectra": spectra,
        "defaults": choose_default_sizes(
            "sequences",
            labelled["trained"],
            -(-steps // patch),
            channels * patch * (2 if viewed else 1),
        ),
        "groups": [
            column.name
            for column in report.columns
            if inspection.guess.roles.steps
            and name_speaks(column.name, "group")
            and 2 < column.distinct <= report.rows / 2
        ],
        "tries": [
            *([_try_view(_SPECTRA, patches[-1:])] if spectra else []),
            *(_try_view(view, patches) for view in _FIRST_VIEWS if viewed),
            {"pooling": "mean_max", "bidirectional": True, "jitter": 0.0},
        ][: len(_FIRST_VIEWS) + spectra],
    }


def _try_view(view: dict[str, Any], patches: list[int]) -> dict[str, Any]:
    return view | {"jitter": 0.0} | ({"patch": patches[0]} if patches != [1] else {})


def _patches(lengths: Spread) -> list[int]:
    """How many steps are read as one: usual rows keep enough steps, and long ones aren't slow."""
    long = [size for size in (1, 2, 4, 8, 16) if lengths.high <= _MOST_STEPS * size] or [16]
    return [size for size in long if lengths.median >= _FEWEST_STEPS * size][:3] or long[:1]


def _residuals(season: int, clock: TimeColumn) -> list[str]:
    """What forecasts may be measured from."""
    # Without a season, "season" is the last value.
    seasonal = ["season", "level", "drift"] if season > 1 else ["drift"]
    return [*seasonal, "last", "none", *(["yearly"] if clock.years >= _YEARS else [])]


def _labelled(inspection: Inspection, rows: int, files: tuple[Path, ...]) -> dict[str, Any]:
    """The task and its parts, where each row has a label or a target."""
    classes = inspection.files[0].classes
    left = int(rows * (1.0 if len(files) > 1 else 1 - _TEST))
    training = int(left * (1 - _VALIDATION))
    folds = None if inspection.guess.roles.group else _folds(left, rows, classes or {})
    balanced = False
    if not classes:
        task, metric, about = "regression", "rmse", "or mae, r2"
    elif max(classes.values()) < UNBALANCED * min(classes.values()):
        task, metric, about = "classification", "accuracy", "or macro_f1, log_loss, roc_auc"
    else:
        task, balanced = "classification", True
        metric = "balanced_accuracy" if len(classes) == 2 else "macro_f1"
        about = "the classes are unbalanced, which accuracy hides"
    return {
        "task": task,
        "metric": metric,
        "about_metric": about,
        "balanced": balanced,
        "test": f"data/{files[1].name}" if len(files) > 1 else _TEST,
        "validation": _VALIDATION,
        "folds": folds,
        "trained": training * (folds or 1),  # rows an epoch, of all folds
        "batch_sizes": _batch_sizes(training),
    }


def _folds(left: int, rows: int, classes: Mapping[str, int]) -> int | None:
    """The number of folds, where a validation part would be so small that it says little."""
    if left * _VALIDATION >= _FEW_ROWS:
        return None
    # The rarest class has a row in each fold.
    rarest = min(classes.values(), default=left) * left // rows
    folds = min(_FOLDS, rarest)
    return folds if folds >= _FEWEST_FOLDS else None


@dataclass(frozen=True)
class _Reach:
    """How far forecasts reach, in steps."""

    horizon: int
    window: int
    season: int  # 1: none


def _series(table: Table, inspection: Inspection) -> Iterator[dict[str, Any]]:
    report, roles = inspection.files[0], inspection.guess.roles
    clock = report.clock
    if clock is None:
        raise DataError(
            f"{report.file}: {', '.join(roles.times)} can't be read as times. Write them as "
            f"2024-12-31."
        )
    mistaken = {column.name for column in report.columns if column.mistake}
    categorical = [
        column
        for column in report.columns
        if column.kind == "category"
        and column.name not in (roles.series, roles.target, *roles.times)
        and holds_categories([table], column.name)
    ]
    given = {*roles.covariates, *roles.known}
    numeric = [name for name in roles.features if name not in mistaken]
    names = [*numeric, *(column.name for column in categorical)]
    named = [name for name in names if name not in given][:_MOST_COVARIATES]
    # A column with gaps may be empty in all training rows, and then the study wouldn't run.
    with_gaps = {column.name for column in categorical if column.missing}
    ahead = [name for name in named if name_speaks(name, "known")]
    known = [*roles.known, *(name for name in ahead if name not in with_gaps)]
    widths = {column.name: min(column.distinct, MOST_CATEGORIES + 1) for column in categorical}
    channels = sum(widths.get(name, 1) for name in (*roles.covariates, *known))
    for reach in _reaches(clock, roles):
        test, validation, folds = _parts(reach, clock)
        kept = test + validation * (folds or 1)
        rows = _all(max(1, clock.steps - kept - reach.window) * clock.series, report)
        residuals = _residuals(reach.season, clock)
        # If only the beginning was read, the number of rows is unknown, so parts are fractions.
        several = clock.series > 1 or report.share < 1
        drafted = {
            "task": "forecasting",
            "metric": "mae",
            "about_metric": "in the target's units; or rmse, mase, smape",
            "several": several,
            "test": _TEST if several else test,
            "folds": None if several else folds,
            "clock": clock,
            "reach": reach,
            "residuals": residuals,
            "positive": _is_positive(report, roles.target),
            "covariates": [name for name in named if name not in ahead],
            "known": known,
            "ahead": [*roles.known, *ahead],
            "texts": [
                column.name
                for column in report.columns
                if column.kind == "text" and column.name not in given
            ],
            "defaults": choose_default_sizes(
                "windows", rows * (folds or 1), reach.window, 1 + channels + _CALENDAR_CHANNELS
            ),
            "batch_sizes": _batch_sizes(rows),
            "tries": [
                {"residual": residual, "normalize": "channel", "differences": 0}
                for residual in residuals[:_FIRST_RESIDUALS]
            ],
        }
        # The shortest of several series may have too few rows in the smaller part.
        shares = (_share(reach.horizon, clock), _VALIDATION) if several else (validation,)
        yield from (drafted | {"validation": share} for share in dict.fromkeys(shares))


def _reaches(clock: TimeColumn, roles: Roles) -> Iterator[_Reach]:
    """The usual horizon, window and season, then smaller ones, and finally those without a season.

    What the user gives stays.
    """
    horizon, window = usual_reach(clock.step)
    while clock.steps < 4 * (horizon + window) and horizon > 1:
        horizon, window = horizon // 2, max(2, window // 2)
    fixed = roles.horizon
    for season in dict.fromkeys((roles.season or clock.season or 1, roles.season or 1)):
        reach = _Reach(horizon, window, season)
        if fixed is not None:
            reach = _Reach(fixed, max(window, 2 * fixed), season)
        yield reach
        least = max(2, fixed or 1)
        while reach.window > least or (fixed is None and reach.horizon > 1):
            shorter = reach.horizon if fixed is not None else max(1, reach.horizon // 2)
            reach = _Reach(shorter, max(least, reach.window // 2), season)
            yield reach


def _parts(reach: _Reach, clock: TimeColumn) -> tuple[int, int, int | None]:
    """Rows of the test and the validation, enough to measure something, and the number of folds."""
    test, validation = round(_TEST * clock.steps), round(_VALIDATION_IN_TIME * clock.steps)
    test, validation = max(reach.horizon, test), max(reach.horizon, validation)
    left = clock.steps - test - _ORIGINS * validation
    if clock.steps <= _SHORT_SERIES and left >= 2 * (reach.window + reach.horizon):
        return test, validation, _ORIGINS
    enough = min(_FEW_HORIZONS * reach.horizon, round(_VALIDATION * clock.steps))
    return test, max(validation, enough), None


def _share(horizon: int, clock: TimeColumn) -> float:
    rows = round(_VALIDATION_IN_TIME * (1 - _TEST) * clock.steps)
    return _VALIDATION if rows < _FEW_HORIZONS * horizon else _VALIDATION_IN_TIME


def _is_positive(report: FileReport, target: str | None) -> bool:
    """Whether all values of the target have logarithms."""
    column = next((column for column in report.columns if column.name == target), None)
    return column is not None and column.numbers is not None and column.numbers.low > 0


def _all(rows: int, report: FileReport) -> int:
    """The number of rows in the whole file, if the rest is like what was read."""
    return round(rows / report.share)


def _tokens(table: Table, column: Column) -> tuple[str, NDArray[np.float64], str]:
    """The tokenizer that suits the script, the number of tokens of each text, and the reason."""
    texts = table.strings(column.name).drop_nulls()
    characters = texts.str.len_chars().to_numpy().astype(np.float64)
    scripts = column.scripts or {}
    if not without_spaces(scripts):
        words = texts.str.count_matches(r"\w+|[^\w\s]").to_numpy()
        if np.median(words) > 1:
            return "word", words.astype(np.float64), "words that are frequent in the training rows"
        why = "each text is one word"
    else:
        why = f"{next(iter(scripts))} has no spaces between words"
    if np.median(characters) <= _LONG_TEXT:
        return "char", characters, f"{why}, and the texts are short"
    return "bpe", characters / _CHARACTERS_PER_PIECE, why


def _vocabulary(tokenizer: str, tokens: NDArray[np.float64]) -> int:
    if tokenizer == "char":
        return 4000
    # A token then occurs a dozen times or more on average, though most occur less often.
    times = 40 if tokenizer == "bpe" else 12
    return int(min(8000, max(1000, round(float(tokens.sum()) / times, -3))))


def _batch_sizes(rows: int) -> list[int]:
    sizes = [size for size in (16, 32, 64, 128, 256) if rows / 200 <= size <= rows / 6][:3]
    return sizes or ([8, 16] if rows < 1000 else [128, 256])


def _toml(value: bool | float | str | list[str] | tuple[str, ...]) -> str:
    """A value in TOML; JSON has the same escapes."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)

"""Drafts a study file from data: commented, and ready to run.

A few plain rules choose the values from the data, and comments in the file give the reasons.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.readers.in_parts import read_head
from gru_optuna.data.readers.npz import holds_test_rows
from gru_optuna.data.readers.sequence_files import SEQUENCES
from gru_optuna.data.series.categories import MOST_CATEGORIES
from gru_optuna.data.series.joined_tables import holds_categories
from gru_optuna.errors import DataError
from gru_optuna.inspection.findings import UNBALANCED
from gru_optuna.inspection.inspect import Inspection, inspect
from gru_optuna.inspection.role_words import name_speaks
from gru_optuna.inspection.roles import NO_ROLES, Roles
from gru_optuna.inspection.scripts import without_spaces
from gru_optuna.search.default_sizes import MINUTES, TRIALS, DefaultSizes, choose_default_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from gru_optuna.data.readers.tables import Table
    from gru_optuna.inspection.columns import Column
    from gru_optuna.inspection.inspect import FileReport
    from gru_optuna.study_file import Task

_TEST, _VALIDATION, _VALIDATION_IN_TIME = 0.2, 0.2, 0.1
_LONG_SIGNS = 64  # if texts without spaces have more characters, bpe shortens them
_PIECES_A_WORD, _SIGNS_A_PIECE = 1.4, 1.6  # bpe: pieces in a word, characters in a piece
_LONGEST_TEXT = 128  # tokens; most texts say what matters early
_MOST_COVARIATES = 16
_CALENDAR_CHANNELS = 7  # the target included
_STEPS_AHEAD = {
    "minute": (60, 120), "hour": (24, 48), "day": (7, 28), "week": (8, 26), "month": (12, 24),
    "quarter": (4, 8), "year": (3, 6),
}  # fmt: skip
"""Horizon and window for steps of one unit."""

_VALUES_LISTS_RANGES = (
    "# One value fixes a hyperparameter, a list gives choices, a table is a range."
)


@dataclass(frozen=True)
class Draft:
    """A study file, and what it was made from."""

    name: str
    toml: str
    files: tuple[Path, ...]  # the files that it names as data/NAME
    inspection: Inspection


def draft_study(path: Path, task: Task | None = None, roles: Roles = NO_ROLES) -> str:
    """Drafts a commented study file for data, as TOML; it names them as ``data/NAME``.

    Raises
    ------
    DataError
        If there is nothing to learn from the data, or they can't be used as they are.
    """
    return draft(path, task, roles).toml


def draft(path: Path, task: Task | None = None, roles: Roles = NO_ROLES) -> Draft:
    """Drafts like `draft_study`, and returns what was found in the data too."""
    inspection = inspect([path], roles, task=task)
    _refuse_unusable(inspection, task)
    files = (path, *_test_beside(path)) if inspection.guess.rows != "series" else (path,)
    name = re.sub(r"[^\w.-]+", "-", path.stem.lower())[:30].strip("-_.") or "study"
    drafts = {"texts": _texts, "sequences": _sequences, "series": _series}
    seen = inspection.files[0]
    lines = [
        "#:schema ./study.schema.json",
        f"# Drafted from {path.name}: {inspection.guess.reason}.",
        *([] if seen.share == 1 else [f"# {seen.looked_at}"]),
        "# Change any line. Keys that are left out have defaults.",
        f"name = {_quoted(name)}",
        *drafts[inspection.guess.rows or "texts"](files, inspection),
    ]
    return Draft(name, "\n".join(lines) + "\n", files, inspection)


def _refuse_unusable(inspection: Inspection, task: Task | None) -> None:
    (report,), guess = inspection.files, inspection.guess
    if guess.undecided:
        raise DataError(f"{report.file}: {guess.reason}.")
    if guess.rows is None:
        raise DataError(
            f"{report.file}: {guess.reason}. Name the task with --task, and the columns with "
            f"--text, --label, --target, --time, --series or --id."
        )
    if task is not None and guess.task != task:
        raise DataError(
            f"{report.file}: {guess.reason}: that is {guess.task}, not {task}. Remove --task."
        )
    roles = guess.roles
    used = {roles.text, roles.label, roles.target, roles.time, roles.id, roles.series, None}
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


def _texts(files: tuple[Path, ...], inspection: Inspection) -> list[str]:
    report, roles = inspection.files[0], inspection.guess.roles
    column = next(column for column in report.columns if column.name == roles.text)
    tokenizer, tokens, why = _tokens(read_head(files[0])[0], column)
    longest = min(_LONGEST_TEXT, max(8, 8 * int(np.ceil(np.quantile(tokens, 0.98) / 8))))
    rows = _training_rows(_all(report.rows, report), files)
    # Batches are padded to their longest row, so most steps count as if texts were long.
    defaults = choose_default_sizes(
        rows, int(min(longest, np.quantile(tokens, 0.9))), channels=None
    )
    cut = float((tokens > longest).mean())
    top, target = _target(inspection)
    groups = [
        column.name
        for column in report.columns
        if name_speaks(column.name, "group") and column.distinct > 20
    ]
    return [
        *top,
        *_data(files),
        f"text = {_quoted(roles.text)}",
        *target,
        *_group(roles, groups),
        f'tokenizer = "{tokenizer}" # {why}',
        f"vocabulary = {_vocabulary(tokenizer, tokens)} # at most; the most frequent tokens",
        f"max_tokens = {longest} # {cut:.0%} of the texts are longer and get cut",
        "deduplicate = true # keep equal texts once",
        "",
        _VALUES_LISTS_RANGES,
        "[model]",
        f"embedding_size = {defaults.sizes}",
        f"hidden_size = {defaults.sizes}",
        'pooling = ["last", "mean"]',
        "",
        *_search(rows),
        "token_deletion = { low = 0.0, high = 0.2 } # share of tokens, drawn afresh each epoch",
        "# token_insertion, token_swap: likewise; 0 if left out",
        "",
        *_end(defaults),
    ]


def _sequences(files: tuple[Path, ...], inspection: Inspection) -> list[str]:
    report, roles = inspection.files[0], inspection.guess.roles
    assert report.lengths is not None
    sequences = sum(report.classes.values()) if report.classes else report.rows
    rows = _training_rows(_all(sequences, report), files)
    defaults = choose_default_sizes(rows, int(report.lengths.high), report.channels or 1)
    top, target = _target(inspection)
    long_form = []
    if roles.id is not None:
        long_form = [
            f"id = {_quoted(roles.id)} # of the sequence; one row for each step",
            *([f"time = {_quoted(roles.time)}"] if roles.time else []),
            f"features = {_listed(roles.features)}",
        ]
    return [
        *top,
        *_data(files),
        *long_form,
        *target,
        *_group(roles, []),
        "",
        _VALUES_LISTS_RANGES,
        "[model]",
        f"hidden_size = {defaults.sizes}",
        "bidirectional = [false, true]",
        'pooling = ["last", "mean"]',
        "",
        *_search(rows),
        "jitter = { low = 0.0, high = 0.3 } # noise in standard deviations, training rows only",
        "# scaling, time_masking: likewise; 0 if left out",
        "",
        *_end(defaults),
    ]


def _series(files: tuple[Path, ...], inspection: Inspection) -> list[str]:
    report, roles = inspection.files[0], inspection.guess.roles
    clock = report.clock
    if clock is None:
        raise DataError(
            f'{report.file}: column "{roles.time}" can\'t be read as times. Write them as '
            f"2024-12-31."
        )
    season = roles.season or clock.season
    horizon, window = _reach(clock.step, season, clock.steps)
    if roles.horizon is not None:
        horizon, window = roles.horizon, max(window, 2 * roles.horizon)
    # If only the beginning was read, the number of rows is unknown, so the parts are fractions.
    several = clock.series > 1 or report.share < 1
    test = max(horizon, round(_TEST * clock.steps))
    validation = max(horizon, round(_VALIDATION_IN_TIME * clock.steps))
    left = clock.steps - test - validation
    if left < window + 2 * horizon:
        raise DataError(
            f"{report.file}: {clock.steps} steps are too few for training and testing. Add rows."
        )
    mistaken = {column.name for column in report.columns if column.mistake}
    table, _ = read_head(files[0])
    categorical = [
        column
        for column in report.columns
        if column.kind == "category"
        and column.name not in (roles.series, roles.target, roles.time)
        and holds_categories([table], column.name)
    ]
    numeric = [name for name in roles.features if name not in mistaken]
    named = [*numeric, *(column.name for column in categorical)][:_MOST_COVARIATES]
    given = {*roles.covariates, *roles.known}
    named = [name for name in named if name not in given]
    # A column with gaps may be empty in all training rows, and then the study wouldn't run.
    with_gaps = {column.name for column in categorical if column.missing}
    ahead = [name for name in named if name_speaks(name, "known")]
    known = [*roles.known, *(name for name in ahead if name not in with_gaps)]
    known_so_far = [name for name in named if name not in ahead]
    texts = [
        column.name
        for column in report.columns
        if column.kind == "text" and column.name not in given
    ]
    rows = _all((left - window) * clock.series, report)
    widths = {column.name: min(column.distinct, MOST_CATEGORIES + 1) for column in categorical}
    channels = sum(widths.get(name, 1) for name in (*roles.covariates, *known))
    defaults = choose_default_sizes(rows, window, 1 + channels + _CALENDAR_CHANNELS)
    every = f", every {clock.step}" if clock.step else ""
    return [
        *_top("forecasting", "mae", "in the target's units; or rmse, mase, smape"),
        "[data]",
        f"train = {_quoted(f'data/{files[0].name}')}",
        f"test = {_TEST if several else test} # the last "
        f"{'part of each series' if several else 'rows'}; used once, for the winner",
        f"validation = {_VALIDATION_IN_TIME if several else validation} # before those; compares "
        f"trials",
        f"time = {_quoted(roles.time)} # {clock.first} … {clock.last}{every}",
        f"target = {_quoted(roles.target)}",
        *([f"series = {_quoted(roles.series)} # {clock.series} series"] if roles.series else []),
        # The past of other columns often says little about the target's future, and a network
        # learns from it what held for one season only. On the traffic data it did harm.
        *([f"covariates = {_listed(roles.covariates)}"] if roles.covariates else []),
        *(
            [f"# covariates = {_listed(known_so_far)} # known up to now; try them"]
            if known_so_far
            else []
        ),
        f"known = {_listed(known)} # known for the steps to forecast, too",
        *(
            [f"# known = {_listed(ahead)} # where a field is empty, no category is set"]
            if known != ahead
            else []
        ),
        *([f"# left out because they hold texts: {', '.join(texts)}"] if texts else []),
        f"horizon = {horizon} # steps to forecast, all at once",
        f"window = {window} # steps that a forecast reads",
        f"season = {season or 1} # steps; of the naive forecast to beat"
        + ("" if season else "; no season was found"),
        "gap = 0 # rows left out between the parts",
        'missing = "interpolate" # or drop, refuse',
        "calendar = true # hour, weekday and day of the year as channels",
        "",
        _VALUES_LISTS_RANGES,
        "[model]",
        f"hidden_size = {defaults.sizes}",
        "",
        *_search(rows),
        "# jitter, scaling, time_masking: noise in training; 0 if left out",
        "",
        *_end(defaults),
    ]


def _group(roles: Roles, candidates: list[str]) -> list[str]:
    about = "keeps equal values in one part"
    if roles.group is not None:
        return [f"group = {_quoted(roles.group)} # {about}"]
    return [f"# group = {_quoted(name)} # {about}" for name in candidates]


def _all(rows: int, report: FileReport) -> int:
    """The number of rows in the whole file, if the rest is like what was read."""
    return round(rows / report.share)


def _training_rows(rows: int, files: tuple[Path, ...]) -> int:
    return int(rows * (1.0 if len(files) > 1 else 1 - _TEST) * (1 - _VALIDATION))


def _top(task: str, metric: str, about_metric: str) -> list[str]:
    return [f'task = "{task}"', f'metric = "{metric}" # {about_metric}', "seed = 0", ""]


def _data(files: tuple[Path, ...]) -> list[str]:
    once = "used once, for the winner"
    given = f"{_quoted(f'data/{files[1].name}')} # {once}" if len(files) > 1 else None
    return [
        "[data]",
        f"train = {_quoted(f'data/{files[0].name}')}",
        f"test = {given or f'{_TEST} # of the rows; {once}'}",
        f"validation = {_VALIDATION} # of the rest; compares trials",
    ]


def _target(inspection: Inspection) -> tuple[list[str], list[str]]:
    """The lines at the top, and those of ``[data]`` about the label or target."""
    classes, roles = inspection.files[0].classes, inspection.guess.roles
    if not classes:
        target = [f"target = {_quoted(roles.target)}"] if roles.target else []
        return _top("regression", "rmse", "or mae, r2"), target
    label = [f"label = {_quoted(roles.label)}"] if roles.label else []
    if max(classes.values()) < UNBALANCED * min(classes.values()):
        return _top("classification", "accuracy", "or macro_f1, log_loss, roc_auc"), label
    metric = "balanced_accuracy" if len(classes) == 2 else "macro_f1"
    weights = 'class_weights = "balanced" # rare classes count as much as frequent ones'
    return (
        _top("classification", metric, "the classes are unbalanced, which accuracy hides"),
        [*label, weights],
    )


def _tokens(table: Table, column: Column) -> tuple[str, NDArray[np.float64], str]:
    """The tokenizer that suits the script, the number of tokens of each text, and the reason."""
    texts = table.strings(column.name).drop_nulls()
    signs = texts.str.len_chars().to_numpy().astype(np.float64)
    scripts = column.scripts or {}
    if not without_spaces(scripts):
        words = texts.str.count_matches(r"\w+|[^\w\s]").to_numpy()
        return "bpe", words * _PIECES_A_WORD, "pieces of words, learned from the training rows"
    script = next(iter(scripts))
    if np.median(signs) <= _LONG_SIGNS:
        return "char", signs, f"{script} has no spaces between words, and the texts are short"
    return "bpe", signs / _SIGNS_A_PIECE, f"{script} has no spaces between words"


def _vocabulary(tokenizer: str, tokens: NDArray[np.float64]) -> int:
    if tokenizer == "char":
        return 4000
    # So that each token occurs a few dozen times on average.
    return int(min(8000, max(1000, round(float(tokens.sum()) / 40, -3))))


def _reach(step: str | None, season: int | None, steps: int) -> tuple[int, int]:
    """Horizon and window, in steps, for a series of `steps`."""
    count, _, unit = (step or "").partition(" ")
    horizon, window = _STEPS_AHEAD.get(unit.removesuffix("s"), (12, 24))
    if count not in ("", "1") and season:
        horizon, window = season, 2 * season
    while steps < 4 * (horizon + window) and horizon > 1:
        horizon, window = horizon // 2, max(2, window // 2)
    return horizon, window


def _search(rows: int) -> list[str]:
    batch_sizes = [size for size in (16, 32, 64, 128, 256) if rows / 200 <= size <= rows / 6][:3]
    return [
        "[search]",
        "learning_rate = { low = 5e-4, high = 2e-2, log = true }",
        'optimizer = "adam"',
        'decay = ["constant", "exponential", "cosine"]',
        "clip_norm = { low = 0.3, high = 5.0, log = true }",
        'initializer = ["xavier_uniform", "orthogonal"]',
        "l1 = 0",
        "l2 = { low = 1e-8, high = 1e-4, log = true }",
        "dropout = { low = 0.0, high = 0.5 }",
        f"batch_size = {batch_sizes or ([8, 16] if rows < 1000 else [128, 256])}",
    ]


def _end(defaults: DefaultSizes) -> list[str]:
    minutes = max(1, round(defaults.minutes))
    return [
        "[training]",
        f"epochs = {defaults.epochs} # at most",
        "patience = 5 # epochs without improvement before a trial stops",
        "",
        "[budget]",
        f"trials = {TRIALS} # about {minutes} minute{'s' if minutes > 1 else ''} on two cores; "
        f"raise it at any time",
        *(["# hours = 0.08 # to stop by time"] if defaults.minutes > MINUTES + 1 else []),
    ]


def _quoted(text: str | None) -> str:
    """A TOML string; JSON has the same escapes."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return f"[{', '.join(_quoted(name) for name in names)}]"

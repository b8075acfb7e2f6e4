"""A guess at what a table is for: the task and the role of each column, with the reason.

Names decide where they can ("label", "Verbrauch", "日期"), and otherwise what the columns hold.
What the user gives takes precedence over both. Where nothing speaks for one of several columns,
none is guessed.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gru_optuna.data.readers.calendar_names import month_of, weekday_of
from gru_optuna.data.readers.column_formats import PLAIN
from gru_optuna.data.readers.numbers import parse_numbers
from gru_optuna.data.readers.time_columns import part_of
from gru_optuna.data.readers.wide_format import numbered_columns
from gru_optuna.data.series.frequency import Frequency
from gru_optuna.errors import DataError
from gru_optuna.formatting import format_list
from gru_optuna.inspection.role_words import name_ends_with, name_speaks
from gru_optuna.inspection.roles import NO_ROLES, Roles
from gru_optuna.inspection.time_column import combined_times, counts_steps, is_decimal_year

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gru_optuna.data.readers.tables import Table
    from gru_optuna.inspection.columns import Column
    from gru_optuna.inspection.role_words import Subject
    from gru_optuna.study_file import Kind, Task

_ROWS_PER_CLASS = 5
_MANY_NUMBERS = 50  # whole numbers with more values are classes only if their name says so
_WIDE = 4  # columns whose names are times: the table has one for each month or year
_NAMED = 12  # columns in a message
_STEPS = 12  # columns with one name and a number: the table may have one for each step
_NEARLY_ALL = 0.8  # of the columns of numbers are steps where any are
_COMPARED_ROWS, _COMPARED_STEPS = 2000, 512
_ALIKE, _MORE_ALIKE = 0.3, 1.3  # correlation of neighbouring steps, and how much above others'
_SMOOTH = 0.8  # correlation that features in no order hardly have
_SHORT = 4  # columns in a message that says more
_LOOKED_AT = 50  # rows
_AXES = 3
_AXIS = re.compile(r"(?i)(?<![^\W_])[xyz](?![^\W_])")
_FASTTEXT = "__label__"
_SIGN = re.compile(r"[^\w\s.,;:+'\"/()-]|\x01")  # that may separate fields
_SHOWN = 40  # characters of a field
_UNREAD = 2  # columns in a message, with the reasons why they aren't read
_PARTS_OF_TIMES: tuple[Subject, ...] = ("time", "date", "calendar")
_OF_ANY_ROWS = re.compile("(?i)index|idx|order|position")  # pandas writes an index to any table
_MOSTLY = 0.9  # of the sequences have one target: the others are mistakes
_RUN = 3  # rows of each run on average
_UNEVEN = 0.01  # of the usual step: what rounding makes of even ones
_FEWEST_STEPS, _REGULAR = 10, 0.9  # before a column is taken to number the steps of series
_TIME_IN_NAME = re.compile(
    r"^[XY]?(19|20)\d\d([-_/. ]?(0?[1-9]|1[0-2]|Q[1-4])([-_/. ]?\d{1,2})?)?$"
    r"|^(\d{1,2}[-_/. ]){1,2}(19|20)?\d\d$|^Q[1-4]([-_/. ]?(19|20)?\d\d)?$"
    r"|^\d{1,2}:\d\d(:\d\d)?$",
    re.IGNORECASE,
)  # of a column: 2024, X2024, 2024-01, 2024Q1, 01/2024, Q1 24


@dataclass(frozen=True)
class Guess:
    """What the rows are, what can be predicted for them, and why."""

    task: Task | None
    rows: Kind | None
    reason: str
    roles: Roles = NO_ROLES
    alternatives: tuple[str, ...] = ()  # other columns that could be predicted, likeliest first
    undecided: bool = False  # whether the user must decide; the reason says what

    @property
    def role(self) -> str:
        """The role of the column to predict."""
        return "label" if self.task == "classification" else "target"

    @property
    def choice(self) -> str | None:
        """The column to predict, and the others that could be: ``target: mw (also possible: …)``.

        None where no column was chosen, or no other is possible.
        """
        chosen = self.roles.label or self.roles.target
        if chosen is None or not self.alternatives:
            return None
        others = format_list(self.alternatives, most=_NAMED, last=", ")
        return f"{self.role}: {chosen} (also possible: {others})"


def guess_task(
    table: Table, columns: tuple[Column, ...], given: Roles = NO_ROLES, task: Task | None = None
) -> Guess:
    """Guesses what a table is for.

    Parameters
    ----------
    table, columns
        The rows, and what their columns hold.
    given
        The roles that the user gives.
    task
        The task that the user gives.

    Raises
    ------
    DataError
        If a column that the user names isn't there, or roles exclude each other.
    """
    # A column without a name, as R and pandas write it, numbers or names the rows, or holds times.
    columns = tuple(column for column in columns if column.name or column.kind == "time")
    given = given.checked([column.name for column in columns], table.source)
    kinds = given.kinds()
    guesses = _Guesses(table, {column.name: column for column in columns}, given)
    if (fault := guesses.as_one_column()) is not None:
        return fault
    if task != "classification" and (wide := guesses.as_wide()) is not None:
        return wide
    if "sequences" in kinds and (whole := guesses.as_whole_sequences(task)) is not None:
        return whole
    attempts = {
        "texts": guesses.as_texts, "sequences": guesses.as_sequences, "series": guesses.as_series,
    }  # fmt: skip
    order = reversed(attempts) if task == "forecasting" else iter(attempts)
    for kind in order:
        guess = attempts[kind](task) if kind in kinds else None
        if guess is not None and (task is None or guess.task == task):
            return guess
    what = f"no data for {task}" if task else guesses.lacking()
    held = format_list(
        [f"{column.name} ({column.kind})" for column in columns], most=_NAMED, last=", "
    )
    unread = "".join(islice(guesses.unread(), _UNREAD))
    if not unread and not any(column.kind in ("time", "text") for column in columns):
        unread = (
            ". A GRU reads words or steps in their order: if the rows are in the order of time, "
            "number them in a column called step; for rows that stand alone, take a model of "
            "tables, such as scikit-learn's HistGradientBoosting"
        )
    return Guess(task, None, f"{what}; the columns are {held}{unread}", given)


def owners_of(table: Table, series: str | None) -> NDArray[np.int64]:
    """The number of the series that each row (N,) belongs to; 0 without a column of series."""
    if series is None:
        return np.zeros(len(table), dtype=np.int64)
    ranks = table.strings(series).str.strip_chars().fill_null("").rank("dense").to_numpy()
    return ranks.astype(np.int64) - 1


@dataclass(frozen=True)
class _Choice:
    """The column that is taken for a role, and those that it could be too."""

    name: str | None
    others: tuple[str, ...] = ()

    @property
    def undecided(self) -> bool:
        return self.name is None and bool(self.others)


def _choose(
    tiers: Iterable[Sequence[Column]], subject: Subject, silent: Collection[str] = ()
) -> _Choice:
    """Chooses from the first tier that has columns: its only one, or by what their names say.

    Of columns whose names say it equally clearly, the first is taken. The `silent` names say
    nothing.
    """

    def clarity(name: str) -> int:
        return 0 if name in silent else name_speaks(name, subject)

    levels = [[column.name for column in tier] for tier in tiers]
    names = [name for level in levels for name in level]
    best = next((level for level in levels if level), [])
    # Stable: names of the same clarity stay in the order of the columns.
    by_name = sorted(best, key=lambda name: -clarity(name))
    if not best or (len(best) > 1 and not clarity(by_name[0])):
        return _Choice(None, tuple(names))
    return _Choice(by_name[0], tuple(name for name in names if name != by_name[0]))


class _Guesses:
    """Guesses at one table; each method returns a guess, or None if it doesn't fit."""

    def __init__(self, table: Table, known: dict[str, Column], given: Roles) -> None:
        self._table = table
        self._known = known
        self._given = given
        self._taken = {name for _, name in given.columns()}

    def as_one_column(self) -> Guess | None:
        """Fields that no known separator separates, as the numbers in one column show."""
        if len(self._table.names) > 1 or next(self._given.columns(), None):
            return None
        (name,) = self._table.names
        # The last rows, because the first may belong to a title.
        rows = self._table.strings(name).drop_nulls().tail(_LOOKED_AT).to_list()
        if all(row.startswith(_FASTTEXT) for row in rows):
            reason = (
                "each row begins with its label, as fastText writes it: put the labels and the "
                "texts in columns of their own"
            )
            return Guess(None, None, reason, self._given, undecided=True)
        if (sign := _separator_of([name, *rows])) is not None:
            named, pattern = f'"{sign}" seems', repr(sign)
        elif _are_columns([row.split() for row in rows]):
            named, pattern = "spaces seem", r"r'\s+'"
        else:
            return None
        reason = (
            f"{named} to separate the fields, but commas, semicolons, tabs or bars must. With "
            f"pandas: pandas.read_csv(FILE, sep={pattern}).to_csv(NEW_FILE, index=False)"
        )
        return Guess(None, None, reason, self._given, undecided=True)

    def as_wide(self) -> Guess | None:
        """Several columns of numbers whose names are times: no reader knows which is the target."""
        if self._given.target or self._given.label or self._given.text:
            return None
        numeric = self._numeric(set())
        found = [name for name in self._known if _is_time(name)]  # also those with gaps and flags
        # Columns of 0 and 1 may say which weekday or month it is.
        several = [name for name in found if self._known[name].distinct > 2]
        if len(several) < max(_WIDE, len(numeric) / 2):
            return None
        kept = [repr(name) for name in self._known if name not in found]
        return Guess(
            None,
            None,
            f"a wide table: {format_list(found, most=_NAMED, last=' and ')} are times, one column "
            f"for each. Write one row for each time instead; pandas does it with "
            f"frame.melt(id_vars=[{', '.join(kept)}], var_name='time', value_name='value')",
            self._given,
            undecided=True,
        )

    def as_whole_sequences(self, task: Task | None) -> Guess | None:
        """Wide form: one sequence a row, and many columns of numbers that are themselves numbered.

        Such columns may also be features in no order, so they are taken for steps only if
        neighbours are more alike than others are, or if the user says so.
        """
        if self._given.id or self._given.time or self._given.text:
            return None
        long = None if self._given.steps else self.as_sequences(task)
        if long is not None and long.roles.time is not None:
            return None  # many channels, and a step a row
        free = [column for column in self._known.values() if column.name not in self._taken]
        numbered = numbered_columns([c.name for c in free if self._may_be_step(c)])
        stems = self._given.steps or self._usual_stems(numbered)
        if not stems:
            return None
        channels = [numbered.get(stem, []) for stem in stems]
        target = self._target_of_rows(task, channels)
        steps = [[name for name in names if name != target.name] for names in channels]
        found = [name for names in steps for name in names]
        shown = f"{format_list(found, most=_SHORT)} look like the steps of a sequence in each row"
        roles = replace(self._given, steps=stems, features=tuple(found))
        reason = None
        if not self._given.steps:
            reason = self._no_steps(task, stems, steps)
        elif not found or len(set(map(len, steps))) > 1:
            counted = format_list(
                f'"{stem}" matches {len(names)}' for stem, names in zip(stems, steps, strict=True)
            )
            reason = (
                f"of the columns of numbers, {counted}; every channel needs steps, and all need "
                f"the same number"
            )
        if reason is None and target.undecided:
            return _undecided(task or "classification", "sequences", shown, roles, target)
        if reason is None and target.name is None:
            reason = (
                f"{shown}, but no other column holds a class or a number to predict. Name one: "
                f"--label COLUMN or --target COLUMN. {self._as_one_row_a_step(found)}"
            )
        if reason is not None or target.name is None:
            return Guess(None, None, str(reason), self._given, undecided=True)
        labelled = task != "regression" and (
            target.name == self._given.label
            or (target.name != self._given.target and self._may_be_label(self._known[target.name]))
        )
        return Guess(
            "classification" if labelled else "regression",
            "sequences",
            f'{shown}, "{target.name}" the {"class" if labelled else "number"} of each',
            replace(
                roles,
                label=target.name if labelled else None,
                target=None if labelled else target.name,
            ),
            target.others,
        )

    def _may_be_step(self, column: Column) -> bool:
        """Whether a column holds numbers, or at least nothing else."""
        if column.kind in ("id", "constant"):
            return self._table.count_numbers(column.name)[0] > 0
        return column.kind in ("number", "empty")

    def _usual_stems(self, numbered: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
        """The names, without their numbers, of which there are enough to be steps."""
        if next(self._given.columns(), None) and self._times():
            return ()  # a series, and its target was named
        most = max(map(len, numbered.values()), default=0)
        stems = tuple(stem for stem, names in numbered.items() if len(names) == most)
        names = {name for each in numbered.values() for name in each}
        enough = most * len(stems) >= _NEARLY_ALL * len(names.union(self._numeric(self._taken)))
        return stems if most >= _STEPS and enough else ()

    def _no_steps(
        self, task: Task | None, stems: Sequence[str], steps: Sequence[Sequence[str]]
    ) -> str | None:
        """Why numbered columns aren't taken for the steps of sequences; None if they are."""
        found = [name for names in steps for name in names]
        shown = format_list(found, most=_SHORT)
        time = next(iter(self._times()), None)
        if time is not None:
            return (
                f'a wide table: {shown} look like the steps within each time in "{time}". Write '
                f"one row for each step instead, as pandas does with {self._melt(found)}, and add "
                f"the step to the time. If each column is a series of its own, choose one: "
                f"--target COLUMN"
            )
        if task == "forecasting":
            return f"a wide table: {shown} look like the steps of a sequence in each row. " + (
                self._as_one_row_a_step(found)
            )
        if any(map(self._are_in_order, steps)):
            return None
        options = " ".join(f"--steps {json.dumps(stem)}" for stem in stems)
        named = any(self._known[name].kind == "id" for name in self._known if name not in found)
        return (
            f"{shown} may be the steps of a sequence in each row, but neighbouring columns are no "
            f"more alike than distant ones. If they are steps, add {options}; features in no "
            f"particular order suit a model of tables, such as scikit-learn's "
            f"HistGradientBoosting"
            f"{f'. {self._as_one_row_a_step(found)}' if named else ''}"
        )

    def _as_one_row_a_step(self, found: Sequence[str]) -> str:
        return (
            f"If each row is a series to forecast, write one row for each step instead, as pandas "
            f"does with {self._melt(found)}, and leave only the number in each step"
        )

    def _melt(self, found: Sequence[str]) -> str:
        kept = [repr(name) for name in self._known if name not in found]
        named = format_list(kept, most=_NAMED, last=", ")
        return f"frame.melt(id_vars=[{named}], var_name='step', value_name='value')"

    def _target_of_rows(self, task: Task | None, channels: Sequence[Sequence[str]]) -> _Choice:
        """The column to predict for whole sequences; without a header, the first or the last."""
        if named := self._given.label or self._given.target:
            return _Choice(named)
        (first, *_), *others = channels if channels[0] else [[""]]
        if first.startswith("column_") and not others:
            # The header is missing. Measurements seldom take a few whole numbers.
            ends = [self._known[name] for name in (channels[0][0], channels[0][-1])]
            fitting = [column.name for column in ends if self._may_be_label(column)]
            inner = [self._known[name] for name in channels[0][1:-1]]
            if len(fitting) == 1 and not any(map(self._may_be_label, inner)):
                return _Choice(fitting[0])
            return _Choice(None, tuple(fitting))
        steps = {name for names in channels for name in names}
        label = self._label_of_texts(steps | self._taken) if task != "regression" else _Choice(None)
        if label.name is not None or label.undecided:
            return label
        return self._target(steps | self._taken)

    def _are_in_order(self, names: Sequence[str]) -> bool:
        """Whether neighbouring columns are more alike than columns far apart.

        Correlations are of what is left once each column is standardized and the mean of each row
        is taken away, so that neither units nor levels make columns alike.
        """
        table = self._table.frame.head(_COMPARED_ROWS)
        values = np.column_stack(
            [self._table.known_numbers(name)[: len(table)] for name in names[:_COMPARED_STEPS]]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # columns without a value
            values = values - np.nanmean(values, axis=0)
            deviations = np.nanstd(values, axis=0)
        values = np.nan_to_num(values[:, deviations > 0] / deviations[deviations > 0])
        if values.shape[1] < _STEPS / 2:
            return False
        values -= values.mean(axis=1, keepdims=True)
        alike = np.abs(np.nan_to_num(np.corrcoef(values, rowvar=False)))
        near, far = np.diagonal(alike, 1).mean(), alike[np.triu_indices_from(alike, 2)].mean()
        return bool(near >= _ALIKE and near >= min(_MORE_ALIKE * far, _SMOOTH))

    def as_texts(self, task: Task | None) -> Guess | None:
        """A column of texts, with a class or a number for each."""
        text = self._given.text or self._longest_text()
        if text is None:
            return None
        roles, taken = replace(self._given, text=text), {text} | self._taken
        held = f'"{text}" holds texts'
        label = self._label_of_texts(taken) if task != "regression" else _Choice(None)
        if (
            label.name is None
            and self._given.text is None
            and task is None
            and self._has_regular_times()
            and self._numeric(taken)
        ):
            return None  # comments next to a series
        if label.undecided:
            return _undecided("classification", "texts", held, roles, label)
        if label.name is not None:
            return Guess(
                "classification",
                "texts",
                f'{held}, "{label.name}" the class of each, one of '
                f"{self._known[label.name].distinct}",
                replace(roles, label=label.name),
                label.others,
            )
        return self._regression_of_texts(held, roles, taken)

    def _regression_of_texts(self, held: str, roles: Roles, taken: set[str]) -> Guess | None:
        named = self._given.target or self._given.label
        target = _Choice(named) if named else self._target(taken, measured_only=True)
        if target.undecided:
            return _undecided("regression", "texts", held, roles, target)
        if target.name is None:
            return None
        reason = f'{held}, "{target.name}" a number for each'
        roles = replace(roles, target=target.name, label=None)
        return Guess("regression", "texts", reason, roles, target.others)

    def as_sequences(self, task: Task | None) -> Guess | None:
        """Long form: one row for each step, an id, and a class or number for each sequence."""
        for owner in [self._given.id] if self._given.id else self._owners():
            time = self._step_column(owner) if self._given.time is None else self._given.time
            taken = {owner} | self._taken | ({time} if isinstance(time, str) else set())
            named = self._given.label or self._given.target
            if named and not self._given.id and not self._constant_within(named, owner, _MOSTLY):
                continue
            target = _Choice(named) if named else self._constant_target(owner, taken)
            if target.name is None and not (target.undecided and self._given.id):
                continue
            roles = replace(self._given, id=owner, time=time)
            held = f'"{owner}" names the sequences'
            if target.name is None:
                return _undecided(task or "classification", "sequences", held, roles, target)
            if not (features := self._numeric(taken | {target.name})):
                continue
            if time is None and self._given.id is None and (runs := self._runs_within(owner)):
                step, run = runs
                reason = f'"{step}" starts again within a "{owner}"'
                reason += (
                    ": number what begins there in a column, and name it with --id"
                    if run is None
                    else f', and "{run}" tells apart what begins there: join {owner} and {run} in '
                    f"one column, and name it with --id"
                )
                return Guess(task, None, reason, self._given, undecided=True)
            labelled = task != "regression" and (
                target.name == self._given.label
                or (
                    target.name != self._given.target
                    and self._may_be_label(self._known[target.name])
                )
            )
            return Guess(
                "classification" if labelled else "regression",
                "sequences",
                f'{held}, "{target.name}" is the same in all rows of each',
                replace(
                    roles,
                    features=features,
                    label=target.name if labelled else None,
                    target=None if labelled else target.name,
                ),
                target.others,
            )
        return None

    def as_series(self, _task: Task | None) -> Guess | None:
        """A column of times, and a number for each."""
        time = self._given.times or self._time()
        if not time:
            return None
        taken = {*time, *self._taken}
        series = self._given.series
        if series is None:
            series = self._series(time, taken)
        taken |= {series} if series is not None else set()
        target = _Choice(self._given.target) if self._given.target else self._target(taken, series)
        if target.name is None and not target.undecided:
            return None
        roles = replace(self._given, time=time if len(time) > 1 else time[0], series=series)
        named = " and ".join(f'"{name}"' for name in time)
        held = f"{named} hold{'s' if len(time) == 1 else ''} times"
        if counts_steps(self._table, time):
            held = f"{named} numbers the steps"
        several = f', "{series}" names the series' if series is not None else ""
        if target.name is None:
            return _undecided("forecasting", "series", held, roles, target)
        return Guess(
            "forecasting",
            "series",
            f'{held}, "{target.name}" a number for each{several}',
            replace(roles, target=target.name, features=self._numeric(taken | {target.name})),
            target.others,
        )

    def _longest_text(self) -> str | None:
        texts = {
            column.name: column.characters.median
            for column in self._known.values()
            if column.kind == "text" and column.characters and column.name not in self._taken
        }
        if not texts or self._given.time or self._given.id:
            return None
        return max(texts, key=lambda name: texts[name])

    def _label_of_texts(self, taken: set[str]) -> _Choice:
        if self._given.label is not None or self._given.target is not None:
            return _Choice(self._given.label)
        columns = [column for column in self._known.values() if column.name not in taken]
        fitting = [column for column in columns if self._may_be_label(column)]
        # Among columns without a typical name, words go before numbers.
        words = [column for column in fitting if column.kind == "category"]
        others = [column for column in fitting if column.kind != "category"]
        if named := [column for column in fitting if name_speaks(column.name, "label")]:
            return _choose(
                [named, *([c for c in t if c not in named] for t in (words, others))], "label"
            )
        # A column named like labels may hold a single class; a finding then says so.
        single = [c for c in columns if c.kind == "constant" and name_speaks(c.name, "label") == 2]
        return _choose([single, words, others], "label")

    def _may_be_label(self, column: Column) -> bool:
        enough = column.distinct * _ROWS_PER_CLASS <= len(self._table) or column.distinct == 2
        if column.distinct < 2 or not enough:
            return False
        says_class = bool(name_speaks(column.name, "class"))
        if column.kind == "number":
            return column.whole and (column.distinct <= _MANY_NUMBERS or says_class)
        # Names of classes may be as long as sentences.
        return column.kind == "category" or (column.kind == "text" and says_class)

    def _target(
        self, taken: set[str], series: str | None = None, *, measured_only: bool = False
    ) -> _Choice:
        """The number to predict: 0/1 columns, parts of times, ids and constants come last."""
        measured: list[Column] = []
        binary: list[Column] = []
        labels: list[Column] = []  # parts of times, and ids
        empty: list[Column] = []  # counting columns, and those that are constant in every series
        for column in self._known.values():
            if column.name in taken or column.kind == "other":
                continue
            if column.kind != "number" and not self._table.count_numbers(column.name)[0]:
                continue
            if column.kind in ("constant", "id") or (
                series is not None and self._constant_within(column.name, series)
            ):
                empty.append(column)
            elif _names_a_row(column.name):
                labels.append(column)
            elif column.kind == "number":
                zero_one = column.distinct <= 2 and column.whole
                (binary if zero_one else measured).append(column)
        # Next to x and z, y is an axis rather than a target.
        axes = Counter(_without_axis(column.name) for column in measured)
        silent = {name for name in self._known if axes[_without_axis(name)] >= _AXES}
        tiers = (measured, binary) if measured or binary or measured_only else (labels, empty)
        return _choose(tiers, "target", silent)

    def _numeric(self, taken: set[str]) -> tuple[str, ...]:
        return tuple(
            column.name
            for column in self._known.values()
            if column.kind == "number" and column.name not in taken
        )

    def _times(self) -> list[str]:
        """The columns of times, first those without a mistake."""
        times = [
            column
            for column in self._known.values()
            if column.kind == "time" and column.name not in self._taken
        ]
        by_mistake = sorted(times, key=lambda column: (bool(column.mistake), self._counts(column)))
        return sorted([column.name for column in by_mistake], key=self._is_coarse)

    def _counts(self, column: Column) -> bool:
        """Whether times are digits, which are harder to read than a date beside them."""
        texts = self._table.strings(column.name).drop_nulls()
        return not name_speaks(column.name, "time") and bool(texts.str.contains(r"^\d+$").all())

    def _is_coarse(self, name: str) -> bool:
        """Whether another column of times says more: a date beside its year, for example."""
        others = [
            column.name
            for column in self._known.values()
            if column.kind == "time" and not column.mistake and column.name != name
        ]
        if not others or self._known[name].mistake:
            return False
        times = self._table.times(name)
        return any(
            (finer != times).any()
            and any((finer.astype(f"datetime64[{unit}]") == times).all() for unit in "YMD")
            for finer in map(self._table.times, others)
        )

    def _time(self) -> tuple[str, ...]:
        """The column of times, or the columns of their parts; none if there are no times."""
        alone = self._times()
        free = [name for name in self._known if name not in self._taken]
        days = [  # the rows of a single day
            name
            for name in free
            if self._known[name].kind == "constant" and name_speaks(name, "date")
        ]
        together = combined_times(self._table, free, [*alone, *days])
        if together is None:
            return tuple(alone[:1]) or self._counted()
        most = self._table.frame.select(together).n_unique()
        # A column that tells as many times apart is simpler, unless it holds fractions of years.
        whole = [
            name
            for name in alone
            if self._known[name].distinct >= most
            and not self._known[name].mistake
            and not is_decimal_year(self._table, name)
        ]
        return tuple(whole[:1]) or together

    def _counted(self) -> tuple[str, ...]:
        """A column that is named like times and numbers the steps, of each series if there are any.

        Such names may mean anything in other tables, so nearly all its steps must be equal.
        """
        for name, column in self._known.items():
            named = any(name_speaks(name, subject) for subject in _PARTS_OF_TIMES)
            named = named or (name_speaks(name, "step") == 2 and not _OF_ANY_ROWS.search(name))
            if not (named and column.whole) or name in self._taken:
                continue
            series = self._given.series or self._series((name,), self._taken | {name})
            try:
                times = self._table.parsed_times(name)
            except DataError:
                continue
            owners = owners_of(self._table, series)
            order = np.lexsort((times.values, owners))
            steps = np.diff(times.values[order])[np.diff(owners[order]) == 0]
            if times.counted and len(steps) >= _FEWEST_STEPS and steps.min() > np.timedelta64(0):
                _, counts = np.unique(steps, return_counts=True)
                if counts.max() >= _REGULAR * len(steps):
                    return (name,)
        return ()

    def unread(self) -> Iterator[str]:
        """Why columns aren't read as the numbers or times that they seem to hold."""
        for column in self._known.values():
            if column.kind in ("category", "id") and self._may_be_numbers(column):
                texts = self._table.strings(column.name)
                others = parse_numbers(texts, PLAIN)[1]
                row = int((others if others.any() else texts.is_not_null()).arg_max() or 0)
                if any(map(str.isdigit, texts[row])) and not re.fullmatch("[0-9]+", texts[row]):
                    shown = f'column "{column.name}" is "{texts[row][:_SHOWN]}"'
                    which = "which is neither a number nor a time in a form that is read"
                    yield f". {self._table.at(row)}: {shown}, {which}"
                    continue
            if column.mistake:
                yield f". {column.mistake}".removesuffix(".")
            elif self._is_part_of_time(column):
                yield f'. "{column.name}" is only a part of a time: add its date or its year'
            elif column.kind in ("number", "id") and (
                name_speaks(column.name, "time") == 2 or name_speaks(column.name, "date")
            ):
                try:
                    self._table.times(column.name)
                except DataError as error:
                    yield f". {error}".removesuffix(".")
                else:
                    yield (
                        f'. If "{column.name}" numbers the steps of several series, name their '
                        f"column: --series COLUMN"
                    )

            elif column.kind == "number" and self._rises_evenly(column):
                yield (
                    f'. "{column.name}" rises evenly, as times do, but only whole numbers are read '
                    f"as steps: number the rows in a column called step"
                )
            elif (again := self._restarts(column)) is not None:
                yield (
                    f'. {self._table.at(again)}: "{column.name}" starts again. If a sequence '
                    f"begins there, number the sequences in a column, and name it with --id"
                )

    def lacking(self) -> str:
        """What the columns don't have, of what a task needs."""
        kinds = {column.kind: name for name, column in self._known.items()}
        if "text" in kinds:
            return (
                f'"{kinds["text"]}" holds texts, but no column holds a class or a number for each'
            )
        if "time" in kinds and not self._numeric(set()):
            return f'"{kinds["time"]}" holds times, but no column holds a number for each'
        return "neither texts, nor sequences, nor a series in time"

    def _may_be_numbers(self, column: Column) -> bool:
        """Whether most texts of a column differ, or begin as numbers do."""
        if 2 * column.distinct > len(self._table):
            return True
        digits = self._table.strings(column.name).drop_nulls().str.contains(r"^\W?\d")
        return column.distinct > _NAMED and bool(digits.all())

    def _rises_evenly(self, column: Column) -> bool:
        steps = np.diff(self._table.known_numbers(column.name))
        usual = np.median(steps) if len(steps) else 0.0
        evenly = np.abs(steps - usual) <= _UNEVEN * usual
        return not column.whole and bool(usual > 0 and evenly.mean() >= _REGULAR)

    def _restarts(self, column: Column) -> int | None:
        """The first row in which a column that counts steps starts again, if there is one."""
        if column.kind != "number" or not column.whole or not name_speaks(column.name, "step"):
            return None
        steps = np.diff(self._table.known_numbers(column.name))
        again = np.flatnonzero(steps < 0)
        counts = len(again) and (steps == 1).sum() + len(again) == len(steps)
        return int(again[0]) + 1 if counts else None

    def _is_part_of_time(self, column: Column) -> bool:
        """Whether a column is a month or a weekday, for example, by its name and its fields."""
        if column.kind not in ("category", "number") or not name_speaks(column.name, "calendar"):
            return False
        if column.kind == "category":
            return all(
                month_of(value) or weekday_of(value) or any(map(str.isdigit, value))
                for value in column.values
            )
        return part_of(self._table.time_column(column.name)) not in ("year", "date")

    def _has_regular_times(self) -> bool:
        """Whether there is a time for each row, most of them equally far apart."""
        for name in self._times():
            try:
                times = np.sort(self._table.times(name))
            except DataError:
                continue
            steps = np.diff(times)
            if len(steps) > 1 and (steps > np.timedelta64(0)).all():
                frequency = Frequency.of([times])
                if (frequency.between([times]) == frequency.count).mean() > 0.5:
                    return True
        return False

    def _owners(self) -> list[str]:
        """Columns that may name sequences: named like ids, with several rows for each value."""
        return [
            column.name
            for column in self._known.values()
            if name_speaks(column.name, "id")
            and column.name not in self._taken
            and column.kind in ("category", "number", "id")
            and 2 <= column.distinct <= len(self._table) / 2
        ]

    def _constant_target(self, owner: str, taken: set[str]) -> _Choice:
        constant = [
            column
            for column in self._known.values()
            if column.name not in taken
            and 1 < column.distinct < self._known[owner].distinct
            and self._constant_within(column.name, owner)
        ]
        named = [column for column in constant if name_speaks(column.name, "label")]
        if any(column.kind == "time" for column in self._known.values()):
            # Series in time may have constant categories, too: where a shop is, for example.
            named = [column for column in named if name_speaks(column.name, "label") == 2]
            return _choose([named], "label")
        words = [column for column in constant if column.kind == "category"]
        return _choose([named or words or constant], "label")

    def _step_column(self, owner: str) -> str | None:
        """The column that orders the steps, by its name, or because it counts them."""
        return self._named_step(owner) or next(
            (
                column.name
                for column in self._known.values()
                if column.kind == "number" and column.whole and column.name != owner
                if (self._steps_within(column.name, owner) == 1).all()
            ),
            None,
        )

    def _runs_within(self, owner: str) -> tuple[str, str | None] | None:
        """A column that orders rows only within each value of another one, and that one if any."""
        for column in self._known.values():
            named = name_speaks(column.name, "step") or name_speaks(column.name, "time")
            if column.name == owner or not column.whole or not named:
                continue
            for other in self._known.values():
                counted = other.whole or other.kind == "category"
                if other.name in (owner, column.name) or not counted:
                    continue
                runs = self._table.frame.select(owner, other.name).n_unique()
                several = _RUN * runs <= len(self._table)
                if several and self._unique_within(column.name, owner, other.name):
                    return column.name, other.name
            if (self._steps_within(column.name, owner) < 0).any():
                return column.name, None
        return None

    def _steps_within(self, name: str, owner: str) -> pl.Series:
        """The differences between a column's numbers and those of the row before, by owner."""
        numbers = pl.col(name).cast(pl.Float64, strict=False)
        return self._table.frame.select(numbers.diff().over(owner)).to_series().drop_nulls()

    def _named_step(self, owner: str) -> str | None:
        for column in self._known.values():
            named = max(name_speaks(column.name, "step"), name_speaks(column.name, "time"))
            if column.name == owner or not (named or column.kind == "time"):
                continue
            # "position_x" may be a measurement, and "time_s" not.
            ordered = named == 2 or column.kind == "time"
            ordered = ordered or bool((self._steps_within(column.name, owner) > 0).all())
            if ordered and self._unique_within(column.name, owner):
                return column.name
        return None

    def _series(self, time: Sequence[str], taken: set[str]) -> str | None:
        """If times repeat or begin anew, the column for each of whose values they don't."""
        repeated = self._table.frame.select(time).is_duplicated().any()
        if not repeated and not self._begins_anew(time):
            return None
        for column in self._known.values():
            repeats = 2 <= column.distinct <= len(self._table) / 2
            fits = column.kind == "category" or name_speaks(column.name, "id")
            # January of each year is not a series of its own.
            free = column.name not in taken and not name_speaks(column.name, "calendar")
            fits = fits or self._is_panel(column, time)
            fits = free and repeats and fits and self._unique_within(*time, column.name)
            if fits and (repeated or self._begins_anew(time, column.name)):
                return column.name
        return None

    def _begins_anew(self, time: Sequence[str], owner: str | None = None) -> bool:
        """Whether times are out of order; or only where another block of an owner's rows begins."""
        try:
            times = pl.Series(values=self._table.times(*time))
        except DataError:
            return False
        if owner is None:
            return not (times.is_sorted() or times.is_sorted(descending=True))
        blocks = self._table.strings(owner).fill_null("").rle_id()
        back = (times.diff() < timedelta(0)).fill_null(value=False)
        return bool(blocks.max() == blocks.n_unique() - 1) and bool(
            (blocks.diff() != 0).filter(back).all()
        )

    def _is_panel(self, column: Column, time: Sequence[str]) -> bool:
        """Whether each of a column's numbers stands beside every time, in one block of rows.

        In rows that are sorted by time, such a column may number the rows of each day instead.
        """
        times = self._table.frame.select(time).n_unique()
        if not column.whole or column.distinct * times != len(self._table):
            return False
        return self._table.strings(column.name).rle_id().max() == column.distinct - 1

    def _constant_within(self, name: str, owner: str, share: float = 1.0) -> bool:
        """Whether all rows of each owner, or of this share of them, have the same value."""
        values = self._table.frame.select(owner, name).unique().group_by(owner).len()["len"]
        return bool((values == 1).mean() >= share)  # type: ignore[operator]

    def _unique_within(self, *names: str) -> bool:
        return not self._table.frame.select(names).is_duplicated().any()


def _undecided(task: Task, rows: Kind, held: str, roles: Roles, choice: _Choice) -> Guess:
    role = "label" if task == "classification" else "target"
    named = format_list(choice.others, most=_NAMED)
    reason = f"{held}, and {named} could each be the {role}. Choose one: --{role} COLUMN"
    return Guess(task, rows, reason, roles, choice.others, undecided=True)


def _names_a_row(name: str) -> bool:
    """Whether a name is that of an id or of a part of a time: "order id", but not "day's sales"."""
    if not (name_speaks(name, "calendar") or name_speaks(name, "id")):
        return False
    ends = name_ends_with(name, "calendar") or name_ends_with(name, "id")
    return ends or not name_speaks(name, "target")


def _separator_of(rows: Sequence[str]) -> str | None:
    """A sign that all rows have equally often, and that separates fields elsewhere."""
    for sign in dict.fromkeys(map(str, _SIGN.findall(rows[0]))):
        if len({row.count(sign) for row in rows}) == 1:
            return sign
    return None


def _are_columns(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows have equally many parts, two or more, with numbers in one of their places."""
    if len({len(row) for row in rows}) > 1 or len(rows[0]) < 2:
        return False
    columns = (pl.Series(values=column) for column in zip(*rows, strict=True))
    return any(parse_numbers(column, PLAIN)[0].is_not_null().all() for column in columns)


def _without_axis(name: str) -> str:
    """A name without the x, y or z that is one of its words; its own where it has none."""
    return _AXIS.sub("*", name.lower(), count=1)


def _is_time(name: str) -> bool:
    """Whether a column's name is a date, a quarter, a month or a year."""
    letters = re.sub(r"[\W\d_]+", " ", name).strip()
    named = month_of(letters) or weekday_of(letters)
    return bool(_TIME_IN_NAME.match(name.strip()) or named)

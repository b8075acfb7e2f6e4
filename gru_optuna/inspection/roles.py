"""A guess at what a table is for: the task and the role of each column, with the reason.

Names decide where they can ("label", "target", "date"), and otherwise what the columns hold. What
the user gives takes precedence over both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gru_optuna.data.readers.tables import Table
    from gru_optuna.inspection.columns import Column
    from gru_optuna.study_file import Kind, Task

_LABEL_NAMES = re.compile(
    r"^(labels?|class(es)?|category|categories|target|y|sentiment|polarity|stars?|rating|score|"
    r"emotion|intent|topic|language|lang|spam|标签|类别|分类|情感|评分)$|label|_class$",
    re.IGNORECASE,
)
_TARGET_NAMES = re.compile(
    r"(^|_| )(y|target|values?|sales|demand|load|consumption|usage|power|energy|price|close|count|"
    r"cnt|volume|traffic|passengers|visitors|visits|requests|orders|quantity|"
    r"销量|数量|价格)($|_| )",
    re.IGNORECASE,
)
_ID_NAMES = re.compile(
    r"(^|_)(id|uid|uuid|subject|sequence|seq|series|sample|session|user|patient|unit|store|item|"
    r"sensor|station|meter|person|speaker)($|_)|id$|编号",
    re.IGNORECASE,
)
_STEP_NAMES = re.compile(
    r"^(t|step|steps|tick|frame|index|idx|order|position|cycle)$|time", re.IGNORECASE
)
_MOST_CLASSES = 50
_ROWS_PER_CLASS = 5


@dataclass(frozen=True)
class Roles:
    """The column with each role; None where there is none."""

    text: str | None = None
    label: str | None = None
    target: str | None = None
    time: str | None = None
    id: str | None = None
    series: str | None = None
    features: tuple[str, ...] = ()  # the other numeric columns: channels, or covariates


@dataclass(frozen=True)
class Guess:
    """What the rows are, what can be predicted for them, and why."""

    task: Task | None
    rows: Kind | None
    reason: str
    roles: Roles = Roles()


def guess_task(
    table: Table, columns: tuple[Column, ...], given: Roles = Roles(), task: Task | None = None
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
        If a column that the user names isn't there.
    """
    known = {column.name: column for column in columns}
    for name in (given.text, given.label, given.target, given.time, given.id, given.series):
        if name is not None and name not in known:
            raise DataError(f'{table.source}: no column "{name}". {did_you_mean(name, known)}')
    guesses = _Guesses(table, known, given)
    attempts = (guesses.as_texts, guesses.as_sequences, guesses.as_series)
    for attempt in attempts[::-1] if task == "forecasting" else attempts:
        guess = attempt(task)
        if guess is not None and (task is None or guess.task == task):
            return guess
    what = f"no data for {task}" if task else "neither texts, nor sequences, nor a series in time"
    held = ", ".join(f"{column.name} ({column.kind})" for column in columns)
    return Guess(task, None, f"{what}; the columns are {held}", given)


def owners_of(table: Table, series: str | None) -> NDArray[np.int64]:
    """The number of the series that each row (N,) belongs to; 0 without a column of series."""
    if series is None:
        return np.zeros(len(table), dtype=np.int64)
    ranks = table.strings(series).fill_null("").rank("dense").to_numpy()
    return ranks.astype(np.int64) - 1


class _Guesses:
    """Guesses at one table; each method returns a guess, or None if it doesn't fit."""

    def __init__(self, table: Table, known: dict[str, Column], given: Roles) -> None:
        self._table = table
        self._known = known
        self._given = given

    def as_texts(self, task: Task | None) -> Guess | None:
        """A column of texts, with a class or a number for each."""
        text = self._given.text or self._longest_text()
        if text is None:
            return None
        roles = replace(self._given, text=text)
        label = self._given.label or (None if self._given.target else self._label({text}))
        if label is not None and task != "regression":
            return Guess(
                "classification",
                "texts",
                f'"{text}" holds texts, "{label}" the class of each, one of '
                f"{self._known[label].distinct}",
                replace(roles, label=label),
            )
        target = self._given.target or self._given.label or self._target({text})
        if target is None:
            return None
        return Guess(
            "regression",
            "texts",
            f'"{text}" holds texts, "{target}" a number for each',
            replace(roles, target=target, label=None),
        )

    def as_sequences(self, task: Task | None) -> Guess | None:
        """Long form: one row for each step, an id, and a class or number for each sequence."""
        for owner in [self._given.id] if self._given.id else self._owners():
            time = self._given.time or self._step_column(owner)
            taken = {owner} | ({time} if time else set())
            target = self._given.label or self._given.target or self._constant_target(owner, taken)
            if target is None:
                continue
            if not (features := self._numeric(taken | {target})):
                continue
            labelled = task != "regression" and (
                target == self._given.label
                or (target != self._given.target and self._may_be_label(self._known[target]))
            )
            return Guess(
                "classification" if labelled else "regression",
                "sequences",
                f'"{owner}" names the sequences, "{target}" is the same in all rows of each',
                replace(
                    self._given,
                    id=owner,
                    time=time,
                    features=features,
                    label=target if labelled else None,
                    target=None if labelled else target,
                ),
            )
        return None

    def as_series(self, _task: Task | None) -> Guess | None:
        """A column of times, and a number for each."""
        times = [column.name for column in self._known.values() if column.kind == "time"]
        time = self._given.time or next(iter(times), None)
        if time is None or self._given.text or self._given.label:
            return None
        series = self._given.series or self._series(time)
        taken = {time} | ({series} if series else set())
        target = self._given.target or self._target(taken)
        if target is None:
            return None
        several = f', "{series}" names the series' if series else ""
        return Guess(
            "forecasting",
            "series",
            f'"{time}" holds times, "{target}" a number for each{several}',
            replace(
                self._given,
                time=time,
                series=series,
                target=target,
                features=self._numeric(taken | {target}),
            ),
        )

    def _longest_text(self) -> str | None:
        texts = {
            column.name: column.characters.median
            for column in self._known.values()
            if column.kind == "text" and column.characters
        }
        if not texts or self._given.time or self._given.id:
            return None
        return max(texts, key=lambda name: texts[name])

    def _label(self, taken: set[str]) -> str | None:
        fitting = [c for c in self._known.values() if c.name not in taken and self._may_be_label(c)]
        named = [column for column in fitting if _LABEL_NAMES.search(column.name)]
        # Among columns without a typical name: words before numbers, few classes before many.
        fitting.sort(key=lambda column: (column.kind != "category", column.distinct))
        # A column named like labels may hold a single class; a finding then says that it's too few.
        named += [
            column
            for column in self._known.values()
            if column.kind == "constant" and _LABEL_NAMES.search(column.name)
        ]
        return next((column.name for column in named or fitting), None)

    def _may_be_label(self, column: Column) -> bool:
        enough = column.distinct * _ROWS_PER_CLASS <= len(self._table)
        few = 2 <= column.distinct <= _MOST_CLASSES and (enough or column.distinct == 2)
        return few and (column.kind == "category" or (column.kind == "number" and column.whole))

    def _target(self, taken: set[str]) -> str | None:
        numeric = self._numeric(taken)
        named = [name for name in numeric if _TARGET_NAMES.search(name)]
        # Without a typical name, the last column is often the target.
        return named[0] if named else (numeric[-1] if numeric else None)

    def _numeric(self, taken: set[str]) -> tuple[str, ...]:
        return tuple(
            column.name
            for column in self._known.values()
            if column.kind == "number" and column.name not in taken
        )

    def _owners(self) -> list[str]:
        """Columns that may name sequences: named like ids, with several rows for each value."""
        return [
            column.name
            for column in self._known.values()
            if _ID_NAMES.search(column.name)
            and column.kind in ("category", "number", "id")
            and 2 <= column.distinct <= len(self._table) / 2
        ]

    def _constant_target(self, owner: str, taken: set[str]) -> str | None:
        constant = [
            column
            for column in self._known.values()
            if column.name not in taken
            and 1 < column.distinct < self._known[owner].distinct
            and self._constant_within(column.name, owner)
        ]
        named = [column.name for column in constant if _LABEL_NAMES.search(column.name)]
        if named or any(column.kind == "time" for column in self._known.values()):
            # Series in time may have constant categories, too: where a shop is, for example.
            return next(iter(named), None)
        return next((column.name for column in constant if column.kind == "category"), None)

    def _step_column(self, owner: str) -> str | None:
        for column in self._known.values():
            ordered = column.kind == "time" or _STEP_NAMES.search(column.name)
            if ordered and column.name != owner and self._unique_within(column.name, owner):
                return column.name
        return None

    def _series(self, time: str) -> str | None:
        """If times repeat, the column for each of whose values they don't."""
        if self._known[time].distinct == len(self._table):
            return None
        for column in self._known.values():
            repeats = 2 <= column.distinct <= len(self._table) / 2
            fits = column.kind == "category" or _ID_NAMES.search(column.name)
            if column.name != time and repeats and fits and self._unique_within(time, column.name):
                return column.name
        return None

    def _constant_within(self, name: str, owner: str) -> bool:
        pairs = self._table.frame.select(owner, name).unique()
        return len(pairs) == self._known[owner].distinct

    def _unique_within(self, name: str, owner: str) -> bool:
        return not self._table.frame.select(owner, name).is_duplicated().any()

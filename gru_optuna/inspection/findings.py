"""What is wrong with a table, or looks too good: each as one sentence with numbers and places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from gru_optuna.data.readers.numbers import parse_numbers
from gru_optuna.data.series.categories import MOST_CATEGORIES
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gru_optuna.data.readers.tables import Table
    from gru_optuna.inspection.columns import Column
    from gru_optuna.inspection.roles import Guess, Roles
    from gru_optuna.inspection.time_column import TimeColumn


_TELLING = 0.98  # of the rows have the label that a column's value says
_ROWS_A_VALUE = 5  # on average; of fewer every value tells a label by chance
_SAME_COURSE = 0.999  # correlation


About = Literal[
    "header", "mistake", "missing", "constant", "duplicate", "conflict", "overlap", "label",
    "balance", "leak", "id", "time", "words",
]  # fmt: skip

UNBALANCED = 3.0
"""Times as many rows in the largest class as in the smallest."""

_RARE = 10  # rows of a class
_PARTS = 3  # training, validation and test need one row each
_MOSTLY_MISSING = 0.5


@dataclass(frozen=True)
class DataFinding:
    """Something to know before training."""

    about: About
    file: str
    message: str
    column: str | None = None
    blocks: bool = False  # whether nothing can be trained with that column before it is mended


def in_columns(table: Table, columns: Sequence[Column], guess: Guess) -> Iterator[DataFinding]:
    """Mistakes, columns that say nothing, and columns that say too much."""
    yield from _in_header(table)
    parts = (guess.roles.id, guess.roles.series, guess.roles.time)
    for column in columns:
        name = column.name
        if column.mistake:
            message = column.mistake.removeprefix(f"{table.source}, ").removesuffix(".")
            yield DataFinding("mistake", table.source, message, name, blocks=True)
        if column.kind == "empty":
            yield DataFinding("constant", table.source, f'column "{name}" is empty', name)
        elif column.kind == "constant":
            message = f'column "{name}" has one value: it tells nothing'
            yield DataFinding("constant", table.source, message, name)
        elif column.missing > _MOSTLY_MISSING * len(table):
            message = f'column "{name}" is missing in {column.missing:,} of {len(table):,} rows'
            yield DataFinding("missing", table.source, message, name)
        if column.kind == "id" and guess.rows in ("sequences", "series") and name not in parts:
            message = f'column "{name}" counts or names rows: no feature'
            yield DataFinding("id", table.source, message, name)
        if (
            guess.rows == "series"
            and column.kind == "category"
            and column.distinct > MOST_CATEGORIES
        ):
            message = (
                f'column "{name}" has {column.distinct:,} different words. As a covariate, '
                f"the {MOST_CATEGORIES} most frequent of the training rows get a channel each, and "
                f"the others share one"
            )
            yield DataFinding("words", table.source, message, name)
    yield from _gaps(table, columns, guess)
    for name, message in leaks(table, columns, guess.roles):
        yield DataFinding("leak", table.source, message, name)


def in_labels(table: Table, guess: Guess) -> Iterator[DataFinding]:
    """Classes that are missing, rare, or out of balance; texts that have two of them."""
    label, text, owner = guess.roles.label, guess.roles.text, guess.roles.id
    if guess.task != "classification" or label is None:
        return
    counts = count_classes(table, label, owner)
    if len(counts) < 2:
        message = f'only one class in "{label}": nothing to tell apart'
        yield DataFinding("label", table.source, message, label, blocks=True)
        return
    (most, highest), (least, lowest) = (*counts.items(),)[0], (*counts.items(),)[-1]
    if lowest < _RARE:
        rare = sum(count < _RARE for count in counts.values())
        message = (
            f"{_number(rare, 'class has', 'classes have')} fewer than {_RARE} rows, as "
            f'"{least}" ({lowest}): add rows, or drop or join such classes'
        )
        yield DataFinding("label", table.source, message, label, blocks=lowest < _PARTS)
    if highest >= UNBALANCED * lowest:
        yield DataFinding(
            "balance", table.source, about_balance(most, highest, least, lowest), label
        )
    if text is not None:
        yield from _conflicts(table, text, label)


def count_classes(table: Table, label: str, owner: str | None) -> dict[str, int]:
    """Rows of each class, or sequences where `owner` tells them apart; most frequent first."""
    labels = pl.DataFrame({"label": table.strings(label).str.strip_chars()})
    if owner is not None:
        labels = labels.with_columns(owner=table.strings(owner)).unique()
    counts = labels.drop_nulls()["label"].value_counts()
    return dict(counts.sort(["count", "label"], descending=[True, False]).rows())


def about_balance(most: str, highest: int, least: str, lowest: int) -> str:
    """What classes of very different sizes mean."""
    return (
        f'"{most}" has {highest / lowest:.0f} times the rows of "{least}": accuracy would hide '
        f"that, macro_f1 and balanced_accuracy don't"
    )


def duplicates(table: Table, guess: Guess) -> Iterator[DataFinding]:
    """Rows that stand twice in one file: in training and validation both, after a random split."""
    if guess.rows == "series":
        return
    keys = _keys(table, guess.roles.text)
    again = keys.is_not_null() & ~keys.is_first_distinct()
    if again.any():
        what = "texts" if guess.roles.text else "rows"
        message = (
            f"{int(again.sum()):,} of {len(table):,} {what} stand in the file already, the first "
            f"at {table.at(_first(again))}: keep each once, or a random split trains on its test"
        )
        yield DataFinding("duplicate", table.source, message)


def overlaps(first: Table, second: Table, guess: Guess) -> Iterator[DataFinding]:
    """Rows of one file in another, and classes that only the other has."""
    text, label = guess.roles.text, guess.roles.label
    comparable = set(first.names) == set(second.names) or text in second.names
    if guess.rows != "series" and comparable:
        known = _keys(first, text, None if text else second.names)
        found = _keys(second, text).is_in(known.implode()).fill_null(value=False)
        if found.any():
            message = (
                f"{int(found.sum()):,} of {len(second):,} {'texts' if text else 'rows'} are in "
                f"{first.path.name} too, the first at {second.at(_first(found))}"
            )
            yield DataFinding("overlap", second.source, message)
    if guess.task == "classification" and label is not None and label in second.names:
        known_labels = count_classes(first, label, None)
        for unknown in count_classes(second, label, None):
            if unknown not in known_labels:
                message = f'class "{unknown}" is not in {first.path.name}'
                yield DataFinding("label", second.source, message, label)
                return


def in_time(table: Table, clock: TimeColumn) -> Iterator[DataFinding]:
    """Times that are doubled, out of order, or missing."""
    name = clock.column
    if clock.first_doubled is not None:
        or_else = "" if clock.series > 1 else ", or name the column that tells series apart"
        message = (
            f"{_number(clock.doubled, 'row has', 'rows have')} a time that is there already, the "
            f"first at {table.at(clock.first_doubled)}: keep one of each{or_else}"
        )
        yield DataFinding("time", table.source, message, name, blocks=True)
    if clock.first_unordered is not None:
        message = (
            f"{_number(clock.unordered, 'row is', 'rows are')} earlier than the row above, the "
            f"first at {table.at(clock.first_unordered)}: sort them by {name}"
        )
        yield DataFinding("time", table.source, message, name, blocks=True)
    if clock.missing:
        message = (
            f"{_number(clock.missing, 'step', 'steps')} of {clock.step} without a row, the first "
            f"after {clock.first_gap}"
        )
        yield DataFinding("time", table.source, message, name)
    if clock.step is None and clock.steps > 2:
        yield DataFinding("time", table.source, f"no regular step in {name}", name)


def _in_header(table: Table) -> Iterator[DataFinding]:
    if "" in table.names:
        message = "one column has no name; it may be a count of rows"
        yield DataFinding("header", table.source, message, "")
    for name in table.names:
        if name.replace(".", "", 1).isdigit():
            message = (
                f'a column is called "{name}": is the first line data already? '
                f"Put a line of names above it"
            )
            yield DataFinding("header", table.source, message, name)
            return


def _gaps(table: Table, columns: Sequence[Column], guess: Guess) -> Iterator[DataFinding]:
    """Missing fields where a row needs one."""
    roles = guess.roles
    needed = {roles.text, roles.label, roles.time, roles.id, roles.series}
    if guess.rows != "series":
        needed |= {roles.target, *roles.features}  # a series can be interpolated
    for column in columns:
        if column.missing and column.name in needed:
            empty = table.column(column.name).is_null()
            first = f", the first at {table.at(_first(empty))}" if empty.any() else ""
            message = (
                f"{_number(column.missing, 'row has', 'rows have')} no "
                f'"{column.name}"{first}: fill it in, or remove them'
            )
            yield DataFinding("missing", table.source, message, column.name, blocks=True)


def _conflicts(table: Table, text: str, label: str) -> Iterator[DataFinding]:
    keys = _keys(table, text)
    pairs = pl.DataFrame({"text": keys, "label": table.strings(label)}).drop_nulls()
    said = pairs.group_by("text").agg(pl.col("label").n_unique())
    torn = said.filter(pl.col("label") > 1)["text"]
    if len(torn):
        message = (
            f"{_number(len(torn), 'text has', 'texts have')} different labels, the first at "
            f"{table.at(_first(keys.is_in(torn.implode())))}: no model can be right about them"
        )
        yield DataFinding("conflict", table.source, message, label)


def _keys(table: Table, text: str | None, names: Sequence[str] | None = None) -> pl.Series:
    """What makes rows equal (N,): the text, whatever its white space; else all columns."""
    if text is not None:
        return table.strings(text).str.replace_all(r"\s+", " ").str.strip_chars()
    columns = [table.strings(name).fill_null("") for name in names or table.names]
    return pl.DataFrame(columns).select(pl.concat_str(pl.all(), separator="\x1f")).to_series()


def _first(mask: pl.Series) -> int:
    return int(mask.arg_max() or 0)


def _number(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def leaks(table: Table, columns: Sequence[Column], roles: Roles) -> Iterator[tuple[str, str]]:
    """Such columns, each with a sentence about it."""
    taken = {roles.text, roles.label, roles.target, roles.time, roles.id, roles.series}
    for column in columns:
        if column.name in taken or column.kind not in ("category", "number"):
            continue
        if roles.label is not None and roles.label in table.names:
            share = _share_told(table, column, roles.label)
            if share >= _TELLING:
                yield (
                    column.name,
                    f'column "{column.name}" tells the label of {100 * share:.4g} % of the rows: '
                    f"known beforehand, or made from it?",
                )
        elif roles.target in table.names and column.kind == "number":
            course = _correlation(table, column.name, str(roles.target))
            if course >= _SAME_COURSE:
                yield (
                    column.name,
                    f'column "{column.name}" runs as "{roles.target}" does (correlation '
                    f"{course:.4f}): known beforehand, or made from it?",
                )


def _share_told(table: Table, column: Column, label: str) -> float:
    """How many rows have the label that most rows of their value have; 0 where it says little."""
    if not 2 <= column.distinct <= len(table) / _ROWS_A_VALUE:
        return 0.0
    pairs = pl.DataFrame({"value": table.strings(column.name), "label": table.strings(label)})
    counts = pairs.drop_nulls().group_by("value", "label").len()
    if not len(counts):
        return 0.0
    told = int(counts.group_by("value").agg(pl.col("len").max())["len"].sum())
    usual = int(counts.group_by("label").agg(pl.col("len").sum())["len"].to_numpy().max())
    return told / int(counts["len"].sum()) if told > usual else 0.0


def _correlation(table: Table, name: str, target: str) -> float:
    try:
        one, other = _numbers(table, name), _numbers(table, target)
    except DataError:
        return 0.0
    known = np.isfinite(one) & np.isfinite(other)
    if known.sum() < 3 or not one[known].std() or not other[known].std():
        return 0.0
    return abs(float(np.corrcoef(one[known], other[known])[0, 1]))


def _numbers(table: Table, name: str) -> NDArray[np.float64]:
    fields, _ = parse_numbers(table.strings(name), decimal_comma=table.decimal_comma)
    return fields.fill_null(np.nan).to_numpy()

"""What is wrong with a table, or looks too good: each in one sentence, with numbers and places."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from gru_optuna.data.readers.headers import lines_of_units
from gru_optuna.data.readers.numbers import MISSING, markers_among
from gru_optuna.data.readers.tables import is_plain
from gru_optuna.data.series.categories import MOST_CATEGORIES
from gru_optuna.errors import DataError
from gru_optuna.formatting import format_list
from gru_optuna.inspection.role_words import name_speaks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gru_optuna.data.readers.tables import Table
    from gru_optuna.inspection.columns import Column
    from gru_optuna.inspection.guess import Guess
    from gru_optuna.inspection.roles import Roles


_LEAKING_SHARE = 0.98  # of the rows whose label follows from the value of a column
_ROWS_PER_VALUE = 5  # on average; with fewer rows, any value predicts a label by chance
_LEAKING_CORRELATION = 0.999


About = Literal[
    "header", "mistake", "missing", "constant", "duplicate", "conflict", "overlap", "label",
    "balance", "leak", "id", "time", "words", "few",
]  # fmt: skip

UNBALANCED = 3.0
"""The largest class has this many times the rows of the smallest."""

_HEAD = 50  # rows in which lines of units are looked for
_RARE = 10  # a class with fewer rows is rare
_PARTS = 3  # training, validation and test need one row of a class each
_MOSTLY_MISSING = 0.5
_NULL = r"\N"  # as MySQL and PostgreSQL write it
_YES_OR_NO = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "1.0", "on"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "0.0", "off"), False),
}


@dataclass(frozen=True)
class DataFinding:
    """Something to know before training."""

    about: About
    file: str
    message: str
    column: str | None = None
    blocks: bool = False  # whether that column can't be used before this is corrected


def in_columns(table: Table, columns: Sequence[Column], guess: Guess) -> Iterator[DataFinding]:
    """Mistakes, columns without information, and columns that may leak the label."""
    yield from _in_header(table, guess)
    parts = (guess.roles.id, guess.roles.series, *guess.roles.times)
    far = far_numbers(table, columns, guess.roles)
    # A part of a time isn't a time by itself, but was read together with the others.
    together = guess.roles.times if len(guess.roles.times) > 1 else ()
    steps = set(guess.roles.features if guess.roles.steps else ())
    for column in columns:
        name = column.name
        # What a name or an id looks like doesn't matter, even where most are numbers.
        is_name = column.kind == "number" and name in parts[:2]
        if column.mistake and name not in together and not is_name:
            message = column.mistake.removeprefix(f"{table.source}, ").removesuffix(".")
            message = message.removeprefix(f"{table.source}: ")
            yield DataFinding("mistake", table.source, message, name, blocks=True)
        if name in far:
            quoted = ", ".join(f'"{number}"' for number in far[name])
            message = (
                f'column "{name}" holds {format_list(far[name])}, far from its other numbers. If '
                f"that stands for a missing value, write missing_values = [{quoted}] under [data]"
            )
            yield DataFinding("missing", table.source, message, name)
        if name in steps:
            continue  # what matters of a column of its own doesn't matter of one step of many
        if column.kind == "empty":
            yield DataFinding("constant", table.source, f'column "{name}" is empty', name)
        elif column.kind == "constant" and name not in guess.roles.times:
            message = f'column "{name}" has a single value, so nothing can be learned from it'
            blocks = name == guess.roles.target
            yield DataFinding("constant", table.source, message, name, blocks)
        elif column.missing > _MOSTLY_MISSING * len(table):
            message = f'column "{name}" is missing in {column.missing:,} of {len(table):,} rows'
            if column.kind != "number" or name_speaks(name, "calendar"):
                message += _if_written_once(table, name)
            yield DataFinding("missing", table.source, message, name)
        unused = column.kind == "id" and name not in ("", *parts)
        if unused and guess.rows in ("sequences", "series"):
            message = f'column "{name}" numbers or names the rows, so it is not used as a feature'
            yield DataFinding("id", table.source, message, name)
        if (
            guess.rows == "series"
            and column.kind == "category"
            and name not in parts
            and column.distinct > MOST_CATEGORIES
        ):
            message = (
                f'column "{name}" has {column.distinct:,} categories. As a covariate, the '
                f"{MOST_CATEGORIES} most frequent of the training rows get a channel each, and the "
                f"others share one"
            )
            yield DataFinding("words", table.source, message, name)
        if guess.rows == "texts" and column.kind == "text" and name != guess.roles.text:
            message = (
                f'column "{name}" holds texts, too, but only "{guess.roles.text}" is read: to '
                f"learn from both, join them in one column"
            )
            yield DataFinding("words", table.source, message, name)
    yield from _gaps(table, columns, guess)
    yield from _alike_owners(table, guess)
    yield from _missing_texts(table, guess.roles.text)
    yield from _marked_missing(table)
    for name, message in leaks(table, columns, guess.roles):
        yield DataFinding("leak", table.source, message, name)


def _if_written_once(table: Table, name: str) -> str:
    """Advice about a column that may be filled in only on the first row of each group."""
    held = table.column(name).is_not_null()
    if not held[0] or held.sum() < 2:
        return ""
    fill = f'frame["{name}"].ffill()'
    return f": if it holds for the rows below, too, fill it in, as pandas does with {fill}"


def far_numbers(table: Table, columns: Sequence[Column], roles: Roles) -> dict[str, list[str]]:
    """By column, numbers such as -999 that may stand for missing values, as they are written.

    Of the columns with the steps of whole sequences, the first that holds any stands for all.
    """
    found: dict[str, list[str]] = {}
    steps = set(roles.features if roles.steps else ())
    for name in (column.name for column in columns if column.kind == "number"):
        if name in steps and steps & found.keys():
            continue
        numbers = table.known_numbers(name)
        if markers := markers_among(numbers):
            texts = table.strings(name).str.strip_chars()
            found[name] = [str(texts[int((numbers == marker).argmax())]) for marker in markers]
    return found


def markers_for_missing(table: Table, columns: Sequence[Column]) -> list[str]:
    """Symbols such as ``?`` that are the only fields of a column that aren't numbers."""
    found: set[str] = set()
    for column in columns:
        if column.kind == "number" and column.mistake and column.numbers is not None:
            refused = table.parsed(column.name)[1]
            others = table.strings(column.name).filter(refused).str.strip_chars().unique().to_list()
            if len(others) == 1 and (others[0] == _NULL or not any(map(str.isalnum, others[0]))):
                found.add(others[0])
    return sorted(found)


def in_labels(table: Table, guess: Guess) -> Iterator[DataFinding]:
    """Classes that are missing, rare or unbalanced; texts with several labels."""
    label, text, owner = guess.roles.label, guess.roles.text, guess.roles.id
    if guess.task != "classification" or label is None:
        return
    counts = count_classes(table, label, owner)
    if len(counts) < 2:
        message = f'only one class in "{label}": classification needs two or more'
        yield DataFinding("label", table.source, message, label, blocks=True)
        return
    yield from _missing_labels(table, label, counts)
    yield from _alike_labels(table, label, counts)
    yield from _joined_labels(table, label, counts)
    (most, highest), (least, lowest) = (*counts.items(),)[0], (*counts.items(),)[-1]
    if lowest < _RARE:
        rare = sum(count < _RARE for count in counts.values())
        message = (
            f"{number_of(rare, 'class has', 'classes have')} fewer than {_RARE} rows, such as "
            f'"{least}" ({lowest}): add rows, or drop or merge such classes'
        )
        yield DataFinding("label", table.source, message, label, blocks=lowest < _PARTS)
    if highest >= UNBALANCED * lowest:
        yield DataFinding(
            "balance", table.source, about_balance(most, highest, least, lowest), label
        )
    if text is not None:
        yield from _conflicts(table, text, label)


def _missing_labels(table: Table, label: str, counts: dict[str, int]) -> Iterator[DataFinding]:
    """Classes whose names are words for a missing value; NA is Namibia among codes of countries."""
    words = [name for name in counts if name.lower() in (*MISSING, "?", "-", "")]
    others = [name for name in counts if name not in words]
    if others and all(len(name) == len(others[0]) and name.isupper() for name in others):
        words = [name for name in words if not (name.isupper() and len(name) == len(others[0]))]
    if words:
        named = ", ".join(f'"{name}" ({counts[name]:,})' for name in words)
        message = (
            f'column "{label}" has classes that look like missing labels: {named}. If they are, '
            f"remove their rows"
        )
        yield DataFinding("label", table.source, message, label)


def _alike_labels(table: Table, label: str, counts: dict[str, int]) -> Iterator[DataFinding]:
    """Classes that are probably one: by their case, as numbers, or as words for yes and no."""
    words = all(name.casefold() in _YES_OR_NO for name in counts)
    for named in _alike(counts, _YES_OR_NO if words else {}):
        message = f'column "{label}" has {named} as different classes: write them alike'
        yield DataFinding("label", table.source, message, label)


def _alike_owners(table: Table, guess: Guess) -> Iterator[DataFinding]:
    """Names of series or sequences that are probably one."""
    owner = guess.roles.series or guess.roles.id
    if owner is None or owner not in table.names:
        return
    for named in _alike(count_classes(table, owner, None), {}):
        message = f'column "{owner}" names {named} as different {guess.rows}: write them alike'
        yield DataFinding("id", table.source, message, owner)


def _alike(counts: dict[str, int], words: Mapping[str, object]) -> Iterator[str]:
    """Names that are probably one, with their counts: by case, invisible signs, or as numbers."""
    alike: dict[object, list[str]] = {}
    for name in counts:
        try:
            key: object = float(name)
        except ValueError:
            visible = "".join(sign for sign in name if unicodedata.category(sign) != "Cf")
            key = " ".join(unicodedata.normalize("NFKC", visible).casefold().split())
        alike.setdefault(words.get(name.casefold(), key), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            shown = {name: name if name.isprintable() else ascii(name)[1:-1] for name in names}
            yield " and ".join(f'"{shown[name]}" ({counts[name]:,})' for name in names)


def _joined_labels(table: Table, label: str, counts: dict[str, int]) -> Iterator[DataFinding]:
    """Classes such as ``red|blue`` beside ``red`` and ``blue``: rows with several labels."""
    for sign in "|;,/":
        joined = {name: [*map(str.strip, name.split(sign))] for name in counts if sign in name}
        known = [name for name, parts in joined.items() if all(part in counts for part in parts)]
        if len(joined) > 1 and known:
            message = (
                f'column "{label}" has several labels in a field, such as "{known[0]}": each '
                f"combination is a class of its own. For one label of several, give each a column"
            )
            yield DataFinding("label", table.source, message, label)
            return


def count_classes(table: Table, label: str, owner: str | None) -> dict[str, int]:
    """The number of rows of each class, or of sequences if `owner` names them; largest first."""
    labels = pl.DataFrame({"label": table.strings(label).str.strip_chars()})
    if owner is not None:
        labels = labels.with_columns(owner=table.strings(owner)).unique()
    counts = labels.drop_nulls()["label"].value_counts()
    return dict(counts.sort(["count", "label"], descending=[True, False]).rows())


def about_balance(most: str, highest: int, least: str, lowest: int) -> str:
    """A sentence about classes of very different sizes."""
    return (
        f'"{most}" has {highest / lowest:.0f} times the rows of "{least}": accuracy hides '
        f"errors in rare classes, macro_f1 and balanced_accuracy don't"
    )


def duplicates(table: Table, guess: Guess) -> Iterator[DataFinding]:
    """Rows that occur twice in a file: a random split may put them in training and validation."""
    if guess.rows == "series":
        return
    keys = _keys(table, guess.roles.text)
    again = keys.is_not_null() & ~keys.is_first_distinct()
    if again.any():
        what = "texts" if guess.roles.text else "rows"
        message = (
            f"{int(again.sum()):,} of {len(table):,} {what} repeat an earlier one, the first at "
            f"{table.at(_first(again))}: keep each once, or a random split trains on test rows"
        )
        yield DataFinding("duplicate", table.source, message)


def overlaps(first: Table, second: Table, guess: Guess) -> Iterator[DataFinding]:
    """Rows that are in both files, and classes that are only in the second."""
    text, label = guess.roles.text, guess.roles.label
    comparable = set(first.names) == set(second.names) or text in second.names
    if guess.rows != "series" and comparable:
        known = _keys(first, text, None if text else second.names)
        found = _keys(second, text).is_in(known.implode()).fill_null(value=False)
        if found.any():
            message = (
                f"{int(found.sum()):,} of {len(second):,} {'texts' if text else 'rows'} are "
                f"also in {first.path.name}, the first at {second.at(_first(found))}"
            )
            yield DataFinding("overlap", second.source, message)
    if guess.task == "classification" and label is not None and label in second.names:
        known_labels = count_classes(first, label, None)
        for unknown in count_classes(second, label, None):
            if unknown not in known_labels:
                message = f'class "{unknown}" is not in {first.path.name}'
                yield DataFinding("label", second.source, message, label)
                return


def _in_header(table: Table, guess: Guess) -> Iterator[DataFinding]:
    yield from _units(table)
    yield from _names_again(table)
    if "" in table.names and "" not in guess.roles.times:
        message = (
            "one column has no name, so it is not used: if it holds more than the numbers or "
            "names of the rows, name it in the first line"
        )
        yield DataFinding("header", table.source, message, "")
    for name in table.names:
        if name.replace(".", "", 1).isdigit():
            message = (
                f'a column is called "{name}": if the first line holds data, put a line of '
                f"names above it"
            )
            yield DataFinding("header", table.source, message, name)
            return


def _names_again(table: Table) -> Iterator[DataFinding]:
    """The line of names among the rows, as where several exports were joined."""
    texts = all(dtype == pl.String for dtype in table.frame.dtypes) and "" not in table.names
    if not texts:
        return
    again = table.frame.select(
        pl.all_horizontal(pl.col(name).str.strip_chars() == name for name in table.names)
    ).to_series()
    if again.any():
        at = table.at(_first(again)).removeprefix(f"{table.source}, ")
        count = number_of(int(again.sum()), "row repeats", "rows repeat")
        message = f"{at}: {count} the names of the columns: remove such rows"
        yield DataFinding("header", table.source, message, blocks=True)


def _units(table: Table) -> Iterator[DataFinding]:
    """Lines of units or of further names, which would be read as rows."""
    if any(dtype != pl.String for dtype in table.frame.dtypes):
        return
    head = [["" if field is None else field for field in row] for row in table.frame[:_HEAD].rows()]
    if count := lines_of_units(head):
        shown = next(field for field in reversed(head[0]) if field)
        at = table.at(0).removeprefix(f"{table.source}, ")
        rows, them = ("the row", "it") if count == 1 else (f"{count} rows", "them")
        message = (
            f'{at}: {rows} above the data, with "{shown}", must be units or further names: remove '
            f"{them}"
        )
        yield DataFinding("header", table.source, message, blocks=True)


def _gaps(table: Table, columns: Sequence[Column], guess: Guess) -> Iterator[DataFinding]:
    """Missing fields that every row needs."""
    roles = guess.roles
    needed = {roles.text, roles.label, *roles.times, roles.id, roles.series}
    if guess.rows != "series":
        needed.add(roles.target)  # a series can be interpolated, and so can the steps of a row
    for column in columns:
        if column.missing and column.name in needed:
            empty = table.column(column.name).is_null()
            first = f", the first at {table.at(_first(empty))}" if empty.any() else ""
            # Names need not be numbers, even where most are.
            names = column.name in (roles.id, roles.series)
            missing = int(empty.sum()) if names else column.missing
            if not missing:
                continue
            message = (
                f"{number_of(missing, 'row has', 'rows have')} no "
                f'"{column.name}"{first}: fill it in, or remove the rows'
            )
            yield DataFinding("missing", table.source, message, column.name, blocks=True)


def _missing_texts(table: Table, text: str | None) -> Iterator[DataFinding]:
    """Texts that are a word for a missing value, more than one of them."""
    if text is None or text not in table.names:
        return
    words = table.strings(text).str.strip_chars().str.to_lowercase().is_in(MISSING)
    if words.sum() > 1:
        row = _first(words)
        message = (
            f'{number_of(int(words.sum()), "text is", "texts are")} "{table.strings(text)[row]}", '
            f"the first at {table.at(row)}: if the text is missing there, remove these rows"
        )
        yield DataFinding("missing", table.source, message, text)


def _marked_missing(table: Table) -> Iterator[DataFinding]:
    """How many fields are read as missing because they hold one of `missing_values`."""
    for name in table.names if table.formats.missing_values else ():
        marked = table.column(name).null_count() - table.frame[name].null_count()
        if marked:
            shown = " or ".join(f'"{marker}"' for marker in table.formats.missing_values)
            count = number_of(marked, "field is", "fields are")
            message = f'column "{name}": {count} {shown}, and so read as missing'
            yield DataFinding("missing", table.source, message, name)


def _conflicts(table: Table, text: str, label: str) -> Iterator[DataFinding]:
    keys = _keys(table, text)
    pairs = pl.DataFrame({"text": keys, "label": table.strings(label)}).drop_nulls()
    labels = pairs.group_by("text").agg(pl.col("label").n_unique())
    torn = labels.filter(pl.col("label") > 1)["text"]
    if len(torn):
        message = (
            f"{number_of(len(torn), 'text has', 'texts have')} several labels, the first at "
            f"{table.at(_first(keys.is_in(torn.implode())))}: no model can predict them all"
        )
        yield DataFinding("conflict", table.source, message, label)


def _keys(table: Table, text: str | None, names: Sequence[str] | None = None) -> pl.Series:
    """A key for each row (N,), the same for equal rows: the text without extra white space, or
    all columns."""
    if text is not None:
        return table.strings(text).str.replace_all(r"\s+", " ").str.strip_chars()
    columns = [table.strings(name).fill_null("") for name in names or plain_names(table)]
    return pl.DataFrame(columns).select(pl.concat_str(pl.all(), separator="\x1f")).to_series()


def plain_names(table: Table) -> list[str]:
    """The columns that hold one value a row."""
    dtypes = zip(table.names, table.frame.dtypes, strict=True)
    return [name for name, dtype in dtypes if is_plain(dtype)]


def _first(mask: pl.Series) -> int:
    return int(mask.arg_max() or 0)


def number_of(count: int, one: str, many: str) -> str:
    """A number and the words for one or several: ``1 row repeats``, ``2 rows repeat``."""
    return f"{count:,} {one if count == 1 else many}"


def leaks(table: Table, columns: Sequence[Column], roles: Roles) -> Iterator[tuple[str, str]]:
    """Columns that may have been made from the label or target, each with a sentence about it."""
    taken = {roles.text, roles.label, roles.target, *roles.times, roles.id, roles.series}
    taken |= set(roles.features if roles.steps else ())
    for column in columns:
        if column.name in taken or column.kind not in ("category", "number"):
            continue
        if roles.label is not None and roles.label in table.names:
            share = _predictable_share(table, column, roles.label)
            if share >= _LEAKING_SHARE:
                yield (
                    column.name,
                    f'column "{column.name}" predicts the label of {100 * share:.4g} % of the '
                    f"rows: make sure that it is known in advance, and not made from the label",
                )
        elif roles.target in table.names and column.kind == "number":
            correlation = _correlation(table, column.name, str(roles.target))
            if correlation >= _LEAKING_CORRELATION:
                yield (
                    column.name,
                    f'column "{column.name}" has a correlation of {correlation:.4f} with '
                    f'"{roles.target}": make sure that it is known in advance, and not made from '
                    f"the target",
                )


def _predictable_share(table: Table, column: Column, label: str) -> float:
    """The share of rows with the most frequent label of their value; 0 if no better than chance."""
    if not 2 <= column.distinct <= len(table) / _ROWS_PER_VALUE:
        return 0.0
    pairs = pl.DataFrame({"value": table.strings(column.name), "label": table.strings(label)})
    counts = pairs.drop_nulls().group_by("value", "label").len()
    if not len(counts):
        return 0.0
    predicted = int(counts.group_by("value").agg(pl.col("len").max())["len"].sum())
    usual = int(counts.group_by("label").agg(pl.col("len").sum())["len"].to_numpy().max())
    return predicted / int(counts["len"].sum()) if predicted > usual else 0.0


def _correlation(table: Table, name: str, target: str) -> float:
    try:
        values, targets = table.known_numbers(name), table.known_numbers(target)
    except DataError:
        return 0.0
    known = np.isfinite(values) & np.isfinite(targets)
    if known.sum() < 3 or not values[known].std() or not targets[known].std():
        return 0.0
    return abs(float(np.corrcoef(values[known], targets[known])[0, 1]))

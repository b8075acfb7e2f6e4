"""What data are, and what is wrong with them, before anything is trained.

The numbers are here; ``gru-optuna inspect`` writes them down.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.readers.in_parts import read_head, read_spread
from gru_optuna.data.readers.sequence_files import SEQUENCES, read_sequences
from gru_optuna.data.readers.tables import TABLES, Table
from gru_optuna.data.readers.text_files import check_file
from gru_optuna.errors import DataError
from gru_optuna.inspection import findings
from gru_optuna.inspection.columns import Column, Spread, describe_columns
from gru_optuna.inspection.findings import DataFinding
from gru_optuna.inspection.roles import Guess, Roles, Task, guess_task, owners_of
from gru_optuna.inspection.time_column import TimeColumn, read_time_column

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gru_optuna.data.readers.sequences import Sequences


@dataclass(frozen=True)
class FileReport:
    """One file."""

    file: str
    rows: int  # of the table, or sequences; of those that were looked at
    share: float  # of the file that was looked at; less than 1 where it doesn't fit into memory
    every: int  # one row in so many was looked at; 1: those at the beginning
    columns: tuple[Column, ...]  # of a table
    classes: dict[str, int] | None  # rows, or sequences, of each
    lengths: Spread | None  # steps of the sequences
    channels: int | None  # of the sequences
    clock: TimeColumn | None  # of the time column

    @property
    def looked_at(self) -> str:
        """What of a large file was read, in a sentence."""
        which = f"{self.rows:,} rows at its beginning, {self.share:.1%} of it"
        if self.every > 1:
            which = f"one row in {self.every}, {self.rows:,} from all over it"
        return f"The file is larger than memory. Looked at: {which}."


@dataclass(frozen=True)
class Inspection:
    """All that was looked at together."""

    files: tuple[FileReport, ...]
    findings: tuple[DataFinding, ...]
    guess: Guess


def inspect(
    paths: Sequence[Path],
    *,
    text: str | None = None,
    label: str | None = None,
    target: str | None = None,
    time: str | None = None,
    id: str | None = None,  # noqa: A002 (the study file's word)
    series: str | None = None,
    task: Task | None = None,
) -> Inspection:
    """Looks at files together: training rows first, then those that are held against them.

    Parameters
    ----------
    paths
        Tables, or files of sequences; all of one sort.
    text, label, target, time, id, series
        Columns that play these parts; what isn't said is guessed.
    task
        What is to be done; else it is guessed.

    Raises
    ------
    DataError
        If a file can't be read, or a named column isn't in it.
    """
    for path in paths:
        check_file(path, (*TABLES, *SEQUENCES))
    said = Roles(text, label, target, time, id, series)
    if all(path.suffix.lower() in SEQUENCES for path in paths):
        return _inspect_sequences([read_sequences(path) for path in paths])
    if any(path.suffix.lower() in SEQUENCES for path in paths):
        raise DataError(
            f"{', '.join(map(str, paths))}: tables and sequence files can't be compared. "
            f"Inspect them one after the other."
        )
    looks = [_Look(*read_head(path)) for path in paths]
    columns = describe_columns(looks[0].table)
    guess = guess_task(looks[0].table, columns, said, task)
    shares = [look.share for look in looks]
    if min(shares) < 1 and guess.rows not in ("series", "sequences"):
        # Neighbouring rows make a series, but a file of others may begin with all of one class.
        looks.clear()
        looks += [_spread(path, share) for path, share in zip(paths, shares, strict=True)]
        columns = describe_columns(looks[0].table)
        guess = guess_task(looks[0].table, columns, said, task)
    return _inspect_tables(looks, columns, guess)


@dataclass(frozen=True)
class _Look:
    """What was read of a file, as `FileReport` has it."""

    table: Table
    share: float
    every: int = 1


def _spread(path: Path, share: float) -> _Look:
    """As many rows as a file's beginning has, from all over it."""
    if share == 1:
        return _Look(*read_head(path))
    every = math.ceil(1 / share)
    return _Look(read_spread(path, every), 1 / every, every)


def _inspect_tables(
    looks: Sequence[_Look], columns: tuple[Column, ...], guess: Guess
) -> Inspection:
    first = looks[0].table
    files: list[FileReport] = []
    found: list[DataFinding] = []
    for look in looks:
        table = look.table
        described = columns if table is first else describe_columns(table)
        clock = _clock(table, described, guess)
        files.append(_report(look, described, guess, clock))
        found += findings.in_columns(table, described, guess)
        # Balance matters where the network learns, and everything else is told of all files.
        if table is first:
            found += findings.in_labels(table, guess)
        if guess.roles.text is None or guess.roles.text in table.names:
            found += findings.duplicates(table, guess)
        if clock is not None and guess.rows == "series":
            found += findings.in_time(table, clock)
        if table is not first:
            found += findings.overlaps(first, table, guess)
    return Inspection(tuple(files), tuple(found), guess)


def _report(
    look: _Look, columns: tuple[Column, ...], guess: Guess, clock: TimeColumn | None
) -> FileReport:
    table, roles = look.table, guess.roles
    owner = roles.id if guess.rows == "sequences" and roles.id in table.names else None
    classes = None
    if guess.task == "classification" and roles.label is not None and roles.label in table.names:
        classes = findings.count_classes(table, roles.label, owner)
    return FileReport(
        file=table.source,
        rows=len(table),
        share=look.share,
        every=look.every,
        columns=columns,
        classes=classes,
        lengths=Spread.of(np.bincount(owners_of(table, owner))) if owner else None,
        channels=len(roles.features) if owner else None,
        clock=clock,
    )


def _clock(table: Table, columns: Sequence[Column], guess: Guess) -> TimeColumn | None:
    named = next((column.name for column in columns if column.kind == "time"), None)
    name = guess.roles.time or named
    if name is None or name not in table.names:
        return None
    target = guess.roles.target if guess.rows == "series" else None
    try:
        times = table.times(name)
        values = table.numbers(target) if target in table.names and target is not None else None
    except DataError:
        return None  # steps that are counted; or a mistake, which is told of its column
    owner = guess.roles.series or guess.roles.id
    return read_time_column(name, times, owners_of(table, owner), values)


def _inspect_sequences(parts: Sequence[Sequences]) -> Inspection:
    first = parts[0]
    a_class = first.targets is None
    goal = f"one of {len(set(first.labels))} classes" if a_class else "a number"
    guess = Guess(
        "classification" if a_class else "regression", "sequences", f"sequences, {goal} for each"
    )
    found: list[DataFinding] = []
    for part in parts:
        found += _in_sequences(part, balance=part is first)
        if part is not first:
            found += _between(first, part)
    return Inspection(tuple(_report_sequences(part) for part in parts), tuple(found), guess)


def _report_sequences(part: Sequences) -> FileReport:
    return FileReport(
        file=part.source,
        rows=len(part),
        share=1.0,
        every=1,
        columns=(),
        classes=dict(Counter(part.labels).most_common()) if part.targets is None else None,
        lengths=Spread.of(np.array([len(row) for row in part.values])),
        channels=part.channels,
        clock=None,
    )


def _in_sequences(part: Sequences, *, balance: bool) -> Iterator[DataFinding]:
    counts = Counter(part.labels).most_common()
    if len(counts) == 1:
        yield DataFinding("label", part.source, f'only one class, "{counts[0][0]}"', blocks=True)
    elif balance and counts and counts[0][1] >= findings.UNBALANCED * counts[-1][1]:
        message = findings.about_balance(*counts[0], *counts[-1])
        yield DataFinding("balance", part.source, message)
    seen: dict[bytes, int] = {}
    again = [row for row, key in enumerate(_bytes(part)) if seen.setdefault(key, row) != row]
    if again:
        message = (
            f"{len(again):,} of {len(part):,} sequences stand in the file already, the first at "
            f"{part.at(again[0])}"
        )
        yield DataFinding("duplicate", part.source, message)
    flat = np.ptp(np.concatenate(part.values), axis=0) == 0
    for channel in np.flatnonzero(flat):
        yield DataFinding("constant", part.source, f"channel {channel + 1} never changes")


def _between(first: Sequences, second: Sequences) -> Iterator[DataFinding]:
    known = set(_bytes(first))
    found = [row for row, key in enumerate(_bytes(second)) if key in known]
    if found:
        message = (
            f"{len(found):,} of {len(second):,} sequences are in {first.source} too, the first at "
            f"{second.at(found[0])}"
        )
        yield DataFinding("overlap", second.source, message)
    if first.channels != second.channels:
        message = f"{second.channels} channels, and {first.channels} in {first.source}"
        yield DataFinding("mistake", second.source, message)
    for label in sorted(set(second.labels) - set(first.labels))[:1]:
        yield DataFinding("label", second.source, f'class "{label}" is not in {first.source}')


def _bytes(part: Sequences) -> Iterator[bytes]:
    return (row.tobytes() for row in part.values)

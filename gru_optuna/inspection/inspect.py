"""What data are, and what is wrong with them, before anything is trained.

This module finds the numbers; ``gru-optuna inspect`` prints them.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.readers.column_formats import FOUND_OUT, TableFormats
from gru_optuna.data.readers.in_parts import read_head, read_spread
from gru_optuna.data.readers.sequence_files import SEQUENCES, read_sequences
from gru_optuna.data.readers.tables import TABLES, Table
from gru_optuna.data.readers.text_files import check_file
from gru_optuna.errors import DataError
from gru_optuna.inspection import findings
from gru_optuna.inspection.columns import Column, Spread, describe_columns
from gru_optuna.inspection.findings import DataFinding
from gru_optuna.inspection.guess import Guess, guess_task, owners_of
from gru_optuna.inspection.roles import NO_ROLES, Roles
from gru_optuna.inspection.time_column import TimeColumn, read_time_column
from gru_optuna.inspection.time_findings import in_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gru_optuna.data.readers.sequences import Sequences
    from gru_optuna.study_file import Task


@dataclass(frozen=True)
class FileReport:
    """What one file holds."""

    file: str
    rows: int  # number of rows, or of sequences, that were read
    share: float  # of the file that was read; less than 1 if it doesn't fit into memory
    every: int  # one row in `every` was read; 1: the rows at the beginning
    columns: tuple[Column, ...]  # of a table
    classes: dict[str, int] | None  # number of rows, or of sequences, of each
    lengths: Spread | None  # steps of the sequences
    channels: int | None  # of the sequences
    clock: TimeColumn | None  # of the time column

    @property
    def looked_at(self) -> str:
        """What was read of a large file, in a sentence."""
        which = f"the first {self.rows:,} rows, {self.share:.1%} of it"
        if self.every > 1:
            which = f"one row in {self.every} from all over the file, {self.rows:,} in all"
        return f"The file is larger than memory. Only some of it was read: {which}."


@dataclass(frozen=True)
class Inspection:
    """Files that were inspected together."""

    files: tuple[FileReport, ...]
    findings: tuple[DataFinding, ...]
    guess: Guess


def inspect(
    paths: Sequence[Path],
    given: Roles = NO_ROLES,
    *,
    task: Task | None = None,
    formats: TableFormats = FOUND_OUT,
) -> Inspection:
    """Inspects files together: the training rows first, then rows that are compared with them.

    Parameters
    ----------
    paths
        Either tables or files of sequences.
    given
        The roles of columns that are known; the others are guessed.
    task
        What to learn; None: guessed.
    formats
        What is known about how the columns are written.

    Raises
    ------
    DataError
        If a file can't be read, or a named column isn't in it.
    """
    for path in paths:
        check_file(path, (*TABLES, *SEQUENCES))
    if all(path.suffix.lower() in SEQUENCES for path in paths):
        for role, name in given.columns():
            raise DataError(
                f"{paths[0]}: --{role} {name} names a column, but only tables have columns. "
                f"Leave out --{role}."
            )
        return _inspect_sequences([read_sequences(path, task=task) for path in paths])
    if any(path.suffix.lower() in SEQUENCES for path in paths):
        raise DataError(
            f"{', '.join(map(str, paths))}: tables and sequence files can't be compared. "
            f"Inspect them separately."
        )
    samples = [_Sample(*read_head(path, formats.undecided())) for path in paths]
    columns = describe_columns(samples[0].table)
    guess = guess_task(samples[0].table, columns, given, task)
    shares = [sample.share for sample in samples]
    alone = guess.rows not in ("series", "sequences") or bool(guess.roles.steps)
    if min(shares) < 1 and alone:
        # A series needs neighbouring rows, but other files may begin with all rows of one class.
        samples.clear()  # before others are read: memory is short
        samples += [
            _spread(path, share, formats.undecided())
            for path, share in zip(paths, shares, strict=True)
        ]
        columns = describe_columns(samples[0].table)
        guess = guess_task(samples[0].table, columns, given, task)
    return _inspect_tables(samples, columns, guess)


@dataclass(frozen=True)
class _Sample:
    """The rows that were read of a file; `share` and `every` as in `FileReport`."""

    table: Table
    share: float
    every: int = 1


def _spread(path: Path, share: float, formats: TableFormats) -> _Sample:
    """Reads as many rows as fit into memory, from all over the file."""
    if share == 1:
        return _Sample(*read_head(path, formats))
    every = math.ceil(1 / share)
    return _Sample(read_spread(path, every, formats), 1 / every, every)


def _inspect_tables(
    samples: Sequence[_Sample], columns: tuple[Column, ...], guess: Guess
) -> Inspection:
    first = samples[0].table
    files: list[FileReport] = []
    found: list[DataFinding] = []
    for sample in samples:
        table = sample.table
        described = columns if table is first else describe_columns(table)
        clock = _clock(table, described, guess)
        files.append(_report(sample, described, guess, clock))
        found += [DataFinding("header", table.source, note) for note in table.notes]
        found += findings.in_columns(table, described, guess)
        # Labels matter where the network learns; everything else is checked in all files.
        if table is first:
            found += findings.in_labels(table, guess)
        if guess.roles.text is None or guess.roles.text in table.names:
            found += findings.duplicates(table, guess)
        if clock is not None and guess.rows == "series":
            found += in_time(table, clock, guess.roles)
        if table is not first:
            found += findings.overlaps(first, table, guess)
    return Inspection(tuple(files), tuple(found), guess)


def _report(
    sample: _Sample, columns: tuple[Column, ...], guess: Guess, clock: TimeColumn | None
) -> FileReport:
    table, roles = sample.table, guess.roles
    owner = roles.id if guess.rows == "sequences" and roles.id in table.names else None
    lengths = Spread.of(np.bincount(owners_of(table, owner))) if owner else None
    channels = len(roles.features) if owner else None
    whole = guess.rows == "sequences" and bool(roles.steps)
    if whole and set(roles.features) <= set(table.names):
        there = np.column_stack([~np.isnan(table.known_numbers(n)) for n in roles.features])
        channels = len(roles.steps)
        lengths = Spread.of(_last_steps(there, channels))
    classes = None
    if guess.task == "classification" and roles.label is not None and roles.label in table.names:
        classes = findings.count_classes(table, roles.label, owner)
    return FileReport(
        file=table.source,
        rows=len(table),
        share=sample.share,
        every=sample.every,
        columns=columns,
        classes=classes,
        lengths=lengths,
        channels=channels,
        clock=clock,
    )


def _last_steps(there: NDArray[np.bool_], channels: int) -> NDArray[np.int64]:
    """The steps (N,) of whole sequences, up to the last value in any channel."""
    of_any = np.any(np.split(there, channels, axis=1), axis=0)
    last: NDArray[np.int64] = of_any.shape[1] - of_any[:, ::-1].argmax(axis=1)
    return last


def _clock(table: Table, columns: Sequence[Column], guess: Guess) -> TimeColumn | None:
    named = [column.name for column in columns if column.kind == "time"][:1]
    names = guess.roles.times or tuple(named)
    if not names or any(name not in table.names for name in names):
        return None
    target = guess.roles.target if guess.rows == "series" else None
    try:
        times = table.parsed_times(*names)
        values = table.numbers(target) if target in table.names and target is not None else None
    except DataError:
        return None  # a mistake, which its column reports
    if times.counted and guess.rows != "series":
        return None
    owner = guess.roles.id if guess.roles.series is None else guess.roles.series
    return read_time_column(
        ", ".join(names), times.values, owners_of(table, owner), values, counted=times.counted
    )


def _inspect_sequences(parts: Sequence[Sequences]) -> Inspection:
    first = parts[0]
    labelled = first.targets is None
    target = f"one of {len(set(first.labels))} classes" if labelled else "a number"
    task: Task = "classification" if labelled else "regression"
    guess = Guess(task, "sequences", f"sequences, with {target} for each")
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
    steps, channels = max(map(len, part.values)), part.channels
    if part.source.endswith(".npz") and min(map(len, part.values)) == steps < channels:
        message = (
            f"each row has {steps:,} steps of {channels:,} channels: if these are {steps:,} "
            f"channels of {channels:,} steps, write numpy.transpose(values, (0, 2, 1))"
        )
        yield DataFinding("mistake", part.source, message)
    seen: dict[bytes, int] = {}
    again = [row for row, key in enumerate(_bytes(part)) if seen.setdefault(key, row) != row]
    if again:
        message = (
            f"{len(again):,} of {len(part):,} sequences repeat an earlier one, the first at "
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
            f"{len(found):,} of {len(second):,} sequences are also in {first.source}, the first at "
            f"{second.at(found[0])}"
        )
        yield DataFinding("overlap", second.source, message)
    if first.channels != second.channels:
        message = f"{second.channels} channels, but {first.channels} in {first.source}"
        yield DataFinding("mistake", second.source, message)
    for label in sorted(set(second.labels) - set(first.labels))[:1]:
        yield DataFinding("label", second.source, f'class "{label}" is not in {first.source}')


def _bytes(part: Sequences) -> Iterator[bytes]:
    return (row.tobytes() for row in part.values)

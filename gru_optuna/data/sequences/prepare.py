"""From sequences of numbers to a `Dataset`: check, split, scale, in this order.

The scaler sees the training rows alone, so nothing leaks into them from validation or test.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gru_optuna.data.dataset import with_views
from gru_optuna.data.readers.column_formats import TableFormats
from gru_optuna.data.readers.in_memory import open_rows
from gru_optuna.data.readers.labels import Labels
from gru_optuna.data.readers.long_format import sequences_from_table
from gru_optuna.data.readers.tables import TABLES, Table
from gru_optuna.data.readers.wide_format import sequences_from_wide_table, step_columns
from gru_optuna.data.sequences.scaler import SequenceEncoder, channels_with_gaps
from gru_optuna.data.splitting import Examples, Files, divide
from gru_optuna.data.targets import assemble
from gru_optuna.errors import DataError
from gru_optuna.formatting import format_list

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.data.readers.in_memory import Source
    from gru_optuna.data.readers.sequences import Sequences
    from gru_optuna.data.splitting import Part
    from gru_optuna.data.views import View
    from gru_optuna.study_file import Specification

_NAMED = 12  # columns in a message


@dataclass(frozen=True)
class SequenceFiles:
    """The sequences of the study's files."""

    files: Files[NDArray[np.float64]]
    features: list[str] | None  # columns of the channels; None: not in long form
    steps: list[list[str]] | None  # columns of the steps, for each channel; None: not in wide form
    fingerprint: str  # of all rows
    formats: TableFormats


def read_study_sequences(spec: Specification, source: Source) -> SequenceFiles:
    """Reads sequences with labels, or with a number to predict.

    Parameters
    ----------
    spec
        Its task and ``data`` section.
    source
        As in `load_dataset`.

    Raises
    ------
    DataError
        If a file can't be read, or its channels differ from those of the training file.
    """
    data, formats = spec.data, TableFormats.of(spec.data)
    train, columns = _read(spec, open_rows(source, data.train, formats, spec.task))

    def read_like(part: float | str | None) -> Examples[NDArray[np.float64]] | None:
        if not isinstance(part, str):
            return None
        rows = open_rows(source, part, formats, spec.task, held_out=True)
        other, _ = _read(spec, rows, columns.features)
        _check_channels(other, train)
        return other

    files = Files(train, validation=read_like(data.validation), test=read_like(data.test))
    found = fingerprint(files.all())
    return SequenceFiles(files, columns.features, columns.steps, found, formats)


def prepare_sequences(
    spec: Specification, read: SequenceFiles, fold: int | None = None, *, refit: bool = False
) -> Dataset:
    """Splits and scales sequences.

    Parameters
    ----------
    spec
        Its task, ``data`` section and seed.
    read
        The sequences, from `read_study_sequences`.
    fold, refit
        As in `load_dataset`.

    Raises
    ------
    DataError
        If the rows can't be split, scaled or measured as the study wants.
    """
    data = spec.data
    parts = divide(spec, read.files, fold)
    parts = parts.refitting() if refit else parts

    rows = parts.train.rows
    gaps = channels_with_gaps(rows)
    longest = max(len(row) for file in read.files.all() for row in file.rows)

    def encoder_of(view: View) -> SequenceEncoder:
        return SequenceEncoder(
            channels=rows[0].shape[1],
            id=data.id,
            time=next(iter(data.times), None),
            features=read.features,
            steps=read.steps,
            formats=read.formats,
            view=view,
            gaps=gaps,
        )

    def shape(view: View) -> tuple[int, int]:
        return encoder_of(view).inputs, -(-longest // view.patch)

    def make(view: View) -> Dataset:
        encoder = encoder_of(view).fitted(rows)

        def encode(part: Part[NDArray[np.float64]]) -> tuple[Tensor, Tensor]:
            return encoder.encode(part.rows, lambda row: part.examples.at(int(part.index[row])))

        return assemble(
            spec,
            parts,
            encode,
            fingerprint=read.fingerprint,
            preprocessing=encoder.as_json(),
            view=view,
        )

    return with_views(spec, make, shape)


def fingerprint(files: list[Examples[Any]]) -> str:
    """SHA-256 of all rows with their labels or targets, in order."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{len(file)} rows".encode())
        for number, row in enumerate(file.rows):
            digest.update(f"{row.shape} {file.target(number)!r}".encode())
            digest.update(np.ascontiguousarray(row, dtype="<f8").tobytes())
            if file.groups is not None:
                digest.update(repr(file.groups[number]).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Columns:
    """Which columns of a table hold numbers; as in `SequenceFiles`."""

    features: list[str] | None = None
    steps: list[list[str]] | None = None


def _read(
    spec: Specification, rows: Table | Sequences, features: list[str] | None = None
) -> tuple[Examples[NDArray[np.float64]], _Columns]:
    """Reads the rows of one file, and names its columns if it is a table."""
    if isinstance(rows, Table):
        return _read_table(spec, rows, features)
    for key in ("id", "time", "features", "steps", "label", "target", "group"):
        if getattr(spec.data, key):
            raise DataError(
                f"{rows.source}: {key} names a column, but only tables have columns "
                f"({', '.join(TABLES)}). Remove {key}, or write the rows as a table."
            )
    if (rows.targets is None) != (spec.task == "classification"):
        has, needs = "labels", "numbers to predict"
        if spec.task == "classification":
            has, needs = needs, has
        raise DataError(
            f'{rows.source} holds {has}, but task = "{spec.task}" needs {needs}. '
            f"Change the file, or the task at the top of the study file."
        )
    return _examples(rows), _Columns()


def _read_table(
    spec: Specification, table: Table, features: list[str] | None
) -> tuple[Examples[NDArray[np.float64]], _Columns]:
    data = spec.data
    has = f"Its columns: {format_list(table.names, most=_NAMED)}."
    if data.id is None and not data.stems:
        raise DataError(
            f"{table.source}: are the rows texts, steps of sequences, or whole sequences? Under "
            f'[data], write text = "COLUMN", id = "COLUMN", or steps = "t" for the columns t0, t1, '
            f"and so on. {has}"
        )
    key = "label" if spec.task == "classification" else "target"
    if (column := getattr(data, key)) is None:
        raise DataError(
            f"{table.source}: which column should be predicted? Under [data], write "
            f'{key} = "COLUMN". {has}'
        )
    if data.stems:
        steps = step_columns(table, data.stems, (data.group, column))
        whole = sequences_from_wide_table(table, steps, **{key: column})
        groups = None if data.group is None else table.labels(data.group)
        return _examples(whole, groups), _Columns(steps=steps)
    assert data.id is not None
    taken = (data.id, data.time, data.group, column)
    features = features or data.features or [name for name in table.names if name not in taken]
    sequences = sequences_from_table(
        table, id=data.id, time=next(iter(data.times), None), features=features, **{key: column}
    )
    groups = None
    if data.group is not None:
        of_steps = table.labels(data.group)
        groups = of_steps.take(np.array(sequences.lines) - 1)
    return _examples(sequences, groups), _Columns(features)


def _check_channels(
    other: Examples[NDArray[np.float64]], train: Examples[NDArray[np.float64]]
) -> None:
    got, needed = other.rows[0].shape[1], train.rows[0].shape[1]
    if got != needed:
        raise DataError(
            f"{other.source} has {got} channels, but {train.source} has {needed}. "
            f"Give both files the same channels."
        )


def _examples(sequences: Sequences, groups: Labels | None = None) -> Examples[NDArray[np.float64]]:
    return Examples(
        source=sequences.source,
        rows=sequences.values,
        labels=Labels.of(sequences.labels) if sequences.targets is None else None,
        targets=sequences.targets,
        at=sequences.at,
        classes=sequences.classes,
        groups=groups,
    )

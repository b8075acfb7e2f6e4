"""Sequences in wide form: a table with one sequence per row, and a column for each step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.readers.sequences import Sequences, classes_of, known_steps
from gru_optuna.errors import DataError
from gru_optuna.formatting import format_list

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from gru_optuna.data.readers.tables import Table

_NUMBERED = re.compile(r"(\D*|.*?\D)(\d+(?:\.\d+)?)", re.DOTALL)


def numbered_columns(names: Sequence[str]) -> dict[str, list[str]]:
    """Columns whose names end with a number, by what stands before it, in order of the numbers.

    >>> numbered_columns(["label", "x10", "x9", "y1", "400.5"])
    {'x': ['x9', 'x10'], 'y': ['y1'], '': ['400.5']}
    """
    found: dict[str, list[tuple[float, str]]] = {}
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            found.setdefault(match[1], []).append((float(match[2]), name))
    return {stem: [name for _, name in sorted(each)] for stem, each in found.items()}


def step_columns(
    table: Table, stems: Sequence[str], others: Collection[str | None]
) -> list[list[str]]:
    """The columns of the steps, for each channel.

    Parameters
    ----------
    table
        One sequence per row.
    stems
        What the names of a channel's columns begin with; a number follows.
    others
        Columns with another role.

    Raises
    ------
    DataError
        If a channel has no columns, or fewer than another.
    """
    numbered = numbered_columns([name for name in table.names if name not in others])
    for stem in stems:
        if stem not in numbered:
            raise DataError(
                f'{table.source}: no column is named "{stem}" and a number, as steps = "{stem}" '
                f"says. Its columns: {format_list(table.names, most=12, last=', ')}."
            )
    columns = [numbered[stem] for stem in stems]
    for stem, names in zip(stems, columns, strict=True):
        if len(names) != len(columns[0]):
            raise DataError(
                f'{table.source}: "{stems[0]}" has {len(columns[0])} steps, and "{stem}" has '
                f"{len(names)}. All channels of a sequence have the same steps."
            )
    return columns


def rows_of_steps(table: Table, columns: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
    """The sequences (T, C), one a row; missing values at a row's end are no steps of it.

    Parameters
    ----------
    table, columns
        The rows, and the columns of the steps, for each channel.

    Raises
    ------
    DataError
        Naming a field that isn't a number, or a row without values.
    """
    values = np.stack(
        [np.column_stack([table.numbers(name) for name in names]) for names in columns], axis=2
    )
    return [row[: known_steps(row, table.at(number))] for number, row in enumerate(values)]


def sequences_from_wide_table(
    table: Table,
    columns: Sequence[Sequence[str]],
    *,
    label: str | None = None,
    target: str | None = None,
) -> Sequences:
    """The sequences of a table, one a row.

    Parameters
    ----------
    table, columns
        As in `rows_of_steps`.
    label, target
        Column of the class, or of the number to predict; exactly one.

    Raises
    ------
    DataError
        Naming a row without a label or target, or as `rows_of_steps`.
    """
    assert (label is None) != (target is None)
    labels = [] if label is None else list(table.labels(label))
    targets = None
    if target is not None:
        targets = table.numbers(target)
        if np.isnan(targets).any():
            row = int(np.isnan(targets).argmax())
            raise DataError(
                f'{table.at(row)}: column "{target}" is empty. Fill it in, or remove the row.'
            )
    return Sequences(
        source=table.source,
        values=rows_of_steps(table, columns),
        labels=labels,
        lines=list(range(1, len(table) + 1)),
        classes=classes_of(labels),
        targets=targets,
        unit="row",
    )

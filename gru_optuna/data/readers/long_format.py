"""Sequences in long form: a table with one row per step, and a column of the sequence's id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gru_optuna.data.readers.sequences import Sequences, classes_of
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gru_optuna.data.readers.labels import Labels
    from gru_optuna.data.readers.tables import Table


def sequences_from_table(
    table: Table,
    *,
    id: str,  # noqa: A002 (the study file's word)
    time: str | None = None,
    features: Sequence[str] | None = None,
    label: str | None = None,
    target: str | None = None,
) -> Sequences:
    """Gathers the sequences of a table, in the order in which their ids first appear.

    Parameters
    ----------
    table
        One row per step.
    id
        Column of the sequences' ids.
    time
        Column that orders the steps of each sequence: numbers or times. None: in their order.
    features
        Columns of the channels. None: all that have no other role.
    label, target
        Column of the class, or of the number to predict; exactly one. Constant within an id.

    Raises
    ------
    DataError
        Naming the row of a repeated time, a label that changes, or a number that can't be read.
    """
    predicted = label or target
    if predicted is None or (label and target):
        raise DataError(f"{table.source}: name either a label or a target, the column to predict.")
    if features is None:
        features = [name for name in table.names if name not in (id, time, predicted)]
    if not features:
        others = ", ".join(f'"{name}"' for name in (id, time, predicted) if name is not None)
        raise DataError(
            f"{table.source}: there is no column of features, only {others}. Add at least one."
        )
    for name in features:
        if table.column(name).null_count() == len(table):
            raise DataError(
                f'{table.source}: column "{name}" has no value. Name the other columns under '
                f"features."
            )
    steps = steps_by_id(table, id, time, features)
    coded = table.labels(predicted) if label else None
    targets = _complete(table, predicted) if coded is None else coded.places
    firsts = _constant_within_ids(table, steps, targets, coded, predicted)
    labels = [] if coded is None else list(coded.take(firsts))
    return Sequences(
        source=table.source,
        values=steps.values,
        labels=labels,
        lines=[int(row) + 1 for row in firsts],
        classes=classes_of(labels),
        targets=None if label else targets[firsts].astype(np.float64),
        ids=steps.ids,
        unit="row",
        features=tuple(features),
    )


@dataclass(frozen=True)
class Steps:
    """A table's rows as the steps of sequences."""

    ids: list[str]  # of the sequences, in the order in which they first appear
    values: list[NDArray[np.float64]]  # (T, C) each
    owners: NDArray[np.int64]  # (N,) the position in `ids` for each row of the table


def steps_by_id(table: Table, id: str, time: str | None, features: Sequence[str]) -> Steps:  # noqa: A002 (as above)
    """Gathers the steps of a table by id, without labels or targets; as `sequences_from_table`.

    Raises
    ------
    DataError
        Naming the row of a repeated time, or of a number that can't be read.
    """
    names, owners = _owners(table, id)
    order = _in_time(table, owners, time, names)
    # One array (N, C) in order of ids and times, of which each sequence is a view.
    steps = np.empty((len(table), len(features)))
    for column, feature in enumerate(features):
        steps[:, column] = table.numbers(feature)[order]
    ends = np.cumsum(np.bincount(owners))
    return Steps(names, np.split(steps, ends[:-1]), owners)


def _owners(table: Table, name: str) -> tuple[list[str], NDArray[np.int64]]:
    """The ids in order of appearance, and the position among them for each row (N,)."""
    ids = table.strings(name).str.strip_chars()
    if ids.null_count():
        row = int(ids.is_null().arg_max() or 0)
        raise DataError(
            f'{table.at(row)}: column "{name}" is empty. Every step needs the id of its sequence.'
        )
    names = ids.unique(maintain_order=True)
    places = pl.DataFrame({"id": names, "place": np.arange(len(names))})
    owners = pl.DataFrame({"id": ids}).join(places, on="id", how="left", maintain_order="left")
    return names.to_list(), owners["place"].to_numpy()


def _in_time(
    table: Table, owners: NDArray[np.int64], time: str | None, names: list[str]
) -> NDArray[np.int64]:
    """The positions of the rows (N,), sorted by owner and then by time."""
    if time is None:
        return np.argsort(owners, kind="stable")
    moments = _moments(table, time)
    order = np.lexsort((moments, owners))
    repeated = (np.diff(owners[order]) == 0) & (moments[order][1:] == moments[order][:-1])
    if repeated.any():
        # lexsort is stable, so of two equal rows the later one comes second.
        row = int(order[1:][repeated].min())
        raise DataError(
            f'{table.at(row)}: id "{names[owners[row]]}" has the time '
            f'"{table.strings(time)[row]}" twice. Remove one of the rows.'
        )
    return order


def _moments(table: Table, name: str) -> NDArray[np.generic]:
    try:
        numbers = table.numbers(name)
    except DataError:
        return table.times(name)
    if np.isnan(numbers).any():
        return table.times(name)  # raises, and names the empty row
    return numbers


def _complete(table: Table, name: str) -> NDArray[np.float64]:
    numbers = table.numbers(name)
    if np.isnan(numbers).any():
        row = int(np.isnan(numbers).argmax())
        raise DataError(
            f'{table.at(row)}: column "{name}" is empty. Fill it in, or remove the sequence.'
        )
    return numbers


def _constant_within_ids(
    table: Table,
    steps: Steps,
    targets: NDArray[np.float64] | NDArray[np.int32],
    coded: Labels | None,  # the labels that the targets are codes of
    column: str,
) -> NDArray[np.int64]:
    """The first row of each id (ids,); refuses ids whose targets differ between rows."""
    _, firsts = np.unique(steps.owners, return_index=True)
    differs = targets != targets[firsts][steps.owners]
    if differs.any():
        row = int(differs.argmax())
        owner = steps.owners[row]
        values: Sequence[object] = targets.tolist() if coded is None else coded
        raise DataError(
            f'{table.at(row)}: {column} is "{values[row]}", but "{values[firsts[owner]]}" in '
            f'the first row of id "{steps.ids[owner]}". A sequence has one {column}.'
        )
    return firsts

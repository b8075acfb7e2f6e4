"""Sequences in long form: a table with one row a step, and a column that says whose step it is."""

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
    """The sequences of a table, in the order in which their ids first appear.

    Parameters
    ----------
    table
        One row a step.
    id
        Column that tells the sequences apart.
    time
        Column that orders the steps of each: numbers, or times. None: as they stand.
    features
        Columns of the channels. None: all that have no other role.
    label, target
        Column of the class, or of the number to predict; one of them. Constant within an id.

    Raises
    ------
    DataError
        Naming the row of a doubled time, a label that changes, a missing or unparsable number.
    """
    if (label is None) == (target is None):
        raise DataError(f"{table.source}: name either a label or a target, the column to predict.")
    goal = label or target
    assert goal is not None
    if features is None:
        features = [name for name in table.names if name not in (id, time, goal)]
    if not features:
        raise DataError(f"{table.source}: no columns of features beside {id}, {time} and {goal}.")
    steps = steps_by_id(table, id, time, features)
    coded = table.labels(goal) if label else None
    goals = _complete(table, goal) if coded is None else coded.places
    firsts = _constant_goals(table, steps.owners, goals, coded, steps.ids, goal)
    labels = [] if coded is None else list(coded.take(firsts))
    return Sequences(
        source=table.source,
        values=steps.values,
        labels=labels,
        lines=[int(row) + 1 for row in firsts],
        classes=classes_of(labels),
        targets=None if label else goals[firsts].astype(np.float64),
        ids=steps.ids,
        unit="row",
        features=tuple(features),
    )


@dataclass(frozen=True)
class Steps:
    """A table's rows as the steps of sequences."""

    ids: list[str]  # of the sequences, in the order in which they first appear
    values: list[NDArray[np.float64]]  # (T, C) each
    owners: NDArray[np.int64]  # (N,) which sequence each row of the table belongs to


def steps_by_id(table: Table, id: str, time: str | None, features: Sequence[str]) -> Steps:  # noqa: A002 (as above)
    """The sequences of a table, without what is to be told of them; as `sequences_from_table`.

    Raises
    ------
    DataError
        Naming the row of a doubled time, a missing or unparsable number.
    """
    names, owners = _owners(table, id)
    order = _in_time(table, owners, time, names)
    # One (rows, C) array in order of ids and times; each sequence is a view of it.
    steps = np.empty((len(table), len(features)))
    for column, feature in enumerate(features):
        steps[:, column] = _complete(table, feature)[order]
    ends = np.cumsum(np.bincount(owners))
    return Steps(names, np.split(steps, ends[:-1]), owners)


def _owners(table: Table, name: str) -> tuple[list[str], NDArray[np.int64]]:
    """The ids in order of appearance, and which of them each row (N,) belongs to."""
    ids = table.strings(name)
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
    """The rows (N,) by owner, and by time within each."""
    if time is None:
        return np.argsort(owners, kind="stable")
    moments = _moments(table, time)
    order = np.lexsort((moments, owners))
    doubled = (np.diff(owners[order]) == 0) & (moments[order][1:] == moments[order][:-1])
    if doubled.any():
        # lexsort is stable: of two equal rows the later one comes second.
        row = int(order[1:][doubled].min())
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
        return table.times(name)  # which says where it is empty
    return numbers


def _complete(table: Table, name: str) -> NDArray[np.float64]:
    numbers = table.numbers(name)
    if np.isnan(numbers).any():
        row = int(np.isnan(numbers).argmax())
        raise DataError(
            f'{table.at(row)}: column "{name}" is empty. Fill it in, or remove the sequence.'
        )
    return numbers


def _constant_goals(
    table: Table,
    owners: NDArray[np.int64],
    goals: NDArray[np.float64] | NDArray[np.int32],
    coded: Labels | None,  # what the goals stand for
    names: list[str],
    column: str,
) -> NDArray[np.int64]:
    """The first row of each id (ids,), after a look that all others say the same."""
    _, firsts = np.unique(owners, return_index=True)
    differs = goals != goals[firsts][owners]
    if differs.any():
        row = int(differs.argmax())
        said: Sequence[object] = goals.tolist() if coded is None else coded
        raise DataError(
            f'{table.at(row)}: {column} is "{said[row]}", and "{said[firsts[owners[row]]]}" in '
            f'the first row of id "{names[owners[row]]}". A sequence has one {column}.'
        )
    return firsts

"""Columns that say what is to be told: known beforehand, or made from it afterwards?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gru_optuna.data.numbers import parse_numbers
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gru_optuna.data.columns import Column
    from gru_optuna.data.guess import Roles
    from gru_optuna.data.tables import Table

_TELLING = 0.98  # of the rows have the label that a column's value says
_ROWS_A_VALUE = 5  # on average; of fewer every value tells a label by chance
_SAME_COURSE = 0.999  # correlation


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

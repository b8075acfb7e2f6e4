"""Several tables read as one: the training rows, and files with later rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gru_optuna.data.readers.labels import Labels
from gru_optuna.data.readers.numbers import has_markers
from gru_optuna.data.readers.tables import decide_formats, read_times
from gru_optuna.data.readers.times import ParsedTimes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gru_optuna.data.readers.tables import Table
    from gru_optuna.data.readers.time_forms import TimeForm


@dataclass(frozen=True)
class JoinedTables:
    """The rows of tables, one table after another. Letters: N rows in all, F tables."""

    tables: tuple[Table, ...]

    def __len__(self) -> int:
        return int(self._ends[-1])

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Where the rows of each table end (F,)."""
        return np.cumsum([len(table) for table in self.tables])

    @property
    def source(self) -> str:
        """The first file, as messages name it."""
        return self.tables[0].source

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """The number (N,) of the table that each row is from."""
        return np.repeat(np.arange(len(self.tables)), [len(table) for table in self.tables])

    def table_of(self, row: int) -> Table:
        """The table that a row is from."""
        return self.tables[int(self.owners[row])]

    def at(self, row: int) -> str:
        """The place of a row in its own file, as messages name it."""
        table = self.table_of(row)
        return table.at(row - int(self._ends[self.owners[row]]) + len(table))

    def times(self, names: Sequence[str], decided: Sequence[TimeForm] = ()) -> ParsedTimes:
        """Reads the times of the rows (N,), from one column or several that make them together.

        Texts of all files are read together: 03/04 is ambiguous, but another file may have 25/04.

        Raises
        ------
        DataError
            As `Table.times`.
        """
        by_table = [[table.time_column(name) for name in names] for table in self.tables]
        by_name = list(zip(*by_table, strict=True))
        if all(len({column.dtype for column in columns}) == 1 for columns in by_name):
            columns = [pl.concat(columns) for columns in by_name]
            return read_times(columns, self.source, self.at, decided)
        read = [
            read_times(columns, table.source, table.at, decided)
            for columns, table in zip(by_table, self.tables, strict=True)
        ]
        # Without offsets: the steps of series whose files differ so follow UTC.
        return ParsedTimes(np.concatenate([part.values for part in read]), read[0].forms)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Reads a column of numbers (N,), NaN where one is missing.

        Raises
        ------
        DataError
            As `Table.numbers`.
        """
        decide_formats(self.tables, name)
        return np.concatenate([table.numbers(name) for table in self.tables])

    def labels(self, name: str) -> Labels:
        """Reads a column of labels, none of which may be missing.

        Raises
        ------
        DataError
            As `Table.labels`.
        """
        return reduce(Labels.followed_by, (table.labels(name) for table in self.tables))

    def categories(self, name: str) -> NDArray[np.object_]:
        """Reads a column of categories (N,), without spaces around them; None where it is empty."""
        columns = [table.strings(name).str.strip_chars() for table in self.tables]
        return np.concatenate([np.array(column.to_list(), dtype=object) for column in columns])


def holds_categories(tables: Sequence[Table], name: str) -> bool:
    """Whether a column is categorical: whether a third or more of its fields aren't numbers.

    A few other fields among numbers are mistakes, or marks for what wasn't measured.
    """
    numbers, others = np.sum([table.count_numbers(name) for table in tables], axis=0)
    return bool(others > numbers - others) and not all(
        has_markers(table.strings(name), table.parsed(name)[1]) for table in tables
    )

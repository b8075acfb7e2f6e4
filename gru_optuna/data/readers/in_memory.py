"""Rows that a program holds: frames, arrays, lists of texts, in place of files.

A `Source` is where the names under ``[data]`` lead: a folder of files, or rows given by name.
Both go through the same checks, splits and encoders.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import polars as pl

from gru_optuna.data.readers.sequence_files import read_sequences
from gru_optuna.data.readers.sequences import Sequences, classes_of
from gru_optuna.data.readers.tables import TABLES, Table, read_table
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from gru_optuna.study_file import Task

    Given: TypeAlias = Mapping[str, Table | Sequences]
    Source: TypeAlias = Path | Given

TEXT, ANSWER = "text", "answer"
"""Columns of texts that came as a list, and of what is to be told of them."""


def describe(
    dataset: Any, task: Task | None, data: Mapping[str, Any]
) -> tuple[dict[str, Any], Source, Task]:
    """What stands under ``[data]`` for rows as a program brings them, where they are, the task.

    Parameters
    ----------
    dataset
        The path of a file, a frame, or ``(X, y)``.
    task
        None: from the roles of the columns, or from y.
    data
        What else is to stand under ``[data]``, the columns' roles among it.

    Raises
    ------
    DataError
        If there is no task for such rows, or they can't be used.
    """
    if isinstance(dataset, tuple) and len(dataset) == 2:
        rows, answers = dataset
        task = task or _task_of(answers)
        if is_texts(rows):
            goal = "label" if task == "classification" else "target"
            section = {"train": "X", "text": TEXT, goal: ANSWER}
            return section, {"X": text_rows(list(rows), answers, task, "X")}, task
        return {"train": "X"}, {"X": array_rows(rows, answers, task, "X")}, task
    told: Task = "regression" if "target" in data else "classification"
    task = task or ("forecasting" if "horizon" in data else told)
    if isinstance(dataset, str | Path):
        return {"train": Path(dataset).name}, Path(dataset).parent, task
    return {"train": "frame"}, {"frame": frame_rows(dataset, "frame")}, task


def is_texts(rows: Any) -> bool:
    """Whether rows are texts: a list, an array or a column of nothing but strings."""
    if isinstance(rows, str) or (isinstance(rows, np.ndarray) and rows.dtype.kind in "fiubc"):
        return False
    return hasattr(rows, "__len__") and len(rows) > 0 and all(isinstance(row, str) for row in rows)


def _task_of(answers: ArrayLike) -> Task:
    from sklearn.utils.multiclass import type_of_target  # heavy, and files don't need it

    kind = type_of_target(np.asarray(answers))
    if kind in ("binary", "multiclass"):
        return "classification"
    if kind == "continuous":
        return "regression"
    raise DataError(
        f"y: {kind}, and a row has one class or one number to predict. "
        f"Give an array of shape (N,), and the task if it isn't plain."
    )


def open_rows(source: Source, name: str) -> Table | Sequences:
    """The rows of a name under ``[data]``.

    Raises
    ------
    DataError
        If its file can't be read.
    """
    if not isinstance(source, Path):
        return _given(source, name)
    path = source / name
    return read_table(path) if path.suffix.lower() in TABLES else read_sequences(path)


def open_table(source: Source, name: str) -> Table:
    """The same of rows that must be a table.

    Raises
    ------
    DataError
        If its file can't be read, or is no table.
    """
    if isinstance(source, Path):
        return read_table(source / name)
    rows = _given(source, name)
    if not isinstance(rows, Table):
        raise DataError(f"{rows.source}: sequences, and a table is needed. Give a frame.")
    return rows


def _given(source: Given, name: str) -> Table | Sequences:
    if name not in source:
        raise DataError(
            f'"{name}" names a file, and these rows come from a program. Give a part of them '
            f"instead, such as 0.2, or all rows as files."
        )
    return source[name]


def frame_of(data: object, name: str) -> pl.DataFrame | None:
    """A frame of polars from one of polars, pandas or pyarrow, or from a mapping of columns.

    Returns
    -------
    polars.DataFrame or None
        None: it is no table.

    Raises
    ------
    DataError
        If its columns make no table; `name` names it.
    """
    if isinstance(data, pl.LazyFrame):
        data = data.collect()
    if isinstance(data, pl.DataFrame):
        return data
    if hasattr(data, "to_pydict"):  # of pyarrow
        data = data.to_pydict()
    if not isinstance(data, Mapping) and not hasattr(data, "columns"):
        return None
    # Of pandas, which needn't be installed, a column is what np.asarray makes of it.
    table: Any = data
    names = list(table) if isinstance(data, Mapping) else list(table.columns)
    try:
        return pl.DataFrame({str(name): _column(table[name]) for name in names})
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{name}: no table ({error}). Give columns of equal lengths.") from None


def _column(values: object) -> pl.Series:
    array = np.asarray(values)
    if array.dtype.kind in "biufM":
        return pl.Series(values=array)
    # pandas writes what is missing as NaN among texts.
    return pl.Series(values=[None if one != one else one for one in array.tolist()])  # noqa: PLR0124


def frame_rows(frame: Any, name: str) -> Table:
    """A frame of polars, pandas or pyarrow as a table; `name` names it in messages.

    Raises
    ------
    DataError
        If it is no frame, or has no rows.
    """
    frame = frame_of(frame, name)
    if frame is None:
        raise DataError(f"{name}: no frame. Give one of polars, pandas or pyarrow.")
    if not frame.height or not frame.width:
        raise DataError(f"{name}: the frame has no rows. Give one with rows.")
    return Table(Path(name), frame)


def text_rows(texts: Sequence[str], answers: ArrayLike, task: Task, name: str) -> Table:
    """A list of texts with their labels, or numbers to predict, as a table.

    Raises
    ------
    DataError
        If there are not as many answers as texts.
    """
    found = _answers(answers, len(texts), name)
    told: Any = [str(one) for one in found.tolist()] if task == "classification" else found
    return Table(Path(name), pl.DataFrame({TEXT: list(texts), ANSWER: told}))


def array_rows(
    rows: ArrayLike | Sequence[ArrayLike], answers: ArrayLike, task: Task, name: str
) -> Sequences:
    """Sequences of numbers with their labels, or numbers to predict.

    Parameters
    ----------
    rows
        (N, T, C), or (N, T) for one channel; or N arrays (T, C) or (T,) that may differ in T.
    answers
        (N,)
    task
        Whether answers are classes or numbers.
    name
        Of the rows, in messages.

    Raises
    ------
    DataError
        Naming the row that can't be used.
    """
    values = sequence_values(rows, name)
    found = _answers(answers, len(values), name)
    labels = [str(one) for one in found.tolist()] if task == "classification" else []
    return Sequences(
        source=name,
        values=values,
        labels=labels,
        lines=list(range(len(values))),
        classes=classes_of(labels),
        targets=None if labels else found.astype(np.float64),
        unit="row",
    )


def sequence_values(rows: ArrayLike | Sequence[ArrayLike], name: str) -> list[NDArray[np.float64]]:
    """The rows as (T, C) arrays each, all of the same C, without gaps.

    Raises
    ------
    DataError
        Naming the row that can't be used; from 0, as Python counts.
    """
    values: list[NDArray[np.float64]] = []
    for number, row in enumerate(rows):  # type: ignore[arg-type]
        at = f"{name}, row {number}"
        try:
            array = np.asarray(row, dtype=np.float64)
        except (TypeError, ValueError):
            raise DataError(f"{at}: not an array of numbers.") from None
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2 or 0 in array.shape:
            raise DataError(
                f"{at}: an array of shape {np.shape(row)}, and a sequence is (T, C), or (T,) for "
                f"one channel, of one step or more."
            )
        if array.shape[1] != (channels := (values or [array])[0].shape[1]):
            raise DataError(f"{at}: {array.shape[1]} channels, and {channels} in the first row.")
        if not np.isfinite(array).all():
            step, channel = (int(index) for index in np.argwhere(~np.isfinite(array))[0])
            raise DataError(
                f"{at}: channel {channel}, step {step} is {array[step, channel]}. "
                f"Fill in or remove such rows first."
            )
        values.append(array)
    if not values:
        raise DataError(f"{name}: no rows. Give some.")
    return values


def _answers(answers: ArrayLike, rows: int, name: str) -> NDArray[Any]:
    found = np.asarray(answers)
    if found.shape != (rows,):
        raise DataError(
            f"{name}: {rows} rows, and what is to be told of them has shape {found.shape}. "
            f"It needs one value a row, shape ({rows},)."
        )
    return found

"""Rows in memory: frames, arrays and lists of texts, in place of files.

A `Source` is what the names under ``[data]`` refer to: files in a folder, or rows in memory by
name. Both go through the same checks, splits and encoders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import polars as pl

from gru_optuna.data.readers.sequence_files import read_sequences
from gru_optuna.data.readers.sequences import Sequences, classes_of, known_steps
from gru_optuna.data.readers.tables import TABLES, Table, read_table
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from gru_optuna.data.readers.column_formats import TableFormats
    from gru_optuna.study_file import Task

    RowsByName: TypeAlias = Mapping[str, Table | Sequences]
    Source: TypeAlias = Path | RowsByName

TEXT, TARGET = "text", "answer"
"""The columns of a list of texts, and of its labels or numbers, by the names in stored studies."""


def describe(
    dataset: Any, task: Task | None, data: Mapping[str, Any]
) -> tuple[dict[str, Any], Source, Task]:
    """The ``[data]`` section for a dataset, the source of its rows, and the task.

    Parameters
    ----------
    dataset
        The path of a file, a frame, or ``(X, y)``.
    task
        None: chosen by the roles of the columns, or by y.
    data
        The other keys of ``[data]``, among them the roles of the columns.

    Raises
    ------
    DataError
        If no task suits such rows, or they can't be used.
    """
    if isinstance(dataset, tuple) and len(dataset) == 2:
        rows, targets = dataset
        check_targets(targets)
        task = task or _task_of(targets)
        if (texts := texts_in(rows, "X")) is not None:
            role = "label" if task == "classification" else "target"
            section = {"train": "X", "text": TEXT, role: TARGET}
            return section, {"X": text_rows(texts, targets, task, "X")}, task
        return {"train": "X"}, {"X": array_rows(rows, targets, task, "X")}, task
    if task is None and "horizon" in data:
        task = "forecasting"
    task = task or ("regression" if "target" in data else "classification")
    if isinstance(dataset, str | Path):
        return {"train": Path(dataset).name}, Path(dataset).parent, task
    return {"train": "frame"}, {"frame": frame_rows(dataset, "frame")}, task


def texts_in(rows: Any, name: str) -> list[str] | None:
    """The texts, if rows are a list, an array or a column of strings, or a frame of one column.

    Returns
    -------
    list of str or None
        None if the rows are something else.

    Raises
    ------
    DataError
        Naming the row, from 0, whose text is missing or empty.
    """
    if is_frame(rows):
        frame = frame_of(rows, name)
        assert frame is not None
        rows = frame.to_series() if frame.width == 1 else ()
    if isinstance(rows, str) or hasattr(rows, "toarray"):  # a sparse matrix has no length
        return None
    if isinstance(rows, np.ndarray) and rows.dtype.kind in "fiubc":
        return None
    texts = list(rows) if hasattr(rows, "__len__") and not isinstance(rows, Mapping) else []
    strings = [isinstance(text, str) for text in texts]
    others = (text for text, is_string in zip(texts, strings, strict=True) if not is_string)
    if not any(strings) or not all(map(is_missing, others)):
        return None
    for number, text in enumerate(texts):
        if not strings[number] or not text or text.isspace():
            fault = "empty" if strings[number] else f"missing ({text})"
            raise DataError(
                f"{name}, row {number}: the text is {fault}. Fill it in, or leave the row out."
            )
    return [str(text) for text in texts]


def is_frame(rows: Any) -> bool:
    """Whether rows are a frame of polars, pandas or pyarrow."""
    return isinstance(rows, pl.LazyFrame) or hasattr(rows, "columns")


def is_pandas(data: Any) -> bool:
    """Whether data are a frame, a series or an index of pandas, which need not be installed."""
    return type(data).__module__.partition(".")[0] == "pandas"


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or pandas' NA."""
    if value is None or type(value).__name__ == "NAType":
        return True
    return np.ndim(value) == 0 and bool(value != value)  # noqa: PLR0124 (only NaN and NaT differ)


def check_targets(targets: ArrayLike) -> None:
    """Refuses targets of which one is missing.

    Raises
    ------
    DataError
        Naming its row, from 0.
    """
    values = np.asarray(targets)
    if values.dtype.kind not in "OfcmM":
        return
    for number, value in enumerate(values.ravel() if values.dtype.kind != "f" else ()):
        if is_missing(value):
            raise _missing_target(number, value)
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise _missing_target(int(np.isnan(values.ravel()).argmax()), "NaN")


def _missing_target(row: int, value: Any) -> DataError:
    return DataError(
        f"y, row {row}: the target is missing ({value}). Fill it in, or leave the row out."
    )


def _task_of(targets: ArrayLike) -> Task:
    from sklearn.utils.multiclass import type_of_target  # heavy, and files don't need it

    kind = type_of_target(np.asarray(targets))
    if kind in ("binary", "multiclass"):
        return "classification"
    if kind == "continuous":
        return "regression"
    raise DataError(
        f"y is {kind}, but each row needs one class or one number. "
        f"Give an array of shape (N,), and name the task."
    )


def open_rows(
    source: Source,
    name: str,
    formats: TableFormats,
    task: Task | None = None,
    *,
    held_out: bool = False,
) -> Table | Sequences:
    """The rows that a name under ``[data]`` refers to.

    Parameters
    ----------
    source, name
        Where the rows are, and their name.
    formats
        Shared with the study's other tables.
    task, held_out
        As in `read_npz`: the study's task, and whether these aren't the training rows.

    Raises
    ------
    DataError
        If the file can't be read, or there are no such rows.
    """
    if not isinstance(source, Path):
        return _rows_in_memory(source, name, formats)
    path = source / name
    if path.suffix.lower() in TABLES:
        return read_table(path, formats)
    return read_sequences(path, task=task, held_out=held_out)


def open_table(source: Source, name: str, formats: TableFormats) -> Table:
    """The table that a name under ``[data]`` refers to.

    Raises
    ------
    DataError
        If the file can't be read, or the rows aren't a table.
    """
    if isinstance(source, Path):
        return read_table(source / name, formats)
    rows = _rows_in_memory(source, name, formats)
    if not isinstance(rows, Table):
        raise DataError(f"{rows.source}: these rows are sequences, not a table. Give a frame.")
    return rows


def _rows_in_memory(source: RowsByName, name: str, formats: TableFormats) -> Table | Sequences:
    if name not in source:
        raise DataError(
            f'"{name}" names a file, but the training rows are in memory. Give a share of them, '
            f"such as 0.2, or give all rows as files."
        )
    rows = source[name]
    return replace(rows, formats=formats) if isinstance(rows, Table) else rows


def frame_of(data: object, name: str) -> pl.DataFrame | None:
    """A frame of polars from one of polars, pandas or pyarrow, or from a mapping of columns.

    Returns
    -------
    polars.DataFrame or None
        None if the data aren't a table.

    Raises
    ------
    DataError
        If the columns don't form a table; `name` names it in the message.
    """
    if isinstance(data, pl.LazyFrame):
        data = data.collect()
    if isinstance(data, pl.DataFrame):
        return data
    if hasattr(data, "to_pydict"):  # a table of pyarrow
        data = data.to_pydict()
    if not isinstance(data, Mapping) and not hasattr(data, "columns"):
        return None
    # Through np.asarray, because pandas need not be installed.
    table: Any = data
    names = list(table) if isinstance(data, Mapping) else list(table.columns)
    try:
        return pl.DataFrame({str(name): _column(table[name]) for name in names})
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{name}: not a table ({error}). Give columns of equal lengths.") from None


def _column(values: object) -> pl.Series:
    array = np.asarray(values)
    if array.dtype.kind in "biufM":
        return pl.Series(values=array)
    if type(next(iter(array), None)).__name__ in ("Period", "Interval"):
        # Pandas' own kinds of times are read as the texts that they show.
        return pl.Series(values=[None if is_missing(value) else str(value) for value in array])
    # Among texts, pandas marks a missing one as NaN, which alone differs from itself.
    return pl.Series(values=[None if value != value else value for value in array.tolist()])  # noqa: PLR0124


def frame_rows(frame: Any, name: str) -> Table:
    """A frame of polars, pandas or pyarrow as a table; `name` names it in messages.

    Raises
    ------
    DataError
        If it isn't a frame, or has no rows.
    """
    frame = frame_of(frame, name)
    if frame is None:
        raise DataError(f"{name}: not a frame. Give one of polars, pandas or pyarrow.")
    if not frame.height or not frame.width:
        raise DataError(f"{name}: the frame has no rows. Give one with rows.")
    return Table(Path(name), frame, first_row=0)


def text_rows(texts: Sequence[str], targets: ArrayLike, task: Task, name: str) -> Table:
    """A list of texts with their labels, or numbers to predict, as a table.

    Raises
    ------
    DataError
        If there isn't exactly one target per text.
    """
    column: Any = _one_per_row(targets, len(texts), name)
    if task == "classification":
        column = list(map(str, column.tolist()))
    return Table(Path(name), pl.DataFrame({TEXT: list(texts), TARGET: column}), first_row=0)


def array_rows(
    rows: ArrayLike | Sequence[ArrayLike], targets: ArrayLike, task: Task, name: str
) -> Sequences:
    """Sequences of numbers with their labels, or numbers to predict.

    Parameters
    ----------
    rows
        (N, T, C), or (N, T) for one channel; or N arrays (T, C) or (T,) that may differ in T.
    targets
        (N,) labels or numbers.
    task
        Whether the targets are labels.
    name
        Names the rows in messages.

    Raises
    ------
    DataError
        Naming the row that can't be used.
    """
    if is_frame(rows):
        frame = frame_of(rows, name)
        assert frame is not None
        for column in frame:
            if not column.dtype.is_numeric() and column.dtype not in (pl.Boolean, pl.Null):
                raise DataError(
                    f'{name}: column "{column.name}" holds {column.dtype} values. Give a frame of '
                    f"numbers, or one with a single column of texts."
                )
    values = sequence_values(np.asarray(rows) if is_frame(rows) else rows, name)
    found = _one_per_row(targets, len(values), name)
    labels = list(map(str, found.tolist())) if task == "classification" else []
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
    """The rows as arrays (T, C) of one C, NaN where a value is missing.

    A row ends with its last step that has a value: rows of an array are padded with NaN.

    Raises
    ------
    DataError
        Naming the row that can't be used, counted from 0 as in Python.
    """
    values: list[NDArray[np.float64]] = []
    for number, row in enumerate(rows):  # type: ignore[arg-type]
        at = f"{name}, row {number}"
        try:
            array = as_numbers(row)
        except (TypeError, ValueError):
            raise DataError(f"{at}: not an array of numbers.") from None
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2 or 0 in array.shape:
            raise DataError(
                f"{at}: the array has shape {np.shape(row)}. Give (T, C), or (T,) for one "
                f"channel, with at least one step."
            )
        if array.shape[1] != (channels := (values or [array])[0].shape[1]):
            raise DataError(
                f"{at}: the row has {array.shape[1]} channels, but the first row has {channels}. "
                f"Give every row the same channels."
            )
        if np.isinf(array).any():
            step, channel = (int(index) for index in np.argwhere(np.isinf(array))[0])
            raise DataError(
                f"{at}: channel {channel}, step {step} is {array[step, channel]}. "
                f"Correct such values, or remove their rows."
            )
        values.append(array[: known_steps(array, at)])
    if not values:
        raise DataError(f"{name}: there are no rows. Give at least one.")
    return values


def as_numbers(values: Any) -> NDArray[np.float64]:
    """An array of numbers, NaN where a masked array masks one.

    Raises
    ------
    TypeError, ValueError
        If there are other values, among them times and complex numbers.
    """
    if isinstance(values, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(values), np.nan, values.data).astype(np.float64)
    array = np.asarray(values)
    if array.dtype.kind in "cmM":
        raise TypeError(f"holds {array.dtype} values, not numbers")
    return array.astype(np.float64, copy=False)


def _one_per_row(targets: ArrayLike, rows: int, name: str) -> NDArray[Any]:
    check_targets(targets)
    found = np.asarray(targets)
    if found.shape != (rows,):
        raise DataError(
            f"{name} has {rows} rows, but the targets have shape {found.shape}. "
            f"Give one target per row: shape ({rows},)."
        )
    return found

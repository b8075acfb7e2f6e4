"""NumPy's ``.npz``: ``values``, their ``lengths`` where rows differ, ``labels`` or ``targets``."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.readers.limits import check_archive
from gru_optuna.data.readers.sequences import Sequences, classes_of, known_steps
from gru_optuna.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gru_optuna.study_file.tasks import Task

_NAMES = ("values", "lengths", "labels", "targets")
_ROWS_PER_CLASS, _MOST_CLASSES = 5, 50  # whole numbers with this many rows each are classes

# The names under which other libraries save rows and what is to be predicted for them.
_PAIRS = (
    ("X", "y"), ("x", "y"), ("X", "Y"), ("data", "target"), ("data", "labels"),
    ("features", "labels"), ("inputs", "targets"),
)  # fmt: skip
_HALVES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("X_train", "y_train", "X_test", "y_test"),
    ("X_train", "Y_train", "X_test", "Y_test"),
)


def holds_test_rows(path: Path) -> bool:
    """Whether a file holds test rows next to its training rows, as x_test and y_test.

    Raises
    ------
    DataError
        As `read_npz`.
    """
    names = _load(path)
    return any(set(half) <= set(names) for half in _HALVES)


def read_npz(
    path: Path, *, with_targets: bool = True, task: Task | None = None, held_out: bool = False
) -> Sequences:
    """Reads one ``.npz`` file.

    Parameters
    ----------
    path
        The file.
    with_targets
        Whether the file must hold labels or targets. If not, they are ignored.
    task
        Whether ``y`` or ``target`` holds labels or targets. None: numbers with fractions are
        targets, and so are whole numbers with few rows each.
    held_out
        Whether to read ``x_test`` and ``y_test``, where the file holds these.

    The file holds these arrays:

    ``values``
        (N, T, C), or (N, T) for one channel; NaN where a value is missing.
    ``lengths``
        (N,) whole numbers from 1 to T; later steps are padding. Without it, a row ends with its
        last step that has a value.
    ``labels``
        (N,) texts or whole numbers, for classification.
    ``targets``
        (N,) numbers in place of labels, for regression.

    Or the names that are usual elsewhere: ``X`` and ``y``; ``x_train``, ``y_train``, ``x_test`` and
    ``y_test``; ``data`` and ``target``.

    Raises
    ------
    DataError
        Naming the array and the row, from 1.
    """
    arrays = _with_our_names(_load(path), task, held_out=held_out)
    _check_names(path, list(arrays), with_targets=with_targets)
    values = _values(path, arrays["values"])
    lengths = _lengths(path, arrays.get("lengths"), *values.shape[:2])
    _refuse_infinite(path, values, lengths)
    if "lengths" not in arrays and np.isnan(values).any():
        lengths = np.array(
            [known_steps(row, f"{path}, row {n}") for n, row in enumerate(values, start=1)]
        )
    labels: list[str] = []
    targets: NDArray[np.float64] | None = None
    if with_targets and "labels" in arrays:
        labels = _labels(path, arrays["labels"], len(values))
    elif with_targets:
        targets = _targets(path, arrays["targets"], len(values))
    return Sequences(
        source=str(path),
        values=[row[:length] for row, length in zip(values, lengths.tolist(), strict=True)],
        labels=labels,
        lines=list(range(1, len(values) + 1)),
        classes=classes_of(labels),
        targets=targets,
        unit="row",
    )


def _with_our_names(
    arrays: dict[str, NDArray[np.generic]], task: Task | None, *, held_out: bool
) -> dict[str, NDArray[np.generic]]:
    """The arrays under the names that this package uses; others keep theirs."""
    pairs = [*_PAIRS, *(half[:2] for half in _HALVES)]
    if held_out:
        pairs = [half[2:] for half in _HALVES if set(half[2:]) <= set(arrays)] + pairs
    # Rows to predict for have no targets; but where there are some, their name decides.
    for rows, predicted in sorted(pairs, key=lambda pair: pair[1] not in arrays):
        if rows not in arrays or "values" in arrays:
            continue
        halves = (half for half in _HALVES if {rows, predicted} <= set(half))
        own = {rows, predicted, *next(halves, ())}
        found = {name: array for name, array in arrays.items() if name not in own}
        found["values"] = arrays[rows]
        if predicted in arrays:
            targets = arrays[predicted]
            # Keras saves the classes of images as a column.
            targets = targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
            # A few test rows don't decide again what the training rows hold.
            decisive = arrays.get("y_train", arrays.get("Y_train", targets))
            labelled = _are_classes(decisive) if task is None else task == "classification"
            labelled = predicted == "labels" or (labelled and predicted != "targets")
            if labelled and targets.dtype.kind == "f" and _are_whole(targets):
                targets = targets.astype(np.int64)
            found["labels" if labelled else "targets"] = targets
        return found
    return arrays


def _are_classes(targets: NDArray[np.generic]) -> bool:
    if targets.dtype.kind not in "fiu":
        return True
    if not _are_whole(targets):
        return False
    distinct = len(np.unique(targets))
    enough = distinct * _ROWS_PER_CLASS <= len(targets) or distinct == 2
    return enough and distinct <= _MOST_CLASSES


def _are_whole(numbers: NDArray[np.generic]) -> bool:
    floats = numbers.astype(np.float64)
    return bool((floats == np.round(floats)).all())


def _load(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if isinstance(file, np.lib.npyio.NpzFile):
                check_archive(path)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: a single unnamed array. Write it with numpy.savez.")
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "pickle" in str(error).lower():
            raise DataError(
                f"{path}: it holds Python objects, which may contain code and are not loaded. "
                f'Pad the rows into one array (N, T, C) and add "lengths".'
            ) from None
        raise DataError(
            f"{path}: not an .npz file, or damaged. Write it with numpy.savez."
        ) from None


def _check_names(path: Path, names: list[str], *, with_targets: bool) -> None:
    known = list(dict.fromkeys((*_NAMES, *(name for each in (*_PAIRS, *_HALVES) for name in each))))
    if "arr_0" in names:
        raise DataError(
            f"{path}: its arrays have no names. Name them: "
            f"numpy.savez('{path.name}', values=..., labels=...)."
        )
    for name in names:
        if name not in _NAMES:
            raise DataError(f'{path}: unknown array "{name}". {did_you_mean(name, known)}')
    listed = ", ".join(names) or "none"
    if "values" not in names:
        raise DataError(f'{path}: no array "values" (N, T, C) or "X". It has: {listed}.')
    if with_targets and ("labels" in names) == ("targets" in names):
        raise DataError(
            f'{path}: needs either "labels" (classes) or "targets" (numbers). It has: {listed}.'
        )


def _values(path: Path, values: NDArray[np.generic]) -> NDArray[np.float64]:
    if values.dtype.kind not in "fiub" or values.ndim not in (2, 3) or 0 in values.shape:
        raise DataError(
            f'{path}: "values" has shape {values.shape} and type {values.dtype}. '
            f"Give numbers of shape (N, T, C) or (N, T), with no empty axis."
        )
    values = values[:, :, None] if values.ndim == 2 else values
    return values.astype(np.float64, copy=False)


def _check_array(
    path: Path, name: str, array: NDArray[np.generic], kinds: str, rows: int, needed: str
) -> None:
    """Refuses an array (N,) of other types than NumPy's `kinds`, or of another N than values."""
    if array.dtype.kind not in kinds or array.shape != (rows,):
        one_hot = array.shape[:1] == (rows,) and array.ndim == 2 and name != "lengths"
        advice = " If each row marks its class, write numpy.argmax(labels, axis=1)."
        raise DataError(
            f'{path}: "{name}" has shape {array.shape} and type {array.dtype}. '
            f"Give {needed} ({rows},), as values has {rows} rows.{advice if one_hot else ''}"
        )


def _lengths(
    path: Path, lengths: NDArray[np.generic] | None, rows: int, steps: int
) -> NDArray[np.int64]:
    if lengths is None:
        return np.full(rows, steps)
    _check_array(path, "lengths", lengths, "iu", rows, "whole numbers of shape")
    whole = lengths.astype(np.int64)
    wrong = (whole < 1) | (whole > steps)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f'{path}, row {row + 1}: "lengths" is {whole[row]}, but values has {steps} steps. '
            f"Give a length from 1 to {steps}."
        )
    return whole


def _refuse_infinite(path: Path, values: NDArray[np.float64], lengths: NDArray[np.int64]) -> None:
    if not np.isinf(values).any():
        return
    held = np.arange(values.shape[1]) < lengths[:, None]
    infinite = np.isinf(values) & held[:, :, None]
    if infinite.any():
        row, step, channel = (int(index) for index in np.argwhere(infinite)[0])
        raise DataError(
            f"{path}, row {row + 1}: channel {channel + 1}, step {step + 1} is "
            f"{values[row, step, channel]}. Correct such values, or remove their rows."
        )


def _labels(path: Path, labels: NDArray[np.generic], rows: int) -> list[str]:
    kinds = 'texts or whole numbers ("targets" are for regression) of shape'
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels.astype(np.bytes_), "utf-8", "replace")
    _check_array(path, "labels", labels, "iubU", rows, kinds)
    texts = [str(label).strip() for label in labels.tolist()]
    if "" in texts:
        raise DataError(f"{path}, row {texts.index('') + 1}: the label is empty. Fill it in.")
    return texts


def _targets(path: Path, targets: NDArray[np.generic], rows: int) -> NDArray[np.float64]:
    _check_array(path, "targets", targets, "fiub", rows, "numbers of shape")
    numbers = targets.astype(np.float64, copy=False)
    if not np.isfinite(numbers).all():
        row = int((~np.isfinite(numbers)).argmax())
        raise DataError(
            f"{path}, row {row + 1}: the target is {numbers[row]}. "
            f"Fill in such targets, or remove their rows."
        )
    return numbers

"""NumPy's ``.npz``: ``values``, their ``lengths`` where rows differ, ``labels`` or ``targets``."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.readers.sequences import Sequences, classes_of
from gru_optuna.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_NAMES = ("values", "lengths", "labels", "targets")


def read_npz(path: Path, *, with_targets: bool = True) -> Sequences:
    """Reads one ``.npz`` file.

    Parameters
    ----------
    path
        The file.
    with_targets
        Whether the file must hold labels or targets. If not, they are ignored.

    The file holds these arrays:

    ``values``
        (N, T, C), or (N, T) for one channel.
    ``lengths``
        (N,) whole numbers from 1 to T; later steps are padding. Without it, all rows have T.
    ``labels``
        (N,) texts or whole numbers, for classification.
    ``targets``
        (N,) numbers in place of labels, for regression.

    Raises
    ------
    DataError
        Naming the array and the row, from 1.
    """
    arrays = _load(path, with_targets=with_targets)
    values = _values(path, arrays["values"])
    lengths = _lengths(path, arrays.get("lengths"), *values.shape[:2])
    _refuse_gaps(path, values, lengths)
    labels: list[str] = []
    targets: NDArray[np.float64] | None = None
    if with_targets and "labels" in arrays:
        labels = _labels(path, arrays["labels"], len(values))
    elif with_targets:
        targets = _targets(path, arrays["targets"], len(values))
    return Sequences(
        source=str(path),
        values=[row[:length] for row, length in zip(values, lengths, strict=True)],
        labels=labels,
        lines=list(range(1, len(values) + 1)),
        classes=classes_of(labels),
        targets=targets,
        unit="row",
    )


def _load(path: Path, *, with_targets: bool) -> dict[str, NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: a single unnamed array. Write it with numpy.savez.")
            _check_names(path, file.files, with_targets=with_targets)
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
    for name in names:
        if name not in _NAMES:
            raise DataError(f'{path}: unknown array "{name}". {did_you_mean(name, _NAMES)}')
    listed = ", ".join(names) or "none"
    if "values" not in names:
        raise DataError(f'{path}: no array "values" (N, T, C). It has: {listed}.')
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
        raise DataError(
            f'{path}: "{name}" has shape {array.shape} and type {array.dtype}. '
            f"Give {needed} ({rows},), as values has {rows} rows."
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


def _refuse_gaps(path: Path, values: NDArray[np.float64], lengths: NDArray[np.int64]) -> None:
    if np.isfinite(values).all():
        return
    held = np.arange(values.shape[1]) < lengths[:, None]
    gaps = ~np.isfinite(values) & held[:, :, None]
    if gaps.any():
        row, step, channel = (int(index) for index in np.argwhere(gaps)[0])
        raise DataError(
            f"{path}, row {row + 1}: channel {channel + 1}, step {step + 1} is "
            f"{values[row, step, channel]}. Fill in such values, or remove their rows."
        )


def _labels(path: Path, labels: NDArray[np.generic], rows: int) -> list[str]:
    kinds = 'texts or whole numbers ("targets" are for regression) of shape'
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

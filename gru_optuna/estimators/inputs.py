"""The kinds of X: texts, sequences of differing lengths, an array (N, T, C), a matrix (N, T).

Each row of a matrix is a sequence of one channel, all of the same length; it is checked as
scikit-learn checks every matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from gru_optuna.data.readers.in_memory import as_numbers, is_frame, sequence_values, texts_in
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sklearn.base import BaseEstimator


@dataclass(frozen=True)
class EstimatorInput:
    """The rows of one X."""

    kind: Literal["texts", "sequences", "matrix"]
    values: Sequence[Any]  # texts, or arrays (T, C)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def channels(self) -> int:
        """C; 0 for texts."""
        return 0 if self.kind == "texts" else int(self.values[0].shape[1])


def read_rows(
    estimator: BaseEstimator, X: Any, like: EstimatorInput | None = None
) -> EstimatorInput:
    """The rows of X, checked.

    Parameters
    ----------
    estimator
        In `fit` it gets ``n_features_in_``: the columns of a matrix, or the channels of sequences.
    X
        As ``fit`` and ``predict`` take it.
    like
        The rows that the estimator was fitted on; None in `fit`.

    Raises
    ------
    ValueError
        If X is none of these kinds, or differs from what the estimator was fitted on.
    """
    fewest = 2 if like is None else 1
    if like is None:
        for learned in ("n_features_in_", "feature_names_in_"):
            estimator.__dict__.pop(learned, None)
    # scikit-learn would read the masked values of a masked array.
    X = as_numbers(X) if isinstance(X, np.ma.MaskedArray) else X
    if (texts := texts_in(X, "X")) is not None:
        rows = EstimatorInput("texts", texts)
    elif _is_matrix(X) and (like is None or like.kind == "matrix"):
        try:
            matrix = validate_data(
                estimator,
                X,
                reset=like is None,
                dtype=np.float64,
                ensure_min_samples=fewest,
                ensure_all_finite=False,
            )
        except TypeError as error:  # values that no library turns into numbers, such as times
            raise DataError(f"X: not a matrix of numbers ({error}).") from None
        except ValueError as error:
            if is_frame(X) and "could not convert string" in str(error):
                raise DataError(
                    f"X: a frame of several columns is a matrix of numbers, but one holds texts "
                    f"({error}). Give the numbers alone, or the column of texts alone."
                ) from None
            raise
        _check_finite(matrix, list(X.columns) if is_frame(X) else None)
        rows = EstimatorInput("matrix", list(matrix[:, :, None]))
    else:
        if (isinstance(X, np.ndarray) and X.dtype != object) or _is_matrix(X):
            X = check_array(X, dtype=np.float64, allow_nd=True, ensure_all_finite=False)
        rows = EstimatorInput("sequences", sequence_values(X, "X"))
    if len(rows) < fewest:
        raise ValueError(f"X has {len(rows)} sample, and a minimum of {fewest} is required.")
    if like is not None and rows.channels != like.channels:
        raise ValueError(
            f"X has {_describe(rows)}, but {type(estimator).__name__} is expecting "
            f"{_describe(like)}."
        )
    if like is None and rows.kind == "sequences":
        estimator.n_features_in_ = rows.channels
    return rows


def _check_finite(matrix: NDArray[np.float64], columns: list[Any] | None) -> None:
    """Refuses a matrix that lacks a number, and names its first place."""
    faults = np.argwhere(~np.isfinite(matrix))
    if len(faults):
        row, column = (int(place) for place in faults[0])
        named = f'column "{columns[column]}"' if columns else f"column {column}"
        fault = "missing (NaN)" if np.isnan(matrix[row, column]) else f"{matrix[row, column]}"
        raise DataError(
            f"X, row {row}: {named} is {fault}. Fill in such values, or leave out their rows."
        )


def _is_matrix(X: Any) -> bool:
    """Whether X is a matrix. What is neither a matrix nor sequences, scikit-learn then refuses."""
    if isinstance(X, np.ndarray) and (X.ndim != 1 or X.dtype != object):
        return X.ndim < 3
    if not isinstance(X, list | tuple | np.ndarray):
        return True
    try:
        shapes = {np.shape(row) for row in X}
    except ValueError:  # ragged within a row: refused with its number
        return False
    return len(shapes) < 2 and all(len(shape) < 2 for shape in shapes)


def _describe(rows: EstimatorInput) -> str:
    if rows.kind == "texts":
        return "texts"
    return f"sequences of {rows.channels} channel{'s' if rows.channels > 1 else ''}"

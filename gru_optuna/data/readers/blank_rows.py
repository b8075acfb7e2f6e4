"""Blank fields are missing values, and rows of blank fields are dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray


def without_blanks(frame: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.int64] | None]:
    """Makes blank fields null and drops rows of nulls.

    Returns
    -------
    polars.DataFrame, and array (N,) or None
        The frame, and the positions of the rows that were kept; None if all were.
    """
    blank = [
        pl.when(pl.col(column.name).str.strip_chars() != "").then(pl.col(column.name))
        for column in frame
        if column.dtype == pl.String and (column.str.strip_chars() == "").any()
    ]
    frame = frame.with_columns(blank)
    if not frame.width:
        return frame, None
    kept = ~frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    if kept.all():
        return frame, None
    return frame.filter(kept), kept.arg_true().to_numpy().astype(np.int64)

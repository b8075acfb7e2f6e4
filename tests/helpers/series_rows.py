"""What tests of series share: files of made-up rows, and what becomes of them."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gru_optuna import study_file
from gru_optuna.data.load import load_dataset
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from gru_optuna.data.dataset import Dataset, Split

HOUR = timedelta(hours=1)
START = datetime(2024, 1, 1)  # a Monday


def write(
    folder: Path,
    columns: dict[str, Sequence[Any]],
    step: timedelta = HOUR,
    file: str = "series.csv",
    first: int = 0,
) -> None:
    """A series of evenly spaced rows, unless `columns` brings its own times.

    `first` is how many steps behind `START` it begins.
    """
    (steps,) = {len(values) for values in columns.values()}
    if "time" not in columns:
        columns = {"time": [START + (first + row) * step for row in range(steps)]} | columns
    rows = zip(*columns.values(), strict=True)
    lines = [",".join("" if _is_missing(one) else str(one) for one in row) for row in rows]
    (folder / file).write_text("\n".join([",".join(columns), *lines]) + "\n")


def _is_missing(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def load(folder: Path, metric: str = "mae", **data: Any) -> Dataset:
    return load_dataset(study(metric, **data), folder)


def study(metric: str = "mae", **data: Any) -> study_file.Specification:
    keys = {"train": "series.csv", "time": "time", "target": "y", "horizon": 3}
    content = {"name": "x", "task": "forecasting", "metric": metric, "data": keys | data}
    return study_file.parse(content, source="x.toml")


def refusal(folder: Path, metric: str = "mae", **data: Any) -> str:
    """What is said about data that aren't accepted, without their folder."""
    with pytest.raises(DataError) as caught:
        load(folder, metric, **data)
    return str(caught.value).replace(f"{folder}/", "")


def targets_of(split: Split | None) -> Tensor:
    """The targets (N, O), in the data's units."""
    assert split is not None
    assert split.units is not None
    return split.units.restore(split.targets)


def noise(steps: int, seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).normal(size=steps).round(6).tolist()


def daily(days: int, spread: float = 0.1) -> list[float]:
    """Hours whose values repeat every day, nearly."""
    wave = np.sin(np.arange(24 * days) * 2 * np.pi / 24) * 10
    return (wave + spread * np.asarray(noise(24 * days))).round(6).tolist()

"""Small data of every kind, read as simple models read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gru_optuna import study_file
from gru_optuna.baselines.rows import RawFold, read_raw_folds
from helpers.series_rows import study as series_study
from helpers.series_rows import write as write_series

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.study_file import Specification

KINDS = ("texts", "sentences without spaces", "text numbers", "sequences", "numbers", "series")
"""What `small_study` can make."""


def small_study(folder: Path, kind: str, metric: str | None = None, **data: Any) -> Specification:
    """Writes small data in which there is something to learn, and returns their study."""
    random = np.random.default_rng(0)
    if kind == "series":
        hours = np.arange(200)
        noise = 0.3 * random.normal(size=200)
        rows = {
            "y": (10 + 0.01 * hours + 3 * np.sin(hours * np.pi / 12) + noise).tolist(),
            "rain": random.normal(size=200).tolist(),
            "open": (hours % 24 > 8).astype(float).tolist(),
        }
        write_series(folder, rows)
        keys: dict[str, Any] = {"covariates": ["rain"], "known": ["open"], "test": 40}
        return series_study(metric or "mae", **{"validation": 30, **keys, **data})
    task = "regression" if "numbers" in kind else "classification"
    content: dict[str, Any] = {"name": "x", "task": task, "fit_baselines": True}
    content |= {} if metric is None else {"metric": metric}
    if kind in ("sequences", "numbers"):
        content["data"] = {"train": "rows.npz", "test": 0.3, **data}
        _write_arrays(folder, random, task)
    else:
        given = {"label": "kind"} if task == "classification" else {"target": "size"}
        content["data"] = {"train": "rows.csv", "text": "words", "test": 0.3, **given, **data}
        _write_texts(folder, random, spaced="spaces" not in kind)
    return study_file.parse(content, source="x.toml")


def small_fold(folder: Path, kind: str, metric: str | None = None, **data: Any) -> RawFold:
    """The rows of `small_study`."""
    return read_raw_folds(small_study(folder, kind, metric, **data), folder)[0]


def _write_arrays(folder: Path, random: np.random.Generator, task: str) -> None:
    """Waves of two frequencies; the number to predict is the height."""
    kinds, heights = np.arange(80) % 2, random.uniform(1, 3, 80)
    time = np.arange(24)
    waves = np.sin(time * np.pi / np.where(kinds, 3, 6)[:, None] + random.uniform(0, 6, (80, 1)))
    values = (heights[:, None] * waves)[:, :, None] + 0.05 * random.normal(size=(80, 24, 1))
    lengths = random.integers(16, 25, 80)
    target = {"labels": kinds.astype(str)} if task == "classification" else {"targets": heights}
    np.savez(folder / "rows.npz", values=values.astype(np.float32), lengths=lengths, **target)


def _write_texts(folder: Path, random: np.random.Generator, *, spaced: bool) -> None:
    good, bad, both = ("很好", "太差", "电影") if not spaced else ("good", "bad", "film")
    lines = ["words,kind,size"]
    for row in range(80):
        first = (good, bad)[row % 2]
        # A number of its own for each, because equal texts are kept once.
        words = random.permutation([first, first, both, f"{row}"])
        text = (" " if spaced else "").join(words)
        lines.append(f"{text},{('yes', 'no')[row % 2]},{row % 2 + 0.1 * random.normal()}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

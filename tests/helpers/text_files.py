"""Small files of texts, and the datasets that they give."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from gru_optuna import study_file
from gru_optuna.data.load import load_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.data.dataset import Dataset


GOOD, BAD = ["lovely", "bright", "warm", "kind"], ["awful", "dark", "cold", "rude"]


ROWS = [
    (f"{'a' if row % 3 else 'the'} {words[row % 4]} film number {row // 2}", label)
    for row in range(40)
    for words, label in ((GOOD, "good"), (BAD, "bad"))
]
"""80 texts, half of them good."""


# Reviews as they are written, without spaces: 酒店 hotel, 房间 room, 服务 service, 早餐 breakfast.
CHINESE = [
    (f"{subject}{verdict}，{end}。", label)
    for subject in ("酒店", "房间", "服务", "早餐", "位置", "前台")
    for verdict, label in (
        ("非常好", "pos"),
        ("很不错", "pos"),
        ("太差了", "neg"),
        ("很糟糕", "neg"),
    )
    for end in ("我们住了三天", "价格是两百元")
]


def write(folder: Path, name: str, rows: list[tuple[Any, ...]], *columns: str) -> None:
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns or ("text", "label"), *rows])


def load(folder: Path, seed: int = 0, task: str = "classification", **data: Any) -> Dataset:
    keys = {"train": "train.csv", "text": "text"}
    keys |= {"label": "label"} if task == "classification" else {"target": "target"}
    content = {"name": "x", "seed": seed, "task": task, "data": keys | data}
    return load_dataset(study_file.parse(content, source="x.toml"), folder)

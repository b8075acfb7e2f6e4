"""The three tasks: the metrics of each, and the keys of a study file that each can use."""

from __future__ import annotations

from typing import Literal, TypeVar

from gru_optuna.hyperparameters import VIEW_KEYS

T = TypeVar("T")

Task = Literal["classification", "regression", "forecasting"]
Metric = Literal[
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "log_loss",
    "roc_auc",
    "rmse",
    "mae",
    "r2",
    "mase",
    "smape",
]
Kind = Literal["texts", "sequences", "series"]
"""What the rows are. Series are forecast; texts and sequences have classes or numbers."""

METRICS: dict[Task, tuple[Metric, ...]] = {
    "classification": ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc"),
    "regression": ("rmse", "mae", "r2"),
    "forecasting": ("mae", "rmse", "mase", "smape"),
}
"""The metrics of each task, its default first."""

MAXIMIZED: frozenset[Metric] = frozenset(
    {"accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "r2"}
)


SIZE = "network_parameters"
"""The second goal that a study may have: the numbers that a network learns, as few as possible.

Also the name of the attribute in which a trial records them, and of what constraints limit."""


def minimized(task: Task) -> Metric:
    """A task's first metric that is minimized, as plain Optuna's studies do by default."""
    return next(metric for metric in METRICS[task] if metric not in MAXIMIZED)


def _each(keys: str, allowed: tuple[T, ...]) -> dict[str, tuple[T, ...]]:
    return dict.fromkeys(keys.split(), allowed)


TASKS_OF_KEYS: dict[str, tuple[Task, ...]] = {
    **_each("text id features steps group", ("classification", "regression")),
    **_each("label class_weights", ("classification",)),
    **_each("target", ("regression", "forecasting")),
    **_each("series covariates known window horizon season gap stride", ("forecasting",)),
    **_each("missing calendar residual log", ("forecasting",)),
}
"""Keys of ``[data]`` that only some tasks can use."""

KINDS_OF_KEYS: dict[str, tuple[Kind, ...]] = {
    **_each("tokenizer vocabulary max_tokens deduplicate", ("texts",)),
    **_each("id features steps standardize spectrum", ("sequences",)),
    **_each("time normalize differences patch", ("sequences", "series")),
}
"""Keys of ``[data]`` that apply only to some kinds of rows."""

DATA_HYPERPARAMETERS = ("vocabulary", "max_tokens", *VIEW_KEYS)
"""Keys of ``[data]`` that are hyperparameters of a trial where they are given."""

TASKS_OF_HYPERPARAMETERS: dict[str, tuple[Task, ...]] = {"label_smoothing": ("classification",)}
"""Hyperparameters that have an effect only on some tasks."""

KINDS_OF_HYPERPARAMETERS: dict[str, tuple[Kind, ...]] = {
    **_each("embedding_size embedding_initializer", ("texts",)),
    **_each("token_insertion token_deletion token_swap word_dropout", ("texts",)),
    **_each("jitter scaling time_masking", ("sequences", "series")),
}
"""Hyperparameters that have an effect only on some kinds of rows."""

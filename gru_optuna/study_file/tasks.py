"""The three tasks: how each is measured, and which keys of a study file each has a use for."""

from __future__ import annotations

from typing import Literal

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
"""What the rows are. Series are forecast; texts and sequences are classified, or regressed."""

METRICS: dict[Task, tuple[Metric, ...]] = {
    "classification": ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc"),
    "regression": ("rmse", "mae", "r2"),
    "forecasting": ("mae", "rmse", "mase", "smape"),
}
"""Of each task, its default first."""

MAXIMIZED: frozenset[Metric] = frozenset(
    {"accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "r2"}
)


def minimized(task: Task) -> Metric:
    """A task's first metric that is better when lower, as studies of plain Optuna expect."""
    return next(metric for metric in METRICS[task] if metric not in MAXIMIZED)


TASKS_OF_KEYS: dict[str, tuple[Task, ...]] = {
    **dict.fromkeys(("text", "id", "features", "group"), ("classification", "regression")),
    **dict.fromkeys(("label", "class_weights"), ("classification",)),
    "target": ("regression", "forecasting"),
    **dict.fromkeys(
        (
            "series",
            "covariates",
            "known",
            "window",
            "horizon",
            "season",
            "gap",
            "stride",
            "missing",
            "calendar",
        ),
        ("forecasting",),
    ),
}
"""Keys of ``[data]`` that some tasks only have a use for."""

KINDS_OF_KEYS: dict[str, tuple[Kind, ...]] = {
    **dict.fromkeys(("tokenizer", "vocabulary", "max_tokens", "deduplicate"), ("texts",)),
    **dict.fromkeys(("id", "features", "standardize"), ("sequences",)),
    "time": ("sequences", "series"),
}
"""Keys of ``[data]`` that some kinds of rows only have a use for."""

DATA_HYPERPARAMETERS = ("vocabulary", "max_tokens")
"""Keys of ``[data]`` that are hyperparameters of a trial where they are given."""

KINDS_OF_HYPERPARAMETERS: dict[str, tuple[Kind, ...]] = {
    **dict.fromkeys(
        ("embedding_size", "token_insertion", "token_deletion", "token_swap"), ("texts",)
    ),
    **dict.fromkeys(("jitter", "scaling", "time_masking"), ("sequences", "series")),
}
"""Hyperparameters that matter for some kinds of rows only."""

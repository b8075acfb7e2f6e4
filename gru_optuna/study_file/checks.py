"""Checks across the keys of a study file: those that its task needs, and those it can't use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gru_optuna.study_file.tasks import (
    KINDS_OF_HYPERPARAMETERS,
    KINDS_OF_KEYS,
    TASKS_OF_HYPERPARAMETERS,
    TASKS_OF_KEYS,
    Kind,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gru_optuna.study_file.data_section import Data, StudySection
    from gru_optuna.study_file.searchable import Searchable


_OR_NAME_TEXT = ', or name the column of texts: text = "COLUMN" under [data]'


def kind_of(data: Data, task: Task) -> Kind:
    """Whether the rows of a study are texts, sequences or series."""
    if task == "forecasting":
        return "series"
    return "texts" if data.text is not None else "sequences"


def check_data(data: Data, task: Task, *, stored: bool = False) -> None:
    """Refuses keys that the task or the kind of rows has no use for, and asks for missing ones.

    Parameters
    ----------
    stored
        Whether the section was stored, which then names every key, used or not.

    Raises
    ------
    ValueError
        With a message that follows ``file [data]:``.
    """
    kind = kind_of(data, task)
    written = [] if stored else _changed(data)
    for key in written:
        tasks, kinds = TASKS_OF_KEYS.get(key, (task,)), KINDS_OF_KEYS.get(key, (kind,))
        if task not in tasks:
            raise ValueError(
                f"{key} is for {' and '.join(tasks)}, but the task here is {task}. "
                f'Remove it, or write task = "{tasks[0]}" at the top.'
            )
        if kind not in kinds:
            raise ValueError(
                f"{key} is for {' and '.join(kinds)}, but the rows here are {kind}. "
                f"Remove it{_OR_NAME_TEXT if kinds == ('texts',) else ''}."
            )
    _check_scaling(data, kind)
    _check_form(data)
    if kind != "series" and isinstance(data.time, list):
        raise ValueError(
            f"time = {data.time} names several columns, which only forecasting reads together. "
            f"Name one column."
        )
    for needed, value in _needed(task, kind):
        if getattr(data, needed) is None:
            raise ValueError(f"{needed} is missing. Write {needed} = {value}.")
    for key in ("test", "validation"):
        part = getattr(data, key)
        if task != "forecasting" and isinstance(part, int):
            raise ValueError(
                f"{key} = {part} is a number of rows, which only forecasting takes. "
                f"Write a fraction, such as {key} = 0.2, or a file."
            )
    if (
        task == "forecasting"
        and isinstance(data.validation, str)
        and isinstance(data.test, int | float)
    ):
        raise ValueError(
            f"test = {data.test} is a part of the training rows, but the rows of validation = "
            f'"{data.validation}" follow those, and the test rows must come last. Name a test file '
            f"too, or give validation as a part: validation = 0.2."
        )
    if data.horizon is not None and data.window is not None and data.window < data.horizon:
        raise ValueError(
            f"window = {data.window} is shorter than horizon = {data.horizon}: its last "
            f"{data.horizon} steps carry what is known of those to predict. Use a longer window."
        )
    if data.folds is not None and "validation" in written:
        _check_parts_of_folds(data, task)


def _check_parts_of_folds(data: Data, task: Task) -> None:
    if task != "forecasting":
        raise ValueError(
            "folds and validation exclude each other: every fold is validated in turn. "
            "Remove one of them."
        )
    if not isinstance(data.validation, int):
        raise ValueError(
            f"validation = {json.dumps(data.validation)} with folds = {data.folds}: each fold "
            f"validates on a number of steps, such as validation = {data.horizon or 24}. "
            f"Without validation, the folds share out all steps."
        )


def _check_form(data: Data) -> None:
    for key in ("id", "time", "features"):
        if data.steps is not None and getattr(data, key):
            raise ValueError(
                f"steps and {key} exclude each other: with steps, a row of the table is a whole "
                f"sequence; with id, it is one step. Remove one of them."
            )


def _check_scaling(data: Data, kind: Kind) -> None:
    if data.normalize is not None and not data.standardize:
        raise ValueError(
            "normalize and standardize = false exclude each other: both say how numbers are "
            "scaled. Remove standardize."
        )
    if kind == "series" and "none" in _choices(data.normalize):
        raise ValueError(
            f'normalize = {data.normalize}: "none" is for sequences; series are always scaled. '
            f"Remove it."
        )


def _choices(value: Searchable | None) -> list[object]:
    return list(value) if isinstance(value, list) else [value]


def _needed(task: Task, kind: Kind) -> list[tuple[str, str]]:
    """Keys that have no default, and examples of their values."""
    if kind == "series":
        return [("time", '"COLUMN"'), ("target", '"COLUMN"'), ("horizon", "24")]
    if kind == "texts":
        return [("label" if task == "classification" else "target", '"COLUMN"')]
    return []


def idle_hyperparameters(task: Task, kind: Kind) -> set[str]:
    """Hyperparameters that have no effect on this task, or on rows of this kind."""
    idle = {name for name, tasks in TASKS_OF_HYPERPARAMETERS.items() if task not in tasks}
    return idle | {name for name, kinds in KINDS_OF_HYPERPARAMETERS.items() if kind not in kinds}


def check_hyperparameters(sections: Mapping[str, StudySection], task: Task, kind: Kind) -> None:
    """Refuses hyperparameters that have no effect on this task, or on rows of this kind.

    Raises
    ------
    ValueError
        With a message that follows the file's name.
    """
    for section, values in sections.items():
        for name in _changed(values):
            tasks = TASKS_OF_HYPERPARAMETERS.get(name, (task,))
            if task not in tasks:
                raise ValueError(
                    f"[{section}.{name}] is for {' and '.join(tasks)}, but the task here is "
                    f"{task}. Remove it."
                )
            kinds = KINDS_OF_HYPERPARAMETERS.get(name, (kind,))
            if kind not in kinds:
                raise ValueError(
                    f"[{section}.{name}] is for {' and '.join(kinds)}, but the rows here are "
                    f"{kind}. Remove it{_OR_NAME_TEXT if 'texts' in kinds else ''}."
                )


def _changed(section: StudySection) -> list[str]:
    """Keys whose values differ from their defaults.

    A default that is written out does no harm, whatever the task: `GRUObjective` completes files.
    """
    return [
        name
        for name, field in type(section).model_fields.items()
        if getattr(section, name) != field.get_default(call_default_factory=True)
    ]

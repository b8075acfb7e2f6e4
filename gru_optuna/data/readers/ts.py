"""The ``.ts`` format of the UEA and UCI time-series archive.

Bagnall et al. 2018, "The UEA multivariate time series classification archive": a header of ``@``
lines, then one row per line: channels separated by colons, steps by commas, the label last. With
``@targetLabel true`` it is the number to predict (Tan et al. 2021, "Time series extrinsic
regression").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.readers.limits import check_columns, check_steps
from gru_optuna.data.readers.sequences import Sequences, known_steps
from gru_optuna.data.readers.text_files import read_text
from gru_optuna.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def read_ts(path: Path, *, with_targets: bool = True) -> Sequences:
    """Reads one ``.ts`` file.

    Parameters
    ----------
    path
        The file.
    with_targets
        Whether the rows must have labels or targets. If not, they are ignored.

    Raises
    ------
    DataError
        Naming the line.
    """
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{path}: the file is empty. Name a file with rows.")
    return _parse_ts(text, str(path), with_targets=with_targets)


def _parse_ts(text: str, source: str, *, with_targets: bool) -> Sequences:
    header: dict[str, str] = {}
    values: list[NDArray[np.float64]] = []
    labels: list[str] = []
    targets: list[float] = []
    lines: list[int] = []
    classes: tuple[str, ...] = ()
    in_data, labelled, numbers = False, True, False
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        content = line.strip()
        if not content or content.startswith(("#", "%")):
            continue
        if not in_data:
            key, *rest = content.split(maxsplit=1)
            if not key.startswith("@"):
                raise DataError(
                    f'{source}, line {number}: expected an @ header line, got "{content[:40]}". '
                    f"The rows of a .ts file follow a line @data."
                )
            header[key.lower()] = rest[0] if rest else ""
            if key.lower() == "@data":
                in_data = True
                _refuse_time_stamps(header, source)
                numbers = _declares(header, "@targetlabel")
                labelled = with_targets or numbers or _declares(header, "@classlabel")
                if with_targets and not numbers:
                    classes = _declared_classes(header, source)
            continue
        channels, label = content.rpartition(":")[::2] if labelled else (content, "")
        row, label = _parse_row(channels, f"{source}, line {number}"), label.strip()
        if with_targets and numbers:
            targets.append(_parse_target(label, f"{source}, line {number}"))
        elif with_targets and label not in classes:
            raise DataError(
                f'{source}, line {number}: label "{label}" is not declared by @classLabel. '
                f"{did_you_mean(label, classes)}"
            )
        if values and row.shape[1] != values[0].shape[1]:
            raise DataError(
                f"{source}, line {number}: the row has {row.shape[1]} channels, but line "
                f"{lines[0]} has {values[0].shape[1]}. Every row needs the same channels."
            )
        values.append(row)
        if with_targets and not numbers:
            labels.append(label)
        lines.append(number)
    if not in_data:
        raise DataError(f"{source}: there is no line @data, which the rows of a .ts file follow.")
    if not values:
        raise DataError(f"{source}: no rows after @data. Name a file with rows.")
    measured = np.array(targets) if with_targets and numbers else None
    return Sequences(source, values, labels, lines, classes, measured)


def _refuse_time_stamps(header: dict[str, str], source: str) -> None:
    if header.get("@timestamps", "false").lower() == "true":
        raise DataError(
            f"{source}: @timeStamps is true, but time stamps are not read. "
            f"Write evenly spaced steps and @timeStamps false."
        )


def _declares(header: dict[str, str], key: str) -> bool:
    return header.get(key, "").lower().startswith("true")


def _declared_classes(header: dict[str, str], source: str) -> tuple[str, ...]:
    declared, *names = header.get("@classlabel", "").split() or [""]
    if declared.lower() != "true" or not names:
        raise DataError(
            f"{source}: neither labels (@classLabel true LABEL LABEL …) nor numbers to predict "
            f"(@targetLabel true) are declared. Add one of these lines above @data."
        )
    return tuple(dict.fromkeys(names))


def _parse_target(text: str, place: str) -> float:
    try:
        target = np.nan if "_" in text else float(text)
    except ValueError:
        target = np.nan
    if not np.isfinite(target):
        raise DataError(
            f'{place}: the number to predict is "{text}". Fill in such numbers, or remove their '
            f"rows."
        )
    return target


def _parse_row(content: str, place: str) -> NDArray[np.float64]:
    """Reads one line without its label as an array (T, C)."""
    if not content:
        raise DataError(f"{place}: there is no channel before the label. Write CHANNEL:…:LABEL.")
    columns: list[NDArray[np.float64]] = []
    check_columns(place, content.count(":") + 1, "channels")
    for index, channel in enumerate(content.split(":"), start=1):
        check_steps(place, channel.count(",") + 1)
        steps = channel.split(",")
        try:
            if "_" in channel:  # Python would read 1_000 as a number
                raise ValueError
            known = ["nan" if step.strip() == "?" else step for step in steps]
            column = np.array(known, dtype=np.float64)
        except ValueError:
            step, got = _first_unreadable(steps)
            raise DataError(
                f'{place}: channel {index}, step {step} is "{got}", not a number. '
                f"{_about_unreadable(got)}"
            ) from None
        if np.isinf(column).any():
            step = int(np.flatnonzero(np.isinf(column))[0]) + 1
            raise DataError(
                f"{place}: channel {index}, step {step} is {column[step - 1]}. "
                f"Correct such values, or remove their rows."
            )
        if columns and len(column) != len(columns[0]):
            raise DataError(
                f"{place}: channel {index} has {len(column)} steps, but channel 1 has "
                f"{len(columns[0])}. All channels of a row need the same steps."
            )
        columns.append(column)
    row = np.stack(columns, axis=1)
    known_steps(row, place)  # refuses a row without values
    return row


def _first_unreadable(steps: list[str]) -> tuple[int, str]:
    for number, step in enumerate(steps, start=1):
        try:
            if "_" in step:
                raise ValueError
            if step.strip() != "?":
                float(step)
        except ValueError:
            return number, step.strip()
    raise AssertionError("numpy refused what float() reads")


def _about_unreadable(got: str) -> str:
    if not got:
        return "There may be a comma or colon too many."
    return "Steps are separated by commas, channels by colons."

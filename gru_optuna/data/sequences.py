"""Labelled sequences to a `Dataset`: check, split, scale, pad. In this order.

The scaler sees the training rows alone, so nothing of validation or test leaks into them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from gru_optuna import seeds
from gru_optuna.data.dataset import Dataset, Split
from gru_optuna.data.files import Sequences, read_sequences
from gru_optuna.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gru_optuna.spec import Specification


def load_sequences(spec: Specification, folder: Path) -> Dataset:
    """Reads and prepares the files a study names.

    Parameters
    ----------
    spec
        Its ``data`` section and seed.
    folder
        What relative paths are relative to: the study file's folder.

    Raises
    ------
    DataError
    """
    data = spec.data
    train = read_sequences(folder / data.train)
    test = read_sequences(folder / data.test) if data.test else None
    held_out = (
        read_sequences(folder / data.validation) if isinstance(data.validation, str) else None
    )
    classes = _check_classes(train, held_out is None)
    for other in (test, held_out):
        if other is not None:
            _check_against(other, train, classes)
    targets = {label: index for index, label in enumerate(classes)}
    if isinstance(data.validation, str):
        assert held_out is not None
        rows, held_out_rows = np.arange(len(train)), np.arange(len(held_out))
    else:
        held_out = train
        rows, held_out_rows = _stratified(train, data.validation, len(classes), spec.seed)
    scaler = StandardScaler(with_mean=data.standardize, with_std=data.standardize)
    scaler.fit(np.concatenate([train.values[row] for row in rows]))

    def tensors(part: Sequences, chosen: NDArray[np.int64]) -> Split:
        scaled = [torch.from_numpy(scaler.transform(part.values[row])).float() for row in chosen]
        for row, steps in zip(chosen, scaled, strict=True):
            if not steps.isfinite().all():
                raise DataError(f"{part.at(row)}: a value is too large for training in 32 bits.")
        return Split(
            values=torch.nn.utils.rnn.pad_sequence(scaled, batch_first=True),
            lengths=torch.tensor([len(row) for row in scaled]),
            targets=torch.tensor([targets[part.labels[row]] for row in chosen]),
        )

    return Dataset(
        train=tensors(train, rows),
        validation=tensors(held_out, held_out_rows),
        test=tensors(test, np.arange(len(test))) if test else None,
        classes=classes,
        fingerprint=fingerprint(
            [train, *([held_out] if held_out is not train else []), *([test] if test else [])]
        ),
    )


def fingerprint(parts: list[Sequences]) -> str:
    """SHA-256 of all rows and labels, in their order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)} rows".encode())
        for row, label in zip(part.values, part.labels, strict=True):
            digest.update(f"{row.shape} {label!r}".encode())
            digest.update(np.ascontiguousarray(row, dtype="<f8").tobytes())
    return digest.hexdigest()


def _check_classes(train: Sequences, will_be_split: bool) -> tuple[str, ...]:
    counts = Counter(train.labels)
    if len(counts) < 2:
        raise DataError(
            f'{train.source}: only one class, "{train.labels[0]}", in {len(train)} rows. '
            f"Classification needs two or more."
        )
    for label, count in counts.items():
        if count < 2 and will_be_split:
            raise DataError(
                f'{train.at(train.labels.index(label))}: class "{label}" has this single row, '
                f"and training and validation need one each. Add rows or remove the class."
            )
    # The header's order is the archive's own; classes it declares and nobody has are left out.
    return tuple(label for label in train.classes if label in counts)


def _check_against(other: Sequences, train: Sequences, classes: tuple[str, ...]) -> None:
    if other.channels != train.channels:
        raise DataError(
            f"{other.source}: {other.channels} channels, and {train.channels} in {train.source}. "
            f"Both need the same channels."
        )
    for row, label in enumerate(other.labels):
        if label not in classes:
            raise DataError(
                f'{other.at(row)}: label "{label}" is not in the training data '
                f"({train.source}). {did_you_mean(label, classes)}"
            )


def _stratified(
    train: Sequences, fraction: float, classes: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    held_out = round(len(train) * fraction)
    if held_out < classes or len(train) - held_out < classes:
        raise DataError(
            f"{train.source}: validation = {fraction} of {len(train)} rows leaves "
            f"{len(train) - held_out} for training and {held_out} for validation, and each needs "
            f"at least one row of all {classes} classes. "
            f"Change the fraction, or name a validation file."
        )
    rows, held_out_rows = train_test_split(
        np.arange(len(train)),
        test_size=held_out,
        stratify=train.labels,
        random_state=seeds.seed_for(seed, "split") % 2**32,
    )
    for part, name in ((rows, "training"), (held_out_rows, "validation")):
        if missing := set(train.labels) - {train.labels[row] for row in part}:
            raise DataError(
                f'{train.source}: class "{min(missing)}" has too few rows for validation = '
                f"{fraction}: none is left for {name}. "
                f"Change the fraction, add rows, or name a validation file."
            )
    return np.sort(rows), np.sort(held_out_rows)

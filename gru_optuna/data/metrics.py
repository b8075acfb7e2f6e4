"""How good predictions of a split are. Definitions are scikit-learn's where it has them.

Letters: N rows, O outputs.
"""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch.nn import functional as F

from gru_optuna.data.dataset import Split, joined_units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from gru_optuna.study_file import Metric

_LEAST_SHARE = 1e-9  # a probability of 0 has no logarithm

Predictions: TypeAlias = "list[tuple[Tensor, Split]]"
"""What one training predicts: a network's outputs (N, O) and the rows as it reads them; in a
cross-validation, a pair for each fold. All pairs are about the same N rows, in the same order."""


def measure(metric: Metric, predictions: Tensor, split: Split) -> float:
    """One metric of a whole split; of numbers, in the data's own units.

    Parameters
    ----------
    metric
        As in the study file.
    predictions
        (N, O): logits of the classes, or scaled numbers.
    split
        Targets that are NaN (missing values to forecast) don't count.

    Returns
    -------
    float
        Not finite where the metric isn't defined: ``roc_auc`` of a single class, ``r2`` of
        targets that are all alike, ``mase`` where the naive forecast never errs.
    """
    if not split.targets.is_floating_point():
        return classification_metric(metric, predictions, split.targets)
    # A few lines of torch each: scikit-learn checks its input for longer than a small GRU
    # predicts its validation rows.
    assert split.units is not None, "numbers have units"
    truth = split.units.restore(split.targets)
    error = split.units.restore(predictions) - truth  # (N, O)
    match metric:
        case "mae":
            value = error.abs().nanmean()
        case "rmse":
            value = error.square().nanmean().sqrt()
        case "mase":
            # Hyndman & Koehler 2006: errors in units of the naive forecast's own, in training.
            assert split.units.naive is not None, "mase needs the naive errors"
            value = (error.abs() / split.units.naive).nanmean()
        case "smape":
            # In per cent, 0 to 200, as in the M4 competition (Makridakis et al. 2020).
            size = truth.abs() + (truth + error).abs()
            value = 200 * torch.where(error == 0, 0, error.abs() / size).nanmean()
        case "r2":
            spread = truth - truth.nanmean()
            value = 1 - error.square().nansum() / spread.square().nansum()
        case _:
            raise AssertionError(metric)
    return value.item()


def classification_metric(name: Metric, logits: Tensor, targets: Tensor) -> float:
    """One metric of a whole split.

    Parameters
    ----------
    name
        As in the study file.
    logits
        (N, O), before softmax.
    targets
        (N,), the right class of each row.
    """
    # Torch where a line of it does the same, for the same reason.
    if name == "accuracy":
        return int((logits.argmax(dim=1) == targets).sum()) / len(targets)
    if name == "log_loss":
        return F.cross_entropy(logits.double(), targets).item()
    # Here, because scikit-learn takes a second to import and most studies don't need it.
    from sklearn import metrics

    right, predicted = targets.cpu().numpy(), logits.argmax(dim=1).cpu().numpy()
    match name:
        case "balanced_accuracy":
            # recall over the classes that occur, which is what balanced_accuracy_score means,
            # without its warning for a class that occurs in the predictions alone
            present = np.unique(right)
            return float(
                metrics.recall_score(
                    right, predicted, labels=present, average="macro", zero_division=0
                )
            )
        case "macro_f1":
            return float(metrics.f1_score(right, predicted, average="macro", zero_division=0))
        case "roc_auc":
            return _roc_auc(right, logits.double().softmax(dim=1).cpu().numpy())
    raise AssertionError(name)


def _roc_auc(right: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """The mean over the classes that occur, each against the rest; of two classes, the usual."""
    from sklearn import metrics

    present = np.unique(right)
    if len(present) < 2 or not np.isfinite(probabilities).all():
        return float("nan")
    return float(
        np.mean([metrics.roc_auc_score(right == each, probabilities[:, each]) for each in present])
    )


def mean_metric(metric: Metric, trainings: Sequence[Predictions]) -> float:
    """The metric's mean over trainings, and within each of them over its folds."""
    return fmean(
        fmean(measure(metric, outputs, split) for outputs, split in pairs) for pairs in trainings
    )


def combined(
    trainings: Sequence[Predictions], weights: Sequence[float] | None = None
) -> Predictions:
    """What all networks predict together: the mean of their probabilities, or of their numbers.

    `weights` say how much each training counts; None: all alike.
    """
    pairs = [pair for training in trainings for pair in training]
    counts = torch.tensor(
        [
            weight
            for training, weight in zip(trainings, weights or [1.0] * len(trainings), strict=True)
            for _ in training
        ],
        dtype=torch.float64,
    )
    values = [in_units(outputs, split) for outputs, split in pairs]
    total = torch.zeros_like(values[0])
    for value, count in zip(values, counts / counts.sum(), strict=True):
        total += count * value
    split = pairs[0][1]
    return [(as_outputs(total, split), split)]


def joined(predictions: Predictions) -> tuple[Tensor, Split]:
    """The rows of all folds one after another, with what is needed to measure predictions."""
    splits = [split for _, split in predictions]
    nothing = torch.zeros(sum(map(len, splits)), dtype=torch.int64)
    units = [split.units for split in splits if split.units is not None]
    groups = [split.groups for split in splits if split.groups is not None]
    return torch.cat([outputs for outputs, _ in predictions]), Split(
        steps=torch.zeros(0, 0),
        starts=nothing,
        lengths=nothing,
        targets=torch.cat([split.targets for split in splits]),
        units=joined_units(units) if units else None,
        groups=torch.cat(groups) if groups else None,
    )


def in_units(outputs: Tensor, split: Split) -> Tensor:
    """Probabilities of the classes (N, O), or numbers in the data's units; in float64."""
    if split.units is None:
        return outputs.double().softmax(dim=1)
    return split.units.restore(outputs)


def as_outputs(values: Tensor | NDArray[np.float64], split: Split) -> Tensor:
    """Outputs (N, O) of which `in_units` would make these probabilities or numbers."""
    values = torch.as_tensor(values)
    if split.units is None:
        return values.clamp(min=_LEAST_SHARE).log()
    return split.units.scaled(values)

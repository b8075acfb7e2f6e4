"""How good predictions are. Definitions are scikit-learn's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn import metrics

if TYPE_CHECKING:
    from torch import Tensor

    from gru_optuna.spec import Metric


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
    right = targets.cpu().numpy()
    if name == "log_loss":
        probabilities = torch.softmax(logits.double(), dim=1).cpu().numpy()
        return float(metrics.log_loss(right, probabilities, labels=np.arange(logits.shape[1])))
    predicted = logits.argmax(dim=1).cpu().numpy()
    match name:
        case "accuracy":
            return float(metrics.accuracy_score(right, predicted))
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

"""How good predictions are. Definitions are scikit-learn's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn import metrics
from torch.nn import functional as F

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
    # Two lines of torch where they say the same: scikit-learn checks its input for longer than
    # a small GRU predicts its validation rows.
    if name == "accuracy":
        return int((logits.argmax(dim=1) == targets).sum()) / len(targets)
    if name == "log_loss":
        return F.cross_entropy(logits.double(), targets).item()
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

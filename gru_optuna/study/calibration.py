"""How far a classifier's probabilities can be trusted, and the temperature that corrects them.

Temperature scaling (Guo et al. 2017) raises probabilities to the power of 1 / T and scales them to
a sum of 1. It changes no ranking of classes within a row. T is fitted on the validation rows.

Letters: N rows, O classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gru_optuna.attributes import CALIBRATION
from gru_optuna.formatting import format_metric
from gru_optuna.study.records import checked

if TYPE_CHECKING:
    from optuna import Study
    from torch import Tensor

    from gru_optuna.data.metrics import Predictions

FEWEST_ROWS = 50
"""Validation rows from which on a temperature is fitted."""

BINS = 15
"""Bins of probabilities, of equal width."""

_LOWEST, _HIGHEST = 0.05, 20.0  # temperatures


@dataclass(frozen=True)
class Reliability:
    """How good probabilities are on some rows.

    Parameters
    ----------
    log_loss
        The mean of minus the log of the right class's probability.
    error
        The expected calibration error (Naeini et al. 2015): the mean distance between the
        probability of the predicted class and the share of rows that it is right for.
    bins
        For each bin that has rows: the mean probability of the predicted class, the share of rows
        that it is right for, and the number of rows.
    """

    log_loss: float
    error: float
    bins: list[tuple[float, float, int]]

    @classmethod
    def measure(cls, predictions: Predictions) -> Reliability:
        """Measures outputs whose softmax are the probabilities, of all folds together."""
        import numpy as np  # here: `best` and `status` only read

        logs, targets = _joined(predictions)
        confidence, predicted = (each.numpy() for each in logs.exp().max(dim=1))
        right = predicted == targets.numpy()
        places = np.minimum((confidence * BINS).astype(int), BINS - 1)
        bins = [
            (float(confidence[own].mean()), float(right[own].mean()), int(own.sum()))
            for own in (places == place for place in range(BINS))
            if own.any()
        ]
        off = sum(abs(mean - share) * rows for mean, share, rows in bins) / len(right)
        return cls(_loss(logs, targets), off, bins)


@dataclass(frozen=True)
class Calibration:
    """The temperatures of a study's winner, and what they bring.

    Parameters
    ----------
    number
        The winner's trial.
    temperature, single
        Of the ensemble, and of the network that ``--single`` exports.
    part, rows
        What `before` and `after` were measured on: "test", or "validation" in a study without
        test rows; and how many rows.
    before, after
        The ensemble without temperature and with it.
    """

    number: int
    temperature: float
    single: float
    part: str
    rows: int
    before: Reliability
    after: Reliability

    def as_json(self) -> dict[str, Any]:
        """The content of the study's attribute."""
        return asdict(self)

    def in_words(self) -> str:
        """A sentence about what the temperature improves."""
        before, after = self.before, self.after
        return (
            f"On {self.rows:,} {self.part} rows, temperature scaling (T = {self.temperature:.3g}, "
            f"fitted on the validation rows) takes the log loss of its probabilities from "
            f"{format_metric(before.log_loss)} to {format_metric(after.log_loss)}, and their "
            f"expected calibration error from {before.error:.1%} to {after.error:.1%}."
        )


def read_calibration(study: Study, number: int) -> Calibration | None:
    """The calibration of a study whose confirmed winner is this trial; None if there is none."""
    content = study.user_attrs.get(CALIBRATION)
    if content is None or content["number"] != number:
        return None
    return checked(Calibration, content)


def fit_temperature(predictions: Predictions) -> float:
    """The temperature with the least log loss on these rows; 1 if there are too few of them.

    The right class counts as right with probability (N + 1) / (N + 2) (Platt 1999), so that
    a classifier without an error on the validation rows doesn't claim to be certain.
    """
    import numpy as np
    from scipy.optimize import minimize_scalar

    logs, targets = _joined(predictions)
    rows = len(targets)
    if rows < FEWEST_ROWS:
        return 1.0
    others = 1 / (rows + 2)

    def loss(log_temperature: float) -> float:
        scaled = (logs / np.exp(log_temperature)).log_softmax(dim=1)
        wrong = (scaled.sum(dim=1) - scaled[range(rows), targets]) / (scaled.shape[1] - 1)
        return -float(((1 - others) * scaled[range(rows), targets] + others * wrong).mean())

    found = minimize_scalar(loss, bounds=(np.log(_LOWEST), np.log(_HIGHEST)), method="bounded")
    return float(np.exp(found.x))


def calibrated(predictions: Predictions, temperature: float) -> Predictions:
    """Outputs whose softmax are the scaled probabilities."""
    return [(outputs.double() / temperature, split) for outputs, split in predictions]


def _joined(predictions: Predictions) -> tuple[Tensor, Tensor]:
    """Log probabilities (N, O) and right classes (N,) of all folds."""
    from gru_optuna.data.metrics import joined

    outputs, split = joined(predictions)
    return outputs.double().log_softmax(dim=1), split.targets


def _loss(logs: Tensor, targets: Tensor) -> float:
    return -float(logs[range(len(targets)), targets].mean())

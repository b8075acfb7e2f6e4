"""The winner's predictions, kept small enough for the study's attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gru_optuna.attributes import PREDICTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from optuna import Study
    from torch import Tensor

    from gru_optuna.data.dataset import Split


MOST_CLASSES = 20
"""A larger confusion matrix can't be read: the rarer classes share a row."""
OTHERS = "others"
MOST_POINTS = 500
"""Points of predicted against true values, and of a forecast's line."""


def describe_predictions(
    classes: Sequence[str], predicted: Sequence[tuple[Tensor, Split]]
) -> dict[str, Any]:
    """A split's predictions in a few numbers that JSON can hold.

    Parameters
    ----------
    classes
        Names of the classes; empty where numbers are predicted.
    predicted
        The outputs (N, O) of each network and the split they are about, all of the same rows.

    Returns
    -------
    dict
        ``rows``, and one of

        - ``confusion``: ``classes`` and ``counts``, a row for each true class; means over the
          networks;
        - ``points``: ``truth`` and ``predicted``, up to 500 of them, evenly chosen;
        - ``forecast``: ``truth`` (a stretch of the series), ``windows`` (``start`` and
          ``values``), ``errors`` (mean absolute error of each step ahead) and ``horizon``.
    """
    rows = {"rows": len(predicted[0][1])}
    if classes:
        return rows | {"confusion": _confusion(classes, predicted)}
    truth, forecast = _in_units(predicted)
    if truth.shape[1] == 1:
        return rows | {"points": _points(truth[:, 0], forecast[:, 0])}
    return rows | {"forecast": _forecast(truth, forecast)}


def stored_predictions(study: Study, number: int) -> dict[str, Any] | None:
    """What is kept of a trial's predictions; None if nothing is, or another trial's."""
    kept = study.user_attrs.get(PREDICTIONS)
    return kept if isinstance(kept, dict) and kept.get("number") == number else None


def _confusion(classes: Sequence[str], predicted: Sequence[tuple[Tensor, Split]]) -> dict[str, Any]:
    """Counts of rows, true class by predicted class; over folds their mean."""
    size = len(classes)
    counts = np.zeros((size, size))
    for outputs, split in predicted:
        right = split.targets.cpu().numpy()
        pairs = right * size + outputs.argmax(dim=1).cpu().numpy()
        counts += np.bincount(pairs, minlength=size * size).reshape(size, size)
    counts /= len(predicted)
    names = [name if len(name) <= 40 else f"{name[:39]}…" for name in classes]
    if size > MOST_CLASSES:
        frequent = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[: MOST_CLASSES - 1])
        place = np.full(size, MOST_CLASSES - 1)
        place[frequent] = np.arange(MOST_CLASSES - 1)
        merged = np.zeros((MOST_CLASSES, MOST_CLASSES))
        np.add.at(merged, (place[:, None], place[None, :]), counts)
        counts, names = merged, [*(names[n] for n in frequent), OTHERS]
    return {"classes": names, "counts": counts.round(2).tolist()}


def _in_units(
    predicted: Sequence[tuple[Tensor, Split]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Truth and prediction (N, O) in the data's units; of folds the mean of their predictions."""
    truths, forecasts = [], []
    for outputs, split in predicted:
        assert split.units is not None, "numbers have units"
        truths.append(split.units.restore(split.targets).cpu().numpy())
        forecasts.append(split.units.restore(outputs).cpu().numpy())
    return truths[0], np.mean(forecasts, axis=0)


def _points(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, Any]:
    chosen = np.unique(np.linspace(0, len(truth) - 1, MOST_POINTS).round().astype(int))
    return {"truth": _short(truth[chosen]), "predicted": _short(predicted[chosen])}


def _forecast(truth: NDArray[np.float64], forecast: NDArray[np.float64]) -> dict[str, Any]:
    """A stretch of the series, with a new forecast wherever the last one has ended."""
    count, horizon = truth.shape
    begin, end = _longest_run(truth)
    wanted = max(1, MOST_POINTS // horizon)
    starts = list(range(begin, end, horizon))
    # The middle of it: the ends of a test may be holidays.
    spare = max(0, len(starts) - wanted) // 2
    starts = starts[spare : spare + wanted]
    errors = np.abs(forecast - truth)
    return {
        "horizon": horizon,
        "truth": _short(np.concatenate([truth[start] for start in starts])),
        "windows": [
            {"start": place * horizon, "values": _short(forecast[start])}
            for place, start in enumerate(starts)
        ],
        "errors": _short(np.nanmean(errors, axis=0)),
        "rows": count,
    }


def _longest_run(truth: NDArray[np.float64]) -> tuple[int, int]:
    """The longest part (begin, end) in which each window begins a step after the one before."""
    moved = np.isclose(truth[1:, :-1], truth[:-1, 1:], equal_nan=True).all(axis=1)
    begins = np.flatnonzero(np.concatenate([[True], ~moved]))
    lengths = np.diff([*begins, len(truth)])
    longest = int(lengths.argmax())
    return int(begins[longest]), int(begins[longest] + lengths[longest])


def _short(values: NDArray[np.float64]) -> list[float | None]:
    """Six digits are more than a figure shows, and null where a value is missing."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]

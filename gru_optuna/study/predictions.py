"""The winner's predictions, kept small enough for the study's attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gru_optuna.attributes import FUTURE, PREDICTIONS
from gru_optuna.data.series.frequency import Frequency

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray
    from optuna import Study
    from torch import Tensor

    from gru_optuna.data.dataset import Split
    from gru_optuna.data.series.frequency import Times
    from gru_optuna.data.series.series import Series


MOST_CLASSES = 20
"""A larger confusion matrix can't be read: the rarer classes share a row."""
OTHERS = "others"
MOST_POINTS = 500
"""Points of predicted against true values, and of a forecast's line."""
_MOST_SERIES = 3
_MOST_OBSERVED = 200


def describe_predictions(
    classes: Sequence[str],
    predicted: Sequence[tuple[Tensor, Split]],
    series: ForecastSeries | None = None,
) -> dict[str, Any]:
    """A split's predictions in a few numbers that JSON can hold.

    Parameters
    ----------
    classes
        Names of the classes; empty where numbers are predicted.
    predicted
        The outputs (N, O) of each network and the split they are about, all of the same rows.
    series
        The names and times of what was forecast.

    Returns
    -------
    dict
        ``rows``, and one of

        - ``confusion``: ``classes`` and ``counts``, a row for each true class; means over the
          networks;
        - ``points``: ``truth`` and ``predicted``, up to 500 of them, evenly chosen;
        - ``forecast``: ``horizon``, ``errors`` (mean absolute error of each step ahead) and
          ``stretches`` of up to three series: the only ones, or those with the smallest, the median
          and the largest error. Each has the series' ``name``, ``times`` and ``truth`` of its
          steps, ``windows`` (``start`` and ``values``), and the ``naive`` error, in which the
          widths of intervals are measured.
    """
    rows = {"rows": len(predicted[0][1])}
    if classes:
        return rows | {"confusion": _confusion(classes, predicted)}
    truth, forecast = _in_units(predicted)
    if truth.shape[1] == 1:
        return rows | {"points": _points(truth[:, 0], forecast[:, 0])}
    return rows | {"forecast": _forecast(truth, forecast, predicted[0][1], series)}


def stored_predictions(study: Study, number: int) -> dict[str, Any] | None:
    """The predictions that are kept of a trial; None if there are none, or another trial's."""
    kept = study.user_attrs.get(PREDICTIONS)
    return kept if isinstance(kept, dict) and kept.get("number") == number else None


def describe_future(
    series: Sequence[Series], forecasts: pl.DataFrame, about: ForecastSeries, names: Sequence[str]
) -> dict[str, Any]:
    """Forecasts after the newest rows, in numbers that JSON can hold.

    Parameters
    ----------
    series
        Up to their newest values.
    forecasts
        The columns ``prediction`` and, if there are intervals, ``low_80`` and ``high_80``; the
        steps of one series after another.
    about
        Their names and times.
    names
        Of the series to describe; if there are no such series, the first ones are described.

    Returns
    -------
    dict
        ``series``, their number, and ``stretches`` with the ``name`` of each that is described, the
        last values that were ``observed``, the ``forecast`` after them, its ``bounds`` (two lists,
        or none), and the ``times`` of all these.
    """
    steps = len(forecasts) // len(series)
    chosen = [n for n, each in enumerate(series) if each.name in names]
    chosen = (chosen or list(range(len(series))))[:_MOST_SERIES]
    stretches = []
    for number in chosen:
        each, rows = series[number], forecasts[number * steps : (number + 1) * steps]
        origin = int(np.flatnonzero(np.isfinite(each.target))[-1])
        seen = each.target[: origin + 1][-min(_MOST_OBSERVED, 10 * steps) :]
        times = about.frequency.times(each.first, origin + 1 + steps)
        bounds = [rows[name].to_numpy() for name in ("low_80", "high_80") if name in rows.columns]
        described = {
            "name": each.name,
            "times": about.shown(times[-len(seen) - steps :]),
            "observed": _short(seen),
            "forecast": _short(rows["prediction"].to_numpy()),
            "bounds": [_short(bound) for bound in bounds],
        }
        stretches.append(described)
    return {"series": len(series), "stretches": stretches}


def stored_future(study: Study, number: int) -> dict[str, Any] | None:
    """The last forecast that is kept of a winner; None if there is none, or another trial's."""
    kept = study.user_attrs.get(FUTURE)
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


def _forecast(
    truth: NDArray[np.float64],
    forecast: NDArray[np.float64],
    split: Split,
    series: ForecastSeries | None,
) -> dict[str, Any]:
    horizon, off = truth.shape[1], np.abs(forecast - truth)
    errors = np.nanmean(off, axis=0)
    assert split.units is not None, "numbers have units"
    unknown = np.full(len(truth), np.nan)
    naive = unknown if split.units.naive is None else split.units.naive.cpu().numpy()[:, 0]
    # The error of a constant series is measured as it is, and so are the errors of all series if
    # none has a seasonal-naive error.
    naive = np.where((naive == 0) | np.isnan(naive).all(), 1.0, naive)
    owners = np.zeros(len(truth)) if split.groups is None else split.groups.cpu().numpy()
    known = np.isfinite(off).any(axis=1) & np.isfinite(naive)
    mean_off = {
        int(owner): float(np.nanmean(off[rows] / naive[rows, None]))
        for owner in np.unique(owners[known])
        if (rows := known & (owners == owner)).any()
    }
    ranked = sorted(mean_off, key=lambda owner: mean_off[owner])
    if len(ranked) > _MOST_SERIES:
        ranked = [ranked[0], ranked[len(ranked) // 2], ranked[-1]]
    stretches = []
    for owner in ranked:
        of = np.flatnonzero(owners == owner)
        stretch = of[_stretch(truth[of], MOST_POINTS // len(ranked))]
        described: dict[str, Any] = {
            "truth": _short(truth[stretch].ravel()),
            "windows": [
                {"start": place * horizon, "values": _short(forecast[row])}
                for place, row in enumerate(stretch)
            ],
            "naive": float(naive[of[0]]),
        }
        if series is not None and split.times is not None:
            described["name"] = series.names[owner]
            described["times"] = series.times_after(split.times.numpy()[stretch], horizon)
        stretches.append(described)
    return {
        "horizon": horizon,
        "stretches": stretches,
        "series": len(mean_off),
        "errors": _short(errors),
        "rows": len(truth),
    }


def _stretch(truth: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Rows of a series of which each begins where the one before has ended."""
    horizon = truth.shape[1]
    begin, end = _longest_run(truth)
    wanted = max(1, most // horizon)
    starts = np.arange(begin, end, horizon)
    # The middle of it: the ends of a test may be holidays.
    spare = max(0, len(starts) - wanted) // 2
    return starts[spare : spare + wanted]


@dataclass(frozen=True)
class ForecastSeries:
    """What the forecasts of a split are about.

    Parameters
    ----------
    names
        Of the series, by the number of a row's group; empty for a study's only one.
    frequency
        Of their steps.
    """

    names: Sequence[str]
    frequency: Frequency

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any]) -> ForecastSeries | None:
        """The series of a dataset, from its preprocessing; None if it has none."""
        if preprocessing.get("kind") != "series":
            return None
        return cls(list(preprocessing["series"]), Frequency(**preprocessing["frequency"]))

    def times_after(self, origins: NDArray[np.int64], horizon: int) -> list[str] | list[int]:
        """The times of the steps after each of these (N,), in microseconds since 1970."""
        steps = [
            self.frequency.times(origin, horizon + 1)[1:]
            for origin in origins.astype("datetime64[us]")
        ]
        return self.shown(np.concatenate(steps))

    def shown(self, times: Times) -> list[str] | list[int]:
        """Times as people write them, or the numbers of the steps."""
        if self.frequency.unit == "step":
            return [int(time) for time in times.astype(np.int64)]
        return _shown_times(times)


def _shown_times(times: Times) -> list[str]:
    """Times without the parts that say nothing in any of them."""
    if len(times) > 1:  # a single day may be the first of a month by chance
        for unit in ("Y", "M"):
            if (times.astype(f"datetime64[{unit}]") == times).all():
                return [str(time) for time in times.astype(f"datetime64[{unit}]")]
    for unit in ("D", "m", "s"):
        if (times.astype(f"datetime64[{unit}]") == times).all():
            return [str(time).replace("T", " ") for time in times.astype(f"datetime64[{unit}]")]
    return [str(time).replace("T", " ") for time in times]


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

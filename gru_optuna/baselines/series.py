"""Simple forecasts of series: repeated seasons, and exponential smoothing.

Letters: N origins, O the horizon, S steps of a series.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from gru_optuna.baselines.model import NotPossibleError
from gru_optuna.baselines.rows import origins_in
from gru_optuna.data.series.windows import naive_forecasts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from gru_optuna.baselines.model import Predictor, Settings
    from gru_optuna.baselines.rows import Inputs, RawFold, SeriesTable
    from gru_optuna.study_file import Specification

_MOST_SEASONS = 4  # that a median is taken of
_LONGEST_CYCLE = 60  # steps of a season in exponential smoothing
_MOST_STEPS = 40_000  # that exponential smoothing reads in all


class SeasonalNaive:
    """The last value, or that of a season before, with the trend of a season or without."""

    def __init__(self, spec: Specification, fold: RawFold) -> None:
        self._seasons = origins_in(fold.train.inputs).seasons

    def settings(self) -> Iterator[Settings]:
        """Every season that the training rows hold twice, and 1: the last value."""
        for season in (1, *self._seasons):
            for drift in (False, True):
                yield {"season": season, "drift": drift}

    def fit(self, settings: Settings) -> Predictor:
        """Nothing is learned but the average trend where a season is a single step."""
        season, drift = settings["season"], settings["drift"]

        def forecast(
            table: SeriesTable, at: NDArray[np.int64], horizon: int
        ) -> NDArray[np.float64]:
            values = naive_forecasts(table.target, at, horizon, season)
            if not drift:
                return values
            ahead = np.arange(1, horizon + 1)
            if season == 1:
                trained = table.target[: table.training]
                trend = (trained[-1] - trained[0]) / max(len(trained) - 1, 1)
                values += trend * ahead
                return values
            # The change since a season ago is expected once more for each season ahead.
            change = table.target[at] - table.target[np.maximum(at - season, 0)]
            values += change[:, None] * -(-ahead // season)
            return values

        return _by_series(forecast, history=2 * season)

    @staticmethod
    def label(settings: Settings) -> str:
        """Such as "seasonal naive (7 steps) with drift"."""
        season = settings["season"]
        name = "last value" if season == 1 else f"seasonal naive ({season} steps)"
        return f"{name} with drift" if settings["drift"] else name


class SeasonalMedian:
    """The median of several seasons, brought to the level of the last one or not."""

    def __init__(self, spec: Specification, fold: RawFold) -> None:
        origins = origins_in(fold.train.inputs)
        self._seasons, shortest = origins.seasons, min(t.training for t in origins.tables)
        self._counts = {
            season: [n for n in (_MOST_SEASONS, 2) if (n + 1) * season <= shortest] or [1]
            for season in self._seasons
        }

    def settings(self) -> Iterator[Settings]:
        """Every season, with as many of it as the training rows hold."""
        for season in self._seasons:
            for count in self._counts[season]:
                for level in (True, False):
                    yield {"season": season, "seasons": count, "level": level}

    def fit(self, settings: Settings) -> Predictor:
        """Nothing is learned: the forecast follows from the last seasons."""
        season, count, level = settings["season"], settings["seasons"], settings["level"]

        def forecast(
            table: SeriesTable, at: NDArray[np.int64], horizon: int
        ) -> NDArray[np.float64]:
            places = [np.maximum(at - back * season, season - 1) for back in range(count)]
            past = [naive_forecasts(table.target, own, horizon, season) for own in places]
            if level:
                now = _means(table.target, at, season)
                past = [
                    values + (now - _means(table.target, own, season))[:, None]
                    for values, own in zip(past, places, strict=True)
                ]
            middle: NDArray[np.float64] = np.median(past, axis=0)
            return middle

        return _by_series(forecast, history=season)

    @staticmethod
    def label(settings: Settings) -> str:
        """Such as "level-adjusted median of 4 seasons (168 steps)"."""
        adjusted = "level-adjusted " if settings["level"] else ""
        count = settings["seasons"]
        seasons = f"{count} seasons" if count > 1 else "a season"
        return f"{adjusted}median of {seasons} ({settings['season']} steps)"


class ExponentialSmoothing:
    """Exponential smoothing (ETS; Hyndman et al. 2008), with parameters of the training rows.

    Each series has its own model. Its states follow the series, and each origin's forecast starts
    from the state there.
    """

    def __init__(self, spec: Specification, fold: RawFold) -> None:
        if find_spec("statsmodels") is None:
            raise NotPossibleError("statsmodels is not installed")
        self._origins = origins_in(fold.train.inputs)
        steps = sum(len(table.target) for table in self._origins.tables)
        if steps > _MOST_STEPS:
            raise NotPossibleError(f"{steps:,} steps are too many for it")

    def settings(self) -> Iterator[Settings]:
        """With and without season, trend, and in logs."""
        origins = self._origins
        shortest = min(table.training for table in origins.tables)
        positive = min(table.target[: table.training].min() for table in origins.tables) > 0
        usual = [s for s in origins.seasons if s <= _LONGEST_CYCLE and 3 * s <= shortest]
        for season in [*usual, 1]:
            for log in (False, True) if positive else (False,):
                for trend in ("damped", "additive", "none"):
                    yield {"season": season, "trend": trend, "log": log}

    def fit(self, settings: Settings) -> Predictor:
        """Estimates the parameters of each series."""
        parameters = [self._estimated(table, settings) for table in self._origins.tables]

        def predict(inputs: Inputs) -> NDArray[np.float64]:
            origins = origins_in(inputs)
            forecasts = np.empty((len(origins), origins.plan.horizon))
            for number, (table, found) in enumerate(zip(origins.tables, parameters, strict=True)):
                own = np.flatnonzero(origins.series == number)
                if len(own):
                    forecasts[own] = self._forecast(table, settings, found, origins.at[own])
            return forecasts

        return predict

    def _model(self, values: NDArray[np.float64], settings: Settings) -> Any:
        from statsmodels.tsa.exponential_smoothing.ets import ETSModel

        season = settings["season"]
        return ETSModel(
            values,
            error="add",
            trend=None if settings["trend"] == "none" else "add",
            damped_trend=settings["trend"] == "damped",
            seasonal="add" if season > 1 else None,
            seasonal_periods=season if season > 1 else None,
        )

    def _values(self, table: SeriesTable, settings: Settings) -> NDArray[np.float64]:
        if not settings["log"]:
            return table.target
        floor = table.target[: table.training].min() / 2
        logs: NDArray[np.float64] = np.log(np.maximum(table.target, floor))
        return logs

    def _estimated(self, table: SeriesTable, settings: Settings) -> NDArray[np.float64]:
        import warnings

        values = self._values(table, settings)[: table.training]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                found = self._model(values, settings).fit(disp=False, maxiter=200)
            except (ValueError, np.linalg.LinAlgError) as error:
                raise NotPossibleError(f"its parameters can't be estimated ({error})") from None
        parameters: NDArray[np.float64] = np.asarray(found.params)
        return parameters

    def _forecast(
        self,
        table: SeriesTable,
        settings: Settings,
        parameters: NDArray[np.float64],
        at: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Forecasts (N, O) from the states at `at` (N,)."""
        season, horizon = settings["season"], self._origins.plan.horizon
        values = self._values(table, settings)
        model = self._model(values, settings)
        states = model.smooth(parameters)
        ahead = np.arange(1, horizon + 1)
        forecasts = np.repeat(np.asarray(states.level)[at][:, None], horizon, axis=1)
        if settings["trend"] != "none":
            damping = float(states.damping_trend) if settings["trend"] == "damped" else 1.0
            forecasts += np.asarray(states.slope)[at][:, None] * np.cumsum(damping**ahead)
        if season > 1:
            # The state of a step is the season's value for that step's phase.
            phases = at[:, None] + ahead - season * -(-ahead // season)
            forecasts += np.asarray(states.season)[phases]
        if settings["log"]:
            highest = 2 * values[: table.training].max() - values[: table.training].min()
            forecasts = np.exp(np.minimum(forecasts, highest))
        return forecasts

    @staticmethod
    def label(settings: Settings) -> str:
        """Such as "exponential smoothing (ETS), 12 steps a season"."""
        season = settings["season"]
        return "exponential smoothing (ETS)" + (f", season of {season} steps" if season > 1 else "")


def _by_series(
    forecast: Callable[[SeriesTable, NDArray[np.int64], int], NDArray[np.float64]], history: int
) -> Predictor:
    """Forecasts each series by itself; origins without `history` steps before them use fewer."""

    def predict(inputs: Inputs) -> NDArray[np.float64]:
        origins = origins_in(inputs)
        forecasts = np.empty((len(origins), origins.plan.horizon))
        for number, table in enumerate(origins.tables):
            own = origins.series == number
            at = np.maximum(origins.at[own], min(history, table.training) - 1)
            forecasts[own] = forecast(table, at, origins.plan.horizon)
        return forecasts

    return predict


def _means(target: NDArray[np.float64], at: NDArray[np.int64], steps: int) -> NDArray[np.float64]:
    """The mean (N,) of the last steps up to each origin."""
    sums = np.concatenate([[0.0], np.cumsum(target)])
    begin = np.maximum(at + 1 - steps, 0)
    means: NDArray[np.float64] = (sums[at + 1] - sums[begin]) / np.maximum(at + 1 - begin, 1)
    return means

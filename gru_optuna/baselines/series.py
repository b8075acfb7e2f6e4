"""Simple forecasts of series: repeated seasons, ridge regression on lags, exponential smoothing.

Letters: N origins, O the horizon, S steps of a series, P features.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from gru_optuna.baselines.model import NotPossibleError
from gru_optuna.baselines.ridge import PENALTIES, RidgePath
from gru_optuna.baselines.rows import Origins
from gru_optuna.data.series.windows import naive_forecasts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from gru_optuna.baselines.model import Predictor, Settings
    from gru_optuna.baselines.rows import Inputs, RawFold, SeriesTable
    from gru_optuna.study_file import Specification

_MOST_SEASONS = 4  # that a median is taken of
_MOST_LAGS = 400
_MOST_PHASES = 400  # of a season that has a level for each of its steps
_MOST_NAMED = 100  # series that have a level each
_MOST_FEATURES = 2500
_MOST_COUNTS = 3  # of lags
_ROWS_A_LAG = 3  # training windows for each lag, at least
_WEAKEST = 1e-4  # penalty; weaker ones fit noise
_FEWEST_ROWS = 4  # training windows; a ridge regression on fewer is arbitrary
_LONGEST_CYCLE = 60  # steps of a season in exponential smoothing
_MOST_STEPS = 40_000  # that exponential smoothing reads in all


class SeasonalNaive:
    """The last value, or that of a season before, with the trend of a season or without."""

    def __init__(self, spec: Specification, fold: RawFold) -> None:
        self._seasons = _origins(fold.train.inputs).seasons

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
        origins = _origins(fold.train.inputs)
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


class LagRidge:
    """Ridge regression on the last values, the calendar and covariates; all steps at once.

    What it predicts, and the values that it reads, are distances from a base (`_Scaled`), so a
    strong penalty leaves the base itself as the forecast.
    """

    def __init__(self, spec: Specification, fold: RawFold) -> None:
        self._fold = fold
        self._origins = _origins(fold.train.inputs)
        self._positive = min(t.target[: t.training].min() for t in self._origins.tables) > 0
        # As for the networks: RMSE is dominated by outliers, the other metrics forgive them.
        self._robust = spec.metric != "rmse"
        self._shared: Settings | None = None
        self._scaled: _Scaled
        self._path: RidgePath
        self._kept: NDArray[np.float64] | None = None

    def settings(self) -> Iterator[Settings]:
        """Yields each combination of reference value, number of lags and penalty."""
        plan, seasons = self._origins.plan, self._origins.seasons
        # With more features than windows, the choice among settings would be one among noise.
        reach = min(t.training for t in self._origins.tables) - plan.horizon
        most = min(_MOST_LAGS, reach // 2, len(self._origins) // _ROWS_A_LAG)
        wanted = {plan.window, 2 * plan.horizon, *seasons, *(2 * season for season in seasons)}
        lags = [n for n in sorted(wanted, reverse=True) if n <= most] or [max(1, most)]
        bases = ["none", "last", "level"]
        bases += ["median"] if plan.season > 1 else []
        bases += ["calendar"] if plan.calendar else []
        for base in reversed(bases):
            for count in lags[:_MOST_COUNTS]:
                for log in (False, True) if self._positive else (False,):
                    for penalty in (p for p in PENALTIES[1:] if p >= _WEAKEST):
                        yield {"lags": count, "base": base, "log": log, "penalty": penalty}

    def fit(self, settings: Settings) -> Predictor:
        """Solves the regression on all training windows of all series together.

        Raises
        ------
        NotPossibleError
            If there are too few windows, or too many features.
        """
        shared = {key: value for key, value in settings.items() if key != "penalty"}
        if self._shared != shared:
            scaled = _Scaled(self._origins, settings["base"], log=settings["log"])
            begin = settings["lags"] - 1 + scaled.history
            rows = self._origins.take(np.flatnonzero(self._origins.at >= begin))
            if len(rows) < _FEWEST_ROWS:
                raise NotPossibleError("there are too few training windows")
            features = self._features(rows, scaled, settings["lags"])
            self._path = RidgePath(features, scaled.targets(rows) - scaled.base(rows))
            self._scaled, self._shared, self._kept = scaled, shared, None
        model = self._path.solve(settings["penalty"], robust=self._robust)
        scaled, lags = self._scaled, settings["lags"]

        def predict(inputs: Inputs) -> NDArray[np.float64]:
            origins = _origins(inputs)
            if inputs is not self._fold.validation.inputs or scaled is not self._scaled:
                features = self._features(origins, scaled, lags)
            elif self._kept is None:
                # The same for the next penalties.
                features = self._kept = self._features(origins, scaled, lags)
            else:
                features = self._kept
            return scaled.restored(origins, model(features) + scaled.base(origins))

        return predict

    def _features(self, origins: Origins, scaled: _Scaled, lags: int) -> NDArray[np.float64]:
        """What is known at each origin (N, P)."""
        features = np.concatenate([*scaled.lags(origins, lags), *_known(origins)], axis=1)
        if features.shape[1] > _MOST_FEATURES:
            raise NotPossibleError(f"there would be {features.shape[1]:,} features")
        return features

    @staticmethod
    def label(settings: Settings) -> str:
        """Such as "ridge regression on 48 lags"."""
        count = settings["lags"]
        return f"ridge regression on {count} lag{'s' if count > 1 else ''}"


class _Scaled:
    """The targets of series in logs or in deviations, and the base that they are measured from.

    ======== =============================================================
    none     the mean of the training rows
    last     the value at the origin
    level    the mean of the last steps, twice the horizon
    median   the median of up to four past seasons
    calendar what two harmonics of each cycle of the calendar fit in training
    ======== =============================================================
    """

    def __init__(self, origins: Origins, base: str, *, log: bool) -> None:
        self._kind, self._log, self._season = base, log, origins.plan.season
        self._horizon = origins.plan.horizon
        self._values, self._usual, self._limits = [], [], []
        self._means, self._deviations = [], []
        for table in origins.tables:
            values = table.target
            if log:
                values = np.log(np.maximum(values, values[: table.training].min() / 2))
            trained = values[: table.training]
            # No forecast is further above the training rows than their whole range.
            self._limits.append(2 * trained.max() - trained.min())
            self._means.append(trained.mean())
            self._deviations.append(trained.std() or 1.0)
            values = (values - self._means[-1]) / self._deviations[-1]
            self._values.append(values)
            self._usual.append(self._of_calendar(table, values))
        shortest = min(table.training for table in origins.tables)
        self._seasons = max(1, min(_MOST_SEASONS, shortest // (3 * self._season)))

    def _of_calendar(self, table: SeriesTable, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._kind != "calendar":
            return np.zeros(len(table.calendar))
        waves = np.column_stack([np.ones(len(table.calendar)), _harmonics(table.calendar)])
        found, *_ = np.linalg.lstsq(waves[: table.training], values[: table.training], rcond=1e-6)
        usual: NDArray[np.float64] = waves @ found
        return usual

    @property
    def history(self) -> int:
        """Steps before the lags that are needed."""
        return self._season * self._seasons if self._kind == "median" else 0

    def targets(self, origins: Origins) -> NDArray[np.float64]:
        """The scaled values (N, O) of the steps after each origin."""
        return _gather(self._values, origins, np.arange(1, self._horizon + 1))

    def base(self, origins: Origins) -> NDArray[np.float64]:
        """What forecasts (N, O) are measured from."""
        ahead = np.arange(1, self._horizon + 1)
        match self._kind:
            case "last":
                return _gather(self._values, origins, 0 * ahead)
            case "level":
                window = _gather(self._values, origins, np.arange(-2 * self._horizon + 1, 1))
                return np.repeat(window.mean(axis=1, keepdims=True), self._horizon, axis=1)
            case "median":
                steps = ahead - self._season * -(-ahead // self._season)
                past = [
                    _gather(self._values, origins, steps - back * self._season)
                    for back in range(self._seasons)
                ]
                middle: NDArray[np.float64] = np.median(past, axis=0)
                return middle
            case "calendar":
                return _gather(self._usual, origins, ahead)
        return np.zeros((len(origins), self._horizon))

    def lags(self, origins: Origins, count: int) -> Iterator[NDArray[np.float64]]:
        """The last values of each origin, measured from the base as far as that goes."""
        steps = np.arange(1 - count, 1)
        values = _gather(self._values, origins, steps)
        match self._kind:
            case "last":
                yield values - values[:, -1:]
            case "level":
                yield values - self.base(origins)[:, :1]
            case "median":
                yield values - _gather(self._values, origins, steps - self._season)
                yield values[:, -1:]
            case "calendar":
                yield values - _gather(self._usual, origins, steps)
            case _:
                yield values

    def restored(self, origins: Origins, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scaled forecasts (N, O) in the data's own units."""
        mean, deviation = np.array(self._means), np.array(self._deviations)
        owners = origins.series
        numbers: NDArray[np.float64] = values * deviation[owners][:, None] + mean[owners][:, None]
        if self._log:
            numbers = np.exp(np.minimum(numbers, np.array(self._limits)[owners][:, None]))
        return numbers


def _known(origins: Origins) -> Iterator[NDArray[np.float64]]:
    """Calendar, covariates, and the series itself (N, …), as far as each origin knows them."""
    tables, plan = origins.tables, origins.plan
    middle = (1 + plan.horizon) // 2
    yield _harmonics(_looked_up([table.calendar for table in tables], origins, middle))
    if 1 < plan.season <= min(_MOST_PHASES, min(t.training for t in tables) // 3):
        yield np.eye(plan.season)[origins.at % plan.season]
    past = [table.past for table in tables]
    if past[0].shape[1]:
        recent = [_looked_up(past, origins, -back) for back in range(4)]
        yield recent[0]
        yield np.mean(recent, axis=0)
    known = [table.known for table in tables]
    for step in range(1, plan.horizon + 1) if known[0].shape[1] else ():
        yield _looked_up(known, origins, step)
    if 1 < len(tables) <= _MOST_NAMED:
        yield np.eye(len(tables))[origins.series]


def _harmonics(waves: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first two harmonics (N, 4 * cycles) of cycles, given by sine and cosine of the first."""
    sine, cosine = waves[:, ::2], waves[:, 1::2]
    return np.column_stack([waves, 2 * sine * cosine, cosine**2 - sine**2])


class ExponentialSmoothing:
    """Exponential smoothing (ETS; Hyndman et al. 2008), with parameters of the training rows.

    Each series has its own model. Its states follow the series, and each origin's forecast starts
    from the state there.
    """

    def __init__(self, spec: Specification, fold: RawFold) -> None:
        if find_spec("statsmodels") is None:
            raise NotPossibleError("statsmodels is not installed")
        self._origins = _origins(fold.train.inputs)
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
            origins = _origins(inputs)
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


def _origins(inputs: Inputs) -> Origins:
    assert isinstance(inputs, Origins)
    return inputs


def _by_series(
    forecast: Callable[[SeriesTable, NDArray[np.int64], int], NDArray[np.float64]], history: int
) -> Predictor:
    """Forecasts each series by itself; origins without `history` steps before them use fewer."""

    def predict(inputs: Inputs) -> NDArray[np.float64]:
        origins = _origins(inputs)
        forecasts = np.empty((len(origins), origins.plan.horizon))
        for number, table in enumerate(origins.tables):
            own = origins.series == number
            at = np.maximum(origins.at[own], min(history, table.training) - 1)
            forecasts[own] = forecast(table, at, origins.plan.horizon)
        return forecasts

    return predict


def _gather(
    columns: Sequence[NDArray[np.float64]], origins: Origins, steps: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Values (N, X, …) of columns (S, …), `steps` (X,) after each origin; first values before."""
    values = np.empty((len(origins), len(steps), *columns[0].shape[1:]))
    for number, column in enumerate(columns):
        own = origins.series == number
        values[own] = column[np.maximum(origins.at[own, None] + steps, 0)]
    return values


def _looked_up(
    columns: Sequence[NDArray[np.float64]], origins: Origins, ahead: int
) -> NDArray[np.float64]:
    """Values (N, P) of columns (S, P), `ahead` steps after each origin."""
    return _gather(columns, origins, np.array([ahead]))[:, 0]


def _means(target: NDArray[np.float64], at: NDArray[np.int64], steps: int) -> NDArray[np.float64]:
    """The mean (N,) of the last steps up to each origin."""
    sums = np.concatenate([[0.0], np.cumsum(target)])
    begin = np.maximum(at + 1 - steps, 0)
    means: NDArray[np.float64] = (sums[at + 1] - sums[begin]) / np.maximum(at + 1 - begin, 1)
    return means

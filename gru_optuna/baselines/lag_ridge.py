"""Ridge regression on the last values of series: a family of simple models, and one as arrays.

What it predicts, and the values that it reads, are distances from a base, so a strong penalty
leaves the base itself as the forecast:

======== =============================================================
none     the mean of the training rows
last     the value at the origin
level    the mean of the last steps, twice the horizon
median   the median of up to four past seasons
calendar what two harmonics of each cycle of the calendar fit in training
======== =============================================================

Letters: N origins, O the horizon, S steps of a series, P features.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from gru_optuna.baselines.model import NotPossibleError
from gru_optuna.baselines.ridge import PENALTIES, RidgePath
from gru_optuna.baselines.rows import Origins, SeriesTable, origins_in
from gru_optuna.data.series.frequency import calendar_channels
from gru_optuna.data.series.windows import fill
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gru_optuna.baselines.convolutions import Arrays
    from gru_optuna.baselines.model import Settings
    from gru_optuna.baselines.rows import Inputs, RawFold
    from gru_optuna.data.series.series import Series
    from gru_optuna.data.series.windows import WindowPlan
    from gru_optuna.study_file import Specification

Base: TypeAlias = Literal["none", "last", "level", "median", "calendar"]

_MOST_SEASONS = 4  # that a median is taken of
_MOST_LAGS = 400
_MOST_PHASES = 400  # of a season that has a level for each of its steps
_MOST_NAMED = 100  # series that have a level each
_MOST_FEATURES = 2500
_MOST_COUNTS = 3  # of lags
_ROWS_A_LAG = 3  # training windows for each lag, at least
_WEAKEST = 1e-4  # penalty; weaker ones fit noise
_FEWEST_ROWS = 4  # training windows; a ridge regression on fewer is arbitrary
_RECENT = 4  # steps of covariates that are read


@dataclass(frozen=True)
class Level:
    """The level and spread of one series in its training rows.

    Attributes
    ----------
    first
        Its first time, microseconds since 1970: seasons are counted from there.
    mean, deviation
        Of its values, or of their logarithms.
    least, most
        Where logarithms are read: values below the least are taken for that, and no forecast's
        logarithm is above the most.
    usual
        What two harmonics of each cycle of the calendar fit, with the constant first; of the base
        "calendar" alone.
    """

    first: int
    mean: float
    deviation: float
    least: float
    most: float
    usual: tuple[float, ...] = ()

    @classmethod
    def of(cls, table: SeriesTable, base: Base, *, log: bool) -> Level:
        """The level of a series, by its training rows."""
        trained = table.target[: table.training]
        least = float(trained.min() / 2)
        if log:
            trained = np.log(np.maximum(trained, least))
        mean, deviation = float(trained.mean()), float(trained.std()) or 1.0
        usual: tuple[float, ...] = ()
        if base == "calendar":
            waves = _with_constant(table.calendar[: table.training])
            scaled = (trained - mean) / deviation
            usual = tuple(np.linalg.lstsq(waves, scaled, rcond=1e-6)[0].tolist())
        # No forecast is further above the training rows than their whole range.
        most = float(2 * trained.max() - trained.min())
        first = int(table.first.astype("datetime64[us]").astype(np.int64))
        return cls(first, mean, deviation, least, most, usual)


@dataclass(frozen=True, eq=False)
class LagReading:
    """How a regression reads series, and which base its forecasts start from.

    Attributes
    ----------
    plan
        Horizon, season, calendar and steps of the series.
    levels
        By the names of the series, in their order.
    lags
        Values up to the origin that are read.
    base
        See above.
    log
        Whether it reads logarithms.
    seasons
        How many the median is taken of.
    phases
        Whether each step of the season has a level of its own.
    named
        Whether each series has one.
    """

    plan: WindowPlan
    levels: Mapping[str, Level]
    lags: int
    base: Base
    log: bool
    seasons: int
    phases: bool
    named: bool

    @classmethod
    def of(cls, origins: Origins, lags: int, base: Base, *, log: bool) -> LagReading:
        """Learns from the training rows of all series."""
        season = origins.plan.season
        shortest = min(table.training for table in origins.tables)
        return cls(
            plan=origins.plan,
            levels={table.name: Level.of(table, base, log=log) for table in origins.tables},
            lags=lags,
            base=base,
            log=log,
            seasons=max(1, min(_MOST_SEASONS, shortest // (3 * season))),
            phases=1 < season <= min(_MOST_PHASES, shortest // 3),
            named=1 < len(origins.tables) <= _MOST_NAMED,
        )

    @property
    def needed(self) -> int:
        """How many steps up to an origin must be known."""
        level = 2 * self.plan.horizon if self.base == "level" else 0
        return max(self.lags + self.history, level)

    @property
    def history(self) -> int:
        """How many steps before the lags the base needs."""
        return self.plan.season * self.seasons if self.base == "median" else 0

    def width(self) -> int:
        """P, without covariates."""
        return (
            self.lags
            + (self.base == "median")
            + 4 * len(self.plan.calendar)
            + (self.plan.season if self.phases else 0)
            + (len(self.levels) if self.named else 0)
        )

    def origins_of(self, rows: Sequence[Series]) -> Origins:
        """One forecast for each series, from its last value on.

        Raises
        ------
        DataError
            If a series has too few rows.
        """
        tables, at = [], []
        for each in rows:
            origin = int(np.flatnonzero(np.isfinite(each.target))[-1])
            if origin + 1 < self.needed:
                raise DataError(
                    f"there are {origin + 1} rows{each.named} up to the last value, but the ridge "
                    f"regression in this ensemble reads {self.needed}. Add earlier rows."
                )
            times = self.plan.frequency.times(each.first, origin + 1 + self.plan.horizon)
            none = np.zeros((origin + 1, 0))
            tables.append(
                SeriesTable(
                    target=fill(each.target[: origin + 1, None], 0)[:, 0],
                    past=none,
                    known=none,
                    calendar=calendar_channels(times, self.plan.calendar),
                    training=0,
                    name=each.name,
                    first=each.first,
                )
            )
            at.append(origin)
        return Origins(tuple(tables), self.plan, np.arange(len(at)), np.array(at), ())

    def scaled(self, tables: Sequence[SeriesTable]) -> _Scaled:
        """The values of series in deviations from their means."""
        return _Scaled(self, tables)


@dataclass(frozen=True, eq=False)
class LagRidgeModel:
    """A fitted regression: from origins, or from whole series, to forecasts (N, O).

    Attributes
    ----------
    reading
        What it reads.
    arrays
        ``means`` (P,), ``weights`` (P, O) and ``offsets`` (O,); float32.
    covariates
        Whether it reads covariates as well, which whole series don't bring.
    known
        Features of origins that were computed before, or None.
    """

    reading: LagReading
    arrays: Arrays
    covariates: bool = False
    known: Callable[[Inputs], NDArray[np.float64] | None] = field(default=lambda _: None)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each array."""
        width, horizon = self.reading.width(), self.reading.plan.horizon
        return {"means": (width,), "weights": (width, horizon), "offsets": (horizon,)}

    def __call__(self, inputs: Inputs | Sequence[Series]) -> NDArray[np.float64]:
        """Predicts, each row independently of the others.

        Raises
        ------
        DataError
            If a whole series has too few rows.
        """
        if not len(inputs):
            return np.zeros((0, self.reading.plan.horizon))
        whole = not isinstance(inputs, Origins)
        origins = self.reading.origins_of(inputs) if whole else inputs  # type: ignore[arg-type]
        assert isinstance(origins, Origins)
        scaled = self.reading.scaled(origins.tables)
        features = None if whole else self.known(origins)
        if features is None:
            features = scaled.features(origins)
        means, weights, offsets = (
            self.arrays[name].astype(np.float64) for name in ("means", "weights", "offsets")
        )
        if whole:  # a product of matrices rounds differently from one number of rows to another
            outputs = np.stack([(row - means) @ weights for row in features])
        else:
            outputs = (features - means) @ weights
        return scaled.restored(origins, outputs + offsets + scaled.base(origins))


class LagRidge:
    """Regressions on the last values, the calendar and covariates; all steps at once."""

    def __init__(self, spec: Specification, fold: RawFold) -> None:
        self._fold = fold
        self._origins = origins_in(fold.train.inputs)
        self._positive = min(t.target[: t.training].min() for t in self._origins.tables) > 0
        # As for the networks: RMSE is dominated by outliers, the other metrics forgive them.
        self._robust = spec.metric != "rmse"
        self._shared: Settings | None = None
        self._reading: LagReading
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
        left_out = {base for base, there in (("median", plan.season > 1),
                                             ("calendar", plan.calendar)) if not there}  # fmt: skip
        for base in reversed(get_args(Base)):
            for count in () if base in left_out else lags[:_MOST_COUNTS]:
                for log in (False, True) if self._positive else (False,):
                    for penalty in (p for p in PENALTIES[1:] if p >= _WEAKEST):
                        yield {"lags": count, "base": base, "log": log, "penalty": penalty}

    def fit(self, settings: Settings) -> LagRidgeModel:
        """Solves the regression on all training windows of all series together."""
        shared = {key: value for key, value in settings.items() if key != "penalty"}
        if self._shared != shared:
            reading = LagReading.of(self._origins, **shared)
            scaled = reading.scaled(self._origins.tables)
            begin = settings["lags"] - 1 + reading.history
            rows = self._origins.take(np.flatnonzero(self._origins.at >= begin))
            if len(rows) < _FEWEST_ROWS:
                raise NotPossibleError("there are too few training windows")
            features = scaled.features(rows)
            self._path = RidgePath(features, scaled.targets(rows) - scaled.base(rows))
            self._reading, self._shared, self._kept = reading, shared, None
        solved = self._path.solve(settings["penalty"], robust=self._robust).as_arrays()
        arrays = {name: np.ascontiguousarray(a, np.float32) for name, a in solved.items()}
        reading = self._reading

        def known(inputs: Inputs) -> NDArray[np.float64] | None:
            if inputs is not self._fold.validation.inputs or reading is not self._reading:
                return None
            if self._kept is None:  # the same for the next penalties
                origins = origins_in(inputs)
                self._kept = reading.scaled(origins.tables).features(origins)
            return self._kept

        read = self._origins.tables[0]
        covariates = bool(read.past.shape[1] or read.known.shape[1])
        return LagRidgeModel(reading, arrays, covariates, known)

    @staticmethod
    def label(settings: Settings) -> str:
        """Such as "ridge regression on 48 lags"."""
        count = settings["lags"]
        return f"ridge regression on {count} lag{'s' if count > 1 else ''}"


class _Scaled:
    """Series in logarithms or in deviations, and the base that their forecasts start from."""

    def __init__(self, reading: LagReading, tables: Sequence[SeriesTable]) -> None:
        self._reading, self._plan = reading, reading.plan
        self._levels = [reading.levels[table.name] for table in tables]
        self._values: list[NDArray[np.float64]] = []
        self._usual: list[NDArray[np.float64]] = []
        for table, level in zip(tables, self._levels, strict=True):
            values = table.target
            if reading.log:
                values = np.log(np.maximum(values, level.least))
            self._values.append((values - level.mean) / level.deviation)
            if reading.base == "calendar":
                self._usual.append(_with_constant(table.calendar) @ np.array(level.usual))

    def targets(self, origins: Origins) -> NDArray[np.float64]:
        """The scaled values (N, O) of the steps after each origin."""
        return _gather(self._values, origins, np.arange(1, self._plan.horizon + 1))

    def base(self, origins: Origins) -> NDArray[np.float64]:
        """What forecasts (N, O) are measured from."""
        horizon, season = self._plan.horizon, self._plan.season
        ahead = np.arange(1, horizon + 1)
        match self._reading.base:
            case "last":
                return _gather(self._values, origins, 0 * ahead)
            case "level":
                window = _gather(self._values, origins, np.arange(-2 * horizon + 1, 1))
                return np.repeat(window.mean(axis=1, keepdims=True), horizon, axis=1)
            case "median":
                steps = ahead - season * -(-ahead // season)
                past = [
                    _gather(self._values, origins, steps - back * season)
                    for back in range(self._reading.seasons)
                ]
                middle: NDArray[np.float64] = np.median(past, axis=0)
                return middle
            case "calendar":
                return _gather(self._usual, origins, ahead)
        return np.zeros((len(origins), horizon))

    def features(self, origins: Origins) -> NDArray[np.float64]:
        """What is known at each origin (N, P)."""
        features = np.concatenate([*self._lags(origins), *self._known(origins)], axis=1)
        if features.shape[1] > _MOST_FEATURES:
            raise NotPossibleError(f"there would be {features.shape[1]:,} features")
        return features

    def _lags(self, origins: Origins) -> Iterator[NDArray[np.float64]]:
        """The last values of each origin, measured from the base as far as that goes."""
        steps = np.arange(1 - self._reading.lags, 1)
        values = _gather(self._values, origins, steps)
        match self._reading.base:
            case "last":
                yield values - values[:, -1:]
            case "level":
                yield values - self.base(origins)[:, :1]
            case "median":
                yield values - _gather(self._values, origins, steps - self._plan.season)
                yield values[:, -1:]
            case "calendar":
                yield values - _gather(self._usual, origins, steps)
            case _:
                yield values

    def _known(self, origins: Origins) -> Iterator[NDArray[np.float64]]:
        """Calendar, covariates, and the series itself (N, …), as far as each origin knows them."""
        tables, plan = origins.tables, self._plan
        middle = (1 + plan.horizon) // 2
        yield _harmonics(_looked_up([table.calendar for table in tables], origins, middle))
        if self._reading.phases:
            phases = np.array([self._phase(table) for table in tables])
            yield np.eye(plan.season)[(origins.at + phases[origins.series]) % plan.season]
        past = [table.past for table in tables]
        if past[0].shape[1]:
            recent = [_looked_up(past, origins, -back) for back in range(_RECENT)]
            yield recent[0]
            yield np.mean(recent, axis=0)
        known = [table.known for table in tables]
        for step in range(1, plan.horizon + 1) if known[0].shape[1] else ():
            yield _looked_up(known, origins, step)
        if self._reading.named:
            names = list(self._reading.levels)
            places = np.array([names.index(table.name) for table in tables])
            yield np.eye(len(names))[places[origins.series]]

    def _phase(self, table: SeriesTable) -> int:
        """How many steps a table begins after the training rows of its series, or before."""
        trained = np.datetime64(self._reading.levels[table.name].first, "us")
        first = table.first.astype("datetime64[us]")
        steps, _ = self._plan.frequency.places(np.array(sorted((trained, first))))
        return int(steps[-1]) if first >= trained else -int(steps[-1])

    def restored(self, origins: Origins, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scaled forecasts (N, O) in the data's own units."""
        mean, deviation, most = (
            np.array([getattr(level, name) for level in self._levels])[origins.series][:, None]
            for name in ("mean", "deviation", "most")
        )
        numbers: NDArray[np.float64] = values * deviation + mean
        return np.exp(np.minimum(numbers, most)) if self._reading.log else numbers


def _with_constant(calendar: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([np.ones(len(calendar)), _harmonics(calendar)])


def _harmonics(waves: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first two harmonics (N, 4 * cycles) of cycles, given by sine and cosine of the first."""
    sine, cosine = waves[:, ::2], waves[:, 1::2]
    return np.column_stack([waves, 2 * sine * cosine, cosine**2 - sine**2])


def _gather(
    columns: Sequence[NDArray[np.float64]], origins: Origins, steps: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Values (N, X, …) of columns (S, …), `steps` (X,) after each origin; first values before."""
    values: NDArray[Any] = np.empty((len(origins), len(steps), *columns[0].shape[1:]))
    for number, column in enumerate(columns):
        own = origins.series == number
        values[own] = column[np.maximum(origins.at[own, None] + steps, 0)]
    return values


def _looked_up(
    columns: Sequence[NDArray[np.float64]], origins: Origins, ahead: int
) -> NDArray[np.float64]:
    """Values (N, P) of columns (S, P), `ahead` steps after each origin."""
    return _gather(columns, origins, np.array([ahead]))[:, 0]

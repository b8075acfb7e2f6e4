"""Series that go on: fitted on their past, asked for their next steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from sklearn.metrics import mean_absolute_error
from sklearn.utils.validation import check_is_fitted

from gru_optuna.bundle.bundle import PREDICTION
from gru_optuna.data.readers.in_memory import frame_rows
from gru_optuna.errors import DataError
from gru_optuna.estimators.base import GRUEstimator, value_errors, with_shared
from gru_optuna.search import default_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

_TIME, _VALUES = "time", "y"
_CALENDAR_CHANNELS = 4


class GRUForecaster(GRUEstimator):
    """Tells how a series goes on, by the best GRU that its budget finds.

    Parameters
    ----------
    horizon
        How many steps are told at once, the most that `predict` can tell.
    time, target
        Columns of the times and of what is to be told, where `fit` is given a frame.
    series
        Column that tells several series apart.
    covariates, known
        Columns that are known up to the present, and those that are known ahead; of numbers or of
        words.
    window, season
        As under ``[data]`` of a study file; None: from the data.
    space, trials, seconds, metric, epochs, patience, validation, data, confirm, refit, sampler, \
pruner, storage, study_name, n_jobs, device, progress, random_state
        As `GRUEstimator`'s; `metric` is mae unless said otherwise, and validation rows are the
        last ones.

    Attributes
    ----------
    study_
        The search, a plain Optuna study in memory.
    bundle_
        The model; ``bundle_.save(folder)`` writes it for ``gru-optuna predict``.
    best_params_, best_score_
        The best trial's configuration, and its metric on validation rows.
    history_
        The rows that a forecast continues.

    Examples
    --------
    >>> GRUForecaster(horizon=24).fit(demand).predict()  # doctest: +SKIP
    array([312.4, 298.1, ...])
    """

    _task = "forecasting"

    @with_shared
    def __init__(
        self,
        horizon: int = 24,
        space: Any = None,
        *,
        time: str | None = None,
        target: str | None = None,
        series: str | None = None,
        covariates: Sequence[str] = (),
        known: Sequence[str] = (),
        window: int | None = None,
        season: int | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(space, **shared)
        self.horizon = horizon
        self.time = time
        self.target = target
        self.series = series
        self.covariates = covariates
        self.known = known
        self.window = window
        self.season = season

    def fit(self, y: Any, X: Any = None) -> Self:
        """Tunes, and keeps the best network and the rows.

        Parameters
        ----------
        y
            Values (S,), one a step, NaN where one is missing; a pandas Series, whose index may
            hold the times; or a frame with the columns `time` and `target`, of one series or
            several, one row a step and series.
        X
            With values (S,): covariates (S, P), known up to the present, as an array or a frame.

        Raises
        ------
        ValueError
            If they can't be used; it says where and why.
        StudyFailed
            If no trial comes to its end.
        """
        with value_errors():
            rows = self._read(y, X)
        columns: dict[str, Any] = {"time": self.time, "target": self.target, "series": self.series}
        columns |= {"covariates": list(self.covariates), "known": list(self.known)}
        if not self._by_columns():
            covariates = [name for name in rows.columns if name not in (_TIME, _VALUES)]
            columns = {"time": _TIME, "target": _VALUES, "covariates": covariates}
            columns |= {"calendar": _has_times(y)}
        sizes = {"horizon": self.horizon, "window": self.window, "season": self.season}
        channels = 1 + len(columns["covariates"]) + len(self.known) + _CALENDAR_CHANNELS
        plan = default_sizes.choose_default_sizes(
            rows.height, self.window or 2 * self.horizon, channels
        )
        with value_errors():
            source = {"y": frame_rows(rows, "y")}
        self._tune({"train": "y", **columns, **sizes}, source, plan)
        self.history_ = rows
        self._timed = self._by_columns() or _has_times(y)
        return self

    def predict(
        self, horizon: int | None = None, *, y: Any = None, X: Any = None
    ) -> NDArray[np.float64]:
        """The next values, in the units of the data.

        Parameters
        ----------
        horizon
            How many; None: as many as the forecaster was made for, which are the most.
        y, X
            Rows up to another present, as `fit` takes them: what has been observed since. Of
            columns that are known ahead, the rows to be told too, with the target empty.

        Returns
        -------
        ndarray
            (horizon,); of several series (series, horizon), by the order of their names.

        Raises
        ------
        ValueError
            If the rows don't suffice, or `horizon` is more than was learned.
        """
        told = self.predict_frame(horizon, y=y, X=X)[PREDICTION].to_numpy()
        several = self.bundle_.spec.data.series is not None
        return told.reshape(-1, horizon or self._most) if several else told

    def predict_frame(
        self, horizon: int | None = None, *, y: Any = None, X: Any = None
    ) -> pl.DataFrame:
        """The same with the series' names, the times and the column ``prediction``.

        Raises
        ------
        ValueError
            As `predict`.
        """
        check_is_fitted(self, "bundle_")
        most = self._most
        ahead = most if horizon is None else horizon
        if not 1 <= ahead <= most:
            raise ValueError(
                f"horizon = {ahead}, and this forecaster learned to tell 1 to {most} steps. "
                f"Make one with horizon={ahead}."
            )
        with value_errors():
            rows = self.history_ if y is None else self._read(y, X)
            told: pl.DataFrame = self.bundle_.predict_frame(rows)
        within = pl.int_range(pl.len()) % most < ahead
        told = told.filter(within)
        return told if self._timed else told.drop(_TIME)

    def score(self, y: ArrayLike, X: Any = None) -> float:
        """Minus the mean absolute error of the forecast of what came then: higher is better.

        Parameters
        ----------
        y
            The values (steps,) that followed the rows of `fit`; of several series
            (series, steps).
        X
            Not used; there for scikit-learn's sake.
        """
        truth = np.asarray(y, dtype=np.float64)
        told = self.predict(truth.shape[-1])
        return -float(mean_absolute_error(truth.ravel(), told.ravel()))

    @property
    def _most(self) -> int:
        """Steps that it has learned to tell."""
        assert self.bundle_.spec.data.horizon is not None
        return int(self.bundle_.spec.data.horizon)

    def _by_columns(self) -> bool:
        """Whether rows come as frames whose columns are named."""
        return self.time is not None or self.target is not None

    def _read(self, y: Any, X: Any) -> pl.DataFrame:
        """The rows as a frame with a column of times."""
        if self._by_columns():
            if X is not None:
                raise DataError("X: y is a frame, so covariates are columns of it: name them.")
            if self.time is None or self.target is None:
                raise DataError("a frame has a column of times and one to tell: name both.")
            rows = frame_rows(y, "y").frame
            roles = [self.time, self.target, self.series, *self.covariates, *self.known]
            return rows.select([name for name in roles if name in rows.columns])
        values = np.asarray(y, dtype=np.float64)
        values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        if values.ndim != 1 or not len(values):
            raise DataError(
                f"y: shape {np.shape(y)}, and a series is (S,). Of a frame, name the columns: "
                f"GRUForecaster(time=…, target=…)."
            )
        # Without times, steps that no calendar and no season knows.
        times = y.index.to_numpy() if _has_times(y) else np.arange(len(values))
        frame = pl.DataFrame({_TIME: times.astype("datetime64[us]"), _VALUES: values})
        if X is None:
            return frame
        if hasattr(X, "columns"):
            covariates = frame_rows(X, "X").frame
        else:
            matrix = np.asarray(X, dtype=np.float64).reshape(len(X), -1)
            covariates = pl.DataFrame(matrix, schema=[f"x{i}" for i in range(matrix.shape[1])])
        if covariates.height != frame.height:
            raise DataError(f"X: {covariates.height} rows, and {frame.height} in y.")
        return frame.hstack(covariates)


def _has_times(y: Any) -> bool:
    """Whether it is a pandas Series whose index holds times."""
    return hasattr(getattr(y, "index", None), "to_pydatetime")

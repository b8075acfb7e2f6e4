"""A forecaster of series: fitted on their past, it predicts their next steps."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from sklearn.metrics import mean_absolute_error
from sklearn.utils.validation import check_is_fitted

from gru_optuna.bundle.bundle import PREDICTION
from gru_optuna.data.readers.in_memory import frame_rows
from gru_optuna.errors import DataError
from gru_optuna.estimators.base import GRUEstimator, value_errors
from gru_optuna.search.default_sizes import choose_default_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

_TIME, _VALUES = "time", "y"
_CALENDAR_CHANNELS = 4


@dataclass(repr=False, eq=False)
class GRUForecaster(GRUEstimator):
    """Forecasts series with the best GRU found within the budget.

    The default metric is mae, and the last rows are the validation rows.

    Parameters
    ----------
    horizon
        How many steps are predicted at once, which is the most that `predict` can return.
    time, target
        The columns of the times and of the values to predict, if `fit` is given a frame.
    series
        The column that identifies the series, if there are several.
    covariates, known
        Columns whose values are known up to the present, and columns whose values are known in
        advance; numbers or categories.
    window, season
        As under ``[data]`` of a study file; None: from the data.
    {parameters}

    Attributes
    ----------
    {attributes}
    history_
        The rows that a forecast continues.

    Examples
    --------
    >>> GRUForecaster(horizon=24).fit(demand).predict()  # doctest: +SKIP
    array([312.4, 298.1, ...])
    """

    _task = "forecasting"

    horizon: int = 24
    space: Mapping[str, Any] | None = None
    _: KW_ONLY
    time: str | None = None
    target: str | None = None
    series: str | None = None
    covariates: Sequence[str] = ()
    known: Sequence[str] = ()
    window: int | None = None
    season: int | None = None

    def fit(self, y: Any, X: Any = None) -> Self:
        """Tunes, and keeps the best network and the rows, which forecasts continue.

        Parameters
        ----------
        y
            Values (S,), one for each step, NaN where one is missing; a pandas Series, whose index
            may hold the times; or a frame with the columns `time` and `target`, of one or several
            series, with one row for each step of each series.
        X
            With values (S,): covariates (S, P), known up to the present; an array or a frame.

        Raises
        ------
        ValueError
            If they can't be used; the message says where and why.
        StudyFailed
            If no trial completes.
        """
        with value_errors():
            rows = self._read(y, X)
        columns: dict[str, Any] = {"time": self.time, "target": self.target, "series": self.series}
        columns |= {"covariates": list(self.covariates), "known": list(self.known)}
        if not self._by_columns():
            covariates = [name for name in rows.columns if name not in (_TIME, _VALUES)]
            columns = {"time": _TIME, "target": _VALUES, "covariates": covariates}
            columns |= {"calendar": _has_times(y)}
        columns |= {"horizon": self.horizon, "window": self.window, "season": self.season}
        channels = 1 + len(columns["covariates"]) + len(self.known) + _CALENDAR_CHANNELS
        steps = self.window or 2 * self.horizon
        with value_errors():
            source = {"y": frame_rows(rows, "y")}
        sizes = choose_default_sizes("windows", rows.height, steps, channels)
        self._tune(self.space, {"train": "y", **columns}, source, sizes)
        self.history_ = rows
        self._timed = self._by_columns() or _has_times(y)
        return self

    def predict(
        self, horizon: int | None = None, *, y: Any = None, X: Any = None
    ) -> NDArray[np.float64]:
        """Predicts the next values, in the units of the data.

        Parameters
        ----------
        horizon
            How many steps; None: the forecaster's horizon, which is the most.
        y, X
            Rows up to a later present, as `fit` takes them. With columns that are known in
            advance, also the rows to predict, with an empty target.

        Returns
        -------
        ndarray
            (horizon,), or (series, horizon) for several series, in the order of their names.

        Raises
        ------
        ValueError
            If there are too few rows, or `horizon` exceeds the forecaster's.
        """
        values = self.predict_frame(horizon, y=y, X=X)[PREDICTION].to_numpy()
        several = self.bundle_.spec.data.series is not None
        return values.reshape(-1, horizon or self._most) if several else values

    def predict_frame(
        self, horizon: int | None = None, *, y: Any = None, X: Any = None
    ) -> pl.DataFrame:
        """Predicts the next values as a frame with series, times and the column ``prediction``.

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
                f"horizon = {ahead}, but this forecaster predicts 1 to {most} steps. "
                f"Fit one with horizon={ahead}."
            )
        with value_errors():
            rows = self.history_ if y is None else self._read(y, X)
            frame: pl.DataFrame = self.bundle_.predict_frame(rows)
        frame = frame.filter(pl.int_range(pl.len()) % most < ahead)
        return frame if self._timed else frame.drop(_TIME)

    def score(self, y: ArrayLike, X: Any = None) -> float:
        """Minus the mean absolute error of the forecast of the values that followed.

        Higher is better, as scikit-learn expects.

        Parameters
        ----------
        y
            The values (steps,) that followed the rows of `fit`, or (series, steps).
        X
            Not used; scikit-learn passes it.
        """
        truth = np.asarray(y, dtype=np.float64)
        predictions = self.predict(truth.shape[-1])
        return -float(mean_absolute_error(truth.ravel(), predictions.ravel()))

    @property
    def _most(self) -> int:
        """How many steps the fitted network predicts."""
        assert self.bundle_.spec.data.horizon is not None
        return int(self.bundle_.spec.data.horizon)

    def _by_columns(self) -> bool:
        """Whether rows are given as frames whose columns are named."""
        return self.time is not None or self.target is not None

    def _read(self, y: Any, X: Any) -> pl.DataFrame:
        """The rows as a frame with a column of times."""
        if self._by_columns():
            if X is not None:
                raise DataError("X: y is a frame, so its columns are the covariates. Name them.")
            if self.time is None or self.target is None:
                raise DataError("y is a frame. Name its columns: time=… and target=….")
            rows = frame_rows(y, "y").frame
            roles = [self.time, self.target, self.series, *self.covariates, *self.known]
            return rows.select([name for name in roles if name in rows.columns])
        values = np.asarray(y, dtype=np.float64)
        values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        if values.ndim != 1 or not len(values):
            raise DataError(
                f"y has shape {np.shape(y)}, but a series has (S,). For a frame, name the columns: "
                f"GRUForecaster(time=…, target=…)."
            )
        # Without times, each step is a microsecond, which fits no calendar and no season.
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
            raise DataError(f"X has {covariates.height} rows, but y has {frame.height}.")
        return frame.hstack(covariates)


def _has_times(y: Any) -> bool:
    """Whether y is a pandas Series whose index holds times."""
    return hasattr(getattr(y, "index", None), "to_pydatetime")

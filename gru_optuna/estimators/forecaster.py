"""A forecaster of series: fitted on their past, it predicts their next steps."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from sklearn.metrics import mean_absolute_error
from sklearn.utils.validation import check_is_fitted

from gru_optuna.bundle.bundle import PREDICTION
from gru_optuna.data.readers.in_memory import as_numbers, frame_rows, is_pandas
from gru_optuna.errors import DataError
from gru_optuna.estimators.base import GRUEstimator, value_errors
from gru_optuna.estimators.pandas_times import PandasTimes
from gru_optuna.search.default_sizes import choose_default_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from numpy.typing import ArrayLike

_TIME, _VALUES = "time", "y"
_CALENDAR_CHANNELS = 4
_NAME_COLUMNS = "For a frame, name the columns: GRUForecaster(time=…, target=…)."


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
            columns |= {"calendar": self._times(y) is not None}
        columns |= {"horizon": self.horizon, "window": self.window, "season": self.season}
        channels = 1 + len(columns["covariates"]) + len(self.known) + _CALENDAR_CHANNELS
        steps = self.window or 2 * self.horizon
        with value_errors():
            source = {"y": frame_rows(rows, "y")}
        sizes = choose_default_sizes("windows", rows.height, steps, channels)
        self._tune(self.space, {"train": "y", **columns}, source, sizes, self._seed())
        self.history_ = rows
        self._timed = self._by_columns() or self._times(y) is not None
        self._pandas_form = self._form(y)
        return self

    def predict(self, horizon: int | None = None, *, y: Any = None, X: Any = None) -> Any:
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
        numpy.ndarray, or pandas.Series or pandas.DataFrame if y is of pandas
            (horizon,), or (series, horizon) for several series, in the order of their names. The
            index of a Series is the times, that of a DataFrame the names.

        Raises
        ------
        ValueError
            If there are too few rows, or `horizon` exceeds the forecaster's.
        """
        frame = self.predict_frame(horizon, y=y, X=X)
        values, series = frame[PREDICTION].to_numpy(), self.bundle_.spec.data.series
        if series is None:
            if not is_pandas(frame):
                return values
            return (frame.set_index(self._time_column) if self._timed else frame)[PREDICTION]
        table = values.reshape(-1, horizon or self._most)
        if not is_pandas(frame):
            return table
        steps = [str(step + 1) for step in range(table.shape[1])]
        names = frame[series].iloc[:: len(steps)]
        return pl.DataFrame(table, schema=steps).to_pandas().set_axis(names, axis="index")

    def predict_frame(
        self,
        horizon: int | None = None,
        *,
        y: Any = None,
        X: Any = None,
        levels: Sequence[Literal[80, 95]] = (),
    ) -> Any:
        """Predicts the next values as a frame with series, times and the column ``prediction``.

        The frame is of polars, or of pandas if y is, with times in the form that they have in y.
        For each level, columns such as ``low_80`` and ``high_80`` hold the bounds of intervals that
        should contain 80% of the values. Only a model fitted with `confirm` has them.

        Raises
        ------
        ValueError
            As `predict`, or if no intervals of a level were measured.
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
            frame: pl.DataFrame = self.bundle_.predict_frame(rows, [str(one) for one in levels])
        frame = frame.filter(pl.int_range(pl.len()) % most < ahead)
        frame = frame if self._timed else frame.drop(_TIME)
        form = self._pandas_form if y is None else self._form(y)
        if form is None:
            return frame
        found = frame.to_pandas()
        if self._timed:
            found[self._time_column] = form.restored(found[self._time_column])
        return found

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

    @property
    def _time_column(self) -> str:
        return self.time or _TIME

    def _by_columns(self) -> bool:
        """Whether rows are given as frames whose columns are named."""
        return self.time is not None or self.target is not None

    def _times(self, y: Any) -> Any:
        """The times of a pandas frame or Series as an index; None if it has none."""
        if not is_pandas(y) or not hasattr(y, "index"):
            return None
        by_column = self.time is not None and self.time in getattr(y, "columns", ())
        index = y.set_index(self.time).index if by_column else y.index
        is_time = hasattr(index, "to_pydatetime") or hasattr(index, "to_timestamp")
        return index if is_time else None

    def _form(self, y: Any) -> PandasTimes | None:
        """How a pandas frame or Series holds its times; None if y isn't of pandas."""
        if not is_pandas(y):
            return None
        times = self._times(y)
        return PandasTimes() if times is None else PandasTimes.of(times)

    def _read(self, y: Any, X: Any) -> pl.DataFrame:
        """The rows as a frame with a column of times."""
        if self._by_columns():
            if X is not None:
                raise DataError("X: y is a frame, so its columns are the covariates. Name them.")
            if self.time is None or self.target is None:
                raise DataError("y is a frame. Name its columns: time=… and target=….")
            times, form = self._times(y), self._form(y)
            if form is not None and form != PandasTimes():
                y = y.assign(**{self.time: form.plain(times)})
            rows = frame_rows(y, "y").frame
            roles = [self.time, self.target, self.series, *self.covariates, *self.known]
            return rows.select([name for name in roles if name in rows.columns])
        try:
            values = as_numbers(y)
        except (TypeError, ValueError):
            raise DataError(f"y holds values that aren't numbers. {_NAME_COLUMNS}") from None
        values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        if values.ndim != 1 or not len(values):
            raise DataError(f"y has shape {np.shape(y)}, but a series has (S,). {_NAME_COLUMNS}")
        # Without times, each step is a microsecond, which fits no calendar and no season.
        times = np.arange(len(values)).astype("datetime64[us]")
        if (index := self._times(y)) is not None:
            times = PandasTimes.of(index).plain(index)
        frame = pl.DataFrame({_TIME: times, _VALUES: values})
        if X is None:
            return frame
        if hasattr(X, "columns"):
            covariates = frame_rows(X, "X").frame
        else:
            matrix = as_numbers(X).reshape(len(X), -1)
            covariates = pl.DataFrame(matrix, schema=[f"x{i}" for i in range(matrix.shape[1])])
        if covariates.height != frame.height:
            raise DataError(f"X has {covariates.height} rows, but y has {frame.height}.")
        return frame.hstack(covariates)

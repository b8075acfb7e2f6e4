"""Encodes series as windows, with scales and categories learned from the training rows.

Training cuts a series into many windows; a forecast for new rows needs only the last one. Both
use `SeriesEncoder`. Letters: S steps of a series, N windows, T steps of a window, C
channels, O the horizon.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gru_optuna.data.readers.column_formats import TableFormats
from gru_optuna.data.readers.time_forms import TimeForm
from gru_optuna.data.series import windows
from gru_optuna.data.series.categories import Categories, is_present
from gru_optuna.data.series.frequency import Frequency
from gru_optuna.data.series.reference_values import ForecastUnits
from gru_optuna.data.series.windows import Scales, WindowPlan
from gru_optuna.data.views import PLAIN, View, differences_of, patched
from gru_optuna.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from gru_optuna.data.dataset import Units
    from gru_optuna.data.series.frequency import Times
    from gru_optuna.data.series.series import Series
    from gru_optuna.study_file import Data


@dataclass(frozen=True)
class Prepared:
    """One series, ready to be cut into windows."""

    units: ForecastUnits
    channels: NDArray[np.float32]  # (S, C), before windows are scaled and patches are made
    values: NDArray[np.float64]  # (S,) filled, unless windows with missing values are dropped
    added: int  # the last channels, which the view adds: changes of the target

    @property
    def shares_steps(self) -> bool:
        """Whether all windows read the same steps, so that they may overlap."""
        view = self.units.view
        return view.patch == 1 and not view.by_row and view.residual != "last"

    def inputs(self, origins: NDArray[np.int64]) -> NDArray[np.float32]:
        """The steps (N, T', C') of the windows that end at `origins` (N,), as a network reads them.

        T' and C' are T and C unless the view makes patches or adds statistics.
        """
        plan, scales, view = self.units.plan, self.units.scales, self.units.view
        steps = self.channels[origins[:, None] + np.arange(1 - plan.window, 1)].astype(np.float64)
        levels = (self.units.levels(origins) - scales.mean) / scales.deviation
        spreads = self.units.spreads(origins)
        if view.by_row:
            spreads = spreads / scales.deviation
        targets = 1 + len(plan.lags)  # the first channels: the target, and earlier seasons
        steps[:, :, :targets] -= levels[:, None, None]
        if view.residual == "last":
            steps[:, :, :targets] -= steps[:, -1:, :1]
        for scaled in (slice(targets), slice(steps.shape[2] - self.added, None)):
            steps[:, :, scaled] /= spreads[:, None, None]
        lengths = np.full(len(origins), plan.window)
        flat, _ = patched(steps.reshape(-1, steps.shape[2]), lengths, view.patch)
        patches = flat.reshape(len(origins), -1, flat.shape[1])
        if view.statistics:
            statistics = np.column_stack([levels, np.log(spreads)])[:, None]
            constant = np.broadcast_to(statistics, (*patches.shape[:2], 2))
            patches = np.concatenate([patches, constant], axis=2)
        return patches.astype(np.float32)


@dataclass(frozen=True)
class Present:
    """The last window of one series."""

    name: str
    values: Tensor  # (T, C)
    units: Units  # of one row
    times: Times  # (O,) of the steps to forecast


@dataclass(frozen=True)
class SeriesEncoder:
    """What training has learned about all series, and about each."""

    plan: WindowPlan
    scales: Mapping[str, Scales]  # by the series' name
    categories: Mapping[str, Categories]  # by the name of their column
    data: Data  # the columns, and how missing values are treated
    formats: TableFormats = field(default_factory=TableFormats)
    # How the columns of times are written; none if an earlier version made the bundle.
    forms: tuple[TimeForm, ...] = ()
    view: View = PLAIN

    @property
    def inputs(self) -> int:
        """The channels of a step as a network reads it."""
        statistics = 2 if self.view.statistics else 0
        return (self.channels + self._added) * self.view.patch + statistics

    @property
    def _added(self) -> int:
        return self._sees_seasonal_change + self.view.differences

    @property
    def _sees_seasonal_change(self) -> bool:
        return self.view.residual in ("level", "drift") and self.plan.season > 1

    @property
    def channels(self) -> int:
        """C of a plain view: target, earlier seasons, covariates, calendar."""
        covariates = sum(
            self.categories[name].channels if name in self.categories else 1
            for name in (*self.data.covariates, *self.data.known)
        )
        return 1 + len(self.plan.lags) + covariates + 2 * len(self.plan.calendar)

    def prepare(self, series: Series, training: int = 0) -> Prepared:
        """Fills and scales one series, whose first `training` steps are for training.

        Raises
        ------
        DataError
            If training has not seen a series of this name.
        """
        if series.name not in self.scales:
            raise DataError(
                f'series "{series.name}" was not in training, so its level is unknown. '
                f"{did_you_mean(series.name, self.scales)}"
            )
        scales = self.scales[series.name]
        columns = np.column_stack([series.target, series.past, series.known])
        if self.data.missing != "drop":
            columns = windows.fill(columns, training)
        values = columns[:, 0]
        if self.view.log and (values <= 0).any():
            raise DataError(
                f'"{self.data.target}" is {values[values <= 0][0]:g}'
                f"{series.named}, but this model reads its logarithms. Give positive values."
            )
        target = np.log(values) if self.view.log else values
        scaled = (columns[:, 1:] - scales.means) / scales.deviations
        past, known = np.split(scaled, [series.past.shape[1]], axis=1)
        of_target = (target - scales.mean) / scales.deviation
        channels = windows.channels(
            series.first,
            of_target,
            np.column_stack([past, *self._one_hot(series, self.data.covariates)]),
            np.column_stack([known, *self._one_hot(series, self.data.known)]),
            self.plan,
        )
        added = list(self._changes(of_target, scales))
        if added:
            channels = np.column_stack([channels, *added]).astype(np.float32)
        units = ForecastUnits(self.plan, scales, self.view, series.first, target)
        return Prepared(units, channels, values, len(added))

    def _changes(
        self, target: NDArray[np.float64], scales: Scales
    ) -> Iterator[NDArray[np.float64]]:
        """The changes (S,) of a scaled target that the view adds; 0 where there is none yet."""
        if self._sees_seasonal_change:
            change = np.zeros_like(target)
            change[self.plan.season :] = target[self.plan.season :] - target[: -self.plan.season]
            yield np.nan_to_num(change)
        orders = differences_of(target[:, None], np.zeros(1, np.int64), self.view.differences)
        for difference, deviation in zip(orders, scales.changes, strict=True):
            yield np.nan_to_num(difference[:, 0]) * scales.deviation / deviation

    def _one_hot(self, series: Series, names: Sequence[str]) -> Iterator[NDArray[np.float64]]:
        """The channels (S, W) of each categorical column among `names`; they aren't scaled."""
        missing = np.nan if self.data.missing == "drop" else 0.0
        for name in names:
            if name in self.categories:
                yield self.categories[name].encode(series.categories[name], missing)

    def present(self, series: Series, source: str) -> Present:
        """The window up to the last value of the target, from which a forecast starts.

        Later rows may hold covariates that are known in advance. Gaps repeat the value before.

        Raises
        ------
        DataError
            If there are too few rows, a gap that can't be filled, or no known values ahead.
        """
        plan, of = self.plan, series.named
        observed = np.flatnonzero(np.isfinite(series.target))
        origin = int(observed[-1]) if len(observed) else -1
        if origin < plan.first_origin:
            raise DataError(
                f"{source}: there are {origin + 1} rows{of} up to the last value of "
                f'"{self.data.target}", but a forecast needs {plan.first_origin + 1}. '
                f"Add earlier rows."
            )
        if self.data.known and len(series) < origin + 1 + plan.horizon:
            raise DataError(
                f"{source}: there are {len(series) - origin - 1} rows{of} after the last value of "
                f'"{self.data.target}", but {", ".join(self.data.known)} must be known for the '
                f"{plan.horizon} steps to forecast. Add their rows, with "
                f'"{self.data.target}" empty.'
            )
        times = plan.frequency.times(series.first, origin + 1 + plan.horizon)
        prepared = self.prepare(series)
        read = np.array([origin])
        values, units = prepared.inputs(read)[0], prepared.units.of(read)
        seen = slice(origin - plan.first_origin, origin + 1)
        whole = np.isfinite(np.column_stack([series.target, series.past])[seen]).all() and all(
            is_present(series.categories[name][seen]).all()
            for name in self.data.covariates
            if name in self.categories
        )
        refused = self.data.missing == "refuse" and not whole
        if refused or not (np.isfinite(values).all() and units.offset.isfinite().all()):
            raise DataError(
                f"{source}: a value is missing{of} in the {plan.first_origin + 1} rows that a "
                f"forecast needs, up to {times[origin]}. Fill it in."
            )
        return Present(series.name, torch.from_numpy(values), units, times[origin + 1 :])

    def as_json(self) -> dict[str, Any]:
        """Everything that encoding needs; the specification repeats the columns' roles."""
        plan = self.plan
        first = next(iter(self.scales.values()))
        content: dict[str, Any] = {
            "kind": "series",
            "columns": {
                key: getattr(self.data, key)
                for key in ("time", "target", "series", "covariates", "known")
            },
            "frequency": _without_defaults(plan.frequency),
            "window": plan.window,
            "horizon": plan.horizon,
            "season": plan.season,
            "seasons": plan.seasons,
            "calendar": list(plan.calendar),
            "missing": self.data.missing,
            "series": {
                name: {key: getattr(scale, key) for key in ("mean", "deviation", "error")}
                | {key: list(of) for key in ("changes", "curve") if (of := getattr(scale, key))}
                for name, scale in self.scales.items()
            },
            "covariates": {
                "means": first.means.tolist(),
                "deviations": first.deviations.tolist(),
            },
        }
        if self.categories:  # left out if empty, so that older versions can read the rest
            content["words"] = {
                name: {"kept": list(found.kept), "rest": found.rest}
                for name, found in self.categories.items()
            }
        if self.forms:
            content["times"] = [_without_defaults(form) for form in self.forms]
        if view := self.view.as_json():
            content["view"] = view
        return content | self.formats.in_json()

    @classmethod
    def from_json(cls, content: Mapping[str, Any], data: Data) -> SeriesEncoder:
        """The encoder that `as_json` wrote."""
        plan = WindowPlan(
            window=content["window"],
            horizon=content["horizon"],
            season=content["season"],
            seasons=content["seasons"],
            calendar=tuple(content["calendar"]),
            frequency=Frequency(**content["frequency"]),
        )
        covariates = content["covariates"]
        means = np.array(covariates["means"], np.float64)
        deviations = np.array(covariates["deviations"], np.float64)
        scales = {
            # New rows have no targets to measure errors on, so the divisor isn't needed.
            name: Scales(
                scale["mean"],
                scale["deviation"],
                scale["error"],
                naive=float("nan"),
                means=means,
                deviations=deviations,
                changes=tuple(scale.get("changes", ())),
                curve=tuple(scale.get("curve", ())),
            )
            for name, scale in content["series"].items()
        }
        categories = {
            name: Categories(tuple(found["kept"]), found["rest"])
            for name, found in content.get("words", {}).items()
        }
        formats = TableFormats.from_json(content.get("formats"))
        forms = tuple(TimeForm(**form) for form in content.get("times", ()))
        view = View(**(content.get("view") or {}))
        return cls(plan, scales, categories, data, formats, forms, view)


def _without_defaults(part: Frequency | TimeForm) -> dict[str, Any]:
    """The fields that differ from their defaults, so that earlier versions can read the rest."""
    return {
        each.name: getattr(part, each.name)
        for each in fields(part)
        if getattr(part, each.name) != each.default
    }

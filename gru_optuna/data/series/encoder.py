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

from gru_optuna.data.dataset import Units
from gru_optuna.data.readers.column_formats import TableFormats
from gru_optuna.data.readers.time_forms import TimeForm
from gru_optuna.data.series import windows
from gru_optuna.data.series.categories import Categories, is_present
from gru_optuna.data.series.frequency import Frequency
from gru_optuna.data.series.windows import Scales, WindowPlan
from gru_optuna.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from gru_optuna.data.series.frequency import Times
    from gru_optuna.data.series.series import Series
    from gru_optuna.study_file import Data


@dataclass(frozen=True)
class Prepared:
    """One series, ready to be cut into windows."""

    plan: WindowPlan
    scales: Scales
    channels: NDArray[np.float32]  # (S, C)
    target: NDArray[np.float64]  # (S,) filled, unless windows with missing values are dropped

    def units(self, usual: NDArray[np.float64]) -> Units:
        """The units of scaled forecasts, around the usual values (N, O)."""
        rows = torch.ones(len(usual), 1, dtype=torch.float64)
        return Units(torch.from_numpy(usual), self.scales.error * rows, self.scales.naive * rows)


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

    @property
    def channels(self) -> int:
        """C: target, earlier seasons, covariates, calendar."""
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
        target = columns[:, 0]
        scaled = (columns[:, 1:] - scales.means) / scales.deviations
        past, known = np.split(scaled, [series.past.shape[1]], axis=1)
        channels = windows.channels(
            series.first,
            (target - scales.mean) / scales.deviation,
            np.column_stack([past, *self._one_hot(series, self.data.covariates)]),
            np.column_stack([known, *self._one_hot(series, self.data.known)]),
            self.plan,
        )
        return Prepared(self.plan, scales, channels, target)

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
        plan, of = self.plan, f' of series "{series.name}"' if series.name else ""
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
        values = prepared.channels[origin - plan.window + 1 : origin + 1]
        usual = windows.usual(prepared.target, np.array([origin]), plan)
        seen = slice(origin - plan.first_origin, origin + 1)
        whole = np.isfinite(np.column_stack([series.target, series.past])[seen]).all() and all(
            is_present(series.categories[name][seen]).all()
            for name in self.data.covariates
            if name in self.categories
        )
        refused = self.data.missing == "refuse" and not whole
        if refused or not (np.isfinite(values).all() and np.isfinite(usual).all()):
            raise DataError(
                f"{source}: a value is missing{of} in the {plan.first_origin + 1} rows that a "
                f"forecast needs, up to {times[origin]}. Fill it in."
            )
        units = prepared.units(usual)
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
                name: {"mean": scale.mean, "deviation": scale.deviation, "error": scale.error}
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
            name: Scales(**scale, naive=float("nan"), means=means, deviations=deviations)
            for name, scale in content["series"].items()
        }
        categories = {
            name: Categories(tuple(found["kept"]), found["rest"])
            for name, found in content.get("words", {}).items()
        }
        formats = TableFormats.from_json(content.get("formats"))
        forms = tuple(TimeForm(**form) for form in content.get("times", ()))
        return cls(plan, scales, categories, data, formats, forms)


def _without_defaults(part: Frequency | TimeForm) -> dict[str, Any]:
    """The fields that differ from their defaults, so that earlier versions can read the rest."""
    return {
        each.name: getattr(part, each.name)
        for each in fields(part)
        if getattr(part, each.name) != each.default
    }


def joined_units(units: Sequence[Units]) -> Units:
    """Joins the units of rows, one after another."""
    naive = [part.naive for part in units if part.naive is not None]
    return Units(
        torch.cat([part.offset for part in units]),
        torch.cat([part.scale for part in units]),
        torch.cat(naive) if naive else None,
    )
